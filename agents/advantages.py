"""Rewards of groups in, advantages out: pure functions of arrays."""

# G: trajectories of one group

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def group_advantages(rewards_G: Array, *, normalise: bool = True, epsilon: float = 1e-6) -> Array:
    """Advantage of each trajectory over its group: ``(r - mean(r)) / (std(r) + epsilon)``.

    The standard deviation is the unbiased one (division by G - 1), as in verl; papers differ by
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
    rewards = np.asarray(rewards_G, dtype=np.float64)
    if rewards.ndim != 1 or len(rewards) < 2:
        raise ValueError(f"A group needs at least 2 rewards in one row; got shape {rewards.shape}.")
    if not np.isfinite(rewards).all():
        raise ValueError(f"Rewards must be finite; got {rewards.tolist()}.")
    if is_zero_variance(rewards):
        return np.zeros_like(rewards)
    centred: Array = rewards - rewards.mean()
    if not normalise:
        return centred
    scaled: Array = centred / (rewards.std(ddof=1) + epsilon)
    return scaled


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


def is_zero_variance(rewards_G: Array, *, tolerance: float = 1e-8) -> bool:
    """Whether all rewards of a group are equal up to rounding (exact equality misses ties)."""
    rewards = np.asarray(rewards_G, dtype=np.float64)
    return bool(rewards.max() - rewards.min() <= tolerance)
