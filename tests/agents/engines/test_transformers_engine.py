"""Continuous batching gives what plain, unbatched generation gives; stops, seeds, weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskgym.agents.engines.engine import (
    Completion,
    EngineOutOfMemoryError,
    FinishReason,
    Request,
    SamplingParams,
)
from maskgym.agents.engines.token_sampling import restrict, sample_tokens, uniform
from maskgym.agents.engines.transformers_engine import TransformersEngine, TransformersEngineConfig

from .engine_cases import prompt, request, run


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()


@pytest.fixture
def engine(tiny_model_dir: Path) -> TransformersEngine:
    return TransformersEngine(tiny_model_dir)


@torch.no_grad()
def plain_greedy(model: Any, ids: tuple[int, ...], num_tokens: int) -> list[int]:
    """The slow, obvious way: the whole sequence again for each token, no cache, no batch."""
    sequence = torch.tensor([ids])
    for _ in range(num_tokens):
        token = model(sequence, use_cache=False).logits[0, -1].argmax()
        sequence = torch.cat([sequence, token.view(1, 1)], dim=1)
    return [int(token) for token in sequence[0, len(ids) :]]


@torch.no_grad()
def plain_logprobs(model: Any, ids: tuple[int, ...], sampled: Any, temperature: float) -> Tensor:
    logits = model(torch.tensor([[*ids, *sampled]]), use_cache=False).logits[0, len(ids) - 1 : -1]
    logprobs = (logits / temperature).log_softmax(-1)
    return torch.as_tensor(logprobs[torch.arange(len(sampled)), torch.tensor(sampled)])


def assert_plain(model: Any, one: Request, completion: Completion) -> None:
    wanted = plain_greedy(model, one.prompt_ids, len(completion.token_ids))
    assert list(completion.token_ids) == wanted
    logprobs = plain_logprobs(model, one.prompt_ids, completion.token_ids, 1.0)
    assert (logprobs - torch.tensor(completion.logprobs)).abs().max() < 1e-5


@pytest.mark.parametrize("prefix_cache_bytes", [0, 64 << 20])
@pytest.mark.parametrize("max_num_seqs", [3, 64])
def test_greedy_batches_equal_plain_generation(
    tiny_model_dir: Path, model: Any, prefix_cache_bytes: int, max_num_seqs: int
) -> None:
    config = TransformersEngineConfig(
        max_num_seqs=max_num_seqs, prefix_cache_bytes=prefix_cache_bytes, max_prefill_tokens=100
    )
    engine = TransformersEngine(tiny_model_dir, config=config)
    lengths = (1, 2, 7, 40, 41, 90, 300)  # 300: the cache grows from 256 tokens
    requests = [request(f"{n}", prompt(n, n), max_tokens=4 + 3 * i) for i, n in enumerate(lengths)]
    late = request("late", prompt(5, 33))
    for one in requests:
        engine.submit(one)
    done = {c.request_id: c for _ in range(3) for c in engine.poll()}
    engine.submit(late)  # joins while others are under way
    while engine.num_unfinished:
        done.update({c.request_id: c for c in engine.poll()})
    assert len({c.token_ids for c in done.values()}) == len(done)
    for one in (*requests, late):
        assert len(done[one.request_id].token_ids) == one.params.max_tokens
        assert done[one.request_id].finish_reason is FinishReason.LENGTH
        assert_plain(model, one, done[one.request_id])


def test_next_turns_and_groups_reuse_what_was_computed(
    tiny_model_dir: Path, engine: TransformersEngine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    forward = engine._forward

    def counted(first: int, ids: Tensor, is_real: Tensor, starts: Tensor) -> Tensor:
        computed.append(int(is_real.sum()))
        return forward(first, ids, is_real, starts)

    monkeypatch.setattr(engine, "_forward", counted)
    group = [request(f"{i}", prompt(0, 60), max_tokens=5 + i) for i in range(4)]
    done = run(engine, *group)
    assert computed[0] == 60  # one prompt for four requests
    for one in group:
        assert_plain(model, one, done[one.request_id])
    turns = [
        request(f"next{i}", (*one.prompt_ids, *done[one.request_id].token_ids, *prompt(i, 3 + i)))
        for i, one in enumerate(group)
    ]
    late_member = request("late", prompt(0, 60))
    computed.clear()
    done = run(engine, *turns, late_member)
    # The observations; the last sampled token of the longest member alone, for each shorter one is
    # the start of the next; and the last prompt token of the late member.
    assert computed[0] == sum(3 + i for i in range(4)) + 1 + 1
    for one in (*turns, late_member):
        assert_plain(model, one, done[one.request_id])


def test_temperature_logprobs_are_those_of_the_distribution_sampled(
    engine: TransformersEngine, model: Any
) -> None:
    requests = [request(f"{i}", prompt(i, 20), temperature=0.7, seed=i) for i in range(6)]
    for one, completion in zip(requests, run(engine, *requests).values(), strict=True):
        wanted = plain_logprobs(model, one.prompt_ids, completion.token_ids, 0.7)
        assert (wanted - torch.tensor(completion.logprobs)).abs().max() < 1e-5
        other = plain_logprobs(model, one.prompt_ids, completion.token_ids, 1.0)
        assert (other - torch.tensor(completion.logprobs)).abs().max() > 1e-2


def test_a_seed_makes_the_sample_independent_of_the_batch(engine: TransformersEngine) -> None:
    requests = [request(f"{i}", prompt(i, 5 + 9 * i), temperature=1.0, seed=i) for i in range(8)]
    together = run(engine, *requests)
    for one in requests:
        alone = run(engine, one)[one.request_id]
        assert alone.token_ids == together[one.request_id].token_ids
    same = [request(name, prompt(1, 9), temperature=1.0, seed=ord(name) // 99) for name in "abc"]
    done = run(engine, *same)
    assert done["a"].token_ids == done["b"].token_ids != done["c"].token_ids
    unseeded = [request(f"u{i}", prompt(1, 9), temperature=1.0) for i in range(2)]
    first, second = run(engine, *unseeded).values()
    assert first.token_ids != second.token_ids


def stop_inside_a_token(tokenizer: Any, tokens: Iterable[int]) -> str:
    """A text that the greedy completion meets first in the middle of a token."""
    tokens = list(tokens)
    for i, token in enumerate(tokens):
        text = tokenizer.decode([token])
        if len(text) > 3 and text[1:-1] not in tokenizer.decode(tokens[:i]):
            return str(text[1:-1])
    raise AssertionError("no long token in this completion: choose another prompt")


def test_stop_texts_keep_the_whole_last_token(
    engine: TransformersEngine, model: Any, tiny_tokenizer: Any
) -> None:
    ids = prompt(3, 30)
    tokens = plain_greedy(model, ids, 24)
    stop = stop_inside_a_token(tiny_tokenizer, tokens)
    done = run(engine, request("a", ids, stop=("never there", stop)))["a"]
    kept = tiny_tokenizer.decode(done.token_ids)
    assert stop in kept
    assert not kept.endswith(stop)
    assert stop not in tiny_tokenizer.decode(done.token_ids[:-1])
    assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, stop)
    assert list(done.token_ids) == tokens[: len(done.token_ids)]
    assert len(done.logprobs) == len(done.token_ids)


def test_stop_tokens_and_end_of_sequence_are_kept(
    tiny_model_dir: Path, engine: TransformersEngine, model: Any
) -> None:
    ids = prompt(4, 30)
    tokens = plain_greedy(model, ids, 24)
    target = next(i for i in range(2, 12) if tokens[i] not in tokens[:i])
    done = run(engine, request("a", ids, stop_token_ids=(tokens[target],)))["a"]
    assert list(done.token_ids) == tokens[: target + 1]
    assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, tokens[target])
    engine._eos_ids.add(tokens[target])
    done = run(engine, request("a", ids, ignore_eos=False))["a"]
    assert list(done.token_ids) == tokens[: target + 1]
    assert (done.finish_reason, done.stop_reason) == (FinishReason.STOP, None)
    assert len(run(engine, request("a", ids, ignore_eos=True))["a"].token_ids) == 24


def test_the_context_clips_completions_and_refuses_prompts(tiny_model_dir: Path) -> None:
    engine = TransformersEngine(tiny_model_dir, config=TransformersEngineConfig(max_model_len=40))
    done = run(engine, request("a", prompt(0, 35), max_tokens=30))["a"]
    assert (len(done.token_ids), done.finish_reason) == (5, FinishReason.LENGTH)
    with pytest.raises(ValueError, match=r"prompt of 40 tokens .* holds 40"):
        engine.submit(request("b", prompt(0, 40)))
    with pytest.raises(ValueError, match=r"token ids from 1 to 99999"):
        engine.submit(request("b", (1, 99999)))
    assert engine.num_unfinished == 0
    with pytest.raises(ValueError, match="max_model_len is 600, and this model goes to 512"):
        TransformersEngine(tiny_model_dir, config=TransformersEngineConfig(max_model_len=600))


def perturbed(model: Any, seed: int = 1) -> list[tuple[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (name, (p + 0.1 * torch.randn(p.shape, generator=generator)).detach())
        for name, p in model.named_parameters()
    ]


def test_new_weights_are_used_and_old_keys_are_not(
    tiny_model_dir: Path, engine: TransformersEngine
) -> None:
    from transformers import AutoModelForCausalLM

    new = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    one = request("a", prompt(0, 80))
    before = run(engine, one)["a"]
    for name, tensor in perturbed(new):
        new.get_parameter(name).data.copy_(tensor)
    engine.submit(one)
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.update_weights(new.named_parameters(), version=7)
    while engine.num_unfinished:
        engine.poll()
    engine.update_weights(new.state_dict().items(), version=7)  # names the tied head too
    after = run(engine, one)["a"]
    assert (before.weight_version, after.weight_version, engine.weight_version) == (0, 7, 7)
    assert before.token_ids != after.token_ids
    assert_plain(new, one, after)


def test_weight_updates_name_what_is_wrong(engine: TransformersEngine, model: Any) -> None:
    parameters = dict(perturbed(model))
    with pytest.raises(ValueError, match=r"Did you mean 'model.norm.weight'"):
        engine.update_weights([("model.norms.weight", torch.zeros(1))], version=1)
    with pytest.raises(ValueError, match="1 parameters are missing from the update, first 'model"):
        engine.update_weights(list(parameters.items())[:-1], version=1)
    with pytest.raises(ValueError, match=r"has shape \(128,\); the new one has \(3,\)"):
        engine.update_weights([("model.norm.weight", torch.zeros(3))], version=1)
    head = torch.zeros_like(parameters["model.embed_tokens.weight"])
    with pytest.raises(ValueError, match=r"one weight here.*different values"):
        engine.update_weights([*parameters.items(), ("lm_head.weight", head)], version=1)
    assert engine.weight_version == 0


def test_a_live_module_is_shared_and_left_as_it_was(tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(tiny_model_dir).train()
    attention = module.config._attn_implementation
    engine = TransformersEngine(module)
    one = request("a", prompt(0, 50))
    before = run(engine, one)["a"].token_ids
    for name, tensor in perturbed(module):
        module.get_parameter(name).data.copy_(tensor)
    engine.update_weights([], version=3)
    done = run(engine, one)["a"]
    assert module.training
    assert module.config._attn_implementation == attention
    assert done.token_ids != before
    assert done.weight_version == 3
    module.eval()
    assert_plain(module, one, done)
    module(torch.tensor([one.prompt_ids])).logits.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    with pytest.raises(ValueError, match="the engine no tokenizer"):
        engine.submit(request("b", one.prompt_ids, stop=("x",)))


def test_an_aborted_request_gives_what_it_has_and_others_go_on(
    engine: TransformersEngine, model: Any
) -> None:
    requests = [request(f"{i}", prompt(i, 20 + i)) for i in range(4)]
    for one in requests:
        engine.submit(one)
    for _ in range(3):
        engine.poll()
    engine.submit(request("waiting", prompt(9, 9)))
    engine.abort(["1", "waiting", "unknown"])
    assert engine.num_unfinished == 5
    done = {c.request_id: c for c in engine.poll()}
    assert {c.finish_reason for c in done.values()} == {FinishReason.ABORT}
    assert len(done["1"].token_ids) == len(done["1"].logprobs) == 3
    assert done["waiting"].token_ids == ()
    rest = run(engine)
    for one in requests:
        if one.request_id != "1":
            assert_plain(model, one, rest[one.request_id])


def test_weights_that_are_nan_stop_the_engine(tiny_model_dir: Path) -> None:
    from transformers import AutoModelForCausalLM

    module = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    module.model.norm.weight.data.fill_(float("nan"))
    engine = TransformersEngine(module)
    engine.submit(request("a", (1, 2)))
    with pytest.raises(FloatingPointError, match="not finite"):
        engine.poll()


def test_a_closed_engine_says_so(engine: TransformersEngine) -> None:
    engine.submit(request("a", (1, 2)))
    engine.close()
    engine.close()
    assert engine.num_unfinished == 0
    with pytest.raises(RuntimeError, match="closed"):
        engine.poll()


def test_bfloat16_runs_and_stays_near_float32(tiny_model_dir: Path, model: Any) -> None:
    config = TransformersEngineConfig(dtype="bfloat16")
    engine = TransformersEngine(tiny_model_dir, config=config)
    one = request("a", prompt(0, 30), temperature=1.0, seed=0)
    done = run(engine, one)["a"]
    wanted = plain_logprobs(model, one.prompt_ids, done.token_ids, 1.0)
    assert (wanted - torch.tensor(done.logprobs)).abs().mean() < 0.3


def test_samples_follow_the_distribution_and_the_seed() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -30.0, float("-inf")])
    num = 20_000
    params = [SamplingParams(max_tokens=1, temperature=0.5)] * num
    tokens, logprobs = sample_tokens(logits.repeat(num, 1), params, range(num), [3] * num)
    wanted = (logits / 0.5).softmax(-1)
    counts = torch.bincount(torch.tensor(tokens), minlength=5) / num
    assert (counts - wanted).abs().max() < 0.012  # 3.4 standard errors
    assert torch.allclose(torch.tensor(logprobs), wanted.log()[torch.tensor(tokens)], atol=1e-6)
    again, _ = sample_tokens(logits.repeat(3, 1), params[:3], [5, 6, 7], [3] * 3)
    assert again == tokens[5:8]


def test_top_k_and_top_p_keep_what_the_definition_says() -> None:
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.25, 0.05]]).repeat(4, 1)
    kept = restrict(
        probs.log(),
        top_k=torch.tensor([2, -1, 3, -1]),
        top_p=torch.tensor([1.0, 0.6, 0.5, 0.0001]),
    ).isfinite()
    assert kept.tolist() == [
        [False, True, False, True, False],
        [False, True, False, True, False],  # 0.4 + 0.25 >= 0.6
        [False, True, False, True, False],  # of 0.85: 0.47, then 0.76 >= 0.5
        [False, True, False, False, False],
    ]
    tokens, logprobs = sample_tokens(
        probs.log(), [SamplingParams(max_tokens=1, top_k=2)] * 4, range(4), [0] * 4
    )
    renormalised = {1: 0.4 / 0.65, 3: 0.25 / 0.65}
    assert np.exp(logprobs) == pytest.approx([renormalised[token] for token in tokens])


def test_counter_based_numbers_are_uniform_and_uncorrelated() -> None:
    numbers = uniform(np.repeat(np.arange(200), 100).tolist(), list(range(100)) * 200)
    grid = numbers.reshape(200, 100)
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01
    assert np.histogram(numbers, 10, (0, 1))[0] == pytest.approx(2000, rel=0.1)
    assert abs(np.corrcoef(grid[:-1].ravel(), grid[1:].ravel())[0, 1]) < 0.03
    assert abs(np.corrcoef(grid[:, :-1].ravel(), grid[:, 1:].ravel())[0, 1]) < 0.03
    assert uniform([2**64 - 1], [10**9])[0] < 1


def test_out_of_memory_names_the_requests_and_the_engine_goes_on(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tiny_model_dir)
    wanted = run(engine, request("a", (5, 6, 7)))["a"]
    engine.submit(request("a", (5, 6, 7)))
    engine.poll()
    engine.submit(request("b", (8, 9)))

    def no_memory(*_: Any, **__: Any) -> None:
        torch.empty(1 << 50)

    with monkeypatch.context() as patch:
        patch.setattr(engine._model, "forward", no_memory)
        with pytest.raises(EngineOutOfMemoryError, match=r"2 requests in flight.*Lower") as raised:
            engine.poll()
    assert sorted(raised.value.request_ids) == ["a", "b"]
    assert engine.num_unfinished == 0
    assert run(engine, request("a", (5, 6, 7)))["a"] == wanted
