"""verl's PRIME grader: its oddities are kept, and what it would run of a model's text is not run."""

from pathlib import Path

import pytest

from maskgym.envs.verdicts import Verdict
from maskgym.envs.verifiers import verify_math

pytest.importorskip("pylatexenc", reason="pylatexenc is not installed: pip install maskgym[prime]")


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        (r"so \boxed{42}.", "42", True),
        ("The answer is 42", "42", True),
        ("42 is the answer", "42", True),
        ("We get 5. The answer: x = 42", "42", True),
        (r"\boxed{\frac{1}{2}}", "0.5", True),
        (r"\boxed{\dfrac{3}{4}}", r"\frac{3}{4}", True),
        (r"\boxed{x^2 - 1}", "(x-1)*(x+1)", True),
        (r"\boxed{(1, 2)}", "(1,2)", True),
        (r"\boxed{50}", "0.5", True),
        (r"\boxed{3.14159}", r"\pi", True),
        (r"\boxed{3.14}", r"\pi", True),
        (r"\boxed{12 cm}", "12", True),
        (r"\boxed{2,1}", "1,2", False),
        (r"\boxed{2/4}", "1/2", False),
        (r"\boxed{2+3}", "5", False),
        (r"\boxed{42 or 43}", "42", False),
        (r"\boxed{42", "42", True),
        ("#### 42", "42", False),
        ("", "42", False),
    ],
)
def test_verdicts_are_those_of_the_released_grader(text: str, gold: str, expected: bool) -> None:
    assert verify_math(text, [gold], mode="compat:verl-prime").is_correct is expected


def test_python_in_an_answer_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    call = f"__import__('pathlib').Path('{trace}').touch()"
    for text in (call, rf"{call} or \pi", f"[{call}]", f"x + {call}"):
        for gold in ("5", r"5\pi", r"\begin{pmatrix} 1 \end{pmatrix}"):
            verify_math(rf"\boxed{{{text}}}", [gold], mode="compat:verl-prime")
    assert not trace.exists()


@pytest.mark.parametrize("text", [r"9**9**9**9*\pi", r"\boxed{9**9**9**9}", r"\boxed{10000000!}"])
def test_an_endless_evaluation_is_wrong_and_the_next_is_not_touched(text: str) -> None:
    grade = verify_math(text, [r"\pi"], mode="compat:verl-prime", timeout_s=0.5)
    assert grade.verdict is Verdict.WRONG
    assert verify_math("x+1", ["1+x"], mode="compat:verl-prime").is_correct
