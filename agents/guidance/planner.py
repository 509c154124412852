"""What all planners share: orders, merging of rounds, what is learnt of outcomes, the state of a checkpoint.

A planner is asked round by round for the rollouts of a task, says in the end which of them are trained
on, and learns from the outcomes of a step.
"""

import hashlib
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ...envs import Task
from ...masking import policy_by_name
from ..rollouts.trajectory import Trajectory
from .config import GuidanceConfig, Slot
from .outcomes import TaskOutcome, is_solved, level_of, outcome_of

_HANDOVER_STEPS = 5


class GuidancePlanner:
    """What all planners share; each kind says in `plan` who sees what.

    The trainer sets `step`, asks `plan` and `trained` in it, and calls `observe` (or `update`, with the
    outcomes of all ranks in one order) for each task once the step's rollouts are over.
    """

    merge = "append"
    """Which rollouts are trained on, where the configuration does not say."""

    def __init__(self, config: GuidanceConfig) -> None:
        self.config = config
        self.merge = config.merge or self.merge
        self.step = 0
        self._is_handed_over = False
        self._guided_counts: dict[int, list[int]] = {}  # step -> solved, usable
        for policy in self.policies():
            policy_by_name(policy)  # refuses an unknown name here, not in the first rollout

    def policies(self) -> tuple[str, ...]:
        """The mask policies that it may order."""
        return (self.config.policy,)

    def plan(self, task: Task, group: Sequence[Trajectory], round_index: int) -> list[Slot]:
        """The next rollouts of a task; empty when it has enough. See `Planner`."""
        raise NotImplementedError

    def trained(self, group: Sequence[Trajectory]) -> list[Trajectory]:
        """Those of a task's rollouts that are trained on, in their order."""
        if self.merge == "replace_group" and group:
            return [t for t in group if t.group == group[-1].group]
        if self.merge == "replace_failed":
            return self._without_replaced(group)
        return list(group)

    def observe(self, task: Task, group: Sequence[Trajectory]) -> None:
        """Learns from the rollouts of a task when they are over."""
        self.update(self.outcome(task, group))

    def outcome(self, task: Task, group: Sequence[Trajectory]) -> TaskOutcome:
        """What `update` and `metrics` take: the counts of a task's rollouts."""
        return outcome_of(task, group, success_reward=self.config.success_reward)

    def update(self, outcome: TaskOutcome) -> None:
        """Learns from what came of a task."""
        if self.config.train_on != "handover":
            return
        counts = self._guided_counts.setdefault(self.step, [0, 0])
        for level in outcome.levels:
            if level.scaffold and level.num_shown:
                counts[0] += level.num_solved
                counts[1] += level.num_usable
        for step in sorted(self._guided_counts)[: -_HANDOVER_STEPS - 1]:
            del self._guided_counts[step]

    def metrics(self, outcomes: Sequence[TaskOutcome]) -> dict[str, float]:
        """How much guidance there was in a step, where it was meant to be and was not, what it did.

        Shares are of rollouts ("injected_share") and of tasks ("rescued_share"); "missing_traces" counts
        tasks, "dropped_scaffolds" rollouts, "flat_rescues" failed tasks that help left without a gradient.
        """
        levels = [level for outcome in outcomes for level in outcome.levels]
        num_rollouts = sum(level.num_rollouts for level in levels)
        values = {
            "injected_share": sum(level.num_shown for level in levels) / max(num_rollouts, 1),
            "missing_traces": float(
                sum(not o.has_trace for o in outcomes) if self.policies() else 0
            ),
            "dropped_scaffolds": float(
                sum(level.num_rollouts - level.num_shown for level in levels if level.scaffold)
            ),
            "mean_level": fmean(map(self.level, outcomes)) if outcomes else 0.0,
            "rescued_share": fmean(map(_is_rescued, outcomes)) if outcomes else 0.0,
            "flat_rescues": float(sum(map(_is_flat_rescue, outcomes))),
        }
        if self.config.anneal_steps:
            values["guided_chance"] = self.guided_chance
        if self.config.train_on == "handover":
            values["is_handed_over"] = float(self._is_handed_over)
        return values

    def level(self, outcome: TaskOutcome) -> float:
        """How much help a task got in the end; 0 for none."""
        return float(any(level.scaffold for level in outcome.levels))

    def state_dict(self) -> dict[str, Any]:
        """All that was learnt, as JSON values."""
        return {
            "step": self.step,
            "is_handed_over": self._is_handed_over,
            "guided_counts": {str(step): list(c) for step, c in self._guided_counts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.step = int(state["step"])
        self._is_handed_over = bool(state["is_handed_over"])
        self._guided_counts = {int(step): list(c) for step, c in state["guided_counts"].items()}

    @property
    def guided_chance(self) -> float:
        """Chance of a task to be guided in this step."""
        if not self.config.anneal_steps:
            return 1.0
        return max(0.0, 1.0 - self.step / self.config.anneal_steps)

    @property
    def train_on(self) -> str:
        """The prompt that gets the credit of guided rollouts in this step."""
        if self.config.train_on != "handover":
            return self.config.train_on
        # Earlier steps only: within a step, outcomes may arrive in any order.
        counts = [c for step, c in self._guided_counts.items() if step < self.step and c[1]]
        recent = [solved / usable for solved, usable in counts[-_HANDOVER_STEPS:]]
        if len(recent) == _HANDOVER_STEPS and fmean(recent) > self.config.handover_accuracy:
            self._is_handed_over = True
        return "bare" if self._is_handed_over else "guided"

    def may_guide(self, task: Task) -> bool:
        """Whether a task has a trace and was not drawn to go without in this step."""
        if task.expert_trace is None:
            return False
        if not self.config.anneal_steps:
            return True
        key = f"{self.step}|{task.task_id}".encode()
        draw = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") / 2**64
        return draw < self.guided_chance

    def slots(self, task: Task, number: int, *, scaffold: str = "", first: int = 0) -> list[Slot]:
        """Orders for some rollouts of a task; bare ones where it may not be guided."""
        policy = scaffold if self.may_guide(task) else ""
        train_on = self.train_on if policy else "guided"
        return [
            Slot(task=task, index=first + i, scaffold=policy, train_on=train_on)
            for i in range(number)
        ]

    def has_failed(self, group: Sequence[Trajectory]) -> bool:
        """Whether every rollout failed; one with a broken environment or verifier did not."""
        solved = (is_solved(t, success_reward=self.config.success_reward) for t in group)
        return all(t.is_trainable for t in group) and not any(solved)

    def _without_replaced(self, group: Sequence[Trajectory]) -> list[Trajectory]:
        threshold = self.config.success_reward
        is_good = [is_solved(t, success_reward=threshold) and t.is_trainable for t in group]
        is_bare = [not level_of(t.task_id, t) for t in group]
        num_replacing = sum(good and not bare for good, bare in zip(is_good, is_bare, strict=True))
        kept: list[Trajectory] = []
        for trajectory, good, bare in zip(group, is_good, is_bare, strict=True):
            if bare and not good and num_replacing:
                num_replacing -= 1
            elif bare or good:
                kept.append(trajectory)
        return kept


def _is_rescued(outcome: TaskOutcome) -> bool:
    """Whether the bare rollouts of a task all failed and guided ones did not."""
    return _has_failed_bare(outcome) and any(o.num_solved for o in outcome.levels if o.scaffold)


def _is_flat_rescue(outcome: TaskOutcome) -> bool:
    """Whether the last help for a failed task made all of its rollouts equal: still no gradient."""
    last = outcome.levels[-1] if outcome.levels else None
    if last is None or not last.scaffold or not _has_failed_bare(outcome):
        return False
    return last.num_solved in (0, last.num_usable)


def _has_failed_bare(outcome: TaskOutcome) -> bool:
    bare = [level for level in outcome.levels if not level.scaffold]
    return any(o.num_usable for o in bare) and not any(o.num_solved for o in bare)
