"""Advantages against numbers worked by hand and a slow second version."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.agents.advantages import group_advantages, is_zero_variance, moved_advantages


def test_one_success_in_four_by_hand() -> None:
    # mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4, so std 1/2.
    assert group_advantages(np.array([1.0, 0, 0, 0]), epsilon=0) == pytest.approx(
        [1.5, -0.5, -0.5, -0.5]
    )


def test_without_the_division_it_is_the_distance_from_the_mean() -> None:
    assert group_advantages(np.array([1.0, 0, 0, 0]), normalise=False) == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )


def test_a_group_of_equal_rewards_gets_exact_zeros() -> None:
    assert group_advantages(np.full(8, 0.1)).tolist() == [0.0] * 8
    assert is_zero_variance(np.array([0.1 + 0.2, 0.3]))  # equal up to rounding


def test_bad_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rewards"):
        group_advantages(np.array([1.0]))
    with pytest.raises(ValueError, match="finite"):
        group_advantages(np.array([1.0, math.nan]))


def test_moved_credit_counts_what_a_success_adds_and_leaves_failures_alone() -> None:
    rewards = np.array([1.0, 0.0, 1.0])
    assert moved_advantages(rewards, baseline=0.0).tolist() == [1.0, 0.0, 1.0]
    assert moved_advantages(rewards, baseline=0.25).tolist() == [0.75, 0.0, 0.75]


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=16))
def test_equal_to_the_slow_version(rewards: list[float]) -> None:
    mean = sum(rewards) / len(rewards)
    variance = sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1)
    if max(rewards) - min(rewards) <= 1e-8:
        slow = [0.0] * len(rewards)
    else:
        slow = [(r - mean) / (math.sqrt(variance) + 1e-6) for r in rewards]
    assert group_advantages(np.array(rewards)) == pytest.approx(slow, abs=1e-6, rel=1e-6)
