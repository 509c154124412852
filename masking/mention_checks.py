"""Mention checks: a text and the place of a word in, whether it can name an alias there out."""

import re

from .aliases import SurfaceForm
from .numbers import LETTER

_OPENING, _CLOSING = "\"'\u2018\u201c`", "\"'\u2019\u201d`"
# The stop behind an initial or a short title ends nothing.
_ENDS = re.compile(r"(?<!\b\w)(?<!\b[DJMS]r)(?<!\b[MS][st])(?<!\bMrs)[.!?]\s|[\n;:!?]")
_ANSWER_WORDS = re.compile(r"(?:answer|conclusion|verdict)\W+(?:\w+\W+)?$", re.IGNORECASE)
_AFTER_ANSWER = re.compile(r"[ \t]*(?:[.,;:!?)\]}>\"'*`<\n]|$)")
_CHOICE_WORDS = re.compile(r"(?:option|choice|answer|letter|select|pick|is)[ \t]$", re.IGNORECASE)
_BEFORE_CHOICE = frozenset("([{:=*\"'`")
_AFTER_CHOICE = frozenset(")]}.*\"'`\n,;:")
CAPITAL = re.compile(rf"(?<!{LETTER})[A-Za-z](?!{LETTER})")
"""A letter that stands alone."""


def is_within(text: str, at: int) -> bool:
    """Whether a word or a number goes on across this place."""
    if at == 0 or at == len(text):
        return False
    before, after = text[at - 1], text[at]
    # Scripts without spaces have no words to be bounded by.
    if before >= "\u2e80" or after >= "\u2e80":
        return False
    return (before.isalpha() and after.isalpha()) or (before.isdigit() and after.isdigit())


def is_choice(text: str, at: int) -> bool:
    """Whether a letter stands where a choice does: "(B)", "answer B"."""
    before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
    if before in _BEFORE_CHOICE or after in _AFTER_CHOICE or after == "":
        return True
    return bool(_CHOICE_WORDS.search(text[max(0, at - 7) : at]))


def _is_capitalised(text: str, start: int, end: int) -> bool:
    before, after = text[max(0, start - 1) : start], text[end : end + 1]
    is_quoted = before != "" and before in _OPENING and after != "" and after in _CLOSING
    return is_quoted or text[start].isupper()


def _is_in_capitals(text: str, start: int, end: int) -> bool:
    return text[start:end].isupper()


def _is_one_phrase(text: str, start: int, end: int) -> bool:
    """Whether no sentence, clause or line ends between the words."""
    return not _ENDS.search(text, start, end)


def _is_answer(text: str, start: int, end: int) -> bool:
    """Whether a word stands where an answer does: before a stop, or after "answer is"."""
    if _AFTER_ANSWER.match(text, end):
        return True
    return bool(_ANSWER_WORDS.search(text[max(0, start - 24) : start]))


CHECKS = {
    SurfaceForm.CAPITALISED: _is_capitalised,
    SurfaceForm.CAPITALS: _is_in_capitals,
    SurfaceForm.REORDERED: _is_one_phrase,
    SurfaceForm.ALONE: _is_answer,
}
"""For each form of words that does not count everywhere, whether it counts at start:end."""
