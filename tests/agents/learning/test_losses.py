"""Losses against numbers worked by hand, gradients by autograd and slow second versions in plain loops."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maskgym.agents.learning.losses import (
    KINDS,
    LossConfig,
    PolicyLoss,
    dcpo_bounds,
    kl_estimate,
    off_policy_loss,
    policy_loss,
    sequence_log_ratios,
    token_entropy,
    token_logprobs,
)

SMEPO = {"clip_low": 0.0, "clip_high": 5.0, "dual_clip": 3.0}


def loss_of(
    new: list[float],
    old: list[float],
    advantages: list[float],
    *,
    sequences: list[int] | None = None,
    on_policy: list[bool] | None = None,
    importance: list[float] | None = None,
    **settings: Any,
) -> tuple[PolicyLoss, list[float]]:
    """The loss and its gradient in each log-probability, in float64; by default each token is a sequence."""
    logprobs = torch.tensor(new, dtype=torch.float64, requires_grad=True)
    sequence_M = torch.tensor(sequences if sequences is not None else range(len(new)))
    loss = policy_loss(
        LossConfig(**settings),
        logprobs_M=logprobs,
        old_logprobs_M=torch.tensor(old, dtype=torch.float64),
        advantages_M=torch.tensor(advantages, dtype=torch.float64),
        sequence_M=sequence_M,
        num_sequences=int(sequence_M.max()) + 1,
        on_policy_M=torch.tensor(on_policy if on_policy is not None else [True] * len(new)),
        importance_M=None if importance is None else torch.tensor(importance, dtype=torch.float64),
    )
    (gradient,) = torch.autograd.grad(loss.loss_M.sum(), logprobs)
    return loss, gradient.tolist()


def of_ratio(ratio: float, advantage: float, **settings: Any) -> tuple[float, float, bool]:
    """Loss, gradient and whether the clip stopped it, for one token of the given ratio."""
    loss, gradient = loss_of([math.log(ratio) - 0.5], [-0.5], [advantage], **settings)
    return loss.loss_M.item(), gradient[0], bool(loss.clipped_M)


def test_token_logprobs_follow_the_temperature() -> None:
    logits = torch.tensor([[0.0, math.log(3.0)]])
    assert token_logprobs(logits, torch.tensor([1])).exp().item() == pytest.approx(0.75)
    # At temperature 1/2 the odds are squared: 9 to 1.
    tempered = token_logprobs(logits, torch.tensor([1]), temperature=0.5)
    assert tempered.exp().item() == pytest.approx(0.9)


def test_token_entropy_of_a_uniform_prediction_is_log_of_the_vocabulary() -> None:
    assert token_entropy(torch.zeros(1, 8)).item() == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 1.0, -1.0),
        (1.1, 1.0, -1.1),
        (1.5, 1.0, -1.2),  # clipped above for a good action
        (0.5, 1.0, -0.5),  # not clipped below: the maximum is the unclipped term
        (0.5, -1.0, 0.8),  # clipped below for a bad action
        (1.5, -1.0, 1.5),
        (5.0, -2.0, 10.0),
    ],
)
def test_clip_by_hand(ratio: float, advantage: float, expected: float) -> None:
    assert of_ratio(ratio, advantage)[0] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "settings", "expected"),
    [
        (5.0, -2.0, {"dual_clip": 3.0}, (6.0, 0.0, True)),
        (2.5, -2.0, {"dual_clip": 3.0}, (5.0, 5.0, False)),
        (5.0, 2.0, {"dual_clip": 3.0, "clip_high": 9.0}, (-10.0, -10.0, False)),
    ],
)
def test_dual_clip_bounds_the_loss_of_bad_actions_alone(
    ratio: float, advantage: float, settings: dict[str, Any], expected: tuple[float, float, bool]
) -> None:
    assert of_ratio(ratio, advantage, **settings) == pytest.approx(expected)


RATIOS = (0.5, 0.9, 1.1, 2.0, 2.9, 3.5, 5.9, 6.5)


@pytest.mark.parametrize(
    ("settings", "advantage", "gradients"),
    [
        (SMEPO, 1.0, (-0.5, -0.9, -1.1, -2.0, -2.9, -3.5, -5.9, 0)),
        ({"dual_clip": 3.0}, 1.0, (-0.5, -0.9, -1.1, 0, 0, 0, 0, 0)),
        (SMEPO, -1.0, (0, 0, 1.1, 2.0, 2.9, 0, 0, 0)),
        ({"dual_clip": 3.0}, -1.0, (0, 0.9, 1.1, 2.0, 2.9, 0, 0, 0)),
    ],
)
def test_gradients_of_the_clip_of_smepo_and_of_grpo(
    settings: dict[str, float], advantage: float, gradients: tuple[float, ...]
) -> None:
    # SMEPO's scripts (0.0, 5.0): a right answer's token may grow sixfold, a wrong one's that has fallen
    # below its old probability is left alone.
    for ratio, expected in zip(RATIOS, gradients, strict=True):
        _, gradient, is_clipped = of_ratio(ratio, advantage, **settings)
        assert gradient == pytest.approx(expected, abs=1e-12), ratio
        assert is_clipped == (expected == 0), ratio


@pytest.mark.parametrize("settings", [SMEPO, {}, {"kind": "dcpo", "clip_low": 0.16}])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_of_exactly_one_always_has_its_gradient(
    settings: dict[str, Any], advantage: float
) -> None:
    _, gradient = loss_of([-0.7], [-0.7], [advantage], **settings)
    assert gradient == pytest.approx([-advantage])


def test_gspo_clips_one_ratio_per_sequence_and_gives_each_token_the_same_loss() -> None:
    # Sequence 0: log-ratios 0.3 and 0.1, mean 0.2; sequence 1: 0.5 alone. Clip at 1.3.
    loss, gradient = loss_of(
        [0.3 - 1, 0.1 - 1, 0.5 - 1],
        [-1.0] * 3,
        [1.0, 1.0, 2.0],
        sequences=[0, 0, 1],
        kind="gspo",
        reduction="sequence",
        clip_high=0.3,
    )
    s = math.exp(0.2)
    assert loss.loss_M.tolist() == pytest.approx([-s, -s, -2.6])
    # Two tokens carry the sequence's loss and each moves its mean by half: -s each.
    assert gradient == pytest.approx([-s, -s, 0.0])
    assert loss.clipped_M.tolist() == [False, False, True]


def test_luspo_is_gspo_times_the_length() -> None:
    arguments = ([-0.7, -0.9, -0.5], [-1.0] * 3, [1.0, 1.0, 2.0])
    common: dict[str, Any] = {"sequences": [0, 0, 1], "reduction": "sequence", "clip_high": 0.3}
    gspo, _ = loss_of(*arguments, kind="gspo", **common)
    luspo, _ = loss_of(*arguments, kind="luspo", **common)
    assert luspo.loss_M.tolist() == pytest.approx(
        (gspo.loss_M * torch.tensor([2.0, 2.0, 1.0])).tolist()
    )
    with pytest.raises(ValueError, match="needs reduction 'sequence'"):
        LossConfig(kind="luspo")


def test_cispo_caps_the_weight_and_keeps_the_gradient() -> None:
    cispo: dict[str, Any] = {"kind": "cispo", "clip_low": 1.0, "clip_high": 1.0}
    log2 = math.log(2)
    # Ratio 4, weight 2 at most: loss -2 A log p, gradient -2 A and nothing from the weight.
    loss, gradient = loss_of([log2 - 3], [-log2 - 3], [1.0], **cispo)
    assert loss.loss_M.item() == pytest.approx(-2 * (log2 - 3))
    assert gradient == pytest.approx([-2.0])
    assert loss.clipped_M.tolist() == [True]
    # Ratio 1/4 with no lower bound.
    loss, gradient = loss_of([-log2 - 3], [log2 - 3], [-1.0], **cispo)
    assert gradient == pytest.approx([0.25])
    assert loss.clipped_M.tolist() == [False]


@pytest.mark.parametrize(
    ("q", "lowest", "highest"), [(0.9, 0.69, 1.07), (0.5, 0.25, 0.65), (0.1, 0.05, 0.2)]
)
def test_dcpo_bounds_as_the_paper_tabulates_them(q: float, lowest: float, highest: float) -> None:
    low, high = dcpo_bounds(torch.tensor([q]), epsilon_low=0.16, epsilon_high=0.2)
    assert float(low) * q == pytest.approx(lowest, abs=0.005)
    assert float(high) * q == pytest.approx(highest, abs=0.005)


def test_dcpo_bounds_solve_their_equation_and_stop_at_ten() -> None:
    q = torch.tensor([0.99, 0.8, 0.7], dtype=torch.float64)
    low, high = dcpo_bounds(q, epsilon_low=0.16, epsilon_high=0.2)
    # |r - 1| r q = epsilon at both bounds, by substitution.
    assert ((high - 1) * high * q).tolist() == pytest.approx([0.2] * 3)
    assert ((1 - low) * low * q).tolist() == pytest.approx([0.16] * 3)
    rare = torch.tensor([1e-6])
    low, high = dcpo_bounds(rare, epsilon_low=0.16, epsilon_high=0.2)
    assert (float(low), float(high)) == (0.5, 10.0)


def test_dcpo_lets_a_rare_good_token_grow_further_than_a_common_one() -> None:
    dcpo: dict[str, Any] = {"kind": "dcpo", "clip_low": 0.16, "clip_high": 0.2}
    for q, is_clipped in ((0.01, False), (0.5, True)):
        old = math.log(q)
        loss, _ = loss_of([old + math.log(1.8)], [old], [1.0], **dcpo)
        assert loss.clipped_M.tolist() == [is_clipped]


def test_reinforce_takes_no_ratio() -> None:
    loss, gradient = loss_of([-1.0, -2.0], [-9.0, 0.0], [3.0, -1.0], kind="reinforce")
    assert loss.loss_M.tolist() == [3.0, -2.0]
    assert gradient == [-3.0, 1.0]
    assert not loss.clipped_M.any()


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_of_another_prompt_skip_ratio_clip_and_weight(kind: str) -> None:
    # Ratio e^4, a NaN of a record and a NaN weight: none of it may reach loss or gradient.
    new, old = [-1.0, -2.0, -0.3], [-5.0, math.nan, -0.3]
    loss, gradient = loss_of(
        new,
        old,
        [1.0, -1.0, 1.0],
        on_policy=[False, False, True],
        importance=[math.nan, 7.0, 1.0],
        kind=kind,
        reduction="sequence",
        dual_clip=3.0,
    )
    assert loss.loss_M[:2].tolist() == [1.0, -2.0]
    assert gradient[:2] == [-1.0, 1.0]
    assert math.isfinite(gradient[2]) and not loss.clipped_M[:2].any()


def test_the_off_policy_shape_lifts_rare_tokens() -> None:
    gamma = 0.1
    for p in (0.9, 0.1, 0.001):
        logprobs = torch.tensor([math.log(p)], dtype=torch.float64, requires_grad=True)
        loss = off_policy_loss(logprobs, torch.ones(1), gamma=gamma)
        assert loss.item() == pytest.approx(-p / (p + 0.1))
        (gradient,) = torch.autograd.grad(loss.sum(), logprobs)
        assert float(gradient) == pytest.approx(-gamma * p / (p + gamma) ** 2)
    # At p = 0.1 half of the possible loss, a quarter of the gradient of log p.
    shaped, gradient_of = loss_of(
        [math.log(0.1)], [0.0], [2.0], on_policy=[False], off_policy_gamma=0.1
    )
    assert shaped.loss_M.item() == pytest.approx(-1.0)
    assert gradient_of == pytest.approx([-0.5])


def test_importance_weights_multiply_the_loss() -> None:
    loss, gradient = loss_of([-1.0, -1.0], [-1.0, -1.0], [1.0, -1.0], importance=[0.5, 2.0])
    assert loss.loss_M.tolist() == [-0.5, 2.0]
    assert gradient == [-0.5, 2.0]


def test_a_huge_ratio_stays_finite() -> None:
    loss, gradient = loss_of([0.0, -800.0], [-800.0, 0.0], [-1.0, -1.0])
    assert loss.loss_M[0].item() == pytest.approx(math.exp(20))
    assert all(math.isfinite(g) for g in gradient)


def slow_policy_loss(
    config: LossConfig,
    new: list[float],
    old: list[float],
    advantages: list[float],
    sequences: list[int],
    on_policy: list[bool],
) -> list[float]:
    """The same in plain Python, one token at a time and case by case."""
    losses = []
    for n, o, a, i, is_on in zip(new, old, advantages, sequences, on_policy, strict=True):
        members = [k for k in range(len(new)) if sequences[k] == i]
        if not is_on:
            gamma = config.off_policy_gamma
            losses.append(-a * n if gamma is None else -a * math.exp(n) / (math.exp(n) + gamma))
            continue
        if config.kind == "reinforce":
            losses.append(-a * n)
            continue
        low, high = 1 - config.clip_low, 1 + config.clip_high
        log_ratio = n - o
        if config.kind in ("gspo", "luspo"):
            log_ratio = sum(new[k] - old[k] for k in members) / len(members)
        if config.kind == "dcpo":
            q = math.exp(o)
            low = 0.5 + 0.5 * math.sqrt(max(1 - 4 * config.clip_low / q, 0.0))
            high = min(0.5 + 0.5 * math.sqrt(1 + 4 * config.clip_high / q), 10.0)
        r = math.exp(log_ratio)
        clipped = min(max(r, low), high)
        if config.kind == "cispo":
            losses.append(-clipped * a * n)
            continue
        if a > 0:
            loss = -a * min(r, high)
        else:
            loss = -a * max(r, low)
            if config.dual_clip is not None:
                loss = min(loss, -a * config.dual_clip)
        losses.append(loss * (len(members) if config.kind == "luspo" else 1))
    return losses


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    clip=st.tuples(st.floats(0, 1), st.floats(0, 5)),
    dual_clip=st.sampled_from([None, 1.5, 3.0]),
    gamma=st.sampled_from([None, 0.1]),
    tokens=st.lists(
        st.tuples(
            st.floats(-4, 0),  # now
            st.floats(-4, 0),  # then
            st.integers(0, 2),  # sequence
        ),
        min_size=1,
        max_size=8,
    ),
    advantages=st.tuples(*[st.floats(-2, 2)] * 3),
    on_policy=st.tuples(*[st.booleans()] * 3),
)
def test_every_kind_equals_the_slow_version(
    kind: str,
    clip: tuple[float, float],
    dual_clip: float | None,
    gamma: float | None,
    tokens: list[tuple[float, float, int]],
    advantages: tuple[float, ...],
    on_policy: tuple[bool, ...],
) -> None:
    config = LossConfig(
        kind=kind,
        clip_low=clip[0],
        clip_high=clip[1],
        dual_clip=dual_clip,
        reduction="sequence",
        off_policy_gamma=gamma,
    )
    new, old, sequences = (list(column) for column in zip(*tokens, strict=True))
    of_token = [advantages[i] for i in sequences]
    is_on = [on_policy[i] for i in sequences]
    fast = policy_loss(
        config,
        logprobs_M=torch.tensor(new, dtype=torch.float64),
        old_logprobs_M=torch.tensor(old, dtype=torch.float64),
        advantages_M=torch.tensor(of_token, dtype=torch.float64),
        sequence_M=torch.tensor(sequences),
        num_sequences=3,
        on_policy_M=torch.tensor(is_on),
    )
    slow = slow_policy_loss(config, new, old, of_token, sequences, is_on)
    assert fast.loss_M.tolist() == pytest.approx(slow, rel=1e-6, abs=1e-9)


def test_sequence_log_ratios_are_means_and_zero_for_an_empty_sequence() -> None:
    ratios = sequence_log_ratios(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([0, 2, 2]), 3)
    assert ratios.tolist() == [1.0, 0.0, 4.0]


def test_kl_estimates_by_hand() -> None:
    # p = 1/2, reference 1/4: d = -log 2.
    logprobs, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    log2 = math.log(2)
    assert float(kl_estimate(logprobs, reference, "k1")) == pytest.approx(log2)
    assert float(kl_estimate(logprobs, reference, "k2")) == pytest.approx(log2**2 / 2)
    assert float(kl_estimate(logprobs, reference, "k3")) == pytest.approx(-0.5 + log2)
    with pytest.raises(ValueError, match="choose one of k1, k2, k3"):
        kl_estimate(logprobs, reference, "k4")


def kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def test_kl_estimates_and_their_gradients_in_expectation() -> None:
    """All outcomes of a policy over four tokens, each weighted by its probability: no sampling error."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.0], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)

    def gradient(value: Tensor) -> list[float]:
        result: list[float] = torch.autograd.grad(value, logits)[0].tolist()
        return result

    def policy() -> Tensor:
        return torch.softmax(logits, 0)

    expected, wanted = {}, {}
    for kind in ("k1", "k2", "k3"):
        estimates = kl_estimate(policy().log(), q.log(), kind)
        expected[kind] = (policy() * estimates).sum().item()
        wanted[kind] = gradient((policy().detach() * estimates).sum())
    assert expected["k1"] == pytest.approx(kl(policy(), q).item())
    assert expected["k3"] == pytest.approx(kl(policy(), q).item())
    assert expected["k2"] != pytest.approx(kl(policy(), q).item(), rel=1e-3)
    assert wanted["k1"] == pytest.approx([0.0] * 4, abs=1e-12)
    assert wanted["k2"] == pytest.approx(gradient(kl(policy(), q)))
    assert wanted["k3"] == pytest.approx(gradient(kl(q, policy())))
    ratio = policy() / policy().detach()
    corrected = ratio * kl_estimate(policy().log(), q.log(), "k3")
    assert gradient((policy().detach() * corrected).sum()) == pytest.approx(wanted["k2"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "ppo"}, "choose one of clip, gspo"),
        ({"clip_low": 1.5}, "clip_low in"),
        ({"clip_high": -0.1}, "clip_high of at least 0"),
        ({"dual_clip": 0.9}, "above 1"),
        ({"reduction": "constant"}, "give constant_tokens"),
        ({"constant_tokens": 100}, "and with no other"),
        ({"importance": "token"}, "would count twice"),
        ({"importance_cap": 0.5, "importance_floor": 0.5}, "below the cap"),
        ({"off_policy_gamma": 0.0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**settings)
