"""In: nothing. Out: `Grade`, what a verifier says about one answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Correct, wrong, or not known because the infrastructure failed."""

    CORRECT = "correct"
    WRONG = "wrong"
    VERIFIER_ERROR = "verifier_error"
    """Never trained on and never counted as wrong in silence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """A verdict and, in a few words, why."""

    verdict: Verdict
    reason: str = ""

    @property
    def is_correct(self) -> bool:
        """Whether the answer earns the reward."""
        return self.verdict is Verdict.CORRECT

    @classmethod
    def of(cls, is_correct: bool, reason: str = "") -> Grade:
        """The grade of an answer that could be checked."""
        return cls(verdict=Verdict.CORRECT if is_correct else Verdict.WRONG, reason=reason)
