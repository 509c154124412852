"""The rollouts of a step in, samples with their advantages out."""

# G: trajectories of one group

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..guidance.config import group_name
from ..rollouts.trajectory import Trajectory
from .advantages import AdvantageConfig, Array, advantages_of, is_zero_variance, moved_advantages
from .filters import FilterConfig, Mask, filtered_rewards, is_kept_group
from .sample import Sample

TRUNCATED = frozenset(
    ("max_turns", "max_total_observation_chars", "wall_time", "context", "deadline")
)
"""End reasons of a rollout that a limit cut; what it would have earned is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Credit:
    """What is learnt from the rollouts of a step."""

    samples: list[list[Sample]]
    """For each task, in the order given."""

    metrics: dict[str, float]


@dataclass(kw_only=True)
class _Level:
    """Rollouts of one task that saw the same: they share a baseline."""

    owner: int
    members: list[Trajectory]
    rewards_G: Array
    advantages_G: Array = field(default_factory=lambda: np.empty(0))


def credit(
    groups: Sequence[Sequence[Trajectory]],
    advantages: AdvantageConfig,
    filters: FilterConfig,
    *,
    played: Sequence[Sequence[Trajectory]] | None = None,
) -> Credit:
    """Advantages within each task's rollouts of one scaffold level, and the samples that carry them.

    A rollout that an environment, a verifier or the engine ended says nothing about the policy: it is in
    no baseline and in no loss. Guided rollouts whose loss conditions on the bare prompt are measured
    against the task's bare ones, where there are any (`moved_advantages`).

    Args:
        groups: For each task the rollouts to learn from; a scale of the batch is taken over all.
        advantages: What a reward is measured against.
        filters: What is left out.
        played: For each task all that was played, also what is not learnt from; None for `groups`.
    """
    levels: list[_Level] = []
    num_levels = num_incomplete = num_overlong = 0
    for owner, group in enumerate(groups):
        for members in _by_level(group):
            num_levels += 1
            usable = [t for t in members if t.is_trainable]
            num_incomplete += len(usable) < len(members)
            rewards_G, is_kept_G = _rewards(usable, filters)
            num_overlong += int((~is_kept_G).sum())
            kept = [t for t, keep in zip(usable, is_kept_G, strict=True) if keep]
            if is_kept_group(rewards_G[is_kept_G], _is_correct(kept), filters):
                levels.append(_Level(owner=owner, members=kept, rewards_G=rewards_G[is_kept_G]))
    values = advantages_of([level.rewards_G for level in levels], advantages)
    for level, advantages_G in zip(levels, values, strict=True):
        level.advantages_G = advantages_G
    _measure_moved(levels, groups if played is None else played)
    samples: list[list[Sample]] = [[] for _ in groups]
    for level in levels:
        for trajectory, advantage in zip(level.members, level.advantages_G, strict=True):
            samples[level.owner] += [
                Sample(
                    sequence=sequence,
                    advantage=float(advantage),
                    group=f"{level.owner}|{trajectory.group}",
                )
                for sequence in trajectory.sequences()
            ]
    num_flat = sum(not level.advantages_G.any() for level in levels)
    num_dropped = num_levels - len(levels)
    return Credit(
        samples=samples,
        metrics={
            "num_groups": float(num_levels),
            "zero_variance_groups": (num_flat + num_dropped) / max(num_levels, 1),
            "num_dropped_groups": float(num_dropped),
            "num_incomplete_groups": float(num_incomplete),
            "num_dropped_overlong": float(num_overlong),
            "mean_abs_advantage": float(
                np.mean(np.abs(np.concatenate([level.advantages_G for level in levels])))
                if levels
                else 0.0
            ),
        },
    )


def has_signal(group: Sequence[Trajectory], filters: FilterConfig) -> bool:
    """Whether a task's rollouts teach something: some level of them passes the filters and is not flat."""
    for members in _by_level(group):
        usable = [t for t in members if t.is_trainable]
        rewards_G, is_kept_G = _rewards(usable, filters)
        kept = [t for t, keep in zip(usable, is_kept_G, strict=True) if keep]
        rewards_G = rewards_G[is_kept_G]
        if (
            len(kept) > 1
            and not is_zero_variance(rewards_G, tolerance=filters.tolerance)
            and is_kept_group(rewards_G, _is_correct(kept), filters)
        ):
            return True
    return False


def _by_level(group: Sequence[Trajectory]) -> list[list[Trajectory]]:
    levels: dict[str, list[Trajectory]] = {}
    for trajectory in group:
        levels.setdefault(trajectory.group, []).append(trajectory)
    return list(levels.values())


def _rewards(members: Sequence[Trajectory], filters: FilterConfig) -> tuple[Array, Mask]:
    return filtered_rewards(
        np.array([t.reward for t in members], dtype=np.float64),
        np.array([t.num_action_tokens for t in members], dtype=np.float64),
        np.array([t.end_reason in TRUNCATED for t in members], dtype=np.bool_),
        filters,
    )


def _is_correct(members: Sequence[Trajectory]) -> Mask:
    return np.array([t.is_correct for t in members], dtype=np.bool_)


def _measure_moved(levels: Sequence[_Level], played: Sequence[Sequence[Trajectory]]) -> None:
    """Guided levels whose credit moves to the bare prompt: measured against the task's bare rollouts."""
    for level in levels:
        first = level.members[0]
        if not (first.is_guided and first.train_on == "bare"):
            continue
        name = group_name(first.task_id)
        bare = [t.reward for t in played[level.owner] if t.is_trainable and t.group == name]
        if bare:
            level.advantages_G = moved_advantages(level.rewards_G, baseline=float(np.mean(bare)))
