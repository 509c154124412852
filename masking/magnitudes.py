r"""Magnitudes: a value as written in, the numbers that it may be read as out, signs aside.

``1.28 x 10^-6`` is 1.28e-06 and ``\frac{1}{2}`` is 0.5. Two values have two readings: "10 dozen"
is 120 and, where dozens are counted, 10; "50%" is 1/2 and 50.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from .givens import canonical_value
from .numbers import PLAIN, RAISED, canonical_number

_POWER_OF_TEN = (
    rf"10\s?(?:\^\s?(?:\{{\s?(?P<braced>[-+]?\d++)\s?\}}|(?P<bare>[-+]?\d++))"
    rf"|(?P<raised>\u207b?[{RAISED}]++))"
)
_SCIENTIFIC = re.compile(
    rf"[-+]?\s?(?:\\?[$\u20ac\u00a3]\s?)?(?:(?P<number>{PLAIN})"
    rf"(?:[eE](?P<exponent>[-+]?\d++)|\s?(?:\\times|\\cdot|[\u00d7x*])\s?{_POWER_OF_TEN})"
    rf"|{_POWER_OF_TEN.replace('?P<', '?P<only_')})"
)
_SCALES = {"dozen": 12, "hundred": 10**2, "thousand": 10**3}
_SCALES |= {"million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALED = re.compile(rf"(.*[^\s-])[\s-]+({'|'.join(_SCALES)})", re.IGNORECASE | re.DOTALL)
_MIXED = re.compile(r"([-+]?\d++)\s?((?:\\[dtc]?frac|[\u00bc-\u00be\u2150-\u215e]).*)", re.DOTALL)
_RAISED = re.compile(f"[{RAISED}]")
_PERCENT = re.compile(r"\s?\\?%\Z")
_MAX_CHARS = 60
_MAX_EXPONENT = 400  # of ten; a longer number would take longer to write out than to read

NO_MAGNITUDES: frozenset[Fraction] = frozenset()


def magnitudes_of(value: str) -> frozenset[Fraction]:
    """All numbers that a value may be read as; none for what is no single number."""
    return _magnitudes(value) if len(value) <= _MAX_CHARS else NO_MAGNITUDES


@lru_cache(maxsize=65536)
def _magnitudes(value: str) -> frozenset[Fraction]:
    return frozenset(_readings(value.strip()))


def _readings(value: str) -> Iterator[Fraction]:
    percent = _PERCENT.search(value)
    if percent:
        for reading in _readings(value[: percent.start()]):
            yield reading
            yield reading / 100
        return
    scaled = _SCALED.fullmatch(value)
    if scaled:
        count = _number(scaled[1])
        # Nobody reads "five hundred" as 5, as hundreds are not counted.
        if count is not None and (scaled[2].lower() != "hundred" or value[:1].isdigit()):
            yield count
            yield count * _SCALES[scaled[2].lower()]
            return
    number = _number(value)
    if number is not None:
        yield number


def _number(text: str) -> Fraction | None:
    if _RAISED.search(text):
        return _scientific(text)  # 5\u00b2 is neither 52 nor 5
    canonical = canonical_value(text)
    if canonical[:1].isdigit() and " " not in canonical:
        above, _, below = canonical.partition("/")
        try:
            return Fraction(above) / Fraction(below or "1")
        except (ValueError, ZeroDivisionError):
            pass
    return _scientific(text) or _mixed(text)


def _scientific(text: str) -> Fraction | None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return None
    parts = {name.removeprefix("only_"): part for name, part in match.groupdict().items() if part}
    number = canonical_number(parts.pop("number", "1"))
    written = unicodedata.normalize("NFKC", next(iter(parts.values()))).replace("\u2212", "-")
    if number is None or len(written) > len(str(_MAX_EXPONENT)) + 1:
        return None
    exponent = int(written)
    return None if abs(exponent) > _MAX_EXPONENT else Fraction(number) * Fraction(10) ** exponent


def _mixed(text: str) -> Fraction | None:
    match = _MIXED.fullmatch(text)
    part = canonical_number(match[2]) if match else None
    if match is None or part is None or "/" not in part:
        return None
    above, below = part.split("/")
    return abs(int(match[1])) + Fraction(above) / Fraction(below) if Fraction(below) else None
