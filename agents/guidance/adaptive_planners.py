"""Planners that measure: help and rollouts for a task follow the accuracy that it had."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...envs import Task
from ..rollouts.trajectory import Trajectory
from .config import GuidanceConfig, Slot
from .outcomes import TaskOutcome
from .planner import GuidancePlanner


class LevelsPlanner(GuidancePlanner):
    """Each task has a level of help that follows its accuracy from visit to visit; 0 is none.

    Source: the light version of SAGE, arXiv:2602.03143, with masked traces in place of hints that the
    policy writes itself.
    """

    def __init__(self, config: GuidanceConfig) -> None:
        super().__init__(config)
        self._levels: dict[str, int] = {}

    def policies(self) -> tuple[str, ...]:
        """Those of the ladder."""
        return self.config.rungs

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round, with the help of the task's level."""
        if round_index:
            return []
        level = self._levels.get(task.task_id, 0)
        policy = self.config.rungs[level - 1] if level else ""
        return self.slots(task, self.config.group_size, scaffold=policy)

    def update(self, outcome: TaskOutcome) -> None:
        """Moves the level of a task by its accuracy."""
        super().update(outcome)
        if outcome.has_trace and outcome.num_usable:
            level = next_level(
                self._levels.get(outcome.task_id, 0),
                outcome.num_solved / outcome.num_usable,
                num_levels=len(self.config.rungs),
                raise_below=self.config.raise_below,
                lower_above=self.config.lower_above,
            )
            self._levels[outcome.task_id] = level

    def level(self, outcome: TaskOutcome) -> float:
        """The level that the task was played at."""
        shown = outcome.levels[-1].scaffold if outcome.levels else ""
        return float(self.config.rungs.index(shown) + 1) if shown else 0.0

    def state_dict(self) -> dict[str, Any]:
        """With the level of each task."""
        return super().state_dict() | {"levels": dict(self._levels)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        self._levels = {task: int(level) for task, level in state["levels"].items()}


class AdaptivePlanner(GuidancePlanner):
    """Shows as much of a trace as makes about half of the rollouts succeed, found in several rounds.

    Source: SEELE, arXiv:2509.06923. It differs in that each round's rollouts have a baseline of their
    own, since another share of the trace is another prompt.
    """

    def __init__(self, config: GuidanceConfig) -> None:
        super().__init__(config)
        self._last: dict[str, float] = {}  # task -> the share that its last visit ended with

    def policies(self) -> tuple[str, ...]:
        """The policy with a share of 0.5, which stands for all."""
        return (f"{self.config.policy}(0.5)",)

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """`num_rounds` rounds, each with the share that the rounds before it suggest."""
        config = self.config
        if round_index >= config.num_rounds or (round_index and not self.may_guide(task)):
            return []
        share = 0.0
        if task.expert_trace is not None:
            known = self._last.get(task.task_id)
            share = first_exposure(task.expert_trace.text) if known is None else known
            points = self._points(self.outcome(task, group))
            if points:
                share = next_exposure(points, target=config.target_accuracy)
        policy = f"{config.policy}({share:.2f})" if share >= 0.005 else ""
        return self.slots(task, config.group_size, scaffold=policy, first=len(group))

    def update(self, outcome: TaskOutcome) -> None:
        """Keeps the share that the next visit begins with."""
        super().update(outcome)
        points = self._points(outcome)
        if outcome.has_trace and points and any(level.scaffold for level in outcome.levels):
            share = next_exposure(points, target=self.config.target_accuracy)
            self._last[outcome.task_id] = round(share, 2)

    def level(self, outcome: TaskOutcome) -> float:
        """Mean share of the trace that was shown."""
        shown = [(self._share(level.scaffold), level.num_rollouts) for level in outcome.levels]
        return sum(s * n for s, n in shown) / max(sum(n for _, n in shown), 1)

    def state_dict(self) -> dict[str, Any]:
        """With the last share of each task."""
        return super().state_dict() | {"exposures": dict(self._last)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        super().load_state_dict(state)
        self._last = {task: float(share) for task, share in state["exposures"].items()}

    def _points(self, outcome: TaskOutcome) -> list[tuple[float, float]]:
        return [(self._share(o.scaffold), o.accuracy) for o in outcome.levels if o.num_usable]

    def _share(self, policy: str) -> float:
        return float(policy.removeprefix(self.config.policy).strip("()")) if policy else 0.0


class BudgetPlanner(GuidancePlanner):
    """Bare rollouts, and more of them for hard tasks. Source: DARS, arXiv:2508.13755."""

    def policies(self) -> tuple[str, ...]:
        """None."""
        return ()

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """Round 0: a group. Round 1: as many more as its accuracy asks for."""
        config = self.config
        if round_index == 0:
            return self.slots(task, config.group_size)
        outcome = self.outcome(task, group)
        if round_index > 1 or not outcome.num_usable:
            return []
        number = extra_rollouts(
            outcome.num_solved / outcome.num_usable,
            group_size=config.group_size,
            max_rollouts=config.max_rollouts,
            schedule=config.budget,
        )
        return self.slots(task, number, first=len(group))

    def level(self, outcome: TaskOutcome) -> float:
        """Rollouts beyond the first group."""
        return float(sum(o.num_rollouts for o in outcome.levels) - self.config.group_size)


def next_level(
    level: int, accuracy: float, *, num_levels: int, raise_below: float, lower_above: float
) -> int:
    """Level of help for the next visit: one more at or below `raise_below`, one less above `lower_above`.

    Source: SAGE-light, arXiv:2602.03143, with 0.1 and 0.35.

    Args:
        level: Of this visit, 0 (none) to `num_levels`.
        accuracy: Of this visit, 0 to 1.
        num_levels: The most help.
        raise_below: Accuracy that asks for more.
        lower_above: Accuracy that asks for less.
    """
    if accuracy <= raise_below:
        return min(level + 1, num_levels)
    return max(level - 1, 0) if accuracy > lower_above else level


def first_exposure(trace: str) -> float:
    """Share of a trace to begin with: all steps but the last, ``(n - 1) / n`` of its n lines.

    Source: SEELE, arXiv:2509.06923 (cold start).
    """
    num_steps = sum(bool(line.strip()) for line in trace.splitlines())
    return (num_steps - 1) / num_steps if num_steps else 0.0


def next_exposure(points: Sequence[tuple[float, float]], *, target: float = 0.5) -> float:
    """Share of a trace at which the accuracy is expected to be `target`.

    Fits ``f(p) = b + (1 - b) / (1 + exp(-k (p - c)))`` to the points by least squares over a grid of b,
    k and c, with a weak pull to b = 0 and k = 8, as two or three points do not settle three numbers; then
    ``p = c + log(s / (1 - s)) / k`` with ``s = (target - b) / (1 - b)``, kept between the nearest share
    that is too little and the nearest that is enough. While all points are on one side of the target there is
    nothing to fit: the next share lies half-way to all of the trace, or to none.
    Source: SEELE, arXiv:2509.06923; the rule for one side is ours, as the paper's fit is not defined there.

    Args:
        points: Share of the trace (0 to 1) and accuracy, at least one.
        target: Accuracy to come near, above 0 and below 1.

    Returns:
        A share, 0 to 1.

    Raises:
        ValueError: If there is no point.
    """
    if not points:
        raise ValueError("There is no point to fit; give at least one (share, accuracy).")
    for share, accuracy in reversed(points):
        if math.isclose(accuracy, target):
            return share
    too_little = [share for share, accuracy in points if accuracy < target]
    enough = [share for share, accuracy in points if accuracy > target]
    if not enough:
        return (max(too_little) + 1.0) / 2
    if not too_little:
        return min(enough) / 2
    b, k, c = np.meshgrid(
        [b for b in (0.0, 0.1, 0.2, 0.3, 0.4) if b < target],
        [2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
        np.linspace(-0.5, 1.5, 101),
        indexing="ij",
    )
    error = 0.01 * b + 0.001 * np.abs(np.log2(k / 8))
    for share, accuracy in points:
        error += (b + (1 - b) / (1 + np.exp(-k * (share - c))) - accuracy) ** 2
    best = np.unravel_index(int(np.argmin(error)), error.shape)
    level = (target - b[best]) / (1 - b[best])
    fitted = float(c[best] + math.log(level / (1 - level)) / k[best])
    low, high = sorted((max(too_little), min(enough)))  # noise may have turned them round
    return min(max(fitted, low), high)


def extra_rollouts(
    accuracy: float, *, group_size: int, max_rollouts: int, schedule: str = "et"
) -> int:
    """Further rollouts of a task whose first N had this accuracy.

    With ``S = 2 a (1 - a)``, the mean absolute advantage of a rollout, and the peak ``N / 2`` that a group
    has at a = 1/2: "et" gives ``ceil((peak - N S) / S)``, which brings the task up to the peak, "hw" gives
    ``ceil((2 (1 - a) peak - N S) / S)``. No success counts as half of one; from a = 1/2 on there are none.
    Source: DARS, arXiv:2508.13755.

    Args:
        accuracy: a, 0 to 1.
        group_size: N.
        max_rollouts: Of the task in all, the first N included.
        schedule: "et" or "hw".
    """
    if accuracy >= 0.5:
        return 0
    a = accuracy if accuracy > 1e-6 else 0.5 / group_size
    one = 2 * a * (1 - a)
    peak = group_size / 2 * (2 * (1 - a) if schedule == "hw" else 1.0)
    wanted = math.ceil((peak - group_size * one) / one - 1e-9)  # 56 is not to become 57
    return max(0, min(wanted, max_rollouts - group_size))
