"""What planners share: annealing, the hand-over of credit, counts, state."""

import json
from dataclasses import replace

import pytest

from maskgym.agents.guidance.config import GuidanceConfig, make_planner
from maskgym.agents.guidance.planner import GuidancePlanner

from .guidance_cases import levels, play, played, task


def share_guided(planner: GuidancePlanner, num_tasks: int = 2000) -> float:
    guided = [bool(planner.plan(task(f"t{i}"), [], 0)[0].scaffold) for i in range(num_tasks)]
    return sum(guided) / num_tasks


def test_annealing_guides_fewer_tasks_from_step_to_step_and_none_at_the_end() -> None:
    planner = make_planner(GuidanceConfig(planner="always", group_size=2, anneal_steps=10))
    shares = []
    for planner.step in (0, 5, 9, 10, 30):
        shares.append(share_guided(planner))
    # 2,000 draws: the standard deviation of a share is at most 0.011
    assert shares == pytest.approx([1.0, 0.5, 0.1, 0.0, 0.0], abs=0.04)
    assert shares[3:] == [0.0, 0.0]


def test_annealing_draws_whole_tasks_and_the_same_ones_in_every_round() -> None:
    config = GuidanceConfig(planner="escalate", group_size=2, anneal_steps=10)
    planner = make_planner(config)
    planner.step = 5
    seen = {len(levels(play(planner, task(f"t{i}"), lambda slot: False))) for i in range(50)}
    assert seen == {1, 4}  # bare alone, or the whole ladder


def handover(group_size: int = 4) -> GuidancePlanner:
    return make_planner(
        GuidanceConfig(planner="always", group_size=group_size, train_on="handover")
    )


def play_steps(planner: GuidancePlanner, first: int, solved: list[int]) -> list[str]:
    """Plays a step for each number of guided successes among 4; gives the prompts of the loss."""
    prompts = []
    for planner.step, count in enumerate(solved, start=first):
        group = play(planner, task(), lambda slot, count=count: slot.index < count)  # type: ignore[misc]
        prompts.append(group[0].train_on)
        planner.observe(task(), group)
    return prompts


def test_credit_is_handed_over_once_guided_rollouts_succeed_often_enough_and_stays_there() -> None:
    planner = handover()
    # The mean of 5 steps passes 0.45 behind step 6: (0 + 2 + 3 + 3 + 2) / 20 = 0.5.
    assert play_steps(planner, 1, [0, 0, 2, 3, 3, 2, 0, 0, 0, 0, 0, 0]) == (
        ["guided"] * 6 + ["bare"] * 6
    )
    assert planner.metrics([])["is_handed_over"] == 1.0


def test_a_handover_waits_for_five_steps() -> None:
    assert play_steps(handover(), 1, [4] * 7) == ["guided"] * 5 + ["bare"] * 2


def test_outcomes_of_the_step_under_way_do_not_count_yet() -> None:
    planner = handover()
    play_steps(planner, 1, [4, 4, 4, 4])
    planner.step = 5
    for number in range(3):  # tasks of one step, observed as they end
        group = play(planner, task(f"t{number}"), lambda slot: True)
        assert {t.train_on for t in group} == {"guided"}
        planner.observe(task(), group)


def test_bare_rollouts_and_scaffolds_that_were_not_shown_say_nothing_about_guided_success() -> None:
    planner = make_planner(GuidanceConfig(planner="mixed", group_size=4, train_on="handover"))
    for planner.step in range(1, 8):
        planner.observe(task(), play(planner, task(), lambda slot: not slot.scaffold))
    assert planner.train_on == "guided"


@pytest.mark.parametrize("name", ["always", "escalate", "levels", "adaptive"])
def test_a_planner_that_is_put_back_goes_on_as_the_first(name: str) -> None:
    policy = "prefix" if name == "adaptive" else "all"
    config = GuidanceConfig(
        planner=name, policy=policy, group_size=4, train_on="handover", anneal_steps=40
    )

    def run(planner: GuidancePlanner, steps: range) -> list[list[tuple[str, str]]]:
        orders = []
        for planner.step in steps:
            for number in range(6):
                one = task(f"t{number}")
                group = play(planner, one, lambda slot: bool(slot.scaffold))
                orders.append([(t.group, t.train_on) for t in group])
                planner.observe(one, group)
        return orders

    unbroken, first, second = (make_planner(config) for _ in range(3))
    whole = run(unbroken, range(1, 20))
    half = run(first, range(1, 10))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert half + run(second, range(10, 20)) == whole
    assert second.state_dict() == unbroken.state_dict()
    fresh = run(make_planner(config), range(10, 20))
    assert fresh != whole[len(half) :]  # so there was something to put back


def test_metrics_count_what_was_meant_to_be_guided_and_was_not() -> None:
    planner = make_planner(GuidanceConfig(planner="always", group_size=4))
    tasks = [task("a"), task("b"), task("c", trace=None), task("d")]
    groups = [play(planner, one, lambda slot: False, is_shown=one.task_id != "b") for one in tasks]
    row = planner.metrics([planner.outcome(*pair) for pair in zip(tasks, groups, strict=True)])
    assert row == {
        "injected_share": 0.5,  # a and d of four tasks
        "missing_traces": 1.0,
        "dropped_scaffolds": 4.0,
        "mean_level": 0.75,
        "rescued_share": 0.0,
        "flat_rescues": 0.0,
    }


def test_metrics_say_how_often_help_rescued_a_failed_group() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    solvers = {
        "a": lambda slot: bool(slot.scaffold),  # rescued
        "b": lambda slot: False,
        "c": lambda slot: True,
        "d": lambda slot: slot.index == 3,  # rescued by one
    }
    outcomes = [planner.outcome(task(n), play(planner, task(n), s)) for n, s in solvers.items()]
    assert planner.metrics(outcomes)["rescued_share"] == 0.5
    assert planner.metrics(outcomes)["flat_rescues"] == 2.0  # a, all right, and b, all wrong
    assert planner.metrics([])["injected_share"] == 0.0


def test_a_planner_without_scaffolds_misses_no_trace() -> None:
    planner = make_planner(GuidanceConfig(planner="bare", group_size=2))
    outcome = planner.outcome(task(trace=None), play(planner, task(trace=None), lambda slot: True))
    assert planner.metrics([outcome])["missing_traces"] == 0.0


def test_a_reward_without_a_verdict_counts_from_the_threshold_on() -> None:
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2, success_reward=0.5))
    slots = planner.plan(task(), [], 0)
    low = [replace(played(slot, False), verdict=None, reward=0.1) for slot in slots]
    assert len(planner.plan(task(), low, 1)) == 2  # a bonus for format is no success
    high = [low[0], replace(low[1], reward=0.8)]
    assert planner.plan(task(), high, 1) == []
