"""What a trainer does to a vLLM engine step after step: update, sample, score, sleep, run out of memory."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("vllm")

from maskgym.agents.engines.engine import (
    Completion,
    EngineOutOfMemoryError,
    Request,
    SamplingParams,
)
from maskgym.agents.engines.transformers_engine import TransformersEngine
from maskgym.agents.engines.vllm_engine import VLLMEngine, VLLMEngineConfig, _draws_globally

from .engine_cases import prompt, request, run

pytestmark = pytest.mark.vllm

CONFIG = VLLMEngineConfig(kv_cache_bytes=64 << 20, sleep_between_steps=True)


@pytest.fixture(scope="module")
def engine(tiny_model_dir: Path) -> Iterator[VLLMEngine]:
    with closing(VLLMEngine(tiny_model_dir, config=CONFIG)) as engine:
        yield engine


@pytest.fixture
def model(tiny_model_dir: Path, engine: VLLMEngine) -> Any:
    """A trainer's model; the engine has its weights."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    engine.update_weights(model.named_parameters(), version=0)
    return model


@torch.no_grad()
def optimiser_step(model: Any, seed: int, size: float = 0.05) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += size * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logprob_gap(model: Any, requests: Iterable[Request], done: dict[str, Completion]) -> float:
    """Largest difference between the engine's log-probs and those of a fresh forward pass."""
    gap = 0.0
    for one in requests:
        ids = done[one.request_id].token_ids
        first = len(one.prompt_ids) - 1
        logits: Tensor = model(torch.tensor([[*one.prompt_ids, *ids]])).logits[0, first:-1]
        logprobs = (logits / one.params.temperature).log_softmax(-1)[range(len(ids)), list(ids)]
        gap = max(gap, float((logprobs - torch.tensor(done[one.request_id].logprobs)).abs().max()))
    return gap


SAMPLED = [request(f"{n}", prompt(n, 250), temperature=0.8, seed=n) for n in range(6)]


def test_greedy_tokens_after_each_update_are_those_of_transformers_and_of_hugging_face(
    engine: VLLMEngine, model: Any
) -> None:
    requests = [request(f"{n}", prompt(n, n)) for n in (4, 33, 90, 250)]
    other = TransformersEngine(model)  # on the trainer's own module
    seen: set[tuple[int, ...]] = set()
    for version in (1, 2, 3):
        optimiser_step(model, version)
        engine.update_weights(model.named_parameters(), version=version)
        other.update_weights((), version=version)
        done, wanted = run(engine, *requests), run(other, *requests)
        for one in requests:
            plain = model.generate(
                torch.tensor([one.prompt_ids]),
                max_new_tokens=24,
                min_new_tokens=24,
                do_sample=False,
                eos_token_id=None,
            )[0, len(one.prompt_ids) :]
            tokens = done[one.request_id].token_ids
            assert tokens == wanted[one.request_id].token_ids == tuple(plain.tolist())
            assert tokens not in seen  # the update took place
            seen.add(tokens)


def test_the_logprob_gap_is_tiny_with_updates_and_shows_one_that_was_left_out(
    engine: VLLMEngine, model: Any
) -> None:
    for version in (1, 2, 3):
        optimiser_step(model, version, size=0.01)
        engine.update_weights(model.named_parameters(), version=version)
        assert logprob_gap(model, SAMPLED, run(engine, *SAMPLED)) < 1e-4
    optimiser_step(model, 4, size=0.01)  # and no update
    assert logprob_gap(model, SAMPLED, run(engine, *SAMPLED)) > 0.05


