"""What a model wrote is evaluated only where it is nothing but mathematics."""

import pytest

pytest.importorskip("pylatexenc", reason="pylatexenc is not installed: pip install maskgym[prime]")

from maskgym.envs.verifiers.math_evaluation import arithmetic, parsed


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open(chr(47))",
        "\uff4f\uff50\uff45\uff4e(x)",
        "x.__class__",
        "(x).func",
        "x5.func",
        "S(str(x))",
        "lambda x: x",
        "[y for y in (x,)]",
        "getattr(x, y)",
        "preview(x)",
        "lambdify(x, x)",
        "exec(x)",
        "breakpoint()",
        "x := 5",
        "\uff3f\uff3fimport\uff3f\uff3f(x)",
    ],
)
def test_python_that_is_no_mathematics_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parsed(text)
    with pytest.raises(ValueError):
        arithmetic(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqrt(4) + x - x", "2"),
        ("sin(0) + Max(1, 2)", "2"),
        ("Matrix([[1, 2]])", "Matrix([[1, 2]])"),
        ("2.5*2", "5.00000000000000"),
        ("unknown + 1", "unknown + 1"),
    ],
)
def test_mathematics_is_evaluated(text: str, expected: str) -> None:
    assert str(parsed(text)) == expected


def test_arithmetic_is_numbers_and_lists() -> None:
    assert arithmetic("2*3.5") == 7.0
    assert arithmetic("42 or 43*3.14") == 42
    assert arithmetic("[[1, 2], [3, 4]]") == [[1, 2], [3, 4]]
