"""The remote engine's own part: sharing out, breaking off, coming back, updating. No vLLM."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskgym.agents.engines import weight_transfer
from maskgym.agents.engines.engine import (
    Completion,
    Engine,
    EngineConfig,
    FinishReason,
    Request,
    SamplingParams,
    open_engine,
)
from maskgym.agents.engines.remote_engine import RemoteEngine, RemoteEngineConfig
from maskgym.agents.engines.vllm_server import EngineServerError
from maskgym.agents.engines.weights import meta_model


def request(name: str, *ids: int, **params: Any) -> Request:
    sampling = SamplingParams(**{"max_tokens": 10, **params})
    return Request(request_id=name, prompt_ids=ids or (1, 2, 3), params=sampling)


def run(engine: RemoteEngine, *requests: Request) -> dict[str, Completion]:
    for one in requests:
        engine.submit(one)
    return finish(engine)


def finish(engine: RemoteEngine) -> dict[str, Completion]:
    done: dict[str, Completion] = {}
    while engine.num_unfinished:
        done.update({completion.request_id: completion for completion in engine.poll()})
    return done


@pytest.fixture
def parameters(tiny_model_dir: Path) -> list[tuple[str, Tensor]]:
    model = meta_model(tiny_model_dir)
    return [(name, torch.full(p.shape, 0.5)) for name, p in model.named_parameters()]


def opened(
    model_dir: Path, stand_ins: list[Any], tmp_path: Path, **settings: Any
) -> closing[RemoteEngine]:
    servers = tuple(server.address for server in stand_ins)
    config = RemoteEngineConfig(
        servers=servers, shared_dir=str(tmp_path), **{"max_retries": 1, **settings}
    )
    return closing(RemoteEngine(model_dir, config=config))


@pytest.fixture
def engine(tiny_model_dir: Path, stand_ins: list[Any], tmp_path: Path) -> Iterator[RemoteEngine]:
    with opened(tiny_model_dir, stand_ins, tmp_path) as engine:
        yield engine


def test_token_ids_and_logprobs_come_back_whole(engine: RemoteEngine, stand_ins: list[Any]) -> None:
    assert isinstance(engine, Engine)
    done = run(engine, request("a", 5, 6, seed=-1, stop=("x",), temperature=0.5, top_k=3))["a"]
    assert done.token_ids == tuple(range(7, 17))
    assert done.logprobs == (-0.5,) * 10
    assert (done.finish_reason, done.stop_reason) == (FinishReason.LENGTH, None)
    (body,) = stand_ins[0].bodies + stand_ins[1].bodies
    wanted = {"prompt": [5, 6], "max_tokens": 10, "seed": 2**63 - 1, "temperature": 0.5, "top_k": 3}
    assert wanted.items() <= body.items()
    assert body["logprobs"] == 0
    assert body["return_token_ids"] is body["include_stop_str_in_output"] is True
    assert body["skip_special_tokens"] is False


def test_requests_are_shared_out_and_conversations_stay(
    engine: RemoteEngine, stand_ins: list[Any]
) -> None:
    run(engine, *(request(f"{i}.0", 10 + i) for i in range(8)))
    first = [{body["prompt"][0] for body in server.bodies} for server in stand_ins]
    assert [len(prompts) for prompts in first] == [4, 4]
    run(engine, *(request(f"{i}.1", 10 + i) for i in reversed(range(8))))
    assert [{body["prompt"][0] for body in server.bodies} for server in stand_ins] == first
    assert [len(server.bodies) for server in stand_ins] == [8, 8]


def test_no_more_requests_are_sent_than_the_servers_take(
    tiny_model_dir: Path, stand_ins: list[Any], tmp_path: Path
) -> None:
    for server in stand_ins:
        server.pause_s = 0.05
    with opened(tiny_model_dir, stand_ins, tmp_path, max_num_seqs=1) as engine:
        for i in range(5):
            engine.submit(request(f"{i}"))
        engine.poll()
        time.sleep(0.05)
        assert sum(len(server.bodies) for server in stand_ins) == 2
        engine.abort(["4"])  # which waits for room
        done = finish(engine)
    assert done["4"].token_ids == ()
    assert {name: c.finish_reason for name, c in done.items() if name != "4"} == {
        f"{i}": FinishReason.LENGTH for i in range(4)
    }


def test_an_aborted_request_gives_what_has_come(engine: RemoteEngine, stand_ins: list[Any]) -> None:
    for server in stand_ins:
        server.pause_s = 0.1
    engine.submit(request("a", 5, max_tokens=40))
    engine.submit(request("b", 9, max_tokens=8))
    engine.submit(request("c", 5))
    engine.abort(["c", "unknown"])
    assert [(c.request_id, c.token_ids) for c in engine.poll()] == [("c", ())]
    time.sleep(0.15)
    engine.abort(["a"])
    aborted = {c.request_id: c for c in engine.poll()}["a"]
    assert aborted.finish_reason is FinishReason.ABORT
    assert aborted.token_ids == tuple(range(6, 6 + len(aborted.token_ids)))
    assert 4 <= len(aborted.token_ids) == len(aborted.logprobs) < 40
    assert finish(engine)["b"].token_ids == tuple(range(10, 18))


def test_a_completion_that_breaks_off_is_asked_for_again(
    engine: RemoteEngine, stand_ins: list[Any]
) -> None:
    for server in stand_ins:
        server.num_to_break = 3
    done = run(engine, *(request(f"{i}", i + 1) for i in range(8)))
    assert all(done[f"{i}"].token_ids == tuple(range(i + 2, i + 12)) for i in range(8))


def test_the_requests_of_a_lost_server_go_to_the_others_until_it_is_back(
    engine: RemoteEngine, stand_ins: list[Any], parameters: list[tuple[str, Tensor]]
) -> None:
    engine.update_weights(parameters, version=3)
    lost, left = stand_ins
    lost.num_to_break, lost.version = 1, "0"  # as after a restart: the old weights
    with pytest.warns(UserWarning, match="holds weights of version 0, not 3: it was restarted"):
        done = run(engine, *(request(f"{i}", i + 1) for i in range(8)))
    assert all(done[f"{i}"].token_ids == tuple(range(i + 2, i + 12)) for i in range(8))
    num_asked = len(lost.bodies)
    run(engine, *(request(f"{i}") for i in range(4)))
    assert len(lost.bodies) == num_asked
    engine.update_weights(parameters, version=4)
    assert (lost.version, left.version) == ("4", "4")
    run(engine, *(request(f"{i}") for i in range(4)))
    assert len(lost.bodies) == num_asked + 2


def test_the_last_lost_server_ends_what_is_in_flight_and_says_how_to_start_one(
    tiny_model_dir: Path, stand_ins: list[Any], tmp_path: Path, parameters: list[Any]
) -> None:
    with opened(tiny_model_dir, stand_ins[:1], tmp_path, max_retries=0) as engine:
        stand_ins[0].num_to_break, stand_ins[0].version = 9, "gone"
        with (
            pytest.warns(UserWarning, match="A server is lost"),
            pytest.raises(EngineServerError, match=r"No server is left.*VLLM_SERVER_DEV_MODE=1"),
        ):
            run(engine, request("a"), request("b"))
        assert engine.num_unfinished == 0
        with pytest.raises(EngineServerError, match="No server is left"):
            engine.submit(request("a"))
        stand_ins[0].num_to_break = 0
        engine.update_weights(parameters, version=1)
        assert len(run(engine, request("a"))["a"].token_ids) == 10


def test_a_refused_request_is_no_reason_to_ask_again(
    engine: RemoteEngine, stand_ins: list[Any]
) -> None:
    for server in stand_ins:
        server.refusal = 404
    with pytest.raises(EngineServerError, match=r"refuses a request: 404.*no such model"):
        run(engine, request("a"))
    assert sum(len(server.bodies) for server in stand_ins) == 1


def test_an_update_pauses_loads_drops_the_cache_and_resumes(
    engine: RemoteEngine,
    stand_ins: list[Any],
    parameters: list[tuple[str, Tensor]],
    tmp_path: Path,
) -> None:
    stand_ins[1].num_failed_resets = 2  # blocks of aborted requests are held a moment
    for server in stand_ins:
        server.calls.clear()
    engine.update_weights(iter(parameters), version=7)
    wanted = ["/pause", "maskgym_load_weights", "/reset_prefix_cache", "/resume"]
    assert stand_ins[0].calls == wanted
    for server in stand_ins:
        assert not server.is_paused
        assert server.weights.keys() == dict(parameters).keys()
        assert all(bool((tensor == 0.5).all()) for tensor in server.weights.values())
    assert engine.weight_version == run(engine, request("a"))["a"].weight_version == 7
    assert list(tmp_path.glob("*/*")) == []  # the files are gone


def test_a_failed_update_leaves_the_engine_unusable_until_a_full_one(
    engine: RemoteEngine,
    stand_ins: list[Any],
    parameters: list[tuple[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_transfer, "RESET_TRIES", 3)
    num_read = 0

    def counted() -> Iterator[tuple[str, Tensor]]:
        nonlocal num_read
        for name, tensor in parameters:
            num_read += 1
            yield name, tensor[..., :1] if num_read == 3 else tensor

    with pytest.raises(ValueError, match="has shape"):
        engine.update_weights(counted(), version=1)
    assert num_read == len(parameters)  # other ranks gather along
    with pytest.raises(EngineServerError, match="failed half-way"):
        engine.submit(request("a"))
    stand_ins[0].num_failed_resets = 10**6
    with pytest.raises(EngineServerError, match="could not drop its prefix cache"):
        engine.update_weights(parameters, version=1)
    assert stand_ins[0].is_paused
    stand_ins[0].num_failed_resets = 0
    engine.update_weights(parameters, version=2)
    assert run(engine, request("a"))["a"].weight_version == 2


def test_weights_do_not_change_under_requests_in_flight(
    engine: RemoteEngine, parameters: list[tuple[str, Tensor]]
) -> None:
    engine.submit(request("a"))
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.update_weights(parameters, version=1)
    finish(engine)


def test_of_several_trainer_processes_one_sends_and_the_others_wait(
    engine: RemoteEngine,
    tiny_model_dir: Path,
    stand_ins: list[Any],
    tmp_path: Path,
    parameters: list[tuple[str, Tensor]],
) -> None:
    settings = {"is_sender": False, "stall_timeout_s": 2.0}
    with opened(tiny_model_dir, stand_ins, tmp_path, **settings) as other:
        with pytest.raises(EngineServerError, match="no weights of version 1 yet"):
            other.update_weights(parameters, version=1)
        engine.update_weights(parameters, version=1)
        other.update_weights(parameters, version=1)
        assert other.weight_version == 1
    assert stand_ins[0].num_calls["maskgym_load_weights"] == 1


def test_a_server_started_in_another_way_is_refused_with_the_command(
    tiny_model_dir: Path, stand_ins: list[Any]
) -> None:
    stand_ins[1].logprobs_mode = "raw_logprobs"
    servers = tuple(server.address for server in stand_ins)
    with pytest.raises(EngineServerError, match=r"raw_logprobs.*--worker-extension-cls"):
        RemoteEngine(tiny_model_dir, config=RemoteEngineConfig(servers=servers))
    stand_ins[1].logprobs_mode, stand_ins[1].seeds = "processed_logprobs", "break"
    with pytest.raises(EngineServerError, match="add --no-enable-chunked-prefill"):
        RemoteEngine(tiny_model_dir, config=RemoteEngineConfig(servers=servers))
    nowhere = RemoteEngineConfig(servers=("http://127.0.0.1:9",))
    with pytest.raises(EngineServerError, match=r"127\.0\.0\.1:9 does not answer.*Start it with"):
        RemoteEngine(tiny_model_dir, config=nowhere)


def test_the_context_clips_completions_and_refuses_prompts(engine: RemoteEngine) -> None:
    assert engine.max_model_len == 64
    done = run(engine, request("a", *range(60)))["a"]
    assert done.token_ids == (60, 61, 62, 63)
    with pytest.raises(ValueError, match="prompt of 64 tokens"):
        engine.submit(request("a", *range(64)))
    with pytest.raises(ValueError, match="token ids from 9999"):
        engine.submit(request("a", 9999))


def test_open_engine_meets_servers_by_name(
    tiny_model_dir: Path, stand_ins: list[Any], tmp_path: Path
) -> None:
    config = RemoteEngineConfig(servers=(stand_ins[0].address,), shared_dir=str(tmp_path))
    engine = open_engine(tiny_model_dir, config=config)
    assert isinstance(engine, RemoteEngine)
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.poll()
    with pytest.raises(ValueError, match=r"No servers are named.*--port 8000"):
        open_engine(tiny_model_dir, name="remote", config=EngineConfig())


def test_bad_settings_are_refused(tiny_model_dir: Path) -> None:
    with pytest.raises(ValueError, match="transfer is 'ipc'"):
        RemoteEngineConfig(transfer="ipc")
    with pytest.raises(ValueError, match="give a list of addresses"):
        RemoteEngineConfig(servers="http://127.0.0.1:8000")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"is no address of a server; write http://127\.0\.0\.1"):
        RemoteEngine(tiny_model_dir, config=RemoteEngineConfig(servers=("localhost:8000",)))
