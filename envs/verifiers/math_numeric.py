r"""In: two expressions in LaTeX or plain text. Out: whether numbers put in tell them apart.

Each expression is evaluated in floats, its variables replaced by fixed numbers. Expressions that
differ there are not equal, and need no computer algebra, which takes a thousand times as long.
Nothing is concluded from equal values, nor about notation with more than one reading: functions,
subscripts, mixed numbers, ``e`` and ``i``, ``1/2x``.
"""

from __future__ import annotations

import math
import re
import zlib
from functools import lru_cache
from typing import NamedTuple

_MAX_DEPTH = 40
_TOLERANCE = 1e-5  # ten times what Math-Verify rounds away
_POINTS = (1, 2)
_TOKEN = re.compile(r"\s*(?:(\d+\.?\d*|\.\d+)|\\([a-zA-Z]+)|(.))", re.S)
_OPERATORS = {"*": "*", "\u00d7": "*", "\u00b7": "*", "/": "/", "\u00f7": "/"}
_COMMANDS = {"cdot": "*", "times": "*", "div": "/"}
_NOT_VARIABLES = frozenset("eidEIfghFGHP")


class _UnreadableError(Exception):
    """The text is no expression of this small language."""


def differ(left: str, right: str) -> bool:
    """Whether two expressions certainly have different values; False if that is not known."""
    for point in _POINTS:
        a, b = value_at(left, point), value_at(right, point)
        if a is None or b is None:
            return False
        if a != b and not abs(a - b) <= _TOLERANCE * max(1.0, min(abs(a), abs(b))):
            return True
    return False


def constant(text: str) -> float | None:
    """The value of an expression without variables; None if it is not one, or not finite."""
    first, second = value_at(text, 1), value_at(text, 2)
    return first if first is not None and first == second and math.isfinite(first) else None


@lru_cache(maxsize=4096)
def value_at(text: str, point: int) -> float | None:
    """The value with the variables of a point put in; infinite if it overflows; None if unreadable.

    Args:
        text: LaTeX without dollar signs, or plain text.
        point: Which of the fixed assignments of numbers to variables.
    """
    try:
        reader = _Reader(text, point)
        value = reader.sum(0)
        reader.expect("")
    except (_UnreadableError, ZeroDivisionError):
        return None
    return None if math.isnan(value) else value


class _Token(NamedTuple):
    """One of three, the others None."""

    number: str | None
    command: str | None
    character: str | None


_END = _Token(None, None, None)


class _Reader:
    """Recursive descent; each method reads one kind of expression and returns its value."""

    def __init__(self, text: str, point: int):
        self._tokens = [_Token(*m.group(1, 2, 3)) for m in _TOKEN.finditer(text.strip())]
        self._at = 0
        self._point = point

    def sum(self, depth: int) -> float:
        """Terms joined by + and -."""
        if depth > _MAX_DEPTH:
            raise _UnreadableError
        value = self._product(depth)
        while self._character() in ("+", "-", "\u2212"):
            sign = 1 if self._next() == "+" else -1
            value += sign * self._product(depth)
        return value

    def expect(self, character: str) -> None:
        """Reads this character; "" is the end."""
        if self._character() != character:
            raise _UnreadableError
        self._at += 1

    def _product(self, depth: int) -> float:
        value, after_slash = self._signed(depth), False
        while True:
            number, command, character = self._token()
            operator = _OPERATORS.get(character or "") or _COMMANDS.get(command or "")
            if operator:
                self._at += 1
                factor = self._signed(depth)
                value = value * factor if operator == "*" else value / factor
                after_slash = operator == "/"
            elif number or (command == "frac" and self._is_number_before()):
                raise _UnreadableError  # "2 3", "2\frac12": a product, or a mixed number
            elif command or (character and (character.isalpha() or character in "({[")):
                if after_slash:
                    raise _UnreadableError
                value *= self._power(depth)
            else:
                return value

    def _signed(self, depth: int) -> float:
        sign = 1
        while self._character() in ("+", "-", "\u2212"):
            sign *= 1 if self._next() == "+" else -1
        return sign * self._power(depth)

    def _power(self, depth: int) -> float:
        base = self._atom(depth)
        if self._character() != "^":
            if self._character() in ("_", "!", "'"):
                raise _UnreadableError
            return base
        self._at += 1
        # x^-1 and x^10 are meant, though LaTeX would show less as the exponent
        exponent = self._signed(depth + 1) if self._character() == "-" else self._atom(depth + 1)
        if self._character() in ("^", "_", "!", "'") or (base < 0 and exponent % 1):
            raise _UnreadableError
        try:
            return float(base**exponent)
        except OverflowError:
            return math.inf if base > 0 or exponent % 2 == 0 else -math.inf

    def _atom(self, depth: int) -> float:
        number, command, character = self._token()
        self._at += 1
        if number:
            return float(number)
        if command == "pi" or character == "\u03c0":
            return math.pi
        if command == "frac":
            top = self._argument(depth)
            return top / self._argument(depth)
        if command == "sqrt":
            root = self._group("]", depth) if self._character() == "[" else 2.0
            inner = self._argument(depth)
            if inner < 0 or root == 0:
                raise _UnreadableError
            return float(inner ** (1 / root))
        if character in ("(", "{", "["):
            self._at -= 1
            return self._group({"(": ")", "{": "}", "[": "]"}[character], depth)
        if character and character.isascii() and character.isalpha():
            if character in _NOT_VARIABLES or self._character() in ("(", "_", "'"):
                raise _UnreadableError
            return 0.4 + zlib.crc32(f"{character}{self._point}".encode()) % 9973 / 5000
        raise _UnreadableError

    def _group(self, closing: str, depth: int) -> float:
        self._at += 1
        value = self.sum(depth + 1)
        self.expect(closing)
        return value

    def _argument(self, depth: int) -> float:
        """A group in braces, or one digit or letter or command."""
        number, _, _ = self._token()
        if number and len(number) > 1:  # \frac12 is a half
            self._tokens[self._at : self._at + 1] = [_Token(digit, None, None) for digit in number]
        is_argument = number or self._character() == "{" or self._token().command
        if depth > _MAX_DEPTH or not is_argument or "." in (number or ""):
            raise _UnreadableError
        return self._atom(depth + 1)

    def _token(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _END

    def _character(self) -> str:
        r"""The token at hand if it is a single character; "" at the end, "\\" for the others."""
        if self._at >= len(self._tokens):
            return ""
        return self._tokens[self._at].character or "\\"

    def _next(self) -> str:
        character = self._character()
        self._at += 1
        return character

    def _is_number_before(self) -> bool:
        return self._at > 0 and bool(self._tokens[self._at - 1].number)
