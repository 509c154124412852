"""The numbers of a step and the line that says them."""

from maskgym.agents.step_metrics import Row, step_line

TIMES = {"sampled_tokens_per_s": 1234.0, "step_s": 2.5}
ROW: Row = {
    "reward/bare": 0.25,
    "reward/guided": None,
    "zero_variance_groups": 0.5,
    "train/entropy": 1.5,
    "train/logprob_gap": 2e-7,
    "train/num_tokens": 100,
}


def test_the_line_of_a_step_says_what_was_learnt_from_and_how_fast() -> None:
    assert step_line(3, 20, ROW, TIMES, None) == (
        "step    3/20  reward bare 0.25  flat 50%  entropy 1.50  gap 2e-07  1,234 tok/s  2.5 s"
    )


def test_a_step_whose_groups_were_all_dropped_shows_no_entropy_and_no_gap_of_nothing() -> None:
    row = {**ROW, "zero_variance_groups": 0.0, "train/entropy": 0.0, "train/logprob_gap": 0.0}
    line = step_line(3, 20, {**row, "train/num_tokens": 0}, TIMES, None)
    assert line == "step    3/20  reward bare 0.25  no group to learn from  1,234 tok/s  2.5 s"
