"""In: a final answer, cleaned. Out: the number that it is, exactly, with its unit; or None."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from .math_notation import FRACTION, TEXT

_MAX_CHARS = 120
_MAX_EXPONENT = 400

_SIMPLE_FRACTION = re.compile(r"(\d*)\\frac\{(-?[\d.]+)\}\{(-?[\d.]+)\}")
_RATIO = re.compile(r"(?:(\d+) )?(-?[\d.]+) ?/ ?(-?[\d.]+)")
_POWER_OF_TEN = re.compile(r"([\d.]+) ?(?:\\times|\\cdot|\*|x|\u00d7) ?10 ?\^ ?\{?(-?\d{1,4})\}?")
_SCIENTIFIC = re.compile(r"([\d.]+)[eE]([+-]?\d{1,4})")
_DECIMAL = re.compile(r"\d+\.?\d*|\.\d+")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\{,\}| )\d{3})+(?![\d,])")
_MONEY = re.compile(r"^(-?) ?\\?[$\u20ac\u00a3] ?")
_UNIT = re.compile(
    r"(.*?[\d}.%])(?:\s+|(?=\\(?:text|mbox)))"
    r"((?:\\(?:text(?:normal|rm|bf|it)?|mbox)\s?\{[^{}]*\}|[a-zA-Z/.]|\^?[23](?=\s|$)|\^\{[23]\}|\s)+)"
)
_PERCENT_WORDS = frozenset(("percent", "percentage", "pct"))
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        "or and to not than nor either but plus minus times over hundred thousand million billion "
        "trillion dozen half halves third thirds quarter quarters pi e i k b x y z n t",
    )
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantity:
    """A number with what stood after it."""

    number: Fraction
    is_percent: bool
    unit: str
    num_decimals: int
    """Digits after the point, if it was written as a decimal; else 0."""
    num_digits: int
    """Significant digits, if it was written as a decimal; else 0."""


def quantity(text: str) -> Quantity | None:
    """The number that a text is, perhaps with a unit; None if it is anything else."""
    unit = ""
    if not text or not any(map(str.isdigit, text)):
        return None
    with_unit = _UNIT.fullmatch(text) if any(map(str.isalpha, text)) else None
    if with_unit:
        words = TEXT.sub(r" \1 ", with_unit[2]).lower().replace(".", "").split()
        if any(word in _NOT_UNITS for word in words) or len(words) > 4:
            return None
        text = with_unit[1].rstrip()
        unit = " ".join(word if len(word) < 4 else word.removesuffix("s") for word in words)
    is_percent = text.endswith("%") or unit in _PERCENT_WORDS
    unit = "" if unit in _PERCENT_WORDS or unit == "degree" else unit
    text = text.removesuffix("%").removesuffix("\\").rstrip()
    number = _number(text)
    if number is None:
        return None
    decimals = text.partition(".")[2]
    is_decimal = decimals.isdigit()
    return Quantity(
        number=number,
        is_percent=is_percent,
        unit=unit,
        num_decimals=len(decimals) if is_decimal else 0,
        num_digits=len(re.sub(r"\D", "", text).lstrip("0")) if is_decimal else 0,
    )


def _number(text: str) -> Fraction | None:
    if not text or len(text) > _MAX_CHARS:
        return None
    if _DECIMAL.fullmatch(text):
        return Fraction(text)
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = _MONEY.sub(r"\1", text)
    sign = -1 if text.startswith("-") else 1
    text = text[1:].lstrip() if text[:1] in ("-", "+") else text
    if text.startswith("(") and text.endswith(")"):
        inner = _number(text[1:-1])
        return None if inner is None else sign * inner
    if _DECIMAL.fullmatch(text):
        return sign * Fraction(text)
    spelled = FRACTION.sub(
        lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text.replace(" ", "")
    )
    match = _SIMPLE_FRACTION.fullmatch(spelled) or _RATIO.fullmatch(text)
    if match:
        top, bottom = _number(match[2]), _number(match[3])
        if top is None or not bottom or (match[1] and (top < 0 or bottom < 0)):
            return None
        return sign * (int(match[1] or 0) + top / bottom)
    match = _POWER_OF_TEN.fullmatch(text) or _SCIENTIFIC.fullmatch(text)
    if match and _DECIMAL.fullmatch(match[1]) and abs(int(match[2])) <= _MAX_EXPONENT:
        return sign * Fraction(match[1]) * Fraction(10) ** int(match[2])
    return None
