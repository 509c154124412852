"""Two real vLLM servers take weights and sample as the engines in this process do."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("vllm")

from maskgym.agents.engines.engine import FinishReason
from maskgym.agents.engines.remote_engine import RemoteEngine, RemoteEngineConfig
from maskgym.agents.engines.vllm_engine import VLLMEngine, VLLMEngineConfig
from maskgym.agents.engines.vllm_server import EngineServerError, RunningServer, serve_for_training

from .engine_cases import assert_alike, prompt, request, run

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

OPTIONS = (
    *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32", "--block-size", "32"),
    *("--kv-cache-memory-bytes", str(64 << 20), "--gpu-memory-utilization", "0.1"),
)
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",  # or the first request compiles C++ for a quarter of a minute
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # one process fewer a server
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def servers(
    tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningServer, ...]]:
    logs = tmp_path_factory.mktemp("servers")

    runs = [
        serve_for_training(tiny_model_dir, logs / name, options=OPTIONS, environment=ENVIRONMENT)
        for name in ("a.log", "b.log")
    ]
    with contextlib.ExitStack() as stack, ThreadPoolExecutor() as pool:
        yield tuple(pool.map(stack.enter_context, runs))


@pytest.fixture(scope="module")
def shared_engine(
    tiny_model_dir: Path, servers: tuple[RunningServer, ...]
) -> Iterator[RemoteEngine]:
    config = RemoteEngineConfig(servers=tuple(server.address for server in servers), max_retries=1)
    with contextlib.closing(RemoteEngine(tiny_model_dir, config=config)) as engine:
        yield engine


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()


@pytest.fixture
def engine(shared_engine: RemoteEngine, model: Any) -> RemoteEngine:
    """The engine with the weights of the folder."""
    shared_engine.update_weights(model.named_parameters(), version=0)
    return shared_engine


def changed(model: Any, seed: int) -> list[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (name, (p + 0.1 * torch.randn(p.shape, generator=generator)).detach())
        for name, p in model.named_parameters()
    ]


def test_after_each_update_it_says_what_the_engine_in_this_process_says(
    engine: RemoteEngine, tiny_model_dir: Path, model: Any, tiny_tokenizer: Any
) -> None:
    local = VLLMEngine(tiny_model_dir, config=VLLMEngineConfig(kv_cache_bytes=64 << 20))
    with contextlib.closing(local):
        requests = [request(f"r{n}", prompt(n, n)) for n in (5, 33, 90, 250)]
        requests += [request(f"s{n}", prompt(n, 40), temperature=0.7, seed=n) for n in range(4)]
        earlier: list[tuple[int, ...]] = []
        for version in (0, 1, 2, 3):
            if version:
                weights = changed(model, version)
                engine.update_weights(iter(weights), version=version)
                local.update_weights(weights, version=version)
            done, wanted = run(engine, *requests), run(local, *requests)
            for name in wanted:
                assert_alike(done[name], wanted[name])
                assert done[name].weight_version == version
            assert done["r250"].token_ids not in earlier  # the update and the reset took place
            earlier.append(done["r250"].token_ids)
        tokens = done["r33"].token_ids
        text = tiny_tokenizer.decode(tokens)
        stops = (
            request("text", prompt(33, 33), stop=(text[len(text) // 2 :][:4],)),
            request("token", prompt(33, 33), stop_token_ids=(tokens[7],)),
            request("length", prompt(33, 33), max_tokens=3),
        )
        done, wanted = run(engine, *stops), run(local, *stops)
        for name in wanted:
            assert_alike(done[name], wanted[name])
        assert done["text"].finish_reason is FinishReason.STOP


def test_more_seeded_prompts_than_a_step_takes_are_all_answered(engine: RemoteEngine) -> None:
    """Together they exceed `max_num_batched_tokens` many times over: vLLM would split one of them."""
    requests = [
        request(f"{n}", prompt(n, 300 + n), max_tokens=4, temperature=1.0, seed=n)
        for n in range(64)
    ]
    done = run(engine, *requests)
    again = run(engine, requests[63], requests[17])
    assert len(done) == 64
    assert_alike(again["63"], done["63"])
    assert_alike(again["17"], done["17"])


def test_an_aborted_request_gives_what_has_come(engine: RemoteEngine) -> None:
    whole = run(engine, request("a", prompt(0, 20), max_tokens=480))["a"]
    engine.submit(request("a", prompt(0, 20), max_tokens=480))
    engine.submit(request("b", prompt(1, 20)))
    time.sleep(0.3)
    engine.abort(["a"])
    done = run(engine)
    assert done["a"].finish_reason is FinishReason.ABORT
    number = len(done["a"].token_ids)
    assert 0 < number < 480
    assert done["a"].token_ids == whole.token_ids[:number]
    assert len(done["b"].token_ids) == 24


def test_a_killed_server_costs_no_completion_and_the_last_one_says_so(
    engine: RemoteEngine, servers: tuple[RunningServer, ...], model: Any
) -> None:
    """Runs last: it ends the servers of the module."""
    requests = [request(f"{i}", prompt(i, 20), max_tokens=200) for i in range(12)]
    wanted = run(engine, *requests)
    for one in requests:
        engine.submit(one)
    time.sleep(0.1)
    with pytest.warns(UserWarning, match="A server is lost"):
        kill(servers[0])
        done = run(engine)
    for name in wanted:
        assert_alike(done[name], wanted[name])
    engine.update_weights(model.named_parameters(), version=9)  # of the one that is left
    assert run(engine, requests[0])["0"].weight_version == 9
    kill(servers[1])
    with (
        pytest.warns(UserWarning, match="A server is lost"),
        pytest.raises(EngineServerError, match=r"No server is left.*VLLM_SERVER_DEV_MODE=1"),
    ):
        run(engine, *requests)


def kill(server: RunningServer) -> None:
    os.killpg(server.process_id, signal.SIGKILL)
