"""The rollouts of a task in a step in, what came of them out: counts that planners learn from.

Small enough to be gathered from all ranks, so that every rank's planner learns the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ...envs import Task
from ..rollouts.trajectory import Trajectory
from .config import group_name


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelOutcome:
    """What came of the rollouts of a task under one scaffold."""

    scaffold: str
    """Mask policy that was ordered; empty for bare rollouts."""

    num_rollouts: int
    num_usable: int
    """Rollouts whose outcome says something about the policy."""

    num_solved: int
    num_shown: int
    """Rollouts that saw a scaffold; one that leaks too much is not shown."""

    @property
    def accuracy(self) -> float:
        """Solved rollouts over usable ones; 0 where there is none."""
        return self.num_solved / self.num_usable if self.num_usable else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOutcome:
    """What came of a task in one step."""

    task_id: str
    has_trace: bool
    levels: tuple[LevelOutcome, ...]
    """In the order in which they were first played."""

    @property
    def num_usable(self) -> int:
        """Rollouts that count, of all levels."""
        return sum(level.num_usable for level in self.levels)

    @property
    def num_solved(self) -> int:
        """Solved rollouts, of all levels."""
        return sum(level.num_solved for level in self.levels)


def is_solved(trajectory: Trajectory, *, success_reward: float = 0.5) -> bool:
    """Whether a rollout succeeded: by its verdict, or without one by its reward."""
    if trajectory.verdict is not None:
        return trajectory.is_correct
    return trajectory.reward >= success_reward


def level_of(task_id: str, trajectory: Trajectory) -> str:
    """The mask policy that was ordered for a rollout, whether or not a scaffold was shown."""
    return trajectory.group.removeprefix(group_name(task_id))


def outcome_of(
    task: Task, group: Sequence[Trajectory], *, success_reward: float = 0.5
) -> TaskOutcome:
    """What came of a task's rollouts of one step."""
    by_level: dict[str, list[Trajectory]] = {}
    for trajectory in group:
        by_level.setdefault(level_of(task.task_id, trajectory), []).append(trajectory)
    levels: list[LevelOutcome] = []
    for scaffold, members in by_level.items():
        usable = [trajectory for trajectory in members if trajectory.is_trainable]
        levels.append(
            LevelOutcome(
                scaffold=scaffold,
                num_rollouts=len(members),
                num_usable=len(usable),
                num_solved=sum(is_solved(t, success_reward=success_reward) for t in usable),
                num_shown=sum(trajectory.is_guided for trajectory in members),
            )
        )
    return TaskOutcome(
        task_id=task.task_id, has_trace=task.expert_trace is not None, levels=tuple(levels)
    )
