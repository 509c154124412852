"""Orders for rollouts and the settings of guidance."""

from dataclasses import replace

import pytest

from maskgym.agents.guidance.config import PLANNERS, GuidanceConfig, Slot, make_planner
from maskgym.envs import Task
from maskgym.masking import ExpertTrace

TASK = Task(
    task_id="t", question="1 + 1?", answers=("2",), expert_trace=ExpertTrace.from_text("1 + 1 = 2")
)


def test_rollouts_share_a_baseline_only_with_those_that_see_the_same_scaffold() -> None:
    bare, guided = Slot(task=TASK, index=0), Slot(task=TASK, index=1, scaffold="prefix(0.25)")
    more = replace(guided, scaffold="prefix(0.5)")
    assert (bare.group, guided.group, more.group) == ("t|", "t|prefix(0.25)", "t|prefix(0.5)")


def test_every_planner_that_is_named_can_be_made() -> None:
    for name in PLANNERS:
        policy = "prefix" if name == "adaptive" else "all"
        config = GuidanceConfig(planner=name, policy=policy)
        assert len(make_planner(config).plan(TASK, [], 0)) == 8, name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"planner": "alwys"}, "Did you mean 'always'"),
        ({"train_on": "bear"}, "Did you mean 'bare'"),
        ({"merge": "replace"}, "There are: append, replace_group, replace_failed"),
        ({"budget": "ets"}, "Did you mean 'et'"),
        ({"group_size": 1}, "at least 2"),
        ({"planner": "mixed", "guided_share": 0.1}, "fewer than 2 rollouts"),
        ({"merge": "replace_failed"}, "set train_on to 'bare'"),
        ({"planner": "budget", "max_rollouts": 7}, "below group_size 8"),
        ({"target_accuracy": 1.0}, "between 0 and 1"),
        ({"raise_below": 0.5}, "more and less help at once"),
        ({"num_rounds": 0}, "at least 1"),
        ({"rescue_size": 1}, "at least 2"),
        ({"anneal_steps": -1}, "at least 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GuidanceConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [
        GuidanceConfig(policy="al"),
        GuidanceConfig(planner="escalate", ladder=("all", "prefx(0.5)")),
        GuidanceConfig(planner="adaptive", policy="prefx"),
    ],
)
def test_an_unknown_mask_policy_is_refused_before_the_first_rollout(config: GuidanceConfig) -> None:
    with pytest.raises(LookupError, match="No mask policy"):
        make_planner(config)
