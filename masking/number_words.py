"""Number-word detector: a turn in, numbers in words ("one hundred and five") out as spans."""

import re
from collections.abc import Iterator

from .numbers import LETTER
from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: value for value, word in enumerate(_UNITS)}
_SMALL |= {word: 10 * ten for ten, word in enumerate(_TENS, start=2)}
_LARGE = {"dozen": 12, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}

# Longest first: "sixteen" before "six". The borders are those of letters, not of \b: in "3one" the
# word is found before and after the 3 is masked.
_WORDS = sorted([*_SMALL, *_LARGE, "hundred"], key=len, reverse=True)
_START = rf"(?<!{LETTER}.)"
_END = rf"(?!{LETTER})"
# A pattern that opens with plain letters lets the engine skip to them; one that opens with a
# look-behind is tried at every character, five times slower. Hence the border behind the letter.
_FIRST = "|".join(f"{word[0]}{_START}{word[1:]}" for word in _WORDS)
_PATTERN = (
    rf"(?:{_FIRST}){_END}"
    rf"(?:(?:-| |(?<=hundred) and |(?<=thousand) and )(?:{'|'.join(_WORDS)}){_END})*+"
)
_LOWER_CASE = re.compile(_PATTERN, re.DOTALL)
_ANY_CASE = re.compile(_PATTERN, re.DOTALL | re.IGNORECASE)


def find_number_words(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Cardinal numbers in English words; "half" and "twice" are operations and stay."""
    if task.domain in ("code", "search"):
        return
    yield from scan_number_words(turn.text)


def scan_number_words(text: str) -> Iterator[Span]:
    """All numbers in words of a text."""
    # Only ASCII surely keeps its offsets when lower-cased.
    is_ascii = text.isascii()
    matches = _LOWER_CASE.finditer(text.lower()) if is_ascii else _ANY_CASE.finditer(text)
    for match in matches:
        start, end = match.span()
        yield Span(
            start=start,
            end=end,
            kind=SpanKind.NUMBER_WORD,
            value=text[start:end],
            detector="number_words",
        )


def number_in_words(text: str) -> str | None:
    """Digits of a number in words ("one hundred and five" -> "105"); None if it is not one."""
    total = current = 0
    words = [word for word in re.split(r"[\s-]+", text.strip().lower()) if word != "and"]
    if not words or len(words) > 20:
        return None
    for word in words:
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _LARGE:
            total += max(current, 1) * _LARGE[word]
            current = 0
        else:
            return None
    return str(total + current)
