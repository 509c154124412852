"""Planners: who sees which scaffold."""

from dataclasses import replace

import pytest

from maskgym.agents.guidance import GuidanceConfig, make_planner
from maskgym.agents.trajectory import Trajectory, Turn
from maskgym.envs import Task, Verdict
from maskgym.masking import ExpertTrace

TASK = Task(
    task_id="t", question="1 + 1?", answers=("2",), expert_trace=ExpertTrace.from_text("1 + 1 = 2")
)


def trajectory(reward: float, verdict: Verdict = Verdict.WRONG) -> Trajectory:
    turn = Turn(
        prompt_ids=(1,),
        action_ids=(2,),
        logprobs=(0.0,),
        action_text="",
        observation="",
        action="answer",
    )
    return Trajectory(
        task_id="t",
        group="t|",
        turns=(turn,),
        reward=reward,
        verdict=verdict,
        end_reason="answered",
    )


def test_always_shows_every_rollout_the_scaffold() -> None:
    planner = make_planner(GuidanceConfig(planner="always", policy="all", group_size=4))
    slots = planner.plan(TASK, [], 0)
    assert [slot.scaffold for slot in slots] == ["all"] * 4
    assert planner.plan(TASK, [], 1) == []


def test_a_task_without_a_trace_is_played_bare() -> None:
    planner = make_planner(GuidanceConfig(planner="always", group_size=2))
    slots = planner.plan(replace(TASK, expert_trace=None), [], 0)
    assert [slot.scaffold for slot in slots] == ["", ""]


def test_mixed_makes_two_groups_with_a_baseline_each() -> None:
    planner = make_planner(GuidanceConfig(planner="mixed", group_size=4, train_on="bare"))
    slots = planner.plan(TASK, [], 0)
    assert [slot.group for slot in slots] == ["t|", "t|", "t|all", "t|all"]
    assert [slot.index for slot in slots] == [0, 1, 2, 3]
    assert [slot.train_on for slot in slots[2:]] == ["bare", "bare"]


def test_rescue_shows_the_scaffold_only_where_the_whole_bare_group_failed() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    assert [slot.scaffold for slot in planner.plan(TASK, [], 0)] == ["", ""]
    failed, solved = trajectory(0.0), trajectory(1.0, Verdict.CORRECT)
    assert [slot.scaffold for slot in planner.plan(TASK, [failed, failed], 1)] == ["all", "all"]
    assert planner.plan(TASK, [failed, solved], 1) == []
    assert planner.plan(TASK, [failed] * 4, 2) == []


def test_rescue_does_not_take_a_broken_verifier_for_failure() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    broken = trajectory(0.0, Verdict.VERIFIER_ERROR)
    assert planner.plan(TASK, [trajectory(0.0), broken], 1) == []


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="No planner 'alwys'"):
        GuidanceConfig(planner="alwys")
    with pytest.raises(ValueError, match="at least 2"):
        GuidanceConfig(group_size=1)
    with pytest.raises(ValueError, match="fewer than 2 rollouts"):
        GuidanceConfig(planner="mixed", group_size=8, guided_share=0.1)
