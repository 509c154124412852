"""Rewards of groups in, advantages out: pure functions of arrays."""

# G: trajectories of one group

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BASELINES = ("mean", "leave_one_out", "sign", "none")
SCALES = ("group", "batch", "none")


@dataclass(frozen=True, kw_only=True)
class AdvantageConfig:
    """What a reward is measured against."""

    baseline: str = "mean"
    """"mean" of the group (GRPO), "leave_one_out" (RLOO), "sign" (1 for a success, -1 for a failure: PSR,
    NSR and W-REINFORCE by the two weights below) or "none" (the reward itself)."""

    scale: str = "group"
    """Divides by the standard deviation of the "group" (GRPO) or of the "batch" (Lite PPO), or by
    "none" (Dr. GRPO, RLOO)."""

    epsilon: float = 1e-6
    """Added to the standard deviation (1e-4 in TRL and GHPO)."""

    positive_weight: float = 1.0
    """Multiplies advantages above 0 (NSR 0, W-REINFORCE 0.1)."""

    negative_weight: float = 1.0
    """Multiplies advantages below 0 (PSR 0)."""

    success_above: float = 0.5
    """Baseline "sign": a reward above this is a success."""

    def __post_init__(self) -> None:
        for name, allowed in (("baseline", BASELINES), ("scale", SCALES)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                )
        if self.baseline in ("sign", "none") and self.scale != "none":
            raise ValueError(
                f"baseline {self.baseline!r} keeps equal rewards apart from 0, and their standard "
                "deviation is 0: set scale = 'none', or a baseline of 'mean' or 'leave_one_out'."
            )
        for name in ("epsilon", "positive_weight", "negative_weight"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 0.")


def advantages_of(rewards: Sequence[Array], config: AdvantageConfig) -> list[Array]:
    """Advantages of all groups of a batch: baseline, then scale, then the weights of the signs.

    A group of one has nothing to compare with and gets 0 under "mean" and "leave_one_out", as does a
    group whose rewards are all equal; both still count in the batch's standard deviation.
    Source: Shao et al. 2024, arXiv:2402.03300 (GRPO); scale "batch": Liu et al. 2025, arXiv:2508.08221
    (Lite PPO), which measures against the group and divides by the spread of the whole batch.

    Args:
        rewards: One array [G] for each group; groups may differ in size.
        config: Which advantage.

    Returns:
        One array [G] for each group, in the order given.

    Raises:
        ValueError: If a group is empty or a reward is not finite.
    """
    groups = [_checked(rewards_G, least=1) for rewards_G in rewards]
    batch_std = standard_deviation(np.concatenate(groups)) if groups else 0.0
    advantages: list[Array] = []
    for rewards_G in groups:
        if config.baseline == "sign":
            values = sign_advantages(rewards_G, success_above=config.success_above)
        elif config.baseline == "none":
            values = rewards_G.copy()
        elif is_zero_variance(rewards_G):
            values = np.zeros_like(rewards_G)
        elif config.baseline == "mean":
            values = rewards_G - rewards_G.mean()
        else:
            values = leave_one_out_advantages(rewards_G)
        if config.scale != "none" and values.any():
            std = batch_std if config.scale == "batch" else standard_deviation(rewards_G)
            values = values / (std + config.epsilon)
        advantages.append(
            values * np.where(values > 0, config.positive_weight, config.negative_weight)
        )
    return advantages


def group_advantages(rewards_G: Array, *, normalise: bool = True, epsilon: float = 1e-6) -> Array:
    """Advantage of each trajectory over its group: ``(r - mean(r)) / (std(r) + epsilon)``.

    The standard deviation is the unbiased one (division by G - 1), as in verl and TRL; papers differ by
    ``sqrt(G / (G - 1))``. ``normalise=False`` keeps ``r - mean(r)``. A group whose rewards are all
    equal teaches nothing and gets exact zeros.
    Source: Shao et al. 2024, arXiv:2402.03300 (GRPO); without the division, Liu et al. 2025,
    arXiv:2503.20783 (Dr. GRPO).

    Args:
        rewards_G: [G], one scalar reward per trajectory, G >= 2.
        normalise: Whether to divide by the standard deviation.
        epsilon: Added to the standard deviation.

    Returns:
        [G], in the order given.

    Raises:
        ValueError: If there are fewer than two rewards, or one is not finite.
    """
    config = AdvantageConfig(scale="group" if normalise else "none", epsilon=epsilon)
    return advantages_of([_checked(rewards_G, least=2)], config)[0]


def leave_one_out_advantages(rewards_G: Array) -> Array:
    """Advantage over the mean of the others, ``r_i - mean(r_j, j != i)``: G / (G - 1) times that of Dr. GRPO.

    The baseline does not contain the reward that it is subtracted from, so the gradient is unbiased.
    Source: Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024,
    arXiv:2402.14740 (RLOO).

    Args:
        rewards_G: [G].

    Returns:
        [G]; 0 for a group of one.
    """
    rewards = np.asarray(rewards_G, dtype=np.float64)
    if len(rewards) < 2:
        return np.zeros_like(rewards)
    over_others: Array = rewards - (rewards.sum() - rewards) / (len(rewards) - 1)
    return over_others


def sign_advantages(rewards_G: Array, *, success_above: float = 0.5) -> Array:
    """1 for a reward above `success_above`, -1 for another.

    Successes alone are PSR, failures alone NSR, 0.1 times the successes W-REINFORCE (the weights of
    `AdvantageConfig`). There is no baseline, so groups of equal rewards teach too.
    Source: Zhu et al. 2025, arXiv:2506.01347.

    Args:
        rewards_G: [G].
        success_above: Highest reward of a failure.

    Returns:
        [G].
    """
    return np.where(np.asarray(rewards_G) > success_above, 1.0, -1.0)


def moved_advantages(rewards_G: Array, *, baseline: float) -> Array:
    """Advantage of guided trajectories whose credit goes to the bare prompt: ``max(r - baseline, 0)``.

    The baseline is the mean reward of the bare rollouts of the same task, so a success counts for what
    it adds to what the policy can do alone, also where every guided rollout succeeds. What did worse is
    left alone: it was never sampled from the bare prompt, so there is no ratio that would stop a push
    away from it. Without division by a standard deviation, after Yan et al. 2025, arXiv:2504.14945
    (LUFFY), whose off-policy rows are measured against the on-policy mean likewise.

    Args:
        rewards_G: [G], rewards of the guided trajectories.
        baseline: Mean reward of the task's bare rollouts.

    Returns:
        [G], in the order given.
    """
    gains: Array = np.maximum(np.asarray(rewards_G, dtype=np.float64) - baseline, 0.0)
    return gains


def standard_deviation(rewards: Array) -> float:
    """The unbiased standard deviation (division by the number less 1); 0 for fewer than two rewards."""
    return float(np.std(rewards, ddof=1)) if len(rewards) > 1 else 0.0


def is_zero_variance(rewards_G: Array, *, tolerance: float = 1e-8) -> bool:
    """Whether all rewards of a group are equal up to rounding (exact equality misses ties)."""
    rewards = np.asarray(rewards_G, dtype=np.float64)
    return bool(rewards.max() - rewards.min() <= tolerance)


def _checked(rewards_G: Array, *, least: int) -> Array:
    rewards = np.asarray(rewards_G, dtype=np.float64)
    if rewards.ndim != 1 or len(rewards) < least:
        raise ValueError(
            f"A group needs at least {least} rewards in one row; got shape {rewards.shape}."
        )
    if not np.isfinite(rewards).all():
        raise ValueError(f"Rewards must be finite; got {rewards.tolist()}.")
    return rewards
