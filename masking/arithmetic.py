"""Arithmetic: an expression in postfix order and its operands' values in, its exact value out."""

import math
from collections.abc import Sequence
from fractions import Fraction

Value = int | Fraction
"""An exact value; whole ones are plain integers, which hash and add ten times as fast."""

Step = int | str
"""An operand's index, one of `OPERATORS`, or `GROUP_END` behind what stands in brackets."""

GROUP_END = ")"
BINARY = frozenset(("+", "-", "*", "/", "^", "mixed"))
UNARY = frozenset(("neg", "sqrt"))
OPERATORS = BINARY | UNARY
r"""``mixed`` adds the parts of ``2\frac{1}{2}``; ``neg`` is a sign."""

_MAX_BITS = 1024  # of numerator and denominator together: keeps every operation's cost bounded
_MAX_EXPONENT = 64
_MAX_DIGITS = 60


def number_value(digits: str) -> Value | None:
    """Value of a written number ("1,234.50", ".5"); None if it is none or beyond 60 digits."""
    if len(digits) > 2 * _MAX_DIGITS:
        return None
    digits = digits.translate(_NO_SEPARATORS)
    if len(digits) > _MAX_DIGITS:
        return None
    try:
        return int(digits) if digits.isdecimal() else whole(Fraction(digits))
    except ValueError:
        return None


_NO_SEPARATORS = str.maketrans("", "", ",{}\\")


def whole(value: Fraction) -> Value:
    """The value as an integer if it is one."""
    return value.numerator if value.denominator == 1 else value


def evaluate(steps: Sequence[Step], values: Sequence[Value | None]) -> list[Value | None]:
    """Value of the whole expression, then those of its bracketed parts; None where unknown.

    Unknown are an operand without value, a division by zero, a root that is not rational, and
    whatever would take more than a kilobit: nobody computes that in one step.
    """
    stack: list[Value | None] = []
    groups: list[Value | None] = []
    for step in steps:
        if isinstance(step, int):
            stack.append(values[step])
        elif step == GROUP_END:
            groups.append(stack[-1])
        elif step in UNARY:
            stack.append(_unary(step, stack.pop()))
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(_binary(step, left, right))
    assert len(stack) == 1, "an expression leaves one value"
    return [stack[0], *groups]


def _unary(operator: str, value: Value | None) -> Value | None:
    if value is None or operator == "neg":
        return None if value is None else -value
    above, below = math.isqrt(max(value.numerator, 0)), math.isqrt(value.denominator)
    is_square = above * above == value.numerator and below * below == value.denominator
    return whole(Fraction(above, below)) if is_square else None


def _binary(operator: str, left: Value | None, right: Value | None) -> Value | None:
    if left is None or right is None:
        return None
    value: Value | None
    if operator == "^":
        value = _power(left, right)
    elif operator == "/":
        value = whole(Fraction(left, right)) if right else None
    elif operator == "*":
        value = left * right
    else:
        value = left - right if operator == "-" else left + right
    if value is None or _num_bits(value) > _MAX_BITS:
        return None
    return value if isinstance(value, int) else whole(value)


def _power(base: Value, exponent: Value) -> Value | None:
    if exponent.denominator != 1 or (not base and exponent < 0):
        return None
    size = abs(exponent.numerator)
    if size > _MAX_EXPONENT or _num_bits(base) * size > _MAX_BITS:
        return None
    return whole(Fraction(base) ** exponent.numerator)


def _num_bits(value: Value) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()
