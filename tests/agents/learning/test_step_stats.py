"""Sums of micro-batches, updates and ranks, and the record made of them."""

import pytest

from maskgym.agents.learning.step_stats import StepTimes, combined, step_stats, timed


def test_numbers_add_up_and_maxima_do_not() -> None:
    parts = [{"loss": 1.0, "max_gap": 0.2}, {"loss": 2.0, "tokens": 3.0}, {"max_gap": 0.1}]
    assert combined(parts) == {"loss": 3.0, "max_gap": 0.2, "tokens": 3.0}


def test_means_are_over_what_each_sum_counted() -> None:
    sums = {
        "loss": 3.0,
        "updates": 2.0,
        "entropy": 8.0,
        "entropy_tokens": 4.0,
        "gap": 0.6,
        "gap_tokens": 3.0,
        "ratio": 2.2,
        "max_ratio": 1.2,
        "ratio_tokens": 2.0,
        "clipped": 1.0,
        "tokens": 10.0,
    }
    stats = step_stats(sums, num_tokens=12, lr=0.5, times=StepTimes())
    assert (stats.loss, stats.entropy, stats.clipped_share) == (1.5, 2.0, 0.1)
    assert stats.logprob_gap == pytest.approx(0.2)
    assert stats.mean_ratio == 1.1
    assert (stats.num_tokens, stats.num_updates, stats.lr) == (12, 2, 0.5)


def test_a_batch_that_taught_nothing_has_a_record_too() -> None:
    stats = step_stats({}, num_tokens=0, lr=0.1, times=StepTimes())
    assert (stats.loss, stats.mean_ratio, stats.max_ratio, stats.num_updates) == (0.0, 1.0, 1.0, 0)


def test_times_add_up_even_through_an_error_and_do_not_make_records_differ() -> None:
    times = StepTimes()
    for _ in range(2):
        with pytest.raises(RuntimeError), timed(times, "scoring_s"):
            raise RuntimeError("within")
    assert times.scoring_s > 0
    other = step_stats({}, num_tokens=0, lr=0.1, times=StepTimes())
    assert step_stats({}, num_tokens=0, lr=0.1, times=times) == other
