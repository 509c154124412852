"""What a rollout is told, and what it tells beside its trajectories: settings, counts, errors."""

import hashlib
from dataclasses import dataclass

from ..guidance.config import Slot
from .trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How episodes are sampled."""

    max_tokens_per_turn: int = 256
    """Most tokens of one action."""

    max_action_tokens: int | None = None
    """Most sampled tokens of a whole episode; None for no limit beside `max_tokens`."""

    max_tokens: int | None = None
    """Most tokens of a whole episode, prompt and observations included; None for the engine's context."""

    temperature: float = 1.0
    """Divides the logits; 0 for greedy."""

    stop: tuple[str, ...] = ()
    """Texts that end an action; the tokens that complete them are kept whole."""

    num_env_workers: int = 8
    """Environments that step at once beside the engine; 0 steps them inline, in a fixed order."""

    deadline_s: float | None = 600.0
    """Wall time of one episode; at the limit it is truncated with the reason "deadline"."""

    max_hung_envs: int = 64
    """Environments that may hang past their deadline and still have their worker replaced."""

    max_episodes: int | None = None
    """Episodes under way at once; the others wait, and their time starts when they do. None for all."""

    max_groups: int | None = None
    """Groups played at most in one call where unwanted ones are replaced (dynamic sampling); None for
    four times as many as are wanted."""

    def __post_init__(self) -> None:
        if self.max_tokens_per_turn < 1:
            raise ValueError(
                f"max_tokens_per_turn is {self.max_tokens_per_turn}; an action has at least 1 token."
            )
        for name in ("num_env_workers", "max_hung_envs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; give 0 or more.")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ValueError(
                f"deadline_s is {self.deadline_s}; give seconds above 0, or None for no limit."
            )
        for name in ("max_action_tokens", "max_tokens", "max_episodes", "max_groups"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; give 1 or more, or None for no limit.")


class RolloutInterruptedError(RuntimeError):
    """The caller asked to stop; `trajectories` holds what was finished."""

    def __init__(
        self, trajectories: list[Trajectory], partial: list[Trajectory] | None = None
    ) -> None:
        super().__init__("Rollouts were interrupted.")
        self.trajectories = trajectories
        self.partial = partial or []
        """What was under way, up to where it came; ended with the reason "aborted", never trained on."""


class RolloutFailedError(RuntimeError):
    """The engine does not answer any more; `trajectories` holds what was finished."""

    def __init__(self, cause: Exception, trajectories: list[Trajectory]) -> None:
        super().__init__(
            f"The engine failed again and again, last with {type(cause).__name__}: {cause}. "
            f"{len(trajectories)} episodes were finished. Where memory ran out, lower max_num_seqs, "
            "max_model_len or the engine's share of it."
        )
        self.trajectories = trajectories


@dataclass(kw_only=True)
class RolloutCounts:
    """What a rollout had to cope with; hand one in and read it afterwards."""

    num_requests: int = 0
    num_engine_failures: int = 0
    """Times that the engine raised and its requests were made again, fewer at once."""

    num_hung_envs: int = 0
    """Environments that were still stepping at their deadline."""

    num_groups: int = 0
    num_unwanted_groups: int = 0
    """Groups that dynamic sampling played and replaced."""


def request_seed(seed: int, slot: Slot, turn: int, *, repeat: int = 0) -> int:
    """A seed of the request's own: the same whatever else is in flight."""
    key = f"{seed}|{slot.task.task_id}|{slot.scaffold}|{slot.index}|{turn}"
    if repeat:
        key += f"|{repeat}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big")
