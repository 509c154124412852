"""Number detector: a turn in, one span for each written quantity out; signs and operators stay."""

import re
import unicodedata
from collections.abc import Iterator

from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

# Every alternative starts with a digit, a backslash or a fraction sign, and every repetition is
# possessive: a failed attempt costs its own length once, so the scan is linear on any input.
# The look-ahead stands inside the thousands group; behind it, "1,111,...,1111" would be quadratic.
THOUSANDS = r"\d{1,3}(?:(?:,|\{,\}|\\,)\d{3}(?!\d))++"
PLAIN = rf"(?>{THOUSANDS}|\d++)(?:\.\d++)?+"
_ARGUMENT = r"\{[-+]?\d[\d.,]*+\}"
_FRACTION = rf"\\[dtc]?frac(?:{_ARGUMENT}|\s?\d)(?:{_ARGUMENT}|\d)"
_POWER_OF_TEN = r"10\^(?:\{[-+]?\d++\}|[-+]?\d++)"
_VULGAR = r"\u00bc-\u00be\u2150-\u215e"  # one sign for a fraction; \w, but not \d, to `re`
LETTER = rf"[^\W\d_{_VULGAR}]"
_NUMBER = re.compile(
    rf"{_FRACTION}"
    r"|0[xX][0-9a-fA-F]++(?![^\W_])"
    rf"|{_POWER_OF_TEN}"
    rf"|{PLAIN}(?:[eE][-+]?\d++(?!\w))?+"
    rf"(?:\s?(?:\\times|\\cdot|\u00d7|x)\s?{_POWER_OF_TEN})?+(?:{_FRACTION})?+(?:\\?%)?+"
    rf"|[{_VULGAR}]"
)
_WRITTEN = re.compile(rf"[-+]?\s?(?:\\?[$€£])?\s?({PLAIN})(?:\\?%)?")
_WRITTEN_FRACTION = re.compile(
    rf"[-+]?\s?(?:\\[dtc]?frac(?:\{{({PLAIN})\}}|(\d))(?:\{{({PLAIN})\}}|(\d))"
    rf"|({PLAIN})\s?/\s?({PLAIN}))"
)


def find_numbers(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    r"""Integers, decimals, thousands, percentages, scientific notation and ``\frac{1}{2}``.

    Prose about code and searches keeps its numbers: there the code and the entities pay.
    """
    if task.domain in ("code", "search"):
        return
    yield from scan_numbers(turn.text)


def scan_numbers(text: str) -> Iterator[Span]:
    """All written numbers of a text, labels not yet taken out."""
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        # ".5" has no digit before its point; "a.5" and "1.5.5" are something else.
        has_bare_point = start > 0 and text[start - 1] == "." and text[start].isdigit()
        if has_bare_point and (start == 1 or text[start - 2] in " \t\n($=+-*/<>{["):
            start -= 1
        yield Span(
            start=start, end=end, kind=SpanKind.NUMBER, value=text[start:end], detector="numbers"
        )


def canonical_number(text: str) -> str | None:
    """One spelling for equal magnitudes: "$1,234.50" -> "1234.5"; None if it is not one number.

    Sign, currency and percent are dropped, as a masked trace keeps them in sight: on the question
    whether a value is the target, this errs towards yes.
    """
    text = text.strip()
    match = _WRITTEN.fullmatch(text)
    if match:
        return _canonical_digits(match[1])
    match = _WRITTEN_FRACTION.fullmatch(text)
    if match is None:
        return None
    above, below = (part for part in match.groups() if part is not None)
    return f"{_canonical_digits(above)}/{_canonical_digits(below)}"


def _canonical_digits(digits: str) -> str:
    if not digits.isascii():
        digits = "".join(
            str(unicodedata.digit(character)) if character.isdigit() else character
            for character in digits
        )
    digits = re.sub(r"[,{}\\]", "", digits).lstrip("0")
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return digits if digits[:1].isdigit() else f"0{digits}"
