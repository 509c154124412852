"""Scores of questions in, estimates with 95% intervals and tests of paired differences out.

Pure functions of numpy arrays. Everything random comes from a seed that is handed in.
"""

# Q: questions, M: metrics, R: resamples

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 10_000
_MAX_CELLS = 4_000_000  # of one block of resamples: about 64 MB while it is worked on


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean with its 95% confidence interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f}% [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def wilson_interval(num_correct: int, num_total: int, *, z: float = 1.959963984540054) -> Estimate:
    """Share of successes with Wilson's score interval.

    ``(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)``; it stays in [0, 1] and is
    sound near 0 and 1, where the normal interval is not. Source: Wilson 1927, JASA 22(158).

    Raises:
        ValueError: If there is nothing to estimate from.
    """
    if num_total < 1 or not 0 <= num_correct <= num_total:
        raise ValueError(f"Cannot estimate a share from {num_correct} of {num_total}.")
    p, n = num_correct / num_total, num_total
    centre = p + z * z / (2 * n)
    radius = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = max(0.0, (centre - radius) / scale), min(1.0, (centre + radius) / scale)
    return Estimate(mean=p, low=low, high=high)


def bootstrap_means(
    scores_QM: Floats, *, num_resamples: int = NUM_RESAMPLES, seed: int | Sequence[int] = 0
) -> Floats:
    """Means of resampled questions: Q questions are drawn with replacement, R times.

    All metrics see the same questions in each resample, so differences of columns are paired. A score
    that a question does not have is NaN and stays out of the mean; a resample without any gives NaN.
    Source: Efron 1979, Annals of Statistics 7(1).

    Args:
        scores_QM: [Q, M], NaN where a question has no such score.
        num_resamples: R.
        seed: Fixes the resamples; equal seeds and Q draw equal questions.

    Returns:
        [R, M].
    """
    if scores_QM.ndim != 2 or not len(scores_QM):
        raise ValueError(f"Scores have the shape {scores_QM.shape}; give [questions, metrics].")
    num_questions, num_metrics = scores_QM.shape
    is_there = ~np.isnan(scores_QM)
    sums_and_counts = np.concatenate([np.where(is_there, scores_QM, 0.0), is_there], axis=1)
    rng = np.random.default_rng(seed)
    means_RM = np.empty((num_resamples, num_metrics))
    block = max(1, _MAX_CELLS // num_questions)
    for start in range(0, num_resamples, block):
        size = min(block, num_resamples - start)
        drawn = rng.integers(num_questions, size=(size, num_questions))
        drawn += np.arange(size)[:, None] * num_questions
        times = np.bincount(drawn.ravel(), minlength=size * num_questions)
        totals = times.reshape(size, num_questions).astype(np.float64) @ sums_and_counts
        with np.errstate(invalid="ignore", divide="ignore"):
            means_RM[start : start + size] = totals[:, :num_metrics] / totals[:, num_metrics:]
    return means_RM


def percentile_interval(mean: float, means_R: Floats) -> Estimate:
    """The mean with the 2.5th and the 97.5th percentile of its resampled means (NaN left out).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13. The interval of
    scores that are all equal has no width: it says nothing about what was not seen.
    """
    low, high = np.nanpercentile(means_R, [2.5, 97.5])
    return Estimate(mean=mean, low=float(low), high=float(high))


def bootstrap_interval(
    scores_Q: Floats, *, num_resamples: int = NUM_RESAMPLES, seed: int | Sequence[int] = 0
) -> Estimate:
    """The mean of the scores with its percentile bootstrap interval."""
    means = bootstrap_means(scores_Q[:, None], num_resamples=num_resamples, seed=seed)
    return percentile_interval(float(scores_Q.mean()), means[:, 0])


def mcnemar_exact(num_only_a: int, num_only_b: int) -> float:
    """Two-sided p-value of paired yes/no outcomes: of the pairs that differ, is one side favoured?

    ``min(1, 2 * P(X <= min(b, c)))`` with X binomial over ``b + c`` fair coins; pairs that agree do not
    count. 1.0 where no pair differs. Source: McNemar 1947, Psychometrika 12(2); the exact form is the
    sign test.

    Args:
        num_only_a: Pairs in which only the first is right.
        num_only_b: Pairs in which only the second is right.
    """
    if num_only_a < 0 or num_only_b < 0:
        raise ValueError(f"Counts are {num_only_a} and {num_only_b}; they are 0 or more.")
    num_pairs = num_only_a + num_only_b
    ways = tail = 1  # whole numbers: exact however many pairs there are
    for i in range(min(num_only_a, num_only_b)):
        ways = ways * (num_pairs - i) // (i + 1)
        tail += ways
    p_value: float = 2 * tail / 2**num_pairs  # division of whole numbers rounds once
    return min(1.0, p_value)


def paired_permutation(
    differences_Q: Floats, *, num_permutations: int = NUM_RESAMPLES, seed: int | Sequence[int] = 0
) -> float:
    """Two-sided p-value that the mean of paired differences is 0: their signs are flipped at random.

    All sign patterns are gone through where there are no more than `num_permutations`; else that many
    are drawn, and the observed one counts as one of them: ``(1 + hits) / (1 + permutations)``, never 0.
    Sources: Fisher 1935, The Design of Experiments; Phipson and Smyth 2010, SAGMB 9(1).

    Args:
        differences_Q: [Q], score of one system less that of the other, a question each.
        num_permutations: Sign patterns to draw.
        seed: Fixes which.
    """
    differences = differences_Q[differences_Q != 0]
    num_moving = len(differences)
    if num_moving == 0:
        return 1.0
    # Sums that are equal on paper differ in the last bits; they count as at least as large.
    observed = float(np.abs(differences.sum())) - 1e-12 * np.abs(differences).sum()
    if num_moving < 32 and 2**num_moving <= num_permutations:
        patterns = np.arange(2**num_moving)[:, None] >> np.arange(num_moving) & 1
        sums = (2.0 * patterns - 1.0) @ differences
        return float((np.abs(sums) >= observed).mean())
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_CELLS // num_moving)
    hits = 0
    for start in range(0, num_permutations, block):
        size = min(block, num_permutations - start)
        signs = 2.0 * rng.integers(2, size=(size, num_moving)) - 1.0
        hits += int((np.abs(signs @ differences) >= observed).sum())
    return (1 + hits) / (1 + num_permutations)
