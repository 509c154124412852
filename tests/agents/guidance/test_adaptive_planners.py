"""Planners that measure: levels, exposure and budget follow the accuracy of a task."""

import math
import random
from collections.abc import Sequence
from itertools import product

import pytest

from maskgym.agents.guidance.adaptive_planners import (
    extra_rollouts,
    first_exposure,
    next_exposure,
    next_level,
)
from maskgym.agents.guidance.config import GuidanceConfig, Slot, make_planner
from maskgym.masking import ExpertTrace

from .guidance_cases import levels, play, task


@pytest.mark.parametrize(
    ("level", "accuracy", "wanted"),
    [
        (0, 0.0, 1),
        (0, 0.1, 1),
        (1, 0.125, 1),
        (2, 0.35, 2),
        (2, 0.375, 1),
        (0, 1.0, 0),
        (3, 0.0, 3),
    ],
)
def test_a_level_goes_up_at_a_tenth_and_down_above_35_percent(
    level: int, accuracy: float, wanted: int
) -> None:
    moved = next_level(level, accuracy, num_levels=3, raise_below=0.1, lower_above=0.35)
    assert moved == wanted


def test_levels_follow_each_task_from_visit_to_visit() -> None:
    ladder = ("prefix(0.25)", "prefix(0.5)")
    planner = make_planner(GuidanceConfig(planner="levels", group_size=4, ladder=ladder))
    seen: dict[str, list[str]] = {"easy": [], "hard": [], "middling": []}
    for _ in range(4):
        for name, shown in seen.items():
            one = task(name)

            def solve(slot: Slot) -> bool:
                if slot.task.task_id == "middling":  # a quarter succeeds with help, none without
                    return slot.index == 0 and bool(slot.scaffold)
                return slot.task.task_id == "easy"

            group = play(planner, one, solve)
            shown += levels(group)
            planner.observe(one, group)
    assert seen == {
        "easy": ["", "", "", ""],
        "hard": ["", "prefix(0.25)", "prefix(0.5)", "prefix(0.5)"],
        "middling": ["", "prefix(0.25)", "prefix(0.25)", "prefix(0.25)"],
    }
    outcome = planner.outcome(task("hard"), play(planner, task("hard"), lambda slot: False))
    assert planner.level(outcome) == 2.0


def test_a_trace_is_first_shown_but_for_its_last_step() -> None:
    assert first_exposure("a\nb\n\nc\nd") == 0.75
    assert first_exposure("all in one line") == 0.0
    assert first_exposure("") == 0.0


def test_with_all_points_on_one_side_the_share_moves_half_way_to_the_end() -> None:
    assert next_exposure([(0.5, 0.0)]) == 0.75
    assert next_exposure([(0.5, 0.0), (0.75, 0.25)]) == 0.875
    assert next_exposure([(0.5, 1.0)]) == 0.25
    assert next_exposure([(0.0, 0.8)]) == 0.0
    assert next_exposure([(0.4, 0.5)]) == 0.4  # there already
    with pytest.raises(ValueError, match="at least one"):
        next_exposure([])


def curve(share: float, b: float, k: float, c: float) -> float:
    return b + (1 - b) / (1 + math.exp(-k * (share - c)))


def test_the_fit_finds_where_the_curve_crosses_the_target() -> None:
    exact = [(p, curve(p, 0.0, 8.0, 0.4)) for p in (0.1, 0.3, 0.6, 0.9)]
    assert next_exposure(exact) == pytest.approx(0.4, abs=0.005)
    # b = 0.2: (0.5 - 0.2) / 0.8 = 0.375, log(0.375 / 0.625) = -0.5108, 0.5 - 0.5108 / 8 = 0.4361
    guessing = [(p, curve(p, 0.2, 8.0, 0.5)) for p in (0.1, 0.35, 0.5, 0.9)]
    assert next_exposure(guessing) == pytest.approx(0.4361, abs=0.01)
    assert next_exposure(exact, target=0.8) == pytest.approx(0.4 + math.log(4) / 8, abs=0.01)


def slow_next_exposure(points: Sequence[tuple[float, float]], target: float) -> float:
    best, best_error = (0.0, 0.0, 0.0), math.inf
    grid_c = [-0.5 + 0.02 * i for i in range(101)]
    for b, k, c in product((0.0, 0.1, 0.2, 0.3, 0.4), (2.0, 4.0, 8.0, 16.0, 32.0, 64.0), grid_c):
        error = 0.01 * b + 0.001 * abs(math.log2(k) - 3)
        error += sum((curve(p, b, k, c) - accuracy) ** 2 for p, accuracy in points)
        if b < target and error < best_error - 1e-12:
            best, best_error = (b, k, c), error
    b, k, c = best
    s = (target - b) / (1 - b)
    crossing = c - math.log(1 / s - 1) / k
    ends = sorted(
        (max(p for p, a in points if a < target), min(p for p, a in points if a > target))
    )
    return min(max(crossing, ends[0]), ends[1])


