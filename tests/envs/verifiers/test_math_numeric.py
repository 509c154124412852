"""The numeric evaluator: it tells different expressions apart, and stays silent where it may be wrong."""

import math
import random
from fractions import Fraction

import pytest
import sympy

from maskgym.envs.verifiers.math_numeric import constant, differ, value_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"2\sqrt2", 2 * math.sqrt(2)),
        (r"\sqrt[3]{8}", 2),
        (r"\frac12", 0.5),
        (r"\frac1{72}", 1 / 72),
        ("-3^2", -9),
        ("2^{-1}", 0.5),
        ("2^10", 1024),
        (r"2(3+4) \cdot 5 / 7", 10),
        (r"\frac{\pi}{2}", math.pi / 2),
        ("2 - -3", 5),
    ],
)
def test_an_expression_without_variables_has_its_value(text: str, expected: float) -> None:
    assert constant(text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "2 3",
            r"2\frac12",
            "1/2x",
            "x_1",
            "f(x)",
            "x(3)",
            "3!",
            "1,2",
            "(",
            "x = 1",
            "e",
            "2i",
        ),
        *("(" * 500, "2^" * 500, "1/0", r"\sqrt{-1}", "(0-8)^{1/3}", "|x|", "50%", r"\sin x"),
    ],
)
def test_what_has_more_than_one_reading_or_none_has_no_value(text: str) -> None:
    assert value_at(text, 1) is None


def test_a_tower_of_powers_is_told_from_a_number_at_once() -> None:
    assert differ("9^{9^{9^9}}", "5")
    assert not differ("9^{9^{9^9}}", "8^{9^{9^9}}")


def test_equal_and_unreadable_expressions_are_never_said_to_differ() -> None:
    assert not differ("x^2-1", "(x-1)(x+1)")
    assert not differ("5", r"\text{five}")
    assert differ("x^2-1", "(x-1)(x+2)")
    assert differ("x", "y")


def test_random_expressions_have_the_value_that_sympy_gives_them() -> None:
    choose = random.Random(0)

    def expression(depth: int) -> tuple[str, sympy.Expr]:
        if depth == 0:
            number = choose.randint(1, 9)
            return str(number), sympy.Integer(number)
        (a, left), (b, right) = expression(depth - 1), expression(depth - 1)
        return choose.choice(
            [
                (f"({a}+{b})", left + right),
                (f"({a}-{b})", left - right),
                (f"{a} \\cdot {b}" if depth < 2 else f"({a})({b})", left * right),
                (f"\\frac{{{a}}}{{{b}}}", left / right),
                (f"({a})^2", left**2),
            ]
        )

    num_read = 0
    for _ in range(300):
        text, value = expression(choose.randint(1, 3))
        read = constant(text)
        if read is not None:
            num_read += 1
            assert read == pytest.approx(float(Fraction(int(value.p), int(value.q))), rel=1e-9)
    assert num_read > 250
