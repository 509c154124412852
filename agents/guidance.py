"""A task and its rollouts so far in, the next rollouts to make out: who sees which scaffold, when.

A planner is asked round by round, `plan(task, group, round_index)`, until it returns no more slots.
It never sees tokens, weights or the engine.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..envs import Task
from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """An order for one rollout."""

    task: Task
    index: int
    """Place within the task's rollouts of this step; makes the sampling seed."""

    scaffold: str = ""
    """Mask policy of the scaffold to show; empty for a bare rollout."""

    train_on: str = "guided"
    """Which prompt the loss conditions on: "guided" or "bare"."""

    @property
    def group(self) -> str:
        """Rollouts that share a baseline: a guided one never sets that of a bare one."""
        return group_name(self.task.task_id, self.scaffold)


def group_name(task_id: str, scaffold: str = "") -> str:
    """The group of a task's rollouts that see the same scaffold; without one, of its bare ones."""
    return f"{task_id}|{scaffold}"


class Planner(Protocol):
    """Says which rollouts of a task see what."""

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """The next rollouts of this task; empty when it has enough."""


@dataclass(frozen=True, kw_only=True)
class GuidanceConfig:
    """Who sees a scaffold, and what the loss makes of it."""

    planner: str = "always"
    """"bare" (no scaffold), "always" (every rollout; SMEPO), "mixed" (a share of each task's
    rollouts), or "rescue" (only where the whole bare group failed; after GHPO)."""

    policy: str = "all"
    """Mask policy of the scaffolds."""

    train_on: str = "guided"
    """Prompt that the loss of a guided rollout conditions on. "guided" is the published method;
    "bare" moves the credit to the prompt that evaluation uses; see `moved_advantages`."""

    group_size: int = 8
    """Rollouts that share a baseline."""

    guided_share: float = 0.5
    """Planner "mixed": the share of a task's rollouts that see a scaffold; both parts need two."""

    def __post_init__(self) -> None:
        if self.planner not in PLANNERS:
            raise ValueError(f"No planner {self.planner!r}; choose one of {', '.join(PLANNERS)}.")
        if self.train_on not in ("guided", "bare"):
            raise ValueError(f"train_on is {self.train_on!r}; choose 'guided' or 'bare'.")
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}; a baseline needs at least 2 rollouts."
            )
        if self.planner == "mixed":
            num_guided = round(self.guided_share * self.group_size)
            if not 2 <= num_guided <= self.group_size - 2:
                raise ValueError(
                    f"guided_share {self.guided_share} of group_size {self.group_size} leaves a part "
                    "with fewer than 2 rollouts; a baseline needs 2."
                )


class BarePlanner:
    """Every rollout is bare: plain GRPO."""

    def __init__(self, config: GuidanceConfig) -> None:
        self.config = config

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round of bare rollouts."""
        return [] if round_index else _slots(task, self.config.group_size)


class AlwaysPlanner:
    """Every rollout sees the scaffold (SMEPO, arXiv 2605.25198); bare where there is no trace."""

    def __init__(self, config: GuidanceConfig) -> None:
        self.config = config

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round of guided rollouts."""
        if round_index:
            return []
        return _slots(
            task,
            self.config.group_size,
            scaffold=_policy_for(task, self.config),
            train_on=self.config.train_on,
        )


class MixedPlanner:
    """A share of each task's rollouts is guided, the rest bare; two groups, two baselines."""

    def __init__(self, config: GuidanceConfig) -> None:
        self.config = config

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """One round: bare ones first."""
        if round_index:
            return []
        num_guided = round(self.config.guided_share * self.config.group_size)
        policy = _policy_for(task, self.config)
        if not policy:
            return _slots(task, self.config.group_size)
        num_bare = self.config.group_size - num_guided
        guided = _slots(
            task, num_guided, scaffold=policy, train_on=self.config.train_on, first=num_bare
        )
        return _slots(task, num_bare) + guided


class RescuePlanner:
    """Bare first; a task whose bare rollouts all fail is tried again with the scaffold.

    Source: the escalation of GHPO, arXiv:2507.10628, with masked traces in place of prefixes.
    """

    def __init__(self, config: GuidanceConfig) -> None:
        self.config = config

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """Round 0: bare. Round 1: guided, if no rollout of round 0 earned anything."""
        size = self.config.group_size
        if round_index == 0:
            return _slots(task, size)
        policy = _policy_for(task, self.config)
        failed = [t for t in group if t.is_trainable and t.reward <= 0]
        if round_index > 1 or not policy or len(failed) < len(group):
            return []
        return _slots(task, size, scaffold=policy, train_on=self.config.train_on, first=len(group))


PLANNERS: dict[str, Callable[[GuidanceConfig], Planner]] = {
    "bare": BarePlanner,
    "always": AlwaysPlanner,
    "mixed": MixedPlanner,
    "rescue": RescuePlanner,
}


def make_planner(config: GuidanceConfig) -> Planner:
    """The planner that a configuration names."""
    return PLANNERS[config.planner](config)


def _policy_for(task: Task, config: GuidanceConfig) -> str:
    return config.policy if task.expert_trace is not None else ""


def _slots(
    task: Task, num_slots: int, *, scaffold: str = "", train_on: str = "guided", first: int = 0
) -> list[Slot]:
    return [
        Slot(task=task, index=first + i, scaffold=scaffold, train_on=train_on)
        for i in range(num_slots)
    ]