def test_the_logprob_gap_shows_a_prefix_cache_that_was_not_dropped(
    engine: VLLMEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(engine, *SAMPLED)
    optimiser_step(model, 1, size=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(engine._llm, "reset_prefix_cache", lambda: True)
        engine.update_weights(model.named_parameters(), version=1)
    assert logprob_gap(model, SAMPLED, run(engine, *SAMPLED)) > 0.05
    engine.update_weights(model.named_parameters(), version=2)
    assert logprob_gap(model, SAMPLED, run(engine, *SAMPLED)) < 1e-4


def test_an_update_that_fails_reads_on_to_the_end(engine: VLLMEngine, model: Any) -> None:
    """The other ranks are gathering the same tensors, and would wait for ever."""
    parameters = list(model.named_parameters())
    num_read = 0

    def counted() -> Iterator[tuple[str, Tensor]]:
        nonlocal num_read
        for name, parameter in parameters:
            num_read += 1
            yield ("unknown" if num_read == 3 else name), parameter

    with pytest.raises(ValueError, match="No parameter 'unknown'"):
        engine.update_weights(counted(), version=1)
    assert num_read == len(parameters)
    engine.update_weights(parameters, version=1)


def test_out_of_memory_names_the_requests_and_the_engine_goes_on(
    engine: VLLMEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = run(engine, *SAMPLED)
    engine.update_weights(model.named_parameters(), version=1)  # an empty prefix cache
    for one in SAMPLED:
        engine.submit(one)

    def no_memory(*_: Any, **__: Any) -> None:
        torch.empty(1 << 50)

    for num_polls in (0, 3):  # in the prompts, and while decoding
        for _ in range(num_polls):
            engine.poll()
        (vllm_model,) = engine._llm.apply_model(lambda m: m)
        with monkeypatch.context() as patch:
            patch.setattr(vllm_model, "forward", no_memory)
            with pytest.raises(EngineOutOfMemoryError, match="6 requests in flight") as raised:
                engine.poll()
        assert sorted(raised.value.request_ids) == sorted(wanted)
        assert engine.num_unfinished == 0
        assert run(engine, *SAMPLED).keys() == wanted.keys()
        for one in SAMPLED:
            engine.submit(one)
    done = run(engine)
    assert [done[name].token_ids for name in wanted] == [c.token_ids for c in wanted.values()]


def test_a_step_begun_ahead_is_finished_before_an_update_and_a_sleep(
    engine: VLLMEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where vLLM schedules a step ahead; its queue is filled by hand here."""
    ahead: list[str] = []
    core = engine._llm.llm_engine.engine_core.engine_core
    monkeypatch.setattr(core, "batch_queue", ahead)
    monkeypatch.setattr(engine._llm.llm_engine, "step", ahead.pop)
    reset = engine._llm.reset_prefix_cache
    monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: not ahead and reset())
    ahead += ["step", "step"]
    engine.update_weights(model.named_parameters(), version=1)
    assert ahead == []
    ahead.append("step")
    engine.sleep()
    assert ahead == []


def test_other_errors_of_a_step_stay_what_they_are(
    engine: VLLMEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.submit(SAMPLED[0])
    with monkeypatch.context() as patch:
        patch.setattr(engine._llm.llm_engine, "step", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.poll()
    assert len(run(engine)["0"].token_ids) == 24


def test_a_sleeping_engine_wakes_for_an_update_and_for_a_request(
    engine: VLLMEngine, model: Any
) -> None:
    wanted = run(engine, SAMPLED[0])["0"].token_ids
    engine.sleep()
    engine.sleep()
    assert run(engine, SAMPLED[0])["0"].token_ids == wanted
    engine.sleep()
    optimiser_step(model, 1)
    engine.update_weights(model.named_parameters(), version=1)
    done = run(engine, *SAMPLED)
    assert done["0"].token_ids != wanted
    assert logprob_gap(model, SAMPLED, done) < 1e-4
    engine.submit(SAMPLED[0])
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.sleep()
    run(engine)


def test_the_random_state_is_the_trainers_own_whatever_is_sampled(
    engine: VLLMEngine, model: Any
) -> None:
    seeded = request("seeded", prompt(0, 9), temperature=1.0, seed=1)
    greedy = request("greedy", prompt(1, 9))
    unseeded = request("unseeded", prompt(2, 9), temperature=1.0)
    before = torch.get_rng_state()
    for requests in ((seeded,), (greedy,), (seeded, greedy), (seeded, unseeded)):
        run(engine, *requests)
        assert torch.equal(before, torch.get_rng_state())


def test_a_gpus_global_generator_is_drawn_from_unless_every_row_has_its_own() -> None:
    """Worked out from vLLM's CUDA sampler, which does not run here."""
    seeded = SamplingParams(max_tokens=1, seed=0)
    unseeded, greedy = SamplingParams(max_tokens=1), SamplingParams(max_tokens=1, temperature=0)
    assert not _draws_globally([seeded, seeded])
    assert not _draws_globally([greedy, greedy])
    assert not _draws_globally([])
    assert _draws_globally([seeded, greedy])
    assert _draws_globally([seeded, unseeded])


def test_the_default_process_group_is_the_trainers_alone(
    engine: VLLMEngine, model: Any, tmp_path: Path
) -> None:
    import torch.distributed as dist

    assert not dist.is_initialized()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        wanted = run(engine, SAMPLED[0])["0"].token_ids
        assert dist.get_world_size() == 1
    finally:
        dist.destroy_process_group()  # all groups that it knows of
    assert run(engine, SAMPLED[0])["0"].token_ids == wanted


def test_closing_one_engine_leaves_another_and_the_trainers_group_alone(
    tiny_model_dir: Path, engine: VLLMEngine, model: Any, tmp_path: Path
) -> None:
    import torch.distributed as dist

    wanted = run(engine, SAMPLED[0])["0"].token_ids
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    try:
        second = VLLMEngine(tiny_model_dir, config=CONFIG)
        assert run(second, SAMPLED[0])["0"].token_ids == wanted
        second.close()
        total = torch.ones(1)
        dist.all_reduce(total)
        assert run(engine, SAMPLED[0])["0"].token_ids == wanted
        engine.update_weights(model.named_parameters(), version=1)
    finally:
        dist.destroy_process_group()
