"""In: a verdict. Out: the reward, a number."""

from __future__ import annotations

from .verdicts import Verdict


def outcome_reward(verdict: Verdict) -> float:
    """1.0 for a correct answer, else 0.0.

    A verifier error gives 0.0 as well, since a reward must be a number; the verdict in `info` tells
    it from a wrong answer, and who trains leaves it out.
    """
    return 1.0 if verdict is Verdict.CORRECT else 0.0
