r"""Answers in another form. The verifier is math-verify where it is installed, else a small one."""

import threading
import time
from fractions import Fraction
from typing import Any

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, find_spans
from maskgym.masking.answers import find_equal_answers
from maskgym.masking.checks import Checks
from maskgym.masking.equal_answers import equal_answers
from maskgym.masking.targets import Target


def as_fractions(value: str, answer: str) -> bool:
    return Fraction(value.replace("%", "/100").replace("\\", "")) == Fraction(answer)


def found(
    text: str, *answers: str, checks: Checks | None = None, domain: Domain = Domain.MATH
) -> list[str]:
    task = Task(task_id="t", question="?", answers=answers, domain=domain)
    trace = ExpertTrace.from_text(text)
    spans = find_spans(trace, task)
    equal = find_equal_answers(trace, task, spans, checks)
    assert all(text[span.start : span.end] == span.value for span in equal)
    target = Target(task)
    known = {span.value for span in spans if target.is_shown_by(span)}
    return sorted({span.value for span in equal} | known)


@pytest.mark.parametrize(
    ("text", "answer", "places"),
    [
        (r"this limit is $e$", "e", ["e"]),
        (r"the root is \(i\)", "i", ["i"]),
        (r"we get $P = \dfrac{a}{b}$", r"\frac ab", [r"\dfrac{a}{b}"]),
        (r"on $x \in \left(-\infty, 0\right)$.", r"(-\infty,0)", [r"\left(-\infty, 0\right)"]),
        (r"it is \textbf{east}", r"\text{East}", ["east"]),
        (r"no \$e here", "e", []),
        (r"$n$ is not $N$", "N", ["N"]),
    ],
)
def test_what_looks_like_the_target_is_found_without_a_verifier(
    text: str, answer: str, places: list[str]
) -> None:
    assert found(text, answer) == places


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("half is 0.5 or 2/4, not 0.6", ["0.5"]),
        (r"we get $p = 50\%$ of it", [r"50\%"]),
    ],
)
def test_values_equal_by_the_verifier_are_found(text: str, places: list[str]) -> None:
    equal = found(text, "1/2", checks=Checks(equals=as_fractions))
    assert set(places) <= set(equal) and "0.6" not in equal


def test_a_plain_number_costs_nothing_without_a_verifier() -> None:
    trace = ExpertTrace.from_text("$x = 12$ and **12**")
    task = Task(task_id="t", question="?", answers=("12",))
    assert find_equal_answers(trace, task, [], None) == []
    assert find_equal_answers(trace, task, [], Checks(timeout_s=None)) == []


def test_a_verifier_is_not_asked_about_what_cannot_be_the_target() -> None:
    asked = []

    def equals(value: str, answer: str) -> bool:
        asked.append(value)
        return False

    text = r"First 3, then 17.9 and $\frac{30}{2}$, $x + y$, [NUMBER]; at last 18.1"
    found(text, "18", checks=Checks(equals=equals, timeout_s=None))
    assert "3" not in asked and "x + y" not in asked
    assert "17.9" in asked and "18.1" in asked


def test_a_computation_is_no_statement() -> None:
    def equals(value: str, answer: str) -> bool:
        raise AssertionError("asked about a computation")

    assert found("so $3 + 4$ and $2 \\cdot 3 + 1$", "7", checks=Checks(equals=equals)) == []


@pytest.mark.parametrize("failure", [RuntimeError, SystemExit, RecursionError])
def test_a_verifier_that_fails_leaves_a_place_unverified(failure: type[BaseException]) -> None:
    def equals(value: str, answer: str) -> bool:
        raise failure

    task = Task(task_id="t", question="?", answers=("1/2",))
    trace = ExpertTrace.from_text("it is 0.501")
    result = equal_answers(trace, task, find_spans(trace, task), Checks(equals=equals))
    assert result.spans == () and "0.501" in {span.value for span in result.unverified}


