"""In: what a program returned or printed, and what was expected. Out: whether they are equal.

Runs in the trusted process, on exact built-in types only: nothing here calls code of the program.
"""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation

RELATIVE_TOLERANCE = 1e-6
ABSOLUTE_TOLERANCE = 1e-9


def same_value(value: object, expected: object) -> bool:
    """Whether a result is the one expected, which was read from JSON.

    The types must be the same, with these exceptions, since JSON cannot say more: a tuple is a list
    and a number that is a key may be written as text; 2.0 is 2. Where the expected number has a
    fraction it may be missed by a relative 1e-6, or by 1e-9 near zero. True is never 1, a set or an
    iterator never a list, and NaN is NaN.
    """
    if isinstance(expected, bool) or isinstance(value, bool):
        return value is expected
    if isinstance(expected, float) and isinstance(value, int | float):
        return _close(value, expected)
    if isinstance(expected, int) and isinstance(value, int | float):
        return value == expected
    if isinstance(expected, list) and isinstance(value, list | tuple):
        return len(value) == len(expected) and all(map(same_value, value, expected))
    if type(value) is not type(expected):
        return False
    if isinstance(expected, dict) and isinstance(value, dict):
        named = {_key(key): item for key, item in value.items()}
        if len(named) != len(value) or named.keys() != expected.keys():
            return False
        return all(same_value(named[key], expected[key]) for key in named)
    return value == expected


def same_output(printed: str, expected: str) -> bool:
    """Whether a program printed what was expected, line by line and word by word.

    Spaces at the ends of lines, runs of them, and empty lines at both ends do not count. Words are
    equal as text, or as decimal numbers (1.50 is 1.5, and 007 is 7); where the expected number is
    written with a point or an exponent it may be missed by a relative 1e-6, or by 1e-9 near zero.
    """
    printed_lines, expected_lines = printed.strip().splitlines(), expected.strip().splitlines()
    return len(printed_lines) == len(expected_lines) and all(
        map(_same_line, printed_lines, expected_lines)
    )


def same_value_as_livecodebench(value: object, expected: object) -> bool:
    """Python's own equality, where a tuple counts as a list, but not inside of another value."""
    return (list(value) if isinstance(value, tuple) else value) == expected


def same_output_as_livecodebench(printed: str, expected: str) -> bool:
    """Equal lines without the spaces at their ends, or equal rows of exact decimal numbers."""
    printed_lines, expected_lines = printed.strip().split("\n"), expected.strip().split("\n")
    if len(printed_lines) != len(expected_lines):
        return False
    for left, right in zip(printed_lines, expected_lines, strict=True):
        if left.strip() == right.strip():
            continue
        left_numbers, right_numbers = _decimals(left), _decimals(right)
        if left_numbers is None or left_numbers != right_numbers:
            return False
    return True


def same_value_as_prime(value: object, expected: object) -> bool:
    """Python's own equality with the expected value, or with the first item of an expected list.

    The value must be one that JSON can write. An expected object has whole numbers for keys where
    all of its keys are such.
    """
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    first = expected[0] if isinstance(expected, list) and expected else expected
    if isinstance(first, dict) and (numbered := with_number_keys(first)) is not None:
        expected = [numbered]
    value = list(value) if isinstance(value, tuple) else value
    if value == expected:
        return True
    if not isinstance(expected, list) or not expected:
        return False
    if value == expected[0]:
        return True
    has_tuples = isinstance(value, list) and bool(value) and isinstance(value[0], tuple)
    try:
        return has_tuples and [list(item) for item in value] == expected[0]  # type: ignore[attr-defined]
    except TypeError:
        return False


def same_output_as_prime(printed: str, expected: str) -> bool:
    """Equal text but for spaces at both ends of lines, or lines of one number each that are close.

    Close is numpy's `allclose`: within 1e-8 plus 1e-5 of the expected number. Empty lines do not
    count. Whole numbers on every line must be equal as text.
    """
    lines = printed.splitlines()
    if expected.strip() in ("\n".join(lines).strip(), "\n".join(map(str.strip, lines)).strip()):
        return True
    wanted = [line.strip() for line in expected.split("\n") if line]
    lines_left = [line for line in lines if line]
    if wanted in (lines, lines_left):
        return True
    if len(lines_left) != len(wanted):
        return False
    if all(a.isdigit() and b.isdigit() for a, b in zip(lines_left, wanted, strict=True)):
        return False
    try:
        numbers = [(float(a), float(b)) for a, b in zip(lines_left, wanted, strict=True)]
    except ValueError:
        return False
    return all(a == b or abs(a - b) <= 1e-8 + 1e-5 * abs(b) < math.inf for a, b in numbers)


def _close(value: float, expected: float) -> bool:
    if math.isnan(expected):
        return math.isnan(value)
    try:
        return math.isclose(value, expected, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    except OverflowError:  # a whole number beyond all floats
        return False


def _key(key: object) -> object:
    """A key as JSON has it."""
    return str(key) if type(key) in (int, float) else key


def _same_line(printed: str, expected: str) -> bool:
    printed_words, expected_words = printed.split(), expected.split()
    return len(printed_words) == len(expected_words) and all(
        map(_same_word, printed_words, expected_words)
    )


def _same_word(printed: str, expected: str) -> bool:
    if printed == expected:
        return True
    said, wanted = _decimal(printed), _decimal(expected)
    if said is None or wanted is None:
        return False
    if said == wanted:
        return True
    return expected.lstrip("+-").isdigit() is False and _close(float(said), float(wanted))


def _decimal(word: str) -> Decimal | None:
    """The finite decimal number that a word is."""
    try:
        number = Decimal(word)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _decimals(line: str) -> list[Decimal] | None:
    try:
        return [Decimal(word) for word in line.split()]
    except InvalidOperation:
        return None


def with_number_keys(value: dict[str, object]) -> dict[int, object] | None:
    """An object whose keys are all whole numbers, with numbers for keys; None for any other."""
    try:
        return {int(key): item for key, item in value.items()}
    except ValueError:
        return None
