"""Givens: a question in, a test whether a value stands in it out."""

import re
from functools import lru_cache

from .folding import fold
from .number_words import number_in_words, scan_number_words
from .numbers import canonical_number, scan_numbers
from .spans import Span, SpanKind

_MAX_WORDS = 6
_WORD = re.compile(r"[^\W_]+")


def canonical_value(value: str) -> str:
    """One spelling for equal values: digits for numbers and number words, else folded words."""
    return _short_value(value) if len(value) <= _CACHED_LENGTH else _value(value)


def _value(value: str) -> str:
    return canonical_number(value) or number_in_words(value) or " ".join(_words(value))


_CACHED_LENGTH = 40  # a trace repeats its short values; long ones would only fill the cache
_short_value = lru_cache(maxsize=16384)(_value)


def is_given(span: Span, question: str) -> bool:
    """Whether the value of a span can be read in the question; code and tool results never can."""
    if span.kind in (SpanKind.CODE, SpanKind.DOCUMENT, SpanKind.OUTPUT, SpanKind.LABEL):
        return False
    if canonical_value(span.value) in _values(question):
        return True
    words = _words(span.value)
    return len(words) > _MAX_WORDS and " ".join(words) in " ".join(_words(question))


def _words(text: str) -> list[str]:
    return _WORD.findall(fold(text).text)


@lru_cache(maxsize=64)
def _values(question: str) -> frozenset[str]:
    """Canonical values of the question: its numbers and all its runs of a few words."""
    numbers = {canonical_value(span.value) for span in scan_numbers(question)}
    numbers |= {canonical_value(span.value) for span in scan_number_words(question)}
    words = _words(question)
    phrases = {
        " ".join(words[start : start + length])
        for length in range(1, _MAX_WORDS + 1)
        for start in range(len(words) - length + 1)
    }
    return frozenset(numbers | phrases)
