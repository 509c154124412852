import time
from fractions import Fraction

import pytest

from maskgym.masking.arithmetic import GROUP_END, evaluate, number_value


@pytest.mark.parametrize(
    ("steps", "values", "result"),
    [
        ((0, 1, "+"), (3, 4), 7),
        ((0, 1, "-", 2, "*"), (3, 5, 2), -4),
        ((0, 1, "/"), (1, 3), Fraction(1, 3)),
        ((0, "neg", 1, "^"), (2, 10), 1024),
        ((0, 1, "^"), (2, -2), Fraction(1, 4)),
        ((0, "sqrt"), (Fraction(9, 4),), Fraction(3, 2)),
        ((0, 1, "mixed"), (2, Fraction(1, 2)), Fraction(5, 2)),
    ],
)
def test_values_are_exact(
    steps: tuple[int | str, ...], values: tuple[Fraction | int, ...], result: Fraction | int
) -> None:
    assert evaluate(steps, [Fraction(value) for value in values]) == [result]


@pytest.mark.parametrize(
    ("steps", "values"),
    [
        ((0, 1, "/"), (1, 0)),
        ((0, 1, "^"), (0, -1)),
        ((0, 1, "^"), (2, Fraction(1, 2))),
        ((0, 1, "^"), (3, 10**9)),
        ((0, 1, "^"), (10**40, 60)),
        ((0, "sqrt"), (2,)),
        ((0, "sqrt"), (-4,)),
        ((0, 1, "+"), (3, None)),
    ],
)
def test_what_nobody_computes_in_one_step_is_unknown(
    steps: tuple[int | str, ...], values: tuple[Fraction | int | None, ...]
) -> None:
    given = [None if value is None else Fraction(value) for value in values]
    assert evaluate(steps, given) == [None]


def test_values_of_brackets_follow_that_of_the_whole() -> None:
    values = [Fraction(3), Fraction(4), None]
    assert evaluate((0, 1, "+", GROUP_END, 2, "*"), values) == [None, 7]


@pytest.mark.parametrize(
    ("digits", "value"),
    [("1,234.50", Fraction(2469, 2)), (".5", Fraction(1, 2)), ("1{,}000", 1000), ("٣", 3)],
)
def test_written_numbers_have_their_value(digits: str, value: Fraction | int) -> None:
    assert number_value(digits) == value


@pytest.mark.parametrize("digits", ["", "x", "1" * 61, "1" * 10**6])
def test_what_is_no_number_or_too_long_has_none(digits: str) -> None:
    assert number_value(digits) is None


def test_a_long_sum_of_growing_fractions_stays_cheap() -> None:
    num_terms = 20_000
    steps: list[int | str] = [0]
    for index in range(1, num_terms):
        steps += [index, "+"]
    start = time.process_time()
    assert evaluate(steps, [Fraction(1, 2 * i + 3) for i in range(num_terms)]) == [None]
    assert time.process_time() - start < 5
