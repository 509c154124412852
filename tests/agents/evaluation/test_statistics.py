"""Intervals and tests of paired scores, against numbers worked by hand and slow second versions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from maskgym.agents.evaluation.statistics import (
    Estimate,
    bootstrap_interval,
    bootstrap_means,
    mcnemar_exact,
    paired_permutation,
    percentile_interval,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("num", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0), (5, 0.2366, 0.7634)]
)
def test_wilson_intervals_of_ten(num: int, low: float, high: float) -> None:
    estimate = wilson_interval(num, 10)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-4)
    with pytest.raises(ValueError, match="Cannot estimate a share from 2 of 1"):
        wilson_interval(2, 1)


def test_wilson_interval_by_hand() -> None:
    # n = 10, p = 1/2, z = 1.96: (0.5 + 0.19208 +- 0.36352) / 1.38416
    estimate = wilson_interval(5, 10, z=1.96)
    assert estimate.mean == 0.5
    assert estimate.low == pytest.approx(0.2366, abs=1e-4)
    assert estimate.high == pytest.approx(0.7634, abs=1e-4)
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(10, 10).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="0 of 0"):
        wilson_interval(0, 0)


def test_bootstrap_means_are_those_of_questions_drawn_one_by_one() -> None:
    scores = np.array([[0.0, 1.0], [1.0, np.nan], [1.0, 0.5]])
    means = bootstrap_means(scores, num_resamples=200, seed=3)
    drawn = np.random.default_rng(3).integers(3, size=(200, 3))
    for row, questions in zip(means, drawn, strict=True):
        for metric in range(2):
            found = [scores[q, metric] for q in questions if not math.isnan(scores[q, metric])]
            expected = sum(found) / len(found) if found else math.nan
            assert row[metric] == pytest.approx(expected, nan_ok=True)


def test_resamples_do_not_depend_on_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.linspace(0.0, 6.0, 7).reshape(7, 1)
    whole = bootstrap_means(scores, num_resamples=50, seed=1)
    monkeypatch.setattr("maskgym.agents.evaluation.statistics._MAX_CELLS", 21)
    assert (bootstrap_means(scores, num_resamples=50, seed=1) == whole).all()


def test_a_bootstrap_interval_of_a_share_is_that_of_the_binomial() -> None:
    scores = np.array([1.0] * 90 + [0.0] * 210)
    estimate = bootstrap_interval(scores, seed=0)
    radius = 1.96 * math.sqrt(0.3 * 0.7 / 300)
    assert estimate.mean == pytest.approx(0.3)
    assert (estimate.low, estimate.high) == pytest.approx((0.3 - radius, 0.3 + radius), abs=0.004)
    assert bootstrap_interval(scores, seed=0) == estimate
    assert bootstrap_interval(np.ones(5)) == Estimate(mean=1.0, low=1.0, high=1.0)


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        scores = rng.normal(2.0, 1.0, size=60)
        estimate = bootstrap_interval(scores, num_resamples=500, seed=trial)
        hits += estimate.low <= 2.0 <= estimate.high
    assert 0.91 <= hits / 400 <= 0.98


def test_the_percentile_interval_leaves_empty_resamples_out() -> None:
    means = np.array([np.nan, *np.linspace(0.0, 1.0, 101)])
    estimate = percentile_interval(0.5, means)
    assert (estimate.low, estimate.high) == pytest.approx((0.025, 0.975))


def test_scores_without_questions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(0, 2\)"):
        bootstrap_means(np.empty((0, 2)))


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        (0, 0, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
        (1, 0, 1.0),
    ],
)
def test_mcnemar_by_hand(only_a: int, only_b: int, expected: float) -> None:
    assert mcnemar_exact(only_a, only_b) == pytest.approx(expected)


def test_mcnemar_sums_the_tail_of_the_binomial() -> None:
    for only_a, only_b in [(10, 30), (30, 10), (499, 431), (0, 2000)]:
        n, k = only_a + only_b, min(only_a, only_b)
        tail = sum(Fraction(math.comb(n, i), 2**n) for i in range(k + 1))
        assert mcnemar_exact(only_a, only_b) == float(2 * tail)
    assert mcnemar_exact(7000, 7200) == pytest.approx(math.erfc(199 / math.sqrt(28400)), rel=1e-3)
    with pytest.raises(ValueError, match="-1"):
        mcnemar_exact(-1, 2)


def test_few_differences_are_permuted_exactly() -> None:
    differences = np.array([0.5, 0.25, 0.0, -0.1, 0.3])
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((-1, 1), repeat=5)
    ]
    expected = sum(value >= abs(differences.sum()) - 1e-9 for value in sums) / len(sums)
    assert paired_permutation(differences) == pytest.approx(expected)
    assert paired_permutation(np.zeros(4)) == 1.0
    assert paired_permutation(np.array([0.1] * 5)) == pytest.approx(2 / 32)


def test_many_differences_are_permuted_at_random_and_never_give_zero() -> None:
    rng = np.random.default_rng(5)
    nothing, much = rng.normal(0.0, 1.0, size=200), rng.normal(1.0, 1.0, size=200)
    assert paired_permutation(nothing - nothing.mean(), seed=1) == pytest.approx(1.0)
    assert paired_permutation(much, seed=1, num_permutations=999) == pytest.approx(1 / 1000)
    some = rng.normal(0.1, 1.0, size=15)
    exact = paired_permutation(some, num_permutations=2**15)
    assert paired_permutation(some, num_permutations=2**15 - 1) == pytest.approx(exact, abs=0.01)
    assert 0.02 < exact < 0.98
