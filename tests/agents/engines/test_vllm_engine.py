"""A real vLLM engine agrees with the Transformers one, before and after new weights.

Each test of a pitfall says what went wrong without its remedy. One engine serves the module.
"""

import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("vllm")

from maskgym.agents.engines.engine import FinishReason
from maskgym.agents.engines.transformers_engine import TransformersEngine
from maskgym.agents.engines.vllm_engine import VLLMEngine, VLLMEngineConfig

from .engine_cases import assert_alike, prompt, request, run

pytestmark = pytest.mark.vllm


def process_state() -> dict[str, Any]:
    """What vLLM is known to change in the process that starts it."""
    return {
        "environment": dict(os.environ),
        "torch": torch.get_rng_state().tolist(),
        "random": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # type: ignore[index]
        "threads": torch.get_num_threads(),
        "set_num_threads": torch.set_num_threads,
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
    }


@pytest.fixture(scope="module")
def states() -> list[dict[str, Any]]:
    """Process state before and after the start of the module's engine."""
    return []


@pytest.fixture(scope="module")
def shared_engine(tiny_model_dir: Path, states: list[dict[str, Any]]) -> Iterator[VLLMEngine]:
    torch.manual_seed(1234)
    states.append(process_state())
    # No memory for keys and values is configured: vLLM alone would want 92 % of RAM, and fail.
    engine = VLLMEngine(tiny_model_dir, config=VLLMEngineConfig(max_num_seqs=32))
    states.append(process_state())
    yield engine
    engine.close()
    assert not torch.distributed.is_initialized()


@pytest.fixture
def engine(shared_engine: VLLMEngine, model: Any) -> VLLMEngine:
    """The engine with the weights of the folder."""
    shared_engine.update_weights(model.named_parameters(), version=0)
    return shared_engine


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()


@pytest.fixture(scope="module")
def new_parameters(model: Any) -> list[tuple[str, Tensor]]:
    """Another model's weights; the head is tied, so its name does not occur."""
    generator = torch.Generator().manual_seed(1)
    return [
        (name, (p + 0.1 * torch.randn(p.shape, generator=generator)).detach())
        for name, p in model.named_parameters()
    ]


REQUESTS = tuple(request(f"r{n}", prompt(n, n)) for n in (1, 5, 33, 90, 250))


def test_greedy_completions_equal_transformers_before_and_after_new_weights(
    engine: VLLMEngine, tiny_model_dir: Path, new_parameters: list[tuple[str, Tensor]]
) -> None:
    other = TransformersEngine(tiny_model_dir)
    before, wanted = run(engine, *REQUESTS), run(other, *REQUESTS)
    for name in before:
        assert_alike(before[name], wanted[name])
    engine.update_weights(iter(new_parameters), version=5)  # a lazy iterator
    other.update_weights(new_parameters, version=5)
    after, wanted = run(engine, *REQUESTS), run(other, *REQUESTS)
    for name in after:
        assert_alike(after[name], wanted[name])
        assert after[name].token_ids != before[name].token_ids
        assert (before[name].weight_version, after[name].weight_version) == (0, 5)


def test_linear_weights_are_not_packed_away(engine: VLLMEngine) -> None:
    """Packed by oneDNN, parameters are empty, and loading into them raises AttributeError."""
    shapes = engine._llm.apply_model(lambda m: [tuple(p.shape) for p in m.parameters()])[0]
    assert shapes
    assert all(np.prod(shape) for shape in shapes)


def test_an_update_reaches_the_tied_head(
    engine: VLLMEngine, model: Any, new_parameters: list[tuple[str, Tensor]]
) -> None:
    """The old packed head stayed, silently, when only the embedding was pushed."""
    embedding = "model.embed_tokens.weight"
    new = dict(new_parameters)[embedding]
    parameters = {**dict(model.named_parameters()), embedding: new}
    for names in (parameters, {**parameters, "lm_head.weight": new}):
        engine.update_weights(model.named_parameters(), version=0)
        engine.update_weights(names.items(), version=1)
        loaded = engine._llm.apply_model(
            lambda m: [m.model.embed_tokens.weight.clone(), m.lm_head.weight.clone()]
        )[0]
        assert all(torch.equal(weight[: len(new)], new) for weight in loaded)


