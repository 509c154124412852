"""The rollouts of a step in, its row of numbers out."""

from collections.abc import Mapping, Sequence

import numpy as np

from .evaluation.evaluate import Evaluation
from .guidance.copying import copied_share
from .rollouts.rollout_config import RolloutCounts
from .rollouts.trajectory import Trajectory

Row = dict[str, float | int | None]


def rollout_metrics(trajectories: Sequence[Trajectory], counts: RolloutCounts) -> Row:
    """Rewards, ends, lengths and faults of the rollouts of one step; None where there was nothing.

    Args:
        trajectories: All that were played, also those that are not trained on.
        counts: What the rollouts of this rank had to cope with.
    """
    bare = [t.reward for t in trajectories if not t.is_guided]
    guided = [t.reward for t in trajectories if t.is_guided]
    turns = [turn for t in trajectories for turn in t.turns]
    count = max(len(trajectories), 1)
    means = mean(bare), mean(guided)
    return {
        "reward": mean([*bare, *guided]),
        "reward/bare": means[0],
        "reward/guided": means[1],
        "reward/guided_minus_bare": None if None in means else means[1] - means[0],  # type: ignore[operator]
        "guided_share": len(guided) / count,
        "copied_share": mean([copied_share(t) for t in trajectories if t.is_guided and t.turns]),
        "num_failed": sum(not t.is_trainable for t in trajectories),
        "failed_share": sum(not t.is_trainable for t in trajectories) / count,
        "truncated_share": mean([float(t.end_reason != "answered") for t in trajectories]),
        "invalid_action_share": mean([float(turn.action == "invalid") for turn in turns]),
        "tool_error_share": mean([float(bool(turn.tool_error)) for turn in turns]),
        "mean_turns": len(turns) / count,
        "mean_action_tokens": mean([float(t.num_action_tokens) for t in trajectories]),
        "num_sampled_tokens": sum(t.num_action_tokens for t in trajectories),
        "num_engine_failures": counts.num_engine_failures,
        "num_hung_envs": counts.num_hung_envs,
        "num_replaced_groups": counts.num_unwanted_groups,
    }


def step_line(
    step: int,
    num_steps: int,
    row: Row,
    times: Mapping[str, float] | None,
    evaluation: Evaluation | None,
) -> str:
    """The line that stays of a step: rewards, what is learnt from, entropy, gap, speed, bare accuracy."""
    parts = [f"step {step:4d}/{num_steps}"]
    if times:
        rewards = (
            f"{name} {row[f'reward/{name}']:.2f}"
            for name in ("bare", "guided")
            if row[f"reward/{name}"] is not None
        )
        parts.append(f"reward {'  '.join(rewards)}")
        if row["train/num_tokens"]:
            parts += [
                f"flat {row['zero_variance_groups']:.0%}",
                f"entropy {row['train/entropy']:.2f}",
                f"gap {row['train/logprob_gap']:.0e}",
            ]
        else:
            parts.append("no group to learn from")
        parts += [
            f"{times['sampled_tokens_per_s']:,.0f} tok/s",
            f"{times['step_s']:.1f} s",
        ]
    if evaluation is not None:
        parts.append(f"bare accuracy {evaluation.accuracy}")
    return "  ".join(parts)


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing."""
    return float(np.mean(values)) if values else None
