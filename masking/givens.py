"""Givens: a question in, whether a value stands in it out."""

import re
from collections.abc import Iterable
from functools import lru_cache

from .folding import fold
from .number_words import number_in_words, scan_number_words
from .numbers import canonical_number
from .quantities import scan_quantities
from .spans import Span, SpanKind

_NEVER_GIVEN = frozenset(
    (
        *(SpanKind.CODE, SpanKind.DOCUMENT, SpanKind.OUTPUT, SpanKind.LABEL),
        *(SpanKind.WORD, SpanKind.CUT),  # pieces that a policy took, whatever stands there
    )
)
_CACHED_LENGTH = 40  # a trace repeats its short values; long ones would only fill the cache
_WORD = re.compile(r"[^\W_]+")


def canonical_value(value: str) -> str:
    """One spelling for equal values: digits for numbers and number words, else folded words."""
    return _short_value(value) if len(value) <= _CACHED_LENGTH else _value(value)


def _value(value: str) -> str:
    return canonical_number(value) or number_in_words(value) or " ".join(_words(value))


_short_value = lru_cache(maxsize=65536)(_value)


class Givens(dict[str, bool]):
    """Whether a value, as written, stands in one question: ``givens["1,000"]``.

    A number is given by its value ("two", 1000, 1,000), anything else by its words. The question is
    read when the first value is asked for, and each value is worked out once.
    """

    def __init__(self, question: str):
        super().__init__()
        self._question = question
        self._numbers: frozenset[str] | None = None
        self._words: str | None = None

    def __missing__(self, value: str) -> bool:
        canonical = canonical_value(value)
        if self._numbers is None:
            self._numbers = _numbers_of(self._question)
        is_given = canonical in self._numbers
        if not is_given and not _is_number(canonical) and canonical:
            if self._words is None:
                self._words = f" {' '.join(_words(self._question))} "
            is_given = f" {canonical} " in self._words
        self[value] = is_given
        return is_given

    def mark(self, span: Span) -> Span:
        """The span, marked as given if it is; code and tool results never are."""
        if span.kind in _NEVER_GIVEN or not self[span.value]:
            return span
        return Span(*span[:5], True, *span[6:])  # half the time of `_replace`

    def mark_all(self, spans: Iterable[Span]) -> tuple[Span, ...]:
        """The spans, each marked as given if it is."""
        mark = self.mark
        return tuple(
            [
                mark(span) if span[2] not in _NEVER_GIVEN and self[span[3]] else span
                for span in spans
            ]
        )


def _numbers_of(question: str) -> frozenset[str]:
    spans = (*scan_quantities(question), *scan_number_words(question))
    return frozenset(canonical_value(span.value) for span in spans)


def _is_number(canonical: str) -> bool:
    return canonical.isdecimal() or canonical.replace(".", "").replace("/", "").isdecimal()


@lru_cache(maxsize=64)
def givens_of(question: str) -> Givens:
    """The givens of a question, the same for all turns of its traces."""
    return Givens(question)


def is_given(span: Span, question: str) -> bool:
    """Whether the value of a span can be read in the question; code and tool results never can."""
    return givens_of(question).mark(span).is_given


def _words(text: str) -> list[str]:
    return _WORD.findall(fold(text).text)