def test_old_keys_would_be_reused_without_the_reset_of_the_prefix_cache(
    engine: VLLMEngine,
    tiny_model_dir: Path,
    new_parameters: list[tuple[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reset is left out on purpose: shows that the comparison above can fail at all."""
    other = TransformersEngine(tiny_model_dir)
    other.update_weights(new_parameters, version=1)
    one = request("a", prompt(7, 250))
    wanted = run(other, one)["a"]
    run(engine, one)
    with monkeypatch.context() as patch:
        patch.setattr(engine._llm, "reset_prefix_cache", lambda: True)
        engine.update_weights(new_parameters, version=1)
    assert run(engine, one)["a"].token_ids != wanted.token_ids
    engine.update_weights(new_parameters, version=1)
    assert_alike(run(engine, one)["a"], wanted)


def test_a_failed_reset_of_the_prefix_cache_raises(
    engine: VLLMEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: False)
    with pytest.raises(RuntimeError, match="could not drop its prefix cache"):
        engine.update_weights(model.named_parameters(), version=1)
    with pytest.raises(RuntimeError, match="failed half-way"):
        engine.submit(REQUESTS[0])


def test_bad_updates_are_named_and_a_full_one_repairs(
    engine: VLLMEngine, tiny_model_dir: Path, model: Any
) -> None:
    parameters = list(model.named_parameters())
    with pytest.raises(ValueError, match=r"Did you mean 'model.norm.weight'"):
        engine.update_weights(
            [*parameters[:3], ("model.norms.weight", parameters[0][1])], version=1
        )
    with pytest.raises(ValueError, match="parameters are missing from the update"):
        engine.update_weights(parameters[:-2], version=1)
    with pytest.raises(RuntimeError, match="failed half-way"):
        engine.poll()
    engine.update_weights(parameters, version=2)
    assert engine.weight_version == 2
    wanted = run(TransformersEngine(tiny_model_dir), REQUESTS[2])
    assert_alike(run(engine, REQUESTS[2])["r33"], wanted["r33"])


def test_weights_do_not_change_under_requests_in_flight(engine: VLLMEngine, model: Any) -> None:
    engine.submit(REQUESTS[0])
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.update_weights(model.named_parameters(), version=3)
    assert engine.weight_version == 0
    run(engine)


@pytest.mark.parametrize("params", [{}, {"top_k": 5}, {"top_p": 0.7}])
def test_logprobs_belong_to_the_distribution_sampled(
    engine: VLLMEngine, model: Any, params: dict[str, Any]
) -> None:
    """Raw log-probs ignore the temperature: off by 1.3 nats at 0.7."""
    requests = [request(f"{i}", prompt(i, 20), temperature=0.7, **params) for i in range(4)]
    for one, completion in zip(requests, run(engine, *requests).values(), strict=True):
        ids = completion.token_ids
        with torch.no_grad():
            logits = model(torch.tensor([[*one.prompt_ids, *ids]])).logits[0, 19:-1] / 0.7
        if "top_k" in params:
            lowest = logits.topk(params["top_k"]).values[:, -1:]
            logits = logits.masked_fill(logits < lowest, -torch.inf)
        if "top_p" in params:
            probs, order = logits.softmax(-1).sort(descending=True)
            is_out = probs.cumsum(-1) - probs >= params["top_p"]
            logits = logits.masked_fill(is_out.gather(-1, order.argsort(-1)), -torch.inf)
        wanted = logits.log_softmax(-1)[range(len(ids)), list(ids)]
        assert (wanted - torch.tensor(completion.logprobs)).abs().max() < 1e-4


def test_a_seed_makes_the_sample_independent_of_the_batch(engine: VLLMEngine) -> None:
    """32 prompts of 250 tokens pass vLLM's batch: seeds crashed where it split a prompt."""
    requests = [request(f"{i}", prompt(i, 250), temperature=1.0, seed=i) for i in range(32)]
    together = run(engine, *requests)
    for one in requests[:6]:
        assert run(engine, one)[one.request_id].token_ids == together[one.request_id].token_ids
    assert len({completion.token_ids for completion in together.values()}) == 32


def stop_inside_a_token(tokenizer: Any, tokens: Iterable[int]) -> str:
    """A text that the greedy completion meets first in the middle of a token."""
    tokens = list(tokens)
    for i, token in enumerate(tokens):
        text = tokenizer.decode([token])
        if len(text) > 3 and text[1:-1] not in tokenizer.decode(tokens[:i]):
            return str(text[1:-1])
    raise AssertionError("no long token in this completion: choose another prompt")


def test_stops_are_those_of_the_transformers_engine(
    engine: VLLMEngine, tiny_model_dir: Path, tiny_tokenizer: Any
) -> None:
    other = TransformersEngine(tiny_model_dir)
    tokens = run(other, request("a", prompt(3, 30)))["a"].token_ids
    stop = stop_inside_a_token(tiny_tokenizer, tokens)
    target = next(i for i in range(2, 20) if tokens[i] not in tokens[:i])
    stops = (
        request("inside a token", prompt(3, 30), stop=("never there", stop)),
        request("token", prompt(3, 30), stop_token_ids=(tokens[target],)),
        request("length", prompt(3, 30), max_tokens=3),
        request("end", prompt(3, 30), ignore_eos=False),
    )
    done, wanted = run(engine, *stops), run(other, *stops)
    for name in done:
        assert_alike(done[name], wanted[name])
    kept = tiny_tokenizer.decode(done["inside a token"].token_ids)
    assert stop in kept
    assert not kept.endswith(stop)
    assert done["token"].token_ids == tokens[: target + 1]


def test_the_end_of_sequence_token_is_kept(
    engine: VLLMEngine, model: Any, tiny_tokenizer: Any
) -> None:
    tokens = run(engine, request("a", prompt(3, 30)))["a"].token_ids
    eos = tiny_tokenizer.eos_token_id
    target = next(i for i in range(2, 20) if tokens[i] not in (*tokens[:i], *prompt(3, 30)))
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
    embedding = parameters["model.embed_tokens.weight"]  # exchange two tokens: all else stays
    embedding[[eos, tokens[target]]] = embedding[[tokens[target], eos]]
    engine.update_weights(parameters.items(), version=1)
    done = run(engine, request("a", prompt(3, 30), ignore_eos=False))["a"]
    assert done.token_ids == (*tokens[:target], eos)
    assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, None)
    assert len(done.logprobs) == target + 1


def test_the_context_clips_completions_and_refuses_prompts(engine: VLLMEngine) -> None:
    done = run(engine, request("a", prompt(0, 500), max_tokens=30))["a"]
    assert (len(done.token_ids), done.finish_reason) == (12, FinishReason.LENGTH)
    with pytest.raises(ValueError, match=r"prompt of 512 tokens .* holds 512"):
        engine.submit(request("b", prompt(0, 512)))
    with pytest.raises(ValueError, match="token ids from 1 to 99999"):
        engine.submit(request("b", (1, 99999)))
    assert engine.num_unfinished == 0


def test_an_aborted_request_gives_what_it_has(engine: VLLMEngine) -> None:
    whole = run(engine, request("a", prompt(0, 20)))["a"]
    engine.submit(request("a", prompt(0, 20)))
    engine.submit(request("b", prompt(1, 20)))
    for _ in range(4):
        engine.poll()
    engine.abort(["a", "unknown"])
    done = {c.request_id: c for c in engine.poll()}["a"]
    assert done.finish_reason is FinishReason.ABORT
    assert done.token_ids == whole.token_ids[:4]
    assert np.allclose(done.logprobs, whole.logprobs[:4], atol=1e-5)
    assert len(run(engine)["b"].token_ids) == 24


def test_the_process_is_left_as_it_was(
    shared_engine: VLLMEngine, states: list[dict[str, Any]]
) -> None:
    """LD_PRELOAD reached the tools' subprocesses, and the trainer's random state was reset."""
    before, after = states
    for what in before:
        assert before[what] == after[what], what
    torch.set_num_threads(torch.get_num_threads())


def test_sampling_leaves_the_random_state_alone(engine: VLLMEngine) -> None:
    before = torch.get_rng_state()
    one, other = (run(engine, request("a", prompt(0, 9), temperature=1.0)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert one["a"].token_ids != other["a"].token_ids


def test_bfloat16_weights_that_would_be_packed_are_refused_or_kept(tiny_model_dir: Path) -> None:
    """A second engine in the process; where the CPU packs bfloat16 (AMX), it says so."""
    config = VLLMEngineConfig(dtype="bfloat16", max_model_len=64, kv_cache_bytes=16 << 20)
    try:
        engine = VLLMEngine(tiny_model_dir, config=config)
    except RuntimeError as error:
        assert "packed" in str(error)
        return
    assert len(run(engine, request("a", prompt(0, 9)))["a"].token_ids) == 24
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.poll()


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gpu_memory_utilization is 1\.5"):
        VLLMEngineConfig(gpu_memory_utilization=1.5)
    with pytest.raises(ValueError, match="kv_cache_bytes is 0"):
        VLLMEngineConfig(kv_cache_bytes=0)
