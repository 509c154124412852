"""Filters against numbers worked by hand."""

from typing import Any

import numpy as np
import pytest

from maskgym.agents.learning.filters import (
    FilterConfig,
    filtered_rewards,
    is_in_accuracy_band,
    is_kept_group,
    overlong_penalty,
)


def test_the_overlong_penalty_of_dapo_by_hand() -> None:
    # Its own numbers: nothing up to 16,384, half at 18,432, all from 20,480 on.
    lengths = np.array([100, 16_384, 18_432, 20_480, 30_000], dtype=float)
    penalty = overlong_penalty(lengths, max_tokens=20_480, buffer_tokens=4_096)
    assert penalty.tolist() == pytest.approx([0, 0, -0.5, -1, -1])


def test_the_overlong_penalty_equals_the_three_cases_of_the_paper() -> None:
    for length in range(0, 40):
        if length <= 30 - 8:
            slow = 0.0
        elif length <= 30:
            slow = ((30 - 8) - length) / 8
        else:
            slow = -1.0
        fast = overlong_penalty(np.array([length]), max_tokens=30, buffer_tokens=8)
        assert fast.tolist() == pytest.approx([slow]), length


REWARDS = np.array([1.0, 0.0, 1.0])
LENGTHS = np.array([10.0, 20.0, 30.0])
TRUNCATED = np.array([False, False, True])


def test_overlong_trajectories_are_kept_dropped_or_penalised() -> None:
    rewards, is_kept = filtered_rewards(REWARDS, LENGTHS, TRUNCATED, FilterConfig())
    assert (rewards.tolist(), is_kept.tolist()) == ([1.0, 0.0, 1.0], [True] * 3)
    rewards, is_kept = filtered_rewards(REWARDS, LENGTHS, TRUNCATED, FilterConfig(overlong="drop"))
    assert (rewards.tolist(), is_kept.tolist()) == ([1.0, 0.0, 1.0], [True, True, False])
    penalise = FilterConfig(
        overlong="penalise",
        overlong_max_tokens=30,
        overlong_buffer_tokens=20,
        overlong_penalty=0.4,
    )
    rewards, is_kept = filtered_rewards(REWARDS, LENGTHS, TRUNCATED, penalise)
    assert rewards.tolist() == pytest.approx([1.0, -0.2, 0.6])
    assert is_kept.all()
    assert REWARDS.tolist() == [1.0, 0.0, 1.0]  # the input is left as it was


def test_groups_of_equal_rewards_are_dropped_on_demand() -> None:
    flat, correct = np.array([0.1 + 0.2, 0.3]), np.array([True, True])
    drop = FilterConfig(zero_variance="drop")
    assert is_kept_group(flat, correct, FilterConfig())
    assert not is_kept_group(flat, correct, drop)
    assert is_kept_group(np.array([0.3, 0.4]), correct, drop)
    assert not is_kept_group(
        np.array([0.3, 0.4]), correct, FilterConfig(zero_variance="drop", tolerance=0.2)
    )
    assert not is_kept_group(np.array([]), np.array([], dtype=bool), FilterConfig())


def test_the_accuracy_band_includes_its_ends() -> None:
    seven_of_ten = np.arange(10) < 7
    assert is_in_accuracy_band(seven_of_ten, low=0.7, high=0.7)
    assert not is_in_accuracy_band(seven_of_ten, low=0.71, high=1.0)
    assert not is_in_accuracy_band(seven_of_ten, low=0.0, high=0.69)
    guide = FilterConfig(min_accuracy=0.001, max_accuracy=0.999)
    for solved, is_kept in ((0, False), (1, True), (7, True), (8, False)):
        correct = np.arange(8) < solved
        assert is_kept_group(correct.astype(float), correct, guide) == is_kept


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"zero_variance": "remove"}, "choose one of keep, drop"),
        ({"overlong": "clip"}, "choose one of keep, drop, penalise"),
        ({"overlong": "penalise"}, "needs 0 < buffer <= max"),
        (
            {"overlong": "penalise", "overlong_max_tokens": 10, "overlong_buffer_tokens": 20},
            "needs 0 < buffer <= max",
        ),
        ({"min_accuracy": 0.8, "max_accuracy": 0.2}, "min_accuracy <= max_accuracy"),
        ({"tolerance": -1.0}, "at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FilterConfig(**settings)
