"""Advantages against numbers worked by hand and a slow second version."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.agents.learning.advantages import (
    AdvantageConfig,
    advantages_of,
    group_advantages,
    is_zero_variance,
    leave_one_out_advantages,
    moved_advantages,
    sign_advantages,
)


def advantages(groups: list[list[float]], **settings: Any) -> list[list[float]]:
    values = advantages_of([np.array(group) for group in groups], AdvantageConfig(**settings))
    return [group.tolist() for group in values]


def test_one_success_in_four_by_hand() -> None:
    # mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4, so std 1/2.
    assert group_advantages(np.array([1.0, 0, 0, 0]), epsilon=0) == pytest.approx(
        [1.5, -0.5, -0.5, -0.5]
    )
    assert advantages([[1, 0, 0, 0]], epsilon=0)[0] == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_without_the_division_it_is_the_distance_from_the_mean() -> None:
    assert group_advantages(np.array([1.0, 0, 0, 0]), normalise=False) == pytest.approx(
        [0.75, -0.25, -0.25, -0.25]
    )


def test_leave_one_out_by_hand() -> None:
    # Means of the others: 0 for the success, 1/3 for each failure.
    assert leave_one_out_advantages(np.array([1.0, 0, 0, 0])) == pytest.approx(
        [1, -1 / 3, -1 / 3, -1 / 3]
    )
    assert leave_one_out_advantages(np.array([3.0])).tolist() == [0.0]


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=16))
def test_rloo_is_dr_grpo_times_n_over_n_less_one(rewards: list[float]) -> None:
    n = len(rewards)
    dr = np.array(advantages([rewards], scale="none")[0])
    rloo = advantages([rewards], baseline="leave_one_out", scale="none")[0]
    assert rloo == pytest.approx((dr * n / (n - 1)).tolist(), abs=1e-7)


def test_batch_scale_divides_by_the_spread_of_all_groups() -> None:
    # Rewards 1, 0, 0, 0, 1, 1: mean 1/2, unbiased variance 6/4/5 = 0.3.
    values = advantages([[1, 0], [0, 0], [1, 1]], scale="batch", epsilon=0)
    assert values[0] == pytest.approx([0.5 / math.sqrt(0.3), -0.5 / math.sqrt(0.3)])
    assert values[1:] == [[0.0, 0.0], [0.0, 0.0]]


def test_signs_make_psr_nsr_and_w_reinforce() -> None:
    group = [[1.0, 0.0, 1.0]]
    assert sign_advantages(np.array([1.0, 0.5, 0.0])).tolist() == [1.0, -1.0, -1.0]
    sign: dict[str, Any] = {"baseline": "sign", "scale": "none"}
    assert advantages(group, **sign, negative_weight=0)[0] == pytest.approx([1, 0, 1])
    assert advantages(group, **sign, positive_weight=0)[0] == pytest.approx([0, -1, 0])
    assert advantages(group, **sign, positive_weight=0.1)[0] == pytest.approx([0.1, -1, 0.1])
    # A group that fails as a whole teaches under NSR, and nothing under GRPO.
    assert advantages([[0.0, 0.0]], **sign, positive_weight=0)[0] == [-1.0, -1.0]


def test_no_baseline_is_the_reward_itself() -> None:
    values = advantages([[0.25], [1.0, -1.0]], baseline="none", scale="none", negative_weight=2.0)
    assert values == [[0.25], [1.0, -2.0]]


def test_a_group_of_equal_rewards_gets_exact_zeros() -> None:
    assert group_advantages(np.full(8, 0.1)).tolist() == [0.0] * 8
    assert is_zero_variance(np.array([0.1 + 0.2, 0.3]))  # equal up to rounding
    for baseline in ("mean", "leave_one_out"):
        for scale in ("group", "batch", "none"):
            values = advantages(
                [[0.1 + 0.2, 0.3], [0.5] * 3], baseline=baseline, scale=scale, epsilon=0
            )
            assert values == [[0.0] * 2, [0.0] * 3]


def test_a_group_of_one_has_nothing_to_compare_with() -> None:
    for baseline in ("mean", "leave_one_out"):
        for scale in ("group", "batch", "none"):
            values = advantages([[5.0], [1.0, 0.0]], baseline=baseline, scale=scale)
            assert values[0] == [0.0] and values[1][0] > 0


def test_bad_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 rewards"):
        group_advantages(np.array([1.0]))
    with pytest.raises(ValueError, match="at least 1 rewards"):
        advantages([[1.0], []])
    with pytest.raises(ValueError, match="finite"):
        group_advantages(np.array([1.0, math.nan]))
    assert advantages([]) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"baseline": "median"}, "choose one of mean, leave_one_out"),
        ({"scale": "std"}, "choose one of group, batch"),
        ({"baseline": "none"}, "set scale = 'none'"),
        ({"epsilon": -1.0}, "at least 0"),
        ({"negative_weight": math.nan}, "at least 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdvantageConfig(**settings)


def test_moved_credit_counts_what_a_success_adds_and_leaves_failures_alone() -> None:
    rewards = np.array([1.0, 0.0, 1.0])
    assert moved_advantages(rewards, baseline=0.0).tolist() == [1.0, 0.0, 1.0]
    assert moved_advantages(rewards, baseline=0.25).tolist() == [0.75, 0.0, 0.75]


def test_luffy_by_hand_an_expert_trace_beside_seven_failures_trains_alone() -> None:
    on_policy = [0.0] * 7
    expert = moved_advantages(np.array([1.0]), baseline=float(np.mean(on_policy)))
    assert [*advantages([on_policy], scale="none")[0], *expert] == [0.0] * 7 + [1.0]


GROUPS = st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=8), min_size=1, max_size=4)
COMPARED = st.tuples(
    st.sampled_from(["mean", "leave_one_out"]), st.sampled_from(["group", "batch", "none"])
)


@settings(deadline=None)
@given(groups=GROUPS, kind=COMPARED, weights=st.tuples(st.floats(0, 2), st.floats(0, 2)))
def test_equal_to_the_slow_version(
    groups: list[list[float]], kind: tuple[str, str], weights: tuple[float, float]
) -> None:
    everything = [reward for group in groups for reward in group]
    slow = []
    for group in groups:
        of_group = []
        for i, reward in enumerate(group):
            others = [r for j, r in enumerate(group) if j != i]
            base = statistics.fmean(group if kind[0] == "mean" else others or [reward])
            value = reward - base
            if max(group) - min(group) <= 1e-8:
                value = 0.0
            elif kind[1] == "group":
                value /= statistics.stdev(group) + 1e-6
            elif kind[1] == "batch":
                value /= statistics.stdev(everything) + 1e-6
            of_group.append(value * (weights[0] if value > 0 else weights[1]))
        slow.append(of_group)
    fast = advantages(
        groups,
        baseline=kind[0],
        scale=kind[1],
        positive_weight=weights[0],
        negative_weight=weights[1],
    )
    for quick, plain in zip(fast, slow, strict=True):
        assert quick == pytest.approx(plain, abs=1e-6, rel=1e-6)


@settings(deadline=None)
@given(
    groups=st.lists(
        st.lists(st.integers(0, 4).map(float), min_size=1, max_size=8), min_size=1, max_size=4
    ),
    kind=COMPARED,
    slope=st.floats(0.1, 10),
    offset=st.floats(-5, 5),
)
def test_an_affine_change_of_all_rewards_changes_nothing_but_the_unscaled_size(
    groups: list[list[float]], kind: tuple[str, str], slope: float, offset: float
) -> None:
    before = advantages(groups, baseline=kind[0], scale=kind[1], epsilon=0)
    moved = [[slope * reward + offset for reward in group] for group in groups]
    after = advantages(moved, baseline=kind[0], scale=kind[1], epsilon=0)
    factor = slope if kind[1] == "none" else 1.0
    for values, changed in zip(before, after, strict=True):
        assert changed == pytest.approx([factor * value for value in values], abs=1e-6)
