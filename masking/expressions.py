r"""Expressions: a text and a place in it in, how far one quantity reaches from there and its kind out.

A quantity is one value: ``1,234``, ``3\pi``, ``\frac{\sqrt{2}}{2}``, ``\frac{a}{b}``,
``\sqrt[3]{8}``. What holds an operator is a computation: of ``\frac{n + 1}{2}`` only 1 and 2 are
values.
"""

import re
from typing import NamedTuple

from .numbers import NUMBER, PLAIN
from .spans import SpanKind

_MAX_ARGUMENT = 200  # characters; what is longer is no value that anyone would name
_MAX_DEPTH = 3
CONSTANTS = ("pi", "infty", "emptyset", "varnothing")
FUNCTIONS = (
    *("frac", "dfrac", "tfrac", "cfrac", "binom", "dbinom", "tbinom"),
    "sqrt",
)
_NUM_ARGUMENTS = {name: 1 if name == "sqrt" else 2 for name in FUNCTIONS}
_COMMAND = re.compile(rf"\\({'|'.join((*FUNCTIONS, *CONSTANTS))})(?![A-Za-z])")
_CONSTANT_SIGN = re.compile(r"[\u03c0\u221e\u2205]|pi(?![A-Za-z0-9_])")
_GAP = re.compile(r"(?:[ ~]|\\[,!])?")
_PERCENT = re.compile(r"\\?%")
_GREEK = "alpha|beta|gamma|delta|theta|lambda|mu|nu|omega|phi|psi|rho|sigma|tau"
# "d" and "dx" are signs of a derivative; the bar keeps words such as "miles" out.
_SYMBOL = re.compile(
    rf"(?!d[a-z]?\b)(?:[A-Za-z]{{1,3}}(?![A-Za-z])|\\(?:{_GREEK})(?![A-Za-z]))"
    r"(?:_(?:\w(?![^\W_])|\{\w{1,8}\}))?"
)
_ROOT_INDEX = re.compile(r" ?\[(?:\d{1,4}|[a-z])\]")
_SIGNS = frozenset("-+")
_NUMBER_IN_BRACES = re.compile(rf"[-+]?{PLAIN}\}}")


class Quantity(NamedTuple):
    """Where a quantity ends and what it is: NUMBER, CONSTANT or EXPRESSION."""

    end: int
    kind: SpanKind


def quantity_at(text: str, start: int) -> Quantity | None:
    r"""The quantity that starts here with a digit, a backslash or a sign such as ½; None if none does.

    Its factors stand side by side (``2\sqrt{3}``, ``3\frac{1}{2}``); each is read once, an argument
    is bounded, so reading all quantities of a text takes linear time.
    """
    first = _factor(text, start, len(text), 0)
    if first is None:
        return None
    end, kind = first
    is_digits = text[start] != "\\"
    while following := _following_factor(text, end, is_digits=is_digits):
        is_mixed_number = kind is following.kind is SpanKind.NUMBER
        end, kind = following.end, SpanKind.NUMBER if is_mixed_number else SpanKind.EXPRESSION
        is_digits = False
    percent = _PERCENT.match(text, end)
    return Quantity(percent.end() if percent else end, kind)


def _following_factor(text: str, end: int, *, is_digits: bool) -> Quantity | None:
    """The factor behind another; a gap before a fraction or root needs digits in front of it."""
    gap = _GAP.match(text, end)
    assert gap is not None
    at = gap.end()
    sign = _CONSTANT_SIGN.match(text, at)
    if sign:
        return Quantity(sign.end(), SpanKind.CONSTANT)
    if not text.startswith("\\", at):
        return None
    factor = _command(text, at, len(text), 0)
    is_near = at == end or is_digits or (factor and factor.kind is SpanKind.CONSTANT)
    return factor if is_near else None


def _factor(text: str, at: int, limit: int, depth: int) -> Quantity | None:
    number = NUMBER.match(text, at, limit)
    if number:
        return Quantity(number.end(), SpanKind.NUMBER)
    if text.startswith("\\", at):
        return _command(text, at, limit, depth)
    sign = _CONSTANT_SIGN.match(text, at, limit)
    return Quantity(sign.end(), SpanKind.CONSTANT) if sign else None


def _command(text: str, at: int, limit: int, depth: int) -> Quantity | None:
    match = _COMMAND.match(text, at, limit)
    if match is None or depth > _MAX_DEPTH:
        return None
    name, end = match[1], match.end()
    if name in CONSTANTS:
        return Quantity(end, SpanKind.CONSTANT)
    if name == "sqrt":
        index = _ROOT_INDEX.match(text, end, limit)
        end = index.end() if index else end
    are_numbers = name.endswith("frac")
    for _ in range(_NUM_ARGUMENTS[name]):
        argument = _argument(text, end, limit, depth)
        if argument is None:
            return None
        end = argument.end
        are_numbers = are_numbers and argument.kind is SpanKind.NUMBER
    return Quantity(end, SpanKind.NUMBER if are_numbers else SpanKind.EXPRESSION)


def _argument(text: str, at: int, limit: int, depth: int) -> Quantity | None:
    r"""An argument in braces, or a bare digit, letter or constant (``\frac12``, ``\sqrt8``)."""
    if text.startswith(" ", at):
        at += 1
    if text.startswith("{", at):
        return _in_braces(text, at + 1, min(limit, at + _MAX_ARGUMENT), depth)
    character = text[at : at + 1]
    if at < limit and character.isdecimal():
        return Quantity(at + 1, SpanKind.NUMBER)
    if at < limit and character.isalpha() and character.isascii():
        is_word = text[at + 1 : at + 2].isalpha() and text[at + 2 : at + 3].isalpha()
        return None if is_word else Quantity(at + 1, SpanKind.EXPRESSION)
    return _command(text, at, limit, depth + 1) if character == "\\" else None


def _in_braces(text: str, at: int, limit: int, depth: int) -> Quantity | None:
    """Factors up to the closing brace, with a sign at most before the first; no operator."""
    number = _NUMBER_IN_BRACES.match(text, at, limit)
    if number:  # most arguments are
        return Quantity(number.end(), SpanKind.NUMBER)
    kind: SpanKind | None = None
    at = _behind_spaces(text, at, limit)
    if text[at : at + 1] in _SIGNS:
        at = _behind_spaces(text, at + 1, limit)
    while at < limit:
        if text[at] == "}":
            return Quantity(at + 1, kind) if kind is not None else None
        factor = _factor(text, at, limit, depth + 1)
        if factor is None:
            symbol = _SYMBOL.match(text, at, limit)
            if symbol is None:
                return None
            factor = Quantity(symbol.end(), SpanKind.EXPRESSION)
        kind = factor.kind if kind is None else SpanKind.EXPRESSION
        at = _behind_spaces(text, factor.end, limit)
    return None


def _behind_spaces(text: str, at: int, limit: int) -> int:
    while at < limit and text[at] == " ":
        at += 1
    return at