def test_questions_are_counted_and_the_rest_is_unverified() -> None:
    asked = []

    def equals(value: str, answer: str) -> bool:
        asked.append(value)
        return False

    text = " ".join(f"${i}x$" for i in range(500))
    task = Task(task_id="t", question="?", answers=("x+1",))
    trace = ExpertTrace.from_text(text)
    result = equal_answers(trace, task, [], Checks(equals=equals, timeout_s=None))
    assert len(asked) == 64 and "499x" in asked
    assert len({span.value for span in result.unverified}) >= 436


def test_a_verifier_that_always_hangs_is_soon_left_alone() -> None:
    task = Task(task_id="t", question="?", answers=("x+1",))
    trace = ExpertTrace.from_text(" ".join(f"${i}x$" for i in range(50)))
    checks = Checks(equals=lambda value, answer: threading.Event().wait(1), timeout_s=0.02)
    start = time.monotonic()
    result = equal_answers(trace, task, [], checks)
    assert time.monotonic() - start < 20 and checks.num_late == 4
    assert {"0x", "49x"} <= {span.value for span in result.unverified} and result.spans == ()


def test_a_target_of_zero_length_is_nowhere() -> None:
    def equals(value: str, answer: str) -> bool:
        return True

    for answers in ((), ("",), (" ",), (r"\text{}",), ("$$",)):
        assert found("it is $x$ and 5", *answers, checks=Checks(equals=equals)) == []


def test_names_in_search_stay_entities() -> None:
    task = Task(task_id="t", question="Who?", answers=("Ada",), domain=Domain.SEARCH)
    trace = ExpertTrace.from_text("It is **The Countess**.")
    checks = Checks(equals=lambda value, answer: value == "The Countess")
    (span,) = find_equal_answers(trace, task, [], checks)
    assert (span.value, span.kind, span.detector) == ("The Countess", "entity", "answers")


@pytest.mark.parametrize(
    ("text", "answer", "places"),
    [
        ("we get $f = 2+x$", "x+2", ["2+x"]),
        (r"is $\sqrt{\frac14}$", r"\frac{1}{2}", [r"\sqrt{\frac14}"]),
        (r"length $\sqrt{8}$ m", r"2\sqrt{2}", [r"\sqrt{8}"]),
        ("sum: $n^2+n$", "n(n+1)", ["n^2+n"]),
        ("between (-1, 1.0) only", "(-1,1)", ["(-1, 1.0)"]),
        (r"roots $\{2, 1\}$", r"\{1,2\}", [r"\{2, 1\}"]),
    ],
)
def test_math_verify_finds_equal_expressions(text: str, answer: str, places: list[str]) -> None:
    verifier: Any = pytest.importorskip("math_verify")

    def equals(value: str, answer: str) -> bool:
        parse, verify = verifier.parse, verifier.verify
        return bool(verify(parse(f"${answer}$"), parse(f"${value}$")))

    assert set(places) <= set(found(text, answer, checks=Checks(equals=equals, timeout_s=None)))


@pytest.mark.parametrize("piece", ["$x$ ", "(1,", "**a", "=b ", r"\text{", "$", "yes ", "= "])
@pytest.mark.usefixtures("no_garbage_collection")
def test_time_grows_with_the_trace(piece: str) -> None:
    task = Task(task_id="t", question="?", answers=("(1, yes)", "yes", "x+1"))
    checks = Checks(equals=lambda value, answer: False, timeout_s=None)

    def seconds(num: int) -> float:
        trace = ExpertTrace.from_text(piece * (num // len(piece)))
        start = time.process_time()
        find_equal_answers(trace, task, [], checks)
        return time.process_time() - start

    assert seconds(200_000) < 12 * max(seconds(50_000), 0.01)


@pytest.mark.parametrize("text", [r"so $x = -\frac{1}{2}$", r"it is **-1/2**", r"is $-\frac12$."])
def test_the_sign_of_a_negative_answer_stays(text: str) -> None:
    places = found(text, r"-\frac12")
    assert places and not any(place.startswith("-") for place in places)


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("There is no evidence", []),
        ("There is **no** doubt", ["no"]),
        ("So the answer is no", ["no"]),
    ],
)
def test_no_is_an_answer_only_where_an_answer_stands(text: str, places: list[str]) -> None:
    assert found(text, "no", domain=Domain.SEARCH) == places
