"""Target: a task in, a test whether a span or a value is its answer out."""

import re
from fractions import Fraction

from .entities import TARGET_DETECTOR
from .givens import canonical_value
from .latex import normalize_latex
from .magnitudes import magnitudes_of
from .spans import MaskableTask, Span, SpanKind

_NEVER = frozenset((SpanKind.LABEL, SpanKind.CODE, SpanKind.DOCUMENT, SpanKind.OUTPUT))
_ALWAYS = frozenset((SpanKind.ANSWER, SpanKind.CHOICE))
# "x+1" and "x-1" have the same words; a hyphen joins words but subtracts single letters and digits.
_SIGNS = re.compile(r"[+*/^=<>\\_]|\b\w-|-\w\b")


class Target:
    """What the verifier would pay for, as far as it can be told without the verifier.

    An answer that is empty, or empty once markup is taken away, is no target: nothing equals it.
    """

    def __init__(self, task: MaskableTask):
        self._spellings = {spelling_of(answer) for answer in task.answers} - {""}
        self._magnitudes = {value for answer in task.answers for value in _values_of(answer)}

    def equals(self, value: str) -> bool:
        """Whether a value reads like an answer, or can be read as the same number.

        "Ten", "10.0", "1e1" and, where dozens are counted, "10 dozen" are all 10.
        """
        return self.is_spelled(value) or (
            bool(self._magnitudes) and not self._magnitudes.isdisjoint(magnitudes_of(value))
        )

    def is_spelled(self, value: str) -> bool:
        """Whether a value has the spelling, the digits or the number words of an answer."""
        return spelling_of(value) in self._spellings

    def is_shown_by(self, span: Span) -> bool:
        """Whether a span is announced as the answer, mentions it, or has its value."""
        if span.kind in _NEVER:
            return False
        is_named = span.kind in _ALWAYS or span.detector == TARGET_DETECTOR
        return is_named or self.equals(span.value)


def spelling_of(value: str) -> str:
    """One spelling for what reads the same: digits, folded words, or LaTeX without layout."""
    canonical = canonical_value(value)
    if canonical[:1].isdigit() or not _SIGNS.search(value):
        return canonical
    return normalize_latex(value)


def _values_of(answer: str) -> frozenset[Fraction]:
    """The numbers an answer may be: of "5 million" the 5 by itself is none of them."""
    values = magnitudes_of(answer.strip().strip("$"))
    return values if "%" in answer or len(values) < 2 else frozenset((max(values),))
