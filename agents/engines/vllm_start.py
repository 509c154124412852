"""How an in-process vLLM is started: its options, its environment, and what it may not leave behind."""

from __future__ import annotations

import os
import random
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .engine import EngineConfig, EngineOutOfMemoryError, is_out_of_memory

CPU_KV_CACHE_BYTES = 256 << 20
CPU_BLOCK_SIZE = 32  # vLLM's own is 128 on CPUs: most of our prompts would share no block


@dataclass(frozen=True, kw_only=True)
class VLLMEngineConfig(EngineConfig):
    """How vLLM runs; what is None is chosen for the device."""

    gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory for weights and keys and values; the trainer needs the rest."""
    kv_cache_bytes: int | None = None
    """Memory for keys and values; None: 256 MiB on a CPU, what the share above leaves on a GPU."""
    enforce_eager: bool | None = None
    """Whether to run without compiled graphs; None: eager on a CPU, where compiling takes a minute
    and gains little, graphs on a GPU."""
    block_size: int | None = None
    """Tokens in a block of the prefix cache; None: 32 on a CPU, vLLM's own choice on a GPU."""
    enable_prefix_caching: bool = True
    """Whether prompts that start alike share their keys and values."""
    max_num_batched_tokens: int | None = None
    """Most tokens computed in one step (CPU: at least `max_model_len`); None leaves it to vLLM."""
    attention_backend: str | None = None
    """Attention of a GPU, such as "FLASH_ATTN" or "TRITON_ATTN"; None leaves it to vLLM."""
    flash_attn_version: int | None = None
    """Version of FLASH_ATTN: 3 on Hopper; None leaves it to vLLM."""
    sleep_between_steps: bool = False
    """Whether `sleep` gives the GPU's memory to the trainer: weights move to the CPU, keys and values
    are dropped. Worth its seconds only where both do not fit at once; without effect on a CPU."""
    seed: int = 0
    """Seed of the samples of requests that bring none."""
    per_request_seeds: bool = True
    """Whether seeds of requests are used. vLLM on a GPU then samples for each request by itself, a
    kernel launch a request and step; False samples all at once, and a sample depends on its batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization}; it is a share, above 0 "
                "and at most 1."
            )
        if self.kv_cache_bytes is not None and self.kv_cache_bytes < 1:
            raise ValueError(f"kv_cache_bytes is {self.kv_cache_bytes}; give None or at least 1.")
        if self.flash_attn_version not in (None, 2, 3, 4):
            raise ValueError(
                f"flash_attn_version is {self.flash_attn_version}; vLLM knows 2, 3 and 4."
            )


def vllm_options(
    folder: Path, config: VLLMEngineConfig, *, dtype: str, is_cpu: bool, device_index: int = 0
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM`, the same for vLLM 0.26 to 0.32.

    Args:
        folder: The model.
        config: What the user chose.
        dtype: "float32", "bfloat16" or "float16": vLLM's own "auto" makes bfloat16 of float32.
        is_cpu: Whether this is vLLM's CPU build.
        device_index: Which GPU of this process to take.
    """
    options: dict[str, Any] = {
        "model": str(folder),
        "dtype": dtype,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "enforce_eager": is_cpu if config.enforce_eager is None else config.enforce_eager,
        # On a CPU the share is one of RAM, wanted even where the next line says how much.
        "gpu_memory_utilization": 0.1 if is_cpu else config.gpu_memory_utilization,
        "kv_cache_memory_bytes": config.kv_cache_bytes or (CPU_KV_CACHE_BYTES if is_cpu else None),
        "enable_prefix_caching": config.enable_prefix_caching,
        "logprobs_mode": "processed_logprobs",  # vLLM's own choice ignores the temperature
        "seed": config.seed,
        "use_tqdm_on_load": False,
    }
    if (block_size := config.block_size or (CPU_BLOCK_SIZE if is_cpu else None)) is not None:
        options["block_size"] = block_size
    if config.max_num_batched_tokens is not None:
        options["max_num_batched_tokens"] = config.max_num_batched_tokens
    if is_cpu:
        # A prompt split over two steps rewinds the generator of a seeded request, which raises
        # "CPU Generator does not use offset" (vLLM 0.32).
        options["enable_chunked_prefill"] = False
        return options
    attention = {
        "backend": config.attention_backend,
        "flash_attn_version": config.flash_attn_version,
    }
    if attention := {name: value for name, value in attention.items() if value is not None}:
        options["attention_config"] = attention
    if config.sleep_between_steps:
        options["enable_sleep_mode"] = True
    if device_index:
        # Of its executors only this one takes another GPU than the first: that of LOCAL_RANK.
        options["distributed_executor_backend"] = "external_launcher"
    return options


def vllm_environment(*, is_cpu: bool, device_index: int = 0) -> dict[str, str]:
    """Environment variables that vLLM reads while it starts."""
    environment = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1"}
    optional = {"VLLM_LOGGING_LEVEL": "ERROR"}  # each start warns in 15 lines
    if is_cpu:
        # Read where vLLM decorates its functions: without it the first sample waits 16 s for g++.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    else:
        optional["VLLM_USE_FLASHINFER_SAMPLER"] = "0"  # it is compiled at its first use
    if device_index:
        # The rank in torchrun's world, turned into the only one of the engine's own.
        environment |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": str(device_index)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
        # Set by torchrun: the world would be sought at its agent, and waited for without end.
        environment["TORCHELASTIC_USE_AGENT_STORE"] = "False"
    return environment | {name: os.environ.get(name, value) for name, value in optional.items()}


def start_vllm(folder: Path, config: VLLMEngineConfig, dtype: str) -> Any:
    """The `LLM` of vLLM; to be called inside `contained_start`.

    Raises:
        EngineOutOfMemoryError: If weights, or keys and values, do not fit.
    """
    is_cpu = not torch.cuda.is_available()
    device_index = 0 if is_cpu else torch.cuda.current_device()
    os.environ.update(vllm_environment(is_cpu=is_cpu, device_index=device_index))
    import vllm
    from vllm.platforms import current_platform

    is_cpu = current_platform.is_cpu()
    if is_cpu:
        import vllm._custom_ops as ops

        # oneDNN packs weights into handles and leaves empty parameters: an update would fail, and
        # of a tied head would silently do nothing.
        ops._supports_onednn = False
    options = vllm_options(folder, config, dtype=dtype, is_cpu=is_cpu, device_index=device_index)
    try:
        return vllm.LLM(**options)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        setting = "kv_cache_bytes" if is_cpu else "gpu_memory_utilization or max_model_len"
        raise EngineOutOfMemoryError(
            f"vLLM found no memory to start with ({error}). Change {setting}; on a GPU start the "
            "engine before the trainer takes its share, and close other processes."
        ) from error


@contextmanager
def contained_start() -> Iterator[None]:
    """Puts back what vLLM changes in the process while it starts."""
    environment = dict(os.environ)
    states, python_state, numpy_state = rng_states(), random.getstate(), np.random.get_state()
    set_num_threads, num_threads = torch.set_num_threads, torch.get_num_threads()
    # Advice of its dependencies to its authors; and one line of C++ about NUMA, harmless here.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads = set_num_threads
        if torch.get_num_threads() != num_threads:
            torch.set_num_threads(num_threads)
        set_rng_states(states)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def rng_states() -> list[Tensor]:
    """States of torch's global generators: the CPU's, and the current GPU's once CUDA is in use."""
    has_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if has_cuda else [])]


def set_rng_states(states: list[Tensor]) -> None:
    """Puts back what `rng_states` gave."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
