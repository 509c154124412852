"""Warnings about what goes wrong without an exception."""

from typing import Any

import pytest

from maskgym.agents.alarms import AlarmConfig, alarms_of

FINE: dict[str, Any] = {
    "train/logprob_gap": 1e-6,
    "train/entropy": 0.7,
    "train/num_tokens": 100,
    "train/num_skipped": 0,
    "truncated_share": 0.1,
    "zero_variance_groups": 0.4,
    "copied_share": None,
    "failed_share": 0.0,
}


def test_a_healthy_step_raises_no_alarm() -> None:
    assert alarms_of(FINE, AlarmConfig()) == {}
    assert alarms_of({}, AlarmConfig()) == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("train/logprob_gap", 0.2, "differ by 0.200 nats a token; stale engine weights"),
        ("train/entropy", 0.001, "entropy is 0.0010"),
        ("train/num_skipped", 1, "1 update was left out"),
        ("truncated_share", 0.75, "75% of the rollouts ended at a limit"),
        ("zero_variance_groups", 1.0, "100% of the groups have equal rewards"),
        ("copied_share", 0.8, "80% of what was sampled is copied"),
        ("failed_share", 0.5, "50% of the rollouts were ended by an error"),
    ],
)
def test_each_limit_has_a_warning_that_says_what_to_do(name: str, value: float, said: str) -> None:
    alarms = alarms_of({**FINE, name: value}, AlarmConfig())
    assert list(alarms) == [name]
    assert said in alarms[name]


def test_limits_can_be_moved() -> None:
    assert not alarms_of({**FINE, "truncated_share": 0.75}, AlarmConfig(max_truncated_share=0.8))
    assert alarms_of({**FINE, "train/logprob_gap": 0.05}, AlarmConfig(max_logprob_gap=0.01))


def test_a_step_that_trained_on_nothing_has_no_entropy_to_speak_of() -> None:
    assert not alarms_of({**FINE, "train/entropy": 0.0, "train/num_tokens": 0}, AlarmConfig())
