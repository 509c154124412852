"""In: what an episode has used so far. Out: whether it may go on, or the reason why it ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal


class EndReason(StrEnum):
    """Why an episode ended."""

    ANSWERED = "answered"
    """Terminated: the model gave an answer and it was graded."""
    MAX_TURNS = "max_turns"
    MAX_INVALID = "max_invalid_actions"
    MAX_CHARS = "max_total_observation_chars"
    WALL_TIME = "wall_time"
    ENV_ERROR = "env_error"
    """Never set by `step`: for who drives environments and records one that raised."""


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """The budgets of an episode and what the model is told about them."""

    max_turns: int = 6
    """Actions in one episode. At a limit the episode is truncated, but for an end on the very first
    turn, which counts as terminated: Gymnasium takes an environment that cuts its first step for
    broken."""
    max_tool_calls: int | None = None
    """Tool calls carried out in one episode; further ones bring a notice. None for no limit of
    their own."""
    max_observation_chars: int = 4000
    """Characters of one tool result; a longer one is cut with a marker."""
    max_total_observation_chars: int | None = None
    """Characters that all steps of an episode may bring together; beyond, it is truncated."""
    max_wall_time_s: float | None = None
    """Seconds from reset, by the monotonic clock. An answer that comes late is still graded."""
    max_invalid_actions: int | None = 3
    """Invalid actions at which the episode is truncated; None for no limit of their own."""
    max_action_chars: int = 100_000
    """Characters of one action; a longer one is cut and counts as invalid."""
    invalid_action_penalty: float = 0.0
    """Subtracted from the reward of a step whose action is invalid."""
    instructions: str | None = None
    """Stands before the question; None for the protocol's own, "" for none."""
    last_turn_notice: str = "This is your last turn: only an answer counts now."
    """Ends the observation before the last turn, on which no tool is called; "" for no notice."""
    scaffold_timing: Literal["upfront", "per_turn"] = "upfront"
    """The whole scaffold at reset, or at each turn the part that belongs to it."""

    def __post_init__(self) -> None:
        for name, least in (
            ("max_turns", 1),
            ("max_tool_calls", 0),
            ("max_observation_chars", 100),
            ("max_total_observation_chars", 1),
            ("max_invalid_actions", 1),
            ("max_action_chars", 100),
            ("invalid_action_penalty", 0),
        ):
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise ValueError(f"{name} is {value}; it must be at least {least}.")
        if self.max_wall_time_s is not None and not self.max_wall_time_s > 0:
            raise ValueError(f"max_wall_time_s is {self.max_wall_time_s}; use seconds above 0.")
        if self.scaffold_timing not in ("upfront", "per_turn"):
            raise ValueError(
                f"scaffold_timing is {self.scaffold_timing!r}; use upfront or per_turn."
            )


@dataclass(kw_only=True, slots=True)
class Budget:
    """What one episode has used."""

    config: EpisodeConfig
    num_turns: int = 0
    num_tool_calls: int = 0
    num_invalid_actions: int = 0
    num_observation_chars: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def is_last_turn(self) -> bool:
        """Whether the turn being played is the last one."""
        return self.num_turns >= self.config.max_turns

    @property
    def refusal(self) -> str:
        """Why no tool may be called now, in words for the model; "" when one may."""
        if self.is_out_of_time():
            return "The call was not carried out: the time of this episode is used up."
        if self.is_last_turn:
            return "The call was not carried out: on the last turn only an answer counts."
        limit = self.config.max_tool_calls
        if limit is not None and self.num_tool_calls >= limit:
            return (
                f"The call was not carried out: all {limit} tool calls are used. Give your answer."
            )
        return ""

    def is_out_of_time(self) -> bool:
        """Whether the wall time is used up."""
        limit = self.config.max_wall_time_s
        return limit is not None and time.monotonic() - self.started_s >= limit

    def end_reason(self) -> EndReason | None:
        """The limit that has been reached, after a turn that did not answer; None to go on."""
        config = self.config
        max_invalid, max_chars = config.max_invalid_actions, config.max_total_observation_chars
        if max_invalid is not None and self.num_invalid_actions >= max_invalid:
            return EndReason.MAX_INVALID
        if max_chars is not None and self.num_observation_chars > max_chars:
            return EndReason.MAX_CHARS
        if self.is_out_of_time():
            return EndReason.WALL_TIME
        return EndReason.MAX_TURNS if self.is_last_turn else None
