"""The settings of the learner, and its learning rate over time."""

from typing import Any

import pytest

from maskgym.agents.learning.learner_config import LearnerConfig


def test_the_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    config = LearnerConfig(lr=1e-3, warmup_steps=4, decay_steps=100)
    assert [config.lr_at(s) for s in range(4)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert config.lr_at(50) == pytest.approx(5.5e-4)
    assert config.lr_at(100) == config.lr_at(200) == pytest.approx(1e-4)
    share = LearnerConfig(lr=1.0, warmup_share=0.1, decay_steps=100)
    assert [share.lr_at(s) for s in (0, 9)] == pytest.approx([0.1, 1.0])
    assert LearnerConfig(lr=1.0).lr_at(10**6) == 1.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": 0.0}, "above 0"),
        ({"updates_per_batch": 0}, "at least 1"),
        ({"warmup_steps": 5, "decay_steps": 4}, "fall before it has risen"),
        ({"max_skipped": -1}, "not below 0"),
        ({"packing": "pack"}, "packed, padded"),
        ({"precision": "fp16"}, "float32, bfloat16"),
        ({"warmup_share": 0.1}, "give decay_steps too"),
        ({"warmup_share": 2.0, "decay_steps": 5}, "between 0 and 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LearnerConfig(**settings)


def test_a_fall_over_the_whole_run_takes_its_length_from_it() -> None:
    config = LearnerConfig(lr=1.0, warmup_share=0.1, decay_steps=None, updates_per_batch=4)
    over = config.over(25)
    assert over.decay_steps == 100
    assert over.lr_at(9) == pytest.approx(1.0)
    assert over.lr_at(100) == pytest.approx(0.1)
    fixed = LearnerConfig(decay_steps=7)
    assert fixed.over(25) is fixed
