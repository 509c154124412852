"""Rollouts of a step to samples: baselines within scaffold levels, and who takes part."""

from typing import Any

import numpy as np
import pytest

from maskgym.agents.guidance.config import group_name
from maskgym.agents.learning.advantages import AdvantageConfig
from maskgym.agents.learning.credit import credit, has_signal
from maskgym.agents.learning.filters import FilterConfig
from maskgym.agents.rollouts.trajectory import Trajectory, Turn
from maskgym.envs import Verdict

PLAIN = AdvantageConfig(scale="none")
KEEP = FilterConfig()


def played(
    reward: float, *, task: str = "a", scaffold: str = "", tokens: int = 2, **fields: Any
) -> Trajectory:
    turn = Turn(
        prompt_ids=(1, 2),
        action_ids=(3,) * tokens,
        logprobs=(-1.0,) * tokens,
        action_text="x",
        observation="",
        action="answer",
    )
    values: dict[str, Any] = {
        "task_id": task,
        "group": group_name(task, scaffold),
        "turns": (turn,),
        "reward": reward,
        "verdict": Verdict.CORRECT if reward > 0.5 else Verdict.WRONG,
        "end_reason": "answered",
        "scaffold": "plan" if scaffold else "",
        "scaffold_policy": scaffold,
        "bare_prompt_ids": (1,),
    }
    return Trajectory(**(values | fields))


def advantages(
    groups: list[list[Trajectory]],
    advantages: AdvantageConfig = PLAIN,
    filters: FilterConfig = KEEP,
) -> list[list[float]]:
    credited = credit(groups, advantages, filters)
    return [[s.advantage for s in samples] for samples in credited.samples]


def test_a_baseline_is_that_of_the_rollouts_that_saw_the_same() -> None:
    group = [played(1.0), played(0.0), *(played(r, scaffold="all") for r in (1.0, 1.0, 0.0, 1.0))]
    assert advantages([group]) == [[0.5, -0.5, 0.25, 0.25, -0.75, 0.25]]


def test_a_member_that_failed_takes_no_part_and_its_group_goes_on() -> None:
    broken = played(0.0, error="OSError: gone", end_reason="env_error")
    found = credit([[played(1.0), broken, played(0.0)]], PLAIN, KEEP)
    assert [s.advantage for s in found.samples[0]] == [0.5, -0.5]
    assert found.metrics["num_incomplete_groups"] == 1


def test_a_group_of_one_teaches_nothing_and_nothing_breaks() -> None:
    found = credit([[played(1.0)], []], AdvantageConfig(), KEEP)
    assert [[s.advantage for s in samples] for samples in found.samples] == [[0.0], []]
    assert found.metrics["zero_variance_groups"] == 1.0


def test_a_task_that_comes_twice_has_two_groups() -> None:
    found = credit([[played(1.0), played(0.0)], [played(0.0), played(0.0)]], PLAIN, KEEP)
    assert advantages([[played(1.0), played(0.0)], [played(0.0), played(0.0)]])[1] == [0.0, 0.0]
    assert len({s.group for samples in found.samples for s in samples}) == 2


def test_a_scale_of_the_batch_is_taken_over_all_tasks() -> None:
    groups = [[played(1.0), played(0.0)], [played(4.0, task="b"), played(0.0, task="b")]]
    std = np.std([1, 0, 4, 0], ddof=1) + 1e-6
    found = advantages(groups, advantages=AdvantageConfig(scale="batch"))
    assert found[0] == pytest.approx([0.5 / std, -0.5 / std])
    assert found[1] == pytest.approx([2 / std, -2 / std])


def test_credit_that_moves_to_the_bare_prompt_is_measured_against_bare_rollouts() -> None:
    moved = [played(r, scaffold="all", train_on="bare") for r in (1.0, 0.0)]
    group = [played(0.0), played(0.0), *moved]
    found = credit([group], AdvantageConfig(), KEEP)
    assert [s.advantage for s in found.samples[0]] == [0.0, 0.0, 1.0, 0.0]
    assert [s.sequence.is_on_policy for s in found.samples[0]] == [True, True, False, False]
    assert found.metrics["zero_variance_groups"] == 0.5


def test_bare_rollouts_that_are_not_learnt_from_are_a_baseline_all_the_same() -> None:
    moved = [played(r, scaffold="all", train_on="bare") for r in (1.0, 0.0)]
    group = [played(0.5), played(0.0), *moved]
    (samples,) = credit([moved], PLAIN, KEEP, played=[group]).samples
    assert [s.advantage for s in samples] == [0.75, 0.0]


def test_flat_groups_can_be_left_out_of_the_denominators() -> None:
    groups = [[played(1.0), played(1.0)], [played(1.0, task="b"), played(0.0, task="b")]]
    assert [len(s) for s in credit(groups, PLAIN, KEEP).samples] == [2, 2]
    dropped = credit(groups, PLAIN, FilterConfig(zero_variance="drop"))
    assert [len(s) for s in dropped.samples] == [0, 2]
    assert dropped.metrics["num_dropped_groups"] == 1
    assert dropped.metrics["zero_variance_groups"] == 0.5


def test_truncated_rollouts_can_be_dropped_from_baseline_and_loss() -> None:
    group = [played(1.0), played(0.0), played(0.0, end_reason="max_turns")]
    assert advantages([group])[0] == pytest.approx([2 / 3, -1 / 3, -1 / 3])
    found = credit([group], PLAIN, FilterConfig(overlong="drop"))
    assert [s.advantage for s in found.samples[0]] == [0.5, -0.5]
    assert found.metrics["num_dropped_overlong"] == 1


def test_long_rollouts_can_be_punished() -> None:
    filters = FilterConfig(overlong="penalise", overlong_max_tokens=8, overlong_buffer_tokens=4)
    group = [played(1.0, tokens=2), played(1.0, tokens=6)]  # a penalty of 0 and of a half
    assert advantages([group], filters=filters) == [[0.25, -0.25]]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ([played(1.0), played(0.0)], True),
        ([played(1.0), played(1.0)], False),
        ([played(1.0)], False),
        ([], False),
        (
            [played(0.0), played(0.0), played(1.0, scaffold="all"), played(0.0, scaffold="all")],
            True,
        ),
        ([played(0.0), played(1.0, end_reason="env_error", error="x")], False),
    ],
)
def test_what_teaches_something(group: list[Trajectory], expected: bool) -> None:
    assert has_signal(group, KEEP) is expected


def test_an_accuracy_band_decides_what_teaches_something() -> None:
    group = [played(1.0), played(1.0), played(1.0), played(0.0)]
    assert has_signal(group, KEEP)
    assert not has_signal(group, FilterConfig(max_accuracy=0.5))
    assert credit([group], PLAIN, FilterConfig(max_accuracy=0.5)).samples == [[]]
