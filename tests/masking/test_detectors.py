import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Task
from maskgym.masking import (
    DETECTORS,
    ExpertTrace,
    MaskableTask,
    Span,
    SpanKind,
    TraceTurn,
    TurnKind,
    find_spans,
    mask,
    register_detector,
)

MEGABYTE = 1_000_000
ADVERSARIAL = {
    "unterminated fraction": "\\frac{" + "1" * MEGABYTE,
    "fraction without its last brace": "\\frac{" + "1" * 500_000 + "}{" + "1" * 500_000,
    "backticks": "`" * MEGABYTE,
    "unequal fences": "``` ```` " * 110_000,
    "digits": "1" * MEGABYTE,
    "thousands that end wrongly": ",111" * 250_000 + "1",
    "dotted digits": "1." * 500_000,
    "braces": "{" * MEGABYTE,
    "open boxes": "\\boxed{" * 140_000,
    "nested boxes": "\\boxed{" * 120_000 + "}" * 120_000,
    "letters": "a" * MEGABYTE,
    "capitals": "A" * MEGABYTE,
    "names": "a_" * 500_000,
    "spaces": " " * MEGABYTE,
    "line breaks": "\n" * MEGABYTE,
    "open placeholders": "[NUMBER" * 140_000,
    "backslashes": "[" + "\\" * MEGABYTE,
    "number words": "hundred and " * 80_000,
    "alias starts": "new york " * 110_000,
    "accents": "\u00e9" * MEGABYTE,
}
TASK = Task(
    task_id="t",
    question="What is 12 of New York?",
    answers=("Paris", "x - 1", "12", "B"),
    entities=("New York City",),
)


@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_no_detector_needs_more_than_linear_time(text: str) -> None:
    """A megabyte takes about a second; quadratic time would take hours, cubic time years."""
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    started_s = time.process_time()
    for detector in DETECTORS.values():
        for span in detector(turn, TASK):
            assert text.startswith(span.value[:50], span.start)
    assert time.process_time() - started_s < 20


def test_masking_a_long_trace_of_many_spans_is_bounded_too() -> None:
    text = "Step 1: so 17 + 4 = 21 \\boxed{3}\n" * 3_000
    started_s = time.process_time()
    assert len(mask(text, TASK).spans) == 4 * 3_000
    assert time.process_time() - started_s < 20


PIECES = st.sampled_from(
    (
        *(
            "Step 1: ",
            "3",
            "4.5",
            "+",
            "=",
            " ",
            "\n",
            "Paris",
            "x_1",
            "x",
            "\u00e9",
            "one ",
            "1. ",
        ),
        *("\\frac{1}{2}", "\\boxed{", "}", "```python\n", "```", "#### ", "50%", "(B)", "10^6"),
        *("[NUMBER]", "New York City"),
    )
)
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=25).map("".join)


@settings(deadline=None)
@given(TEXTS)
def test_offsets_give_the_value_back(text: str) -> None:
    for span in find_spans(ExpertTrace.from_text(text), TASK):
        assert text[span.start : span.end] == span.value != ""


@settings(deadline=None)
@given(TEXTS)
def test_no_value_lies_in_a_label(text: str) -> None:
    spans = find_spans(ExpertTrace.from_text(text), TASK)
    labels = [span for span in spans if span.kind is SpanKind.LABEL]
    for span in spans:
        if span.kind is SpanKind.NUMBER:
            assert not any(label.start <= span.start and span.end <= label.end for label in labels)


def find_colours(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    for match in re.finditer("red|blue", turn.text):
        start, end = match.span()
        yield Span(start=start, end=end, kind=SpanKind.CONSTANT, value=match[0])


def test_a_user_adds_a_detector_as_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskgym.masking.detectors.DETECTORS", dict(DETECTORS))
    register_detector("colours", find_colours)
    scaffold = mask("a red hat", TASK)
    assert scaffold.text == "a [CONSTANT] hat"
    assert scaffold.spans[0].detector == "colours"
    with pytest.raises(ValueError, match="already"):
        register_detector("colours", find_colours)


def test_a_detector_with_wrong_offsets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
        yield Span(start=0, end=5, kind=SpanKind.NUMBER, value="other")

    monkeypatch.setitem(DETECTORS, "wrong", wrong)
    with pytest.raises(ValueError, match="Detector 'wrong' gave a span at 0:5"):
        mask("a text", TASK)
