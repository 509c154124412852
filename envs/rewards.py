"""In: a verdict, and how a turn was played. Out: the reward, a number; shaping is a chain, off by default."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .protocol import ActionKind
from .verdicts import Verdict

_WELL_FORMED = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>\s*<(\w+)>.*</\1>\s*", re.DOTALL)


def outcome_reward(verdict: Verdict) -> float:
    """1.0 for a correct answer, else 0.0.

    A verifier error gives 0.0 as well, since a reward must be a number; the verdict in `info` tells
    it from a wrong answer, and who trains leaves it out.
    """
    return 1.0 if verdict is Verdict.CORRECT else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayedTurn:
    """What shaping may look at: the model's own turn and what it turned out to be."""

    text: str
    """The turn as the model wrote it, think block and all."""
    kind: ActionKind
    verdict: Verdict | None = None
    """Of an answer; None for any other turn."""


RewardTerm = Callable[[PlayedTurn], float]
"""One thing that is paid or charged for, before its weight: a number in [-1, 1]."""


def format_term(turn: PlayedTurn) -> float:
    """1 for an answer whose turn is one think block and then one pair of tags, and nothing else.

    The check of the form alone, as in Search-R1's format reward (arXiv 2505.15117), but of the model's
    own turn instead of the whole sequence.
    """
    is_well_formed = _WELL_FORMED.fullmatch(turn.text) is not None
    return float(turn.kind is ActionKind.ANSWER and is_well_formed)


def tool_call_term(turn: PlayedTurn) -> float:
    """1 for a tool call: with a negative weight, a price on calls."""
    return float(turn.kind is ActionKind.TOOL)


def invalid_term(turn: PlayedTurn) -> float:
    """1 for a turn that is no action."""
    return float(turn.kind is ActionKind.INVALID)


def wrong_answer_term(turn: PlayedTurn) -> float:
    """1 for an answer that is wrong, not for one that could not be graded."""
    return float(turn.verdict is Verdict.WRONG)


REWARD_TERMS: dict[str, RewardTerm] = {
    "format": format_term,
    "tool_call": tool_call_term,
    "invalid": invalid_term,
    "wrong_answer": wrong_answer_term,
}
"""Terms by name; one of your own is any function of a `PlayedTurn`, put in here."""


def check_weights(weights: Mapping[str, float]) -> None:
    """Raises ValueError for a term that does not exist or a weight that is no finite number."""
    for name, weight in weights.items():
        if name not in REWARD_TERMS:
            near = difflib.get_close_matches(name, REWARD_TERMS, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"No reward term {name!r}. Did you mean {near!r}? There are: "
                f"{', '.join(REWARD_TERMS)}."
            )
        if not math.isfinite(weight):
            raise ValueError(f"The weight of {name!r} is {weight}; give a finite number.")


def shaping_reward(turn: PlayedTurn, weights: Mapping[str, float]) -> float:
    """What a turn earns beside its outcome: ``sum(weight * term(turn))``; 0.0 without weights."""
    return math.fsum(weight * REWARD_TERMS[name](turn) for name, weight in weights.items())
