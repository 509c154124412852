import pytest

from maskgym.envs import Task
from maskgym.masking import SpanKind, find_spans, mask
from maskgym.masking.number_words import number_in_words
from maskgym.masking.traces import ExpertTrace

TASK = Task(task_id="t", question="How many?")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("one hundred and five apples", "[NUMBER] apples"),
        ("twenty-one or Twelve", "[NUMBER] or [NUMBER]"),
        ("two and three", "[NUMBER] and [NUMBER]"),
        ("3one", "[NUMBER][NUMBER]"),
        ("someone often weighs a stone", "someone often weighs a stone"),
        (
            "half of it, twice, a third of, the third day",
            "half of it, twice, a third of, the third day",
        ),
        ("two thirds, one-third and three quarters", "[NUMBER], [NUMBER] and [NUMBER]"),
        ("one half; one and a half; half a dozen", "[NUMBER]; [NUMBER]; half a [NUMBER]"),
        ("the twenty-third of two third graders", "the [NUMBER] of [NUMBER] third graders"),
        (
            "each one, no one, the other one, one of them",
            "each one, no one, the other one, [NUMBER] of them",
        ),
        ("$2.5 million, 3 dozen, 1,000 thousand", "$[NUMBER], [NUMBER], [NUMBER]"),
        ("dozens of hundreds", "dozens of hundreds"),
        (r"\text{ten} \textbf{Twelve}", r"\text{[NUMBER]} \textbf{[NUMBER]}"),
        ("\u0130 one", "\u0130 [NUMBER]"),
        ("caf\u00e9 SIX six\u00e9", "caf\u00e9 [NUMBER] six\u00e9"),
    ],
)
def test_numbers_in_words_are_hidden_as_numbers_are(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def test_their_kind_tells_them_from_digits() -> None:
    spans = find_spans(ExpertTrace.from_text("seven is 7"), TASK)
    assert [span.kind for span in spans] == [SpanKind.NUMBER_WORD, SpanKind.NUMBER]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("one hundred and five", "105"),
        ("Twenty-one", "21"),
        ("two million three hundred thousand and four", "2300004"),
        ("a dozen", None),
        ("dozen", "12"),
        ("one half", "1/2"),
        ("two thirds", "2/3"),
        ("one and a half", "3/2"),
        ("two and one third", "7/3"),
        ("twenty-third", "23"),
        ("", None),
    ],
)
def test_the_value_of_words(text: str, number: str | None) -> None:
    assert number_in_words(text) == number
