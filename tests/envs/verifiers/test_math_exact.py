"""compare: decides what it can, says so where it cannot, and takes any text."""

import random

import pytest

from maskgym.envs.verifiers.math_exact import compare
from maskgym.envs.verifiers.math_extraction import extract_answer

PIECES = (
    *(
        "\\frac",
        "\\sqrt",
        "\\dfrac",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "\\{",
        "\\}",
        "\\left(",
        "\\right)",
    ),
    *(
        "1",
        "2",
        "42",
        "0.5",
        " .5",
        "1,000",
        "٣",
        "²",
        "½",
        "%",
        "\\%",
        "$",
        "\\$",
        "\\pi",
        "π",
        "√2",
    ),
    *("x", "y", "e", "i", "A", "(B)", "+", "-", "*", "/", "=", "<", "\\le", "^", "^2", "^{2}", "_"),
    *(
        "\\text{ cm}",
        "\\text{",
        " or ",
        " and ",
        ",",
        ";",
        ":",
        ".",
        " ",
        "\n",
        "\\\\",
        "\\!",
        "cm",
    ),
    *(
        "\\boxed{",
        "\\boxed ",
        "####",
        "answer is ",
        "is ",
        "\\approx",
        "\\cup",
        "\\in",
        "\\pm",
        "\\infty",
    ),
    *("\\begin{pmatrix}", "\\end{pmatrix}", "&", "million", "^\\circ", "</think>", "<|"),
)


@pytest.mark.parametrize(
    ("said", "gold", "expected"),
    [
        ("x+1", "1+x", None),
        ("x+1", "x+2", False),
        (r"\sin x", r"\cos x", None),
        ("x + 1, 2", "2, 1 + x", None),
        ("x + 1, 3", "2, 1 + x", False),
        ("5 = x", "5", True),
        (r"(\sin x", r"\sin x", False),
        ("f(x", "f(y", False),
        ("yes", "no", False),
        ("the third one is odd", "x", False),
    ],
)
def test_what_only_algebra_can_tell_is_left_open(
    said: str, gold: str, expected: bool | None
) -> None:
    assert compare(said, gold) is expected


def test_algebra_is_asked_about_the_parts_that_are_open() -> None:
    asked: list[tuple[str, str]] = []

    def ask(said: str, gold: str) -> bool:
        asked.append((said, gold))
        return True

    assert compare(r"3, \{x + 1, 2\}", r"\{2, 1 + x\}, 3", ask) is True
    assert asked == [("x + 1", "1 + x")]
    assert compare("y = x + 1", "1 + x", lambda *_: False) is False


def test_any_text_is_compared_and_equals_itself() -> None:
    choose = random.Random(0)
    for _ in range(3_000):
        left, right = (
            extract_answer("".join(choose.choices(PIECES, k=choose.randint(1, 12)))) for _ in "ab"
        )
        assert compare(left, right) in (True, False, None)
        if left.replace("^\\circ", "").strip("$*. \\!") and left.strip():
            assert compare(left, left) is True, left
