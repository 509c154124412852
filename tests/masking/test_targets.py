from fractions import Fraction

import pytest

from maskgym.envs import Task
from maskgym.masking import Span, SpanKind, mask
from maskgym.masking.magnitudes import magnitudes_of
from maskgym.masking.targets import Target

TARGET = Target(Task(task_id="t", question="?", answers=("12", "New York", "x+2", "")))


@pytest.mark.parametrize(
    ("value", "kind", "detector", "expected"),
    [
        ("$12.00", SpanKind.NUMBER, "numbers", True),
        ("twelve", SpanKind.NUMBER_WORD, "number_words", True),
        ("13", SpanKind.NUMBER, "numbers", False),
        ("New-York", SpanKind.ENTITY, "mine", True),
        ("the Big Apple", SpanKind.ENTITY, "answers", True),
        ("x", SpanKind.ANSWER, "final_answers", True),
        ("x + 2", SpanKind.EXPRESSION, "mine", True),
        ("x-2", SpanKind.EXPRESSION, "mine", False),
        ("12", SpanKind.CODE, "code", False),
        ("12", SpanKind.LABEL, "labels", False),
        ("--", SpanKind.CONSTANT, "mine", False),
        (r"\text{}", SpanKind.EXPRESSION, "mine", False),
    ],
)
def test_what_shows_the_target(value: str, kind: SpanKind, detector: str, expected: bool) -> None:
    span = Span(start=0, end=len(value), kind=kind, value=value, detector=detector)
    assert TARGET.is_shown_by(span) is expected


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("10", "10 dozen"),
        ("120", "10 dozen"),
        ("10", "ten dozen"),
        ("405", "405 million"),
        ("96", "$96 billion"),
        ("1", "1 million"),
        ("5 million", "5,000,000"),
        ("1.28e-06", "1.28 x 10^-6"),
        (r"1.28 \times 10^{-6}", "0.00000128"),
        ("1,000,000", "10^{6}"),
        ("1000", "10\u00b3"),
        ("0.5", r"\frac{1}{2}"),
        (r"\frac12", "0.50"),
        ("0.5", r"50\%"),
        ("50%", "1/2"),
        ("-0.5", "1/2"),
        ("7/2", r"3\frac{1}{2}"),
    ],
)
def test_a_number_is_the_target_however_it_is_written(answer: str, value: str) -> None:
    assert Target(Task(task_id="t", question="?", answers=(answer,))).equals(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("5", "five hundred"),
        ("5", "5 million people"),
        ("5 million", "5"),
        ("25", "5\u00b2"),
        ("1/3", "0.33"),
        ("10", "10^2"),
        ("1000", "10^{99999999999}"),
        ("12", "1.2"),
        ("x", "10"),
    ],
)
def test_what_is_another_number_is_not_the_target(answer: str, value: str) -> None:
    assert not Target(Task(task_id="t", question="?", answers=(answer,))).equals(value)


@pytest.mark.parametrize(
    ("value", "magnitudes"),
    [
        ("10 dozen", (10, 120)),
        ("50%", (Fraction(1, 2), 50)),
        ("two thirds", (Fraction(2, 3),)),
        ("1/0", ()),
        ("", ()),
        ("dozens", ()),
    ],
)
def test_a_value_has_all_its_readings(value: str, magnitudes: tuple[Fraction, ...]) -> None:
    assert magnitudes_of(value) == frozenset(magnitudes)


@pytest.mark.parametrize("policy", ["answer_only", "all_keep_given", "critical_keep_given"])
def test_a_given_number_with_its_scale_is_hidden_if_it_is_the_target(policy: str) -> None:
    task = Task(task_id="t", question="How many of 10 dozen are 10 dozen?", answers=("10",))
    scaffold = mask("He sells 10 dozen.", task, policy)
    assert scaffold.text == "He sells [NUMBER]." and not scaffold.audit.is_answer_visible
    assert mask("He sells 10 dozen.", task, "none").audit.is_answer_visible
