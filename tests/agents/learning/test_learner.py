"""The optimiser steps on a batch: parity of cuts, the dense second version, containment, resume."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.lora import LoRAConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.mini_batches import updates_of_groups
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence


def make_samples(num_groups: int = 4, group_size: int = 3) -> list[Sample]:
    """Groups that share a prompt, each sequence with an observation amid its trained tokens."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(10, 400, (count,), generator=generator).tolist()

    samples = []
    for group in range(num_groups):
        prompt = draw(5 + group)
        for member in range(group_size):
            actions = (3 + member, 2 + (group + member) % 3)
            observation = 4
            mask = [0] * len(prompt) + [1] * actions[0] + [0] * observation + [1] * actions[1]
            ids = [*prompt, *draw(len(mask) - len(prompt))]
            logprobs = [-2.0 - 0.1 * ((7 * i) % 5) if m else 0.0 for i, m in enumerate(mask)]
            samples.append(
                Sample(
                    sequence=TokenSequence(
                        ids=tuple(ids), loss_mask=tuple(mask), logprobs=tuple(logprobs)
                    ),
                    advantage=(1.0, -0.75, 0.5)[member] * (1 + 0.1 * group),
                    group=f"g{group}",
                )
            )
    return samples


def learner(folder: Path, *, loss: dict[str, Any] | None = None, **config: Any) -> Learner:
    settings = {"lr": 1e-3, "max_grad_norm": 1e9, **config}
    model = load_model(folder, device="cpu")
    return Learner(
        model, LearnerConfig(loss=LossConfig(**(loss or {})), **settings), temperature=0.7
    )


