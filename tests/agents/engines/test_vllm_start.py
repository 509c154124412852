"""What vLLM is started with on a CPU, on one GPU and on a rank's own GPU; no vLLM runs here."""

import os
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.engines.vllm_start import VLLMEngineConfig, vllm_environment, vllm_options

FOLDER = Path("model")


def options(*, is_cpu: bool = False, device_index: int = 0, **settings: Any) -> dict[str, Any]:
    config = VLLMEngineConfig(**settings)
    return vllm_options(FOLDER, config, dtype="bfloat16", is_cpu=is_cpu, device_index=device_index)


def test_logprobs_are_processed_everywhere() -> None:
    for is_cpu in (True, False):
        assert options(is_cpu=is_cpu)["logprobs_mode"] == "processed_logprobs"
        assert options(is_cpu=is_cpu)["dtype"] == "bfloat16"


def test_a_cpu_gets_little_memory_small_blocks_and_no_graphs() -> None:
    found = options(is_cpu=True, attention_backend="FLASH_ATTN", sleep_between_steps=True)
    assert found["enforce_eager"] is True
    assert found["enable_chunked_prefill"] is False
    assert (found["block_size"], found["kv_cache_memory_bytes"]) == (32, 256 << 20)
    assert found["gpu_memory_utilization"] == 0.1
    assert not {"attention_config", "enable_sleep_mode"} & found.keys()


def test_a_gpu_gets_graphs_its_share_and_the_attention_asked_for() -> None:
    found = options(
        gpu_memory_utilization=0.4, attention_backend="FLASH_ATTN", flash_attn_version=3
    )
    assert found["enforce_eager"] is False
    assert found["gpu_memory_utilization"] == 0.4
    assert found["kv_cache_memory_bytes"] is None
    assert found["attention_config"] == {"backend": "FLASH_ATTN", "flash_attn_version": 3}
    assert not {"block_size", "enable_sleep_mode", "enable_chunked_prefill"} & found.keys()
    assert "distributed_executor_backend" not in found
    assert "attention_config" not in options()
    assert options(attention_backend="TRITON_ATTN")["attention_config"] == {
        "backend": "TRITON_ATTN"
    }
    assert options(sleep_between_steps=True)["enable_sleep_mode"] is True


def test_a_ranks_own_gpu_is_taken_in_a_world_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's usual executor puts the engine of every rank on the first GPU."""
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert options(device_index=5)["distributed_executor_backend"] == "external_launcher"
    found = vllm_environment(is_cpu=False, device_index=5)
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("0", "1", "5")
    assert int(found["MASTER_PORT"]) > 0
    assert "RANK" not in vllm_environment(is_cpu=False)
    assert os.environ["RANK"] == "5"


def test_the_environment_keeps_what_the_user_chose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_USE_FLASHINFER_SAMPLER", raising=False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "INFO")
    on_gpu, on_cpu = vllm_environment(is_cpu=False), vllm_environment(is_cpu=True)
    assert on_gpu["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert on_gpu["VLLM_LOGGING_LEVEL"] == on_cpu["VLLM_LOGGING_LEVEL"] == "INFO"
    assert "TORCHDYNAMO_DISABLE" not in on_gpu
    assert on_cpu["TORCHDYNAMO_DISABLE"] == "1"
    assert on_gpu["VLLM_ENABLE_V1_MULTIPROCESSING"] == on_cpu["VLLM_ENABLE_V1_MULTIPROCESSING"]
    monkeypatch.setenv("VLLM_USE_FLASHINFER_SAMPLER", "1")
    assert vllm_environment(is_cpu=False)["VLLM_USE_FLASHINFER_SAMPLER"] == "1"


def test_every_option_is_one_that_vllm_knows() -> None:
    arguments = pytest.importorskip("vllm.engine.arg_utils").EngineArgs.__dataclass_fields__
    everything = options(
        block_size=16,
        max_num_batched_tokens=64,
        attention_backend="FLASH_ATTN",
        sleep_between_steps=True,
        device_index=1,
    )
    # `LLM` takes the last by another name, itself.
    assert everything.keys() | options(is_cpu=True).keys() <= {*arguments, "use_tqdm_on_load"}


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flash_attn_version is 1"):
        VLLMEngineConfig(flash_attn_version=1)
