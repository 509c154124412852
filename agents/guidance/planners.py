"""Planners that follow a rule or a group's own failure; and all planners by name."""

from collections.abc import Callable, Sequence

from ...envs import Task
from ..rollouts.trajectory import Trajectory
from .adaptive_planners import AdaptivePlanner, BudgetPlanner, LevelsPlanner
from .config import GuidanceConfig, Slot
from .outcomes import TaskOutcome
from .planner import GuidancePlanner


class BarePlanner(GuidancePlanner):
    """Every rollout is bare: plain GRPO."""

    def policies(self) -> tuple[str, ...]:
        """None."""
        return ()

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round of bare rollouts."""
        return [] if round_index else self.slots(task, self.config.group_size)


class AlwaysPlanner(GuidancePlanner):
    """Every rollout sees the scaffold, as in SMEPO (arXiv:2605.25198); bare where there is no trace."""

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round of guided rollouts."""
        config = self.config
        return [] if round_index else self.slots(task, config.group_size, scaffold=config.policy)


class MixedPlanner(GuidancePlanner):
    """A share of each task's rollouts is guided, the rest bare; two groups, two baselines."""

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round: bare ones first."""
        if round_index:
            return []
        config = self.config
        num_guided = round(config.guided_share * config.group_size)
        num_bare = config.group_size - num_guided
        guided = self.slots(task, num_guided, scaffold=config.policy, first=num_bare)
        return self.slots(task, num_bare) + guided


class RescuePlanner(GuidancePlanner):
    """Bare first; a task whose bare rollouts all fail is tried again with the scaffold.

    As Guide does (arXiv:2506.13923), with masked traces in place of written hints.
    """

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """Round 0: bare. Round 1: guided, if no rollout of round 0 succeeded."""
        config = self.config
        if round_index == 0:
            return self.slots(task, config.group_size)
        if round_index > 1 or not self.may_guide(task) or not self.has_failed(group):
            return []
        size = config.rescue_size or config.group_size
        return self.slots(task, size, scaffold=config.policy, first=len(group))


class EscalatePlanner(GuidancePlanner):
    """Bare first; while a whole group fails, another one with the next help of the ladder takes its place.

    Source: GHPO, arXiv:2507.10628, whose ladder is the first 25, 50 and 75 % of the trace.
    """

    merge = "replace_group"

    def policies(self) -> tuple[str, ...]:
        """Those of the ladder."""
        return self.config.rungs

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """Round 0: bare. Round k: the k-th help, if all rollouts failed so far."""
        if round_index == 0:
            return self.slots(task, self.config.group_size)
        is_over = round_index > len(self.config.rungs) or not self.may_guide(task)
        if is_over or not self.has_failed(group):
            return []
        help_ = self.config.rungs[round_index - 1]
        return self.slots(task, self.config.group_size, scaffold=help_, first=len(group))

    def level(self, outcome: TaskOutcome) -> float:
        """The rung of the ladder that was reached, 1 for the first."""
        return float(len(outcome.levels) - 1)


PLANNER_KINDS: dict[str, Callable[[GuidanceConfig], GuidancePlanner]] = {
    "bare": BarePlanner,
    "always": AlwaysPlanner,
    "mixed": MixedPlanner,
    "rescue": RescuePlanner,
    "escalate": EscalatePlanner,
    "levels": LevelsPlanner,
    "adaptive": AdaptivePlanner,
    "budget": BudgetPlanner,
}