def with_engine_logprobs(one: Learner, samples: list[Sample], noise: float = 0.3) -> list[Sample]:
    """The samples as if an engine with the learner's weights, and some noise, had sampled them."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for sample, score in zip(samples, one.score(samples), strict=True):
        values = iter(score)
        logprobs = tuple(
            next(values) + noise * float(torch.randn((), generator=generator)) if m else 0.0
            for m in sample.sequence.loss_mask
        )
        made.append(replace(sample, sequence=replace(sample.sequence, logprobs=logprobs)))
    return made


def weights(one: Learner) -> Tensor:
    return torch.cat([p.detach().flatten().float() for p in one.model.parameters()])


def watch_gradients(one: Learner) -> list[Tensor]:
    """Fills with the whole gradient of each optimiser step that is made."""
    seen: list[Tensor] = []

    def note(optimiser: Any, args: Any, kwargs: Any) -> None:
        groups = optimiser.param_groups
        grads = {id(p): p.grad.clone() for group in groups for p in group["params"]}
        seen.append(torch.cat([grads[id(p)].flatten() for p in one._moved]))

    one.optimiser.register_step_pre_hook(note)
    return seen


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_tokens": 30, "head_chunk_tokens": 3},
        {"packing": "padded"},
        {"packing": "padded", "micro_batch_tokens": 45},
        {"share_prompts": False},
        {"gradient_checkpointing": True},
        {"offload_optimiser": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_the_step_does_not_depend_on_how_the_batch_is_cut_and_computed(
    tiny_model_dir: Path, settings: dict[str, Any]
) -> None:
    whole = learner(tiny_model_dir)
    cut = learner(tiny_model_dir, **settings)
    gradients = watch_gradients(whole), watch_gradients(cut)
    samples = with_engine_logprobs(whole, make_samples())
    one, many = whole.policy_update(samples), cut.policy_update(samples)
    assert many.loss == pytest.approx(one.loss, abs=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert torch.allclose(gradients[0][0], gradients[1][0], atol=1e-6)
    for name in ("entropy", "kl", "clipped_share", "logprob_gap", "mean_ratio", "num_tokens"):
        assert getattr(many, name) == pytest.approx(getattr(one, name), rel=1e-4, abs=1e-6), name


def dense_loss(
    model: Any, reference: Any, samples: list[Sample], config: LossConfig, temperature: float
) -> Tensor:
    """The loss of one update from the formulas of the papers: a sequence, then a token, at a time."""
    groups = sorted({s.group for s in samples})
    total = torch.zeros(())
    for sample in samples:
        sequence = sample.sequence
        places = [i for i, m in enumerate(sequence.loss_mask) if m]
        logits = model(input_ids=torch.tensor([sequence.ids])).logits[0] / temperature
        with torch.no_grad():
            other = reference(input_ids=torch.tensor([sequence.ids])).logits[0] / temperature
        logprobs = [torch.log_softmax(logits[i - 1], 0) for i in places]
        now = [p[sequence.ids[i]] for p, i in zip(logprobs, places, strict=True)]
        old = [torch.tensor(sequence.logprobs[i]) for i in places]
        if config.old_logprobs == "trainer":
            old = [n.detach() for n in now]
        ratios = [torch.exp(n - o) for n, o in zip(now, old, strict=True)]
        if config.kind == "gspo":
            mean = torch.stack([n - o for n, o in zip(now, old, strict=True)]).mean()
            ratios = [mean.exp()] * len(now)
        in_group = [s for s in samples if s.group == sample.group]
        num_tokens = {
            "token": sum(s.num_tokens for s in samples),
            "sequence": len(samples) * len(places),
            "prompt": len(groups) * sum(s.num_tokens for s in in_group),
            "constant": len(samples) * (config.constant_tokens or 0),
        }[config.reduction]
        for k, place in enumerate(places):
            ratio, advantage = ratios[k], sample.advantage
            clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
            loss = -torch.minimum(ratio * advantage, clipped * advantage)
            if not sequence.is_on_policy:
                loss = -advantage * now[k]
            elif config.importance == "token":
                weight = (now[k].detach() - sequence.logprobs[place]).exp()
                loss = loss * weight.clamp(max=config.importance_cap)
            d = torch.log_softmax(other[place - 1], 0)[sequence.ids[place]] - now[k]
            loss = loss + config.kl_coef * (d.exp() - 1 - d)
            entropy = -(logprobs[k].exp() * logprobs[k]).sum()
            total = total + (loss - config.entropy_coef * entropy) / num_tokens
    return total


@pytest.mark.parametrize(
    "loss",
    [
        {},
        {"kind": "gspo", "reduction": "sequence", "clip_low": 0.01, "clip_high": 0.02},
        {"reduction": "prompt", "kl_coef": 0.2, "entropy_coef": 0.05, "clip_low": 0.0},
        {"reduction": "constant", "constant_tokens": 50},
        {"old_logprobs": "trainer", "importance": "token", "importance_cap": 1.1},
    ],
    ids=["clip-token", "gspo-sequence", "kl-entropy-prompt", "constant", "decoupled"],
)
def test_loss_and_gradient_of_an_update_equal_those_of_a_plain_dense_program(
    tiny_model_dir: Path, loss: dict[str, Any]
) -> None:
    config = LossConfig(**loss)
    one = learner(tiny_model_dir, loss=loss, micro_batch_tokens=40)
    if config.kl_coef:  # a reference that differs, else the KL term is 0 and has no gradient
        moved = load_model(tiny_model_dir, device="cpu")
        with torch.no_grad():
            for parameter in moved.parameters():
                parameter.mul_(1.02)
        one = Learner(one.model, one.config, temperature=0.7, reference=moved)
    samples = with_engine_logprobs(one, make_samples())
    samples[1] = replace(samples[1], advantage=0.0)
    samples[5] = replace(samples[5], sequence=replace(samples[5].sequence, is_on_policy=False))
    model = load_model(tiny_model_dir, device="cpu")
    reference = one._reference.model if one._reference is not None else model
    expected = dense_loss(model, reference, samples, config, 0.7)
    expected.backward()  # type: ignore[no-untyped-call]
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    seen = watch_gradients(one)
    stats = one.policy_update(samples)
    assert stats.loss == pytest.approx(expected.item(), abs=1e-6)
    assert torch.allclose(seen[0], gradient, atol=2e-6)
    assert stats.grad_norm == pytest.approx(float(gradient.norm()), rel=1e-5)
    assert stats.num_tokens == sum(s.num_tokens for s in samples)


def test_each_update_of_a_batch_learns_from_whole_groups(tiny_model_dir: Path) -> None:
    several = learner(tiny_model_dir, updates_per_batch=2)
    single = learner(tiny_model_dir)
    samples = with_engine_logprobs(several, make_samples())
    stats = several.policy_update(samples)
    assert stats.num_updates == 2
    update_of = updates_of_groups(4, 2, seed=0)
    for update in range(2):
        part = [s for s in samples if update_of[int(s.group[1:])] == update]
        assert len(part) == 6
        single.policy_update(part)
    assert torch.equal(weights(several), weights(single))


def test_later_updates_compare_with_the_weights_before_the_first(tiny_model_dir: Path) -> None:
    several = learner(tiny_model_dir, updates_per_batch=2, loss={"old_logprobs": "trainer"})
    single = learner(tiny_model_dir)
    # What the engine says is far off, and must not matter.
    samples = with_engine_logprobs(several, make_samples(), noise=3.0)
    exact = with_engine_logprobs(several, samples, noise=0.0)
    stats = several.policy_update(samples)
    update_of = updates_of_groups(4, 2, seed=0)
    parts = [[s for s in exact if update_of[int(s.group[1:])] == u] for u in range(2)]
    alone = [single.policy_update(part) for part in parts]
    assert torch.allclose(weights(several), weights(single), atol=1e-6)
    assert alone[1].kl > 1e-4
    assert stats.kl == pytest.approx(sum(a.kl for a in alone) / 2, rel=0.2)
    assert stats.logprob_gap > 1  # measured before the first update, against the engine


def test_the_gap_is_that_of_the_weights_that_sampled(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir, updates_per_batch=4, lr=0.03)
    stats = one.policy_update(with_engine_logprobs(one, make_samples(), noise=0.0))
    assert stats.num_updates == 4
    assert stats.max_logprob_gap < 1e-4
    assert stats.max_ratio > 1.01


def test_a_batch_without_any_advantage_leaves_the_weights_alone_and_shows_the_gap(
    tiny_model_dir: Path,
) -> None:
    one = learner(tiny_model_dir)
    before = weights(one)
    flat = [replace(s, advantage=0.0) for s in with_engine_logprobs(one, make_samples())]
    stats = one.policy_update(flat)
    assert (stats.num_updates, stats.grad_norm, stats.loss) == (0, 0.0, 0.0)
    assert torch.equal(before, weights(one))
    assert 0.1 < stats.logprob_gap < 0.5
    assert stats.entropy > 0.1


def test_trajectories_without_advantage_count_in_the_denominator_only(tiny_model_dir: Path) -> None:
    one, two = learner(tiny_model_dir), learner(tiny_model_dir)
    samples = make_samples()
    flat = [samples[0], *(replace(s, advantage=0.0) for s in samples[1:])]
    full, alone = one.policy_update(flat), two.policy_update(samples[:1])
    share = samples[0].num_tokens / sum(s.num_tokens for s in samples)
    assert full.loss == pytest.approx(alone.loss * share, rel=1e-4)
    assert full.num_row_tokens == alone.num_row_tokens


def test_a_kl_term_moves_trajectories_without_advantage_too(tiny_model_dir: Path) -> None:
    reference = load_model(tiny_model_dir, device="cpu")
    one = learner(tiny_model_dir, loss={"kl_coef": 1.0}, lr=3e-4)
    flat = [replace(s, advantage=0.0) for s in make_samples()]
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.mul_(1.05)
    first = one.policy_update(flat)
    for _ in range(5):
        last = one.policy_update(flat)
    assert first.num_updates == 1
    assert last.reference_kl < first.reference_kl
    kept = one._reference.model.parameters()  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in zip(kept, reference.parameters(), strict=True))


def test_a_token_trained_on_another_prompt_has_ratio_one(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    off = [
        replace(
            s,
            sequence=replace(
                s.sequence, logprobs=(-50.0,) * len(s.sequence.ids), is_on_policy=False
            ),
        )
        for s in make_samples()
    ]
    stats = one.policy_update(off)
    assert (stats.clipped_share, stats.logprob_gap, stats.mean_ratio) == (0.0, 0.0, 1.0)
    assert stats.grad_norm > 0


def test_score_gives_the_log_softmax_of_each_trained_token(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir, micro_batch_tokens=40)
    untrained = TokenSequence(ids=(11, 12), loss_mask=(0, 0), logprobs=(0.0, 0.0))
    samples = [*make_samples(), Sample(sequence=untrained)]
    scores = one.score(samples)
    assert scores[-1] == []
    for sample, score in zip(samples[:-1], scores, strict=False):
        ids = torch.tensor([sample.sequence.ids])
        with torch.no_grad():
            logprobs = torch.log_softmax(one.model(input_ids=ids).logits[0] / 0.7, dim=-1)
        places = [i for i, m in enumerate(sample.sequence.loss_mask) if m]
        wanted = [float(logprobs[i - 1, sample.sequence.ids[i]]) for i in places]
        assert score == pytest.approx(wanted, abs=1e-5)


def test_an_update_that_is_not_finite_is_skipped_and_counted(tiny_model_dir: Path) -> None:
    one, other = learner(tiny_model_dir, max_skipped=2), learner(tiny_model_dir)
    bad = [replace(make_samples()[0], advantage=float("inf")), *make_samples()[1:]]
    one.policy_update(make_samples())
    before, moments = weights(one), one.optimiser.state_dict()["state"]
    exp_avg = [state["exp_avg"].clone() for state in moments.values()]
    stats = one.policy_update(bad)
    assert (stats.num_skipped, stats.num_updates, stats.loss) == (1, 0, 0.0)
    assert torch.equal(before, weights(one))
    after = one.optimiser.state_dict()["state"].values()
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(exp_avg, after, strict=True))
    good = one.policy_update(make_samples())
    other.policy_update(make_samples())
    assert good == other.policy_update(make_samples())  # as if the bad one had never come


def test_too_many_updates_in_a_row_that_are_not_finite_stop_the_run(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir, max_skipped=2, precision="bfloat16")
    bad = [replace(s, advantage=float("nan")) for s in make_samples()]
    assert [one.policy_update(bad).num_skipped for _ in range(2)] == [1, 1]
    assert one.policy_update(make_samples()).num_skipped == 0  # the count starts anew
    before = weights(one)
    assert [one.policy_update(bad).num_skipped for _ in range(2)] == [1, 1]
    with pytest.raises(FloatingPointError, match=r"3 times in a row\. The weights are unchanged"):
        one.policy_update(bad)
    assert torch.equal(before, weights(one))


@pytest.fixture(params=["forward", "backward"])
def small_memory(request: Any) -> Iterator[Any]:
    """Makes passes of a learner through more than 60 positions fail, forwards or backwards."""
    handles = []

    def shrink(one: Learner, limit: int = 60) -> None:
        def check(size: int) -> None:
            if size > limit:
                raise torch.OutOfMemoryError(f"{size} positions")

        def hook(module: Any, inputs: Any, output: Any) -> None:
            if request.param == "forward":
                check(output.shape[1])
            elif output.requires_grad:
                output.register_hook(lambda gradient: check(gradient.shape[1]))

        layer = one.model.model.layers[0].mlp  # type: ignore[union-attr, index]
        handles.append(layer.register_forward_hook(hook))

    yield shrink
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_micro_batch_that_does_not_fit_is_split_and_learnt_from_once(
    tiny_model_dir: Path, small_memory: Any, precision: str
) -> None:
    # A weight for each sequence, so that one which is taken for another shows.
    settings = {"micro_batch_tokens": 100, "precision": precision}
    roomy, tight = (
        learner(tiny_model_dir, loss={"reduction": "sequence"}, **settings) for _ in range(2)
    )
    samples = make_samples()
    gradients = watch_gradients(roomy), watch_gradients(tight)
    one = roomy.policy_update(samples)
    small_memory(tight)
    two = tight.policy_update(samples)
    assert two.num_out_of_memory >= 2
    assert (one.num_out_of_memory, two.num_updates) == (0, 1)
    tolerance = 1e-6 if precision == "float32" else 5e-3
    assert two.loss == pytest.approx(one.loss, abs=tolerance)
    assert torch.allclose(gradients[0][0], gradients[1][0], atol=tolerance)


def test_a_sequence_that_does_not_fit_alone_is_an_error_with_a_remedy(
    tiny_model_dir: Path, small_memory: Any
) -> None:
    one = learner(tiny_model_dir)
    small_memory(one, limit=5)
    with pytest.raises(torch.OutOfMemoryError, match="gradient_checkpointing"):
        one.policy_update(make_samples())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_named_weights_make_a_fresh_model_the_same_bit_for_bit(
    tiny_model_dir: Path, precision: str
) -> None:
    from transformers import AutoModelForCausalLM

    one = learner(tiny_model_dir, precision=precision)
    one.policy_update(make_samples())
    pushed = dict(one.named_weights())
    assert "lm_head.weight" not in pushed
    assert "model.embed_tokens.weight" in pushed
    fresh = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=getattr(torch, precision))
    found = fresh.load_state_dict(pushed, strict=False)
    assert found.unexpected_keys == []
    assert found.missing_keys == ["lm_head.weight"]
    fresh.tie_weights()
    ids = torch.arange(20, 40)[None]
    with torch.no_grad():
        assert torch.equal(fresh(input_ids=ids).logits, one.model.eval()(input_ids=ids).logits)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "bfloat16"},
        {"offload_optimiser": True},
        {"lora": LoRAConfig(rank=4)},
        {"lora": LoRAConfig(rank=4), "precision": "bfloat16"},
    ],
    ids=["float32", "bfloat16", "offload", "lora", "lora-bfloat16"],
)
def test_a_resumed_run_continues_bit_for_bit(
    tmp_path: Path, tiny_model_dir: Path, settings: dict[str, Any]
) -> None:
    settings = {"warmup_steps": 3, "decay_steps": 20, "updates_per_batch": 2, **settings}
    whole = learner(tiny_model_dir, **settings)
    samples = make_samples()
    for _ in range(2):
        whole.policy_update(samples)
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    exported = {name: weight.clone() for name, weight in whole.named_weights()}
    expected = [whole.policy_update(samples) for _ in range(2)]

    resumed = learner(tiny_model_dir, **settings)
    if "lora" not in settings:
        resumed.model.load_state_dict(exported, strict=False)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert [resumed.policy_update(samples) for _ in range(2)] == expected
    assert torch.equal(weights(whole), weights(resumed))
    if settings.get("precision") == "bfloat16":
        copies = [one._masters.copies for one in (whole, resumed)]  # type: ignore[union-attr]
        assert all(torch.equal(a, b) for a, b in zip(*copies, strict=True))


def test_a_state_of_another_precision_or_adapter_is_refused(tiny_model_dir: Path) -> None:
    plain, bfloat16, adapted = (
        learner(tiny_model_dir),
        learner(tiny_model_dir, precision="bfloat16"),
        learner(tiny_model_dir, lora=LoRAConfig(rank=2)),
    )
    for one, two in ((plain, bfloat16), (bfloat16, plain), (adapted, plain)):
        before = one.step, weights(one)
        with pytest.raises(ValueError, match="does not fit"):
            one.load_state_dict({**two.state_dict(), "step": 7})
        assert one.step == before[0]
        assert torch.equal(before[1], weights(one))


def test_imitation_raises_the_likelihood_of_the_lesson(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir, micro_batch_tokens=60)
    sequences = [s.sequence for s in make_samples()]
    tokens = [score for sample in one.score(make_samples()) for score in sample]
    losses = [one.supervised_step(sequences).loss for _ in range(15)]
    assert losses[0] == pytest.approx(-sum(tokens) / len(tokens), abs=1e-5)
    assert losses[-1] < losses[0] - 0.5


def test_a_step_of_imitation_takes_the_learning_rate_it_is_given(tiny_model_dir: Path) -> None:
    """Adam's first step moves a weight by the rate times the sign of its gradient."""
    sequences = [s.sequence for s in make_samples()]
    for given, rate in ((0.004, 0.004), (None, 0.001)):
        one = learner(tiny_model_dir, lr=0.001)
        before = weights(one)
        assert one.supervised_step(sequences, lr=given).lr == rate
        assert float((weights(one) - before).abs().max()) == pytest.approx(rate, rel=1e-2)


def test_norms_and_biases_do_not_decay(tiny_model_dir: Path) -> None:
    """With a gradient of 0 Adam moves nothing, so what moves is decay."""
    one = learner(tiny_model_dir, weight_decay=0.5, lr=0.1)
    before = {name: p.detach().clone() for name, p in one.model.named_parameters()}
    for parameter in one.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    one.optimiser.step()
    for name, parameter in one.model.named_parameters():
        expected = before[name] * (1.0 if parameter.ndim < 2 else 1 - 0.1 * 0.5)
        assert torch.allclose(parameter, expected), name


def test_the_times_are_measured_and_are_no_metric(tiny_model_dir: Path) -> None:
    stats = learner(tiny_model_dir).policy_update(make_samples())
    times = stats.times
    parts = times.packing_s + times.scoring_s + times.gradients_s + times.optimiser_s
    assert 0 < times.gradients_s < parts <= times.total_s
    assert "times" not in stats.metrics()


def test_a_folder_without_a_model_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="maskgym demo"):
        load_model(tmp_path)
