import pytest

from maskgym.masking import Span, SpanKind
from maskgym.masking.spans import PLACEHOLDER, check_span, merge_overlaps

TEXT = "New York City Hall 42"


def span(start: int, end: int, kind: SpanKind, *, is_given: bool = False) -> Span:
    return Span(start=start, end=end, kind=kind, value=TEXT[start:end], is_given=is_given)


def test_overlapping_spans_become_one_over_their_union() -> None:
    city = span(0, 13, SpanKind.ENTITY, is_given=True)
    hall = span(4, 18, SpanKind.ENTITY)
    (joined,) = merge_overlaps([hall, city], [TEXT])
    assert (joined.start, joined.end, joined.value) == (0, 18, "New York City Hall")
    assert not joined.is_given


def test_the_kind_that_says_most_wins_whatever_the_order() -> None:
    spans = [span(19, 21, SpanKind.NUMBER), span(0, 21, SpanKind.CODE), span(4, 8, SpanKind.ENTITY)]
    assert merge_overlaps(spans, [TEXT]) == merge_overlaps(spans[::-1], [TEXT]) == (spans[1],)


def test_neighbours_stay_apart_and_labels_are_dropped() -> None:
    spans = [span(3, 8, SpanKind.NUMBER), span(0, 3, SpanKind.NUMBER), span(9, 13, SpanKind.LABEL)]
    assert merge_overlaps(spans, [TEXT]) == (spans[1], spans[0])


@pytest.mark.parametrize(
    "wrong",
    [
        Span(start=0, end=3, kind=SpanKind.NUMBER, value="york"),
        Span(start=3, end=3, kind=SpanKind.NUMBER, value=""),
        Span(start=20, end=22, kind=SpanKind.NUMBER, value="2"),
        Span(turn=1, start=0, end=3, kind=SpanKind.NUMBER, value="New"),
    ],
)
def test_a_span_that_does_not_fit_its_text_is_refused_with_its_source(wrong: Span) -> None:
    with pytest.raises(ValueError, match="Detector 'mine' gave a span"):
        check_span(wrong, [TEXT], "Detector 'mine'")


@pytest.mark.parametrize("text", ["[NUMBER]", "[ENTITY_12]", r"[\CODE]", "[NUMBER_WORD]"])
def test_placeholders_are_recognised(text: str) -> None:
    assert PLACEHOLDER.fullmatch(text)


@pytest.mark.parametrize("text", ["[number]", "[CUT]", "[LABEL]", "[NUMBERS]", "NUMBER"])
def test_other_brackets_are_no_placeholders(text: str) -> None:
    assert not PLACEHOLDER.search(text)
