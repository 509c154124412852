"""Which groups and trajectories the loss sees: pure functions of the arrays of one group."""

# G: trajectories of one group

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .advantages import is_zero_variance

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

OVERLONG = ("keep", "drop", "penalise")


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """What is worth learning from."""

    zero_variance: str = "keep"
    """Groups whose rewards are all equal: "keep" counts their tokens in the denominators, "drop" does
    not, which raises the step size of the others; neither has a gradient but for KL and entropy."""

    tolerance: float = 1e-8
    """Rewards of a group that lie within this of one another are equal."""

    min_accuracy: float = 0.0
    """Groups with a smaller share of correct trajectories are left out."""

    max_accuracy: float = 1.0
    """Groups with a greater share of correct trajectories are left out."""

    overlong: str = "keep"
    """Truncated trajectories: "keep" them with their reward, "drop" them from group and loss (DAPO's
    overlong filtering), or "penalise" length by `overlong_penalty` (truncated or not)."""

    overlong_max_tokens: int | None = None
    """With "penalise": sampled tokens of a trajectory from which on the whole penalty holds."""

    overlong_buffer_tokens: int | None = None
    """With "penalise": tokens below that over which the penalty grows from 0."""

    overlong_penalty: float = 1.0
    """With "penalise": the whole penalty, taken off the reward."""

    def __post_init__(self) -> None:
        if self.zero_variance not in ("keep", "drop"):
            raise ValueError(f"zero_variance is {self.zero_variance!r}; choose one of keep, drop.")
        if self.overlong not in OVERLONG:
            raise ValueError(f"overlong is {self.overlong!r}; choose one of {', '.join(OVERLONG)}.")
        if not 0 <= self.min_accuracy <= self.max_accuracy <= 1:
            raise ValueError(
                f"min_accuracy is {self.min_accuracy} and max_accuracy {self.max_accuracy}; give "
                "0 <= min_accuracy <= max_accuracy <= 1."
            )
        if self.overlong == "penalise":
            limit, buffer = self.overlong_max_tokens or 0, self.overlong_buffer_tokens or 0
            if not 0 < buffer <= limit:
                raise ValueError(
                    f"overlong_max_tokens is {self.overlong_max_tokens} and overlong_buffer_tokens "
                    f"{self.overlong_buffer_tokens}; 'penalise' needs 0 < buffer <= max."
                )
        if self.tolerance < 0 or self.overlong_penalty < 0:
            raise ValueError("tolerance and overlong_penalty must be at least 0.")


def is_kept_group(rewards_G: Array, is_correct_G: Mask, config: FilterConfig) -> bool:
    """Whether a finished group is learnt from; dynamic sampling plays another task for one that is not.

    Source: dynamic sampling, Yu et al. 2025, arXiv:2503.14476 (DAPO): accuracy strictly between 0 and 1,
    which for rewards of 0 and 1 is ``zero_variance="drop"``.

    Args:
        rewards_G: [G], as shaped (`filtered_rewards`).
        is_correct_G: [G], what the verifier said.
        config: Which groups to keep.
    """
    if len(rewards_G) == 0:
        return False
    if config.zero_variance == "drop" and is_zero_variance(rewards_G, tolerance=config.tolerance):
        return False
    return is_in_accuracy_band(is_correct_G, low=config.min_accuracy, high=config.max_accuracy)


def is_in_accuracy_band(is_correct_G: Mask, *, low: float, high: float) -> bool:
    """Whether the share of correct trajectories lies in [low, high].

    Guide keeps [0.001, 0.999]. Source: Nath et al. 2025, arXiv:2506.13923.

    Args:
        is_correct_G: [G], G >= 1.
        low: Least share.
        high: Greatest share.
    """
    # In whole trajectories: a share of 7/10 computed in floats may lie above a bound of 0.7.
    share, slack = float(np.mean(np.asarray(is_correct_G, dtype=np.float64))), 1e-9
    return low - slack <= share <= high + slack


def overlong_penalty(num_tokens_G: Array, *, max_tokens: int, buffer_tokens: int) -> Array:
    """DAPO's soft overlong punishment, 0 to -1, added to the reward.

    0 up to ``max - buffer`` tokens, ``(max - buffer - n) / buffer`` from there to `max`, and -1 beyond: the
    policy is told that it grows too long before truncation makes right reasoning look wrong.
    Source: Yu et al. 2025, arXiv:2503.14476, equation 13 (max 20,480, buffer 4,096).

    Args:
        num_tokens_G: [G], sampled tokens of each trajectory.
        max_tokens: From here on the whole penalty holds.
        buffer_tokens: Tokens over which it grows, above 0 and at most `max_tokens`.

    Returns:
        [G], each in [-1, 0].
    """
    excess = np.asarray(num_tokens_G, dtype=np.float64) - (max_tokens - buffer_tokens)
    penalty: Array = -np.clip(excess / buffer_tokens, 0.0, 1.0)
    return penalty


def filtered_rewards(
    rewards_G: Array, num_tokens_G: Array, is_truncated_G: Mask, config: FilterConfig
) -> tuple[Array, Mask]:
    """The rewards that advantages are made of, and which trajectories take part.

    A dropped trajectory is neither in the baseline nor in the loss: its reward says that it was cut, not
    whether it was right.
    Source: overlong filtering and soft punishment, Yu et al. 2025, arXiv:2503.14476 (DAPO).

    Args:
        rewards_G: [G], as the environment gave them.
        num_tokens_G: [G], sampled tokens of each trajectory.
        is_truncated_G: [G], whether a limit ended the trajectory.
        config: What to do with the long ones.

    Returns:
        Rewards [G] and, [G], whether each is kept.
    """
    rewards = np.asarray(rewards_G, dtype=np.float64)
    is_kept = np.ones(len(rewards), dtype=np.bool_)
    if config.overlong == "drop":
        is_kept = ~np.asarray(is_truncated_G, dtype=np.bool_)
    elif config.overlong == "penalise":
        assert config.overlong_max_tokens and config.overlong_buffer_tokens
        rewards = rewards + config.overlong_penalty * overlong_penalty(
            num_tokens_G,
            max_tokens=config.overlong_max_tokens,
            buffer_tokens=config.overlong_buffer_tokens,
        )
    return rewards, is_kept
