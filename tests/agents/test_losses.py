"""Losses against numbers worked by hand and slow second versions."""

import math

import pytest
import torch

from maskgym.agents.losses import (
    clipped_policy_loss,
    supervised_loss,
    token_entropy,
    token_logprobs,
)


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
        (0.5, 1.0, -0.5),  # not clipped below: the minimum is the unclipped term
        (0.5, -1.0, 0.8),  # clipped below for a bad action
        (1.5, -1.0, 1.5),
    ],
)
def test_clipped_loss_by_hand(ratio: float, advantage: float, expected: float) -> None:
    loss = clipped_policy_loss(
        torch.tensor([math.log(ratio)]),
        torch.tensor([0.0]),
        torch.tensor([advantage]),
        num_tokens=1,
    )
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_clipped_loss_has_no_gradient_outside_the_range() -> None:
    logprobs = torch.tensor([math.log(1.5), math.log(1.1)], requires_grad=True)
    clipped_policy_loss(logprobs, torch.zeros(2), torch.ones(2), num_tokens=2).backward()  # type: ignore[no-untyped-call]
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx([0.0, -1.1 / 2])


def test_clipped_loss_equals_the_slow_version() -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, advantages = (torch.randn(50, generator=generator) for _ in range(3))
    slow = 0.0
    for n, o, a in zip(new.tolist(), old.tolist(), advantages.tolist(), strict=True):
        r = math.exp(n - o)
        slow -= min(r * a, min(max(r, 0.7), 1.4) * a) / 50
    fast = clipped_policy_loss(new, old, advantages, num_tokens=50, clip_low=0.3, clip_high=0.4)
    assert fast.item() == pytest.approx(slow, rel=1e-5)


def test_an_empty_step_is_refused() -> None:
    empty = torch.zeros(0)
    with pytest.raises(ValueError, match="no token to learn from"):
        clipped_policy_loss(empty, empty, empty, num_tokens=0)
    with pytest.raises(ValueError, match="no token to imitate"):
        supervised_loss(empty, num_tokens=0)


def test_supervised_loss_is_the_mean_negative_log_likelihood() -> None:
    assert supervised_loss(torch.tensor([-1.0, -3.0]), num_tokens=2).item() == pytest.approx(2.0)
