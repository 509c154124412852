import pytest

from maskgym.masking import Span, SpanKind
from maskgym.masking.givens import canonical_value, is_given

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


def test_equal_values_have_one_spelling() -> None:
    assert canonical_value("$12.00") == canonical_value("twelve") == "12"
    assert canonical_value("\u00c9lodie-Durand") == canonical_value("elodie durand")
    long = "word " * 50
    assert canonical_value(long) == long.strip()
