import pytest

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, Span, SpanKind, find_spans
from maskgym.masking.givens import canonical_value, givens_of, is_given

QUESTION = "Ann has 1,500 eggs and sells twenty-one of them in New York for $2.50. Who is Saul?"


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("1500", SpanKind.NUMBER, True),
        ("21", SpanKind.NUMBER, True),
        ("Twenty-one", SpanKind.NUMBER_WORD, True),
        ("2.5", SpanKind.NUMBER, True),
        ("25", SpanKind.NUMBER, False),
        ("new  york", SpanKind.ENTITY, True),
        ("York for", SpanKind.ENTITY, True),
        ("sells twenty-one of them in New York", SpanKind.ENTITY, True),
        ("Sau", SpanKind.ENTITY, False),
        ("1500", SpanKind.CODE, False),
    ],
)
def test_given_is_what_stands_in_the_question(value: str, kind: SpanKind, expected: bool) -> None:
    span = Span(start=0, end=len(value), kind=kind, value=value)
    assert is_given(span, QUESTION) is expected


@pytest.mark.parametrize(
    ("question", "value", "expected"),
    [
        ("two cows", "2", True),
        ("2 cows", "two", True),
        ("1,000 cows", "1000", True),
        ("1000 cows", "1,000", True),
        ("a thousand cows", "1000", True),
        ("50% of cows", "50", True),
        ("50% of cows", "0.5", False),
        ("a third cow", "3", False),
        (r"\frac{1}{2} of a cow", "1/2", True),
        ("one half of a cow", "\u00bd", True),
        ("", "2", False),
        ("12 cows", "1", False),
    ],
)
def test_a_number_is_given_by_its_value(question: str, value: str, expected: bool) -> None:
    assert givens_of(question)[value] is expected


def test_a_plain_number_is_marked_as_any_other_value_is() -> None:
    task = Task(task_id="t", question="Ann has 1,500 eggs and two hens.")
    spans = find_spans(ExpertTrace.from_text("1500 - 2 = 1498, two, Ann"), task)
    assert [span.is_given for span in spans] == [True, True, False, True]


def test_equal_values_have_one_spelling() -> None:
    assert canonical_value("$12.00") == canonical_value("twelve") == "12"
    assert canonical_value("\u00c9lodie-Durand") == canonical_value("elodie durand")
    long = "word " * 50
    assert canonical_value(long) == long.strip()