def test_the_fit_is_the_best_of_its_grid() -> None:
    draw = random.Random(0)
    for _ in range(20):
        points = [(round(draw.random(), 2), draw.randrange(9) / 8) for _ in range(4)]
        points += [(0.1, 0.0), (0.9, 0.875)]  # one on each side
        points = [(p, a) for p, a in points if a != 0.5]
        assert next_exposure(points) == pytest.approx(slow_next_exposure(points, 0.5), abs=1e-6)


def test_the_share_stays_between_too_little_and_enough_also_where_noise_turned_them_round() -> None:
    assert 0.5 <= next_exposure([(0.5, 0.0), (0.6, 1.0)]) <= 0.6
    assert 0.3 <= next_exposure([(0.3, 0.9), (0.7, 0.1)]) <= 0.7


def test_adaptive_brings_a_synthetic_learner_near_half_success() -> None:
    """Accuracy is a logistic function of the share shown, with a centre of each task's own."""
    draw = random.Random(1)
    trace = ExpertTrace.from_text("\n".join(f"step {i}" for i in range(10)))
    tasks = [task(f"t{i}", trace=trace) for i in range(60)]
    centres = {one.task_id: draw.uniform(0.2, 0.9) for one in tasks}

    def share(policy: str) -> float:
        return float(policy[7:-1]) if policy else 0.0

    def solve(slot: Slot) -> bool:
        chance = 1 / (1 + math.exp(-15 * (share(slot.scaffold) - centres[slot.task.task_id])))
        return draw.random() < chance

    planner = make_planner(GuidanceConfig(planner="adaptive", policy="prefix", group_size=8))
    first, last, errors = [], [], []
    for visit in range(3):
        for one in tasks:
            group = play(planner, one, solve)
            assert len(group) == 32
            planner.observe(one, group)
            solved = [t.is_correct for t in group]
            if visit == 0:
                first += solved[:8]
            if visit == 2:
                last += solved[-8:]
                shown = share(group[-1].group.partition("|")[2])
                errors.append(abs(shown - centres[one.task_id]))
    assert sum(first) / len(first) > 0.7  # all steps but the last give most away
    # 480 rollouts: the standard deviation of the mean is 0.023
    assert sum(last) / len(last) == pytest.approx(0.5, abs=0.08)
    assert sum(errors) / len(errors) < 0.08


def test_adaptive_shows_nothing_where_the_share_is_nothing() -> None:
    planner = make_planner(
        GuidanceConfig(planner="adaptive", policy="masked_prefix", group_size=2, num_rounds=3)
    )
    one_line = task(trace=ExpertTrace.from_text("1 + 1 = 2"))
    assert levels(play(planner, one_line, lambda slot: True)) == {"": 6}
    group = play(planner, one_line, lambda slot: bool(slot.scaffold))
    # Nothing is too little; half, the way to all, is enough; then what the fit says lies between.
    assert list(levels(group))[:2] == ["", "masked_prefix(0.50)"]
    fitted = next_exposure([(0.0, 0.0), (0.5, 1.0)])
    assert list(levels(group))[2] == f"masked_prefix({fitted:.2f})"
    outcome = planner.outcome(one_line, group)
    assert planner.level(outcome) == pytest.approx((0.0 + 0.5 + round(fitted, 2)) / 3)


@pytest.mark.parametrize(
    ("schedule", "max_rollouts", "totals"),
    [("et", 32, [32, 19, 11, 9, 8]), ("hw", 64, [64, 32, 16, 11, 8])],
)
def test_budgets_are_those_of_the_published_code(
    schedule: str, max_rollouts: int, totals: list[int]
) -> None:
    for num_solved, total in enumerate(totals):
        number = extra_rollouts(
            num_solved / 8, group_size=8, max_rollouts=max_rollouts, schedule=schedule
        )
        assert 8 + number == total
    assert extra_rollouts(0.9, group_size=8, max_rollouts=64, schedule=schedule) == 0


def test_et_is_the_fewest_rollouts_that_reach_the_peak() -> None:
    for size in (4, 8, 16):
        for num_solved in range(1, size // 2):
            a = num_solved / size
            number = extra_rollouts(a, group_size=size, max_rollouts=10_000)
            mass = 2 * a * (1 - a)  # mean absolute advantage of a rollout, as r - mean(r)
            assert (size + number) * mass >= size / 2 - 1e-9
            assert (size + number - 1) * mass < size / 2


def test_budget_gives_hard_tasks_more_bare_rollouts_of_the_same_group() -> None:
    config = GuidanceConfig(planner="budget", group_size=8, max_rollouts=32)
    planner = make_planner(config)
    group = play(planner, task(), lambda slot: slot.index == 0)
    assert levels(group) == {"": 19}
    assert planner.level(planner.outcome(task(), group)) == 11.0
    assert levels(play(planner, task(), lambda slot: True)) == {"": 8}
