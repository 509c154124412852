import pytest

from maskgym.envs import Task
from maskgym.masking import Span, SpanKind
from maskgym.masking.targets import Target

TARGET = Target(Task(task_id="t", question="?", answers=("12", "New York", "")))


@pytest.mark.parametrize(
    ("value", "kind", "detector", "expected"),
    [
        ("$12.00", SpanKind.NUMBER, "numbers", True),
        ("twelve", SpanKind.NUMBER_WORD, "number_words", True),
        ("13", SpanKind.NUMBER, "numbers", False),
        ("New-York", SpanKind.ENTITY, "mine", True),
        ("the Big Apple", SpanKind.ENTITY, "answers", True),
        ("x", SpanKind.ANSWER, "final_answers", True),
        ("12", SpanKind.CODE, "code", False),
        ("12", SpanKind.LABEL, "labels", False),
        ("--", SpanKind.CONSTANT, "mine", False),
    ],
)
def test_what_shows_the_target(value: str, kind: SpanKind, detector: str, expected: bool) -> None:
    span = Span(start=0, end=len(value), kind=kind, value=value, detector=detector)
    assert TARGET.is_shown_by(span) is expected
