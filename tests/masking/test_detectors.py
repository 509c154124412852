import re
import time
from collections.abc import Callable, Iterator
from functools import partial

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
from maskgym.masking.checks import Checks
from maskgym.masking.detectors import idle_detectors
from maskgym.masking.entities import TARGET_DETECTOR

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
    "nested fractions": "\\frac{" * 160_000,
    "nested fractions that close": "\\frac{" * 100_000 + "1" + "}{1}" * 100_000,
    "fractions one in the other": "\\frac{1" * 140_000,
    "roots": "\\sqrt[3]{" * 100_000,
    "products": "2\\pi" * 250_000,
    "powers of ten": "10^{" * 250_000,
    "raised digits": "\u00b2" * MEGABYTE,
    "brackets": "[" * MEGABYTE,
    "rounds": "(" * MEGABYTE,
    "numbers in words": "one hundred " * 80_000,
    "scales": "1 million " * 100_000,
    "halves": "one and a half " * 66_000,
    "steps": "Step 3 " * 140_000,
    "many steps": "Steps 1, 2, 3 and 4, 5 " * 43_000,
    "list markers": "1. " * 330_000,
    "markers on lines": "1.\n" * 330_000,
    "dates": "12 May 2024, " * 77_000,
    "ISO dates": "2024-05-12-" * 90_000,
    "months": "May " * 250_000,
    "choices": "answer is (B) " * 70_000,
    "units": "cm^2" * 250_000,
    "equation numbers": "  (1)\n" * 160_000,
    "indices": "x_{1}" * 200_000,
    "constants": "pi e^i infinity " * 60_000,
}
TASK = Task(
    task_id="t",
    question="What is 12 of New York?",
    answers=("Paris", "x - 1", "12", "B"),
    entities=("New York City",),
)

MATH = Task(task_id="t", question="What is 3 + 4?")


@pytest.mark.slow
@pytest.mark.parametrize("text", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_no_detector_needs_more_than_linear_time(text: str) -> None:
    """A megabyte takes about a second; quadratic time would take hours, cubic time years."""
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    started_s = time.process_time()
    for detector in DETECTORS.values():
        for span in detector(turn, TASK):
            assert text.startswith(span.value[:50], span.start)
    assert time.process_time() - started_s < 20


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["steps", "list markers", "indices", "dates", "scales", "products"]
)
def test_four_times_the_spans_take_four_times_as_long(
    name: str, cpu_seconds: Callable[[Callable[[], object]], float]
) -> None:
    """The spans of all detectors come together in `find_spans`; quadratic time would be x16."""
    times_s: list[float] = []
    for num_characters in (50_000, 200_000):
        trace = ExpertTrace.from_text(ADVERSARIAL[name][:num_characters])
        assert len(find_spans(trace, MATH)) > num_characters / 20
        times_s.append(cpu_seconds(partial(find_spans, trace, MATH)))
    assert times_s[1] < 12 * times_s[0]


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


def test_a_detector_that_is_deleted_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = r"5, \pi, five, 12 May, x_1, Step 3, infinity, \boxed{7}"
    assert mask(text, TASK).text == (
        r"[NUMBER], [CONSTANT], [NUMBER], [DATE], x_1, Step 3, [CONSTANT], \boxed{[ANSWER]}"
    )
    for name in DETECTORS:
        with monkeypatch.context() as context:
            others = {other: find for other, find in DETECTORS.items() if other != name}
            context.setattr("maskgym.masking.detectors.DETECTORS", others)
            found = {span.detector for span in find_spans(ExpertTrace.from_text(text), MATH)}
            assert name not in found
    with monkeypatch.context() as context:
        context.setattr("maskgym.masking.detectors.DETECTORS", {})
        assert find_spans(ExpertTrace.from_text(text), MATH) == ()


def test_a_replaced_detector_runs_whatever_stands_in_the_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DETECTORS, "dates", find_colours)
    assert mask("a red hat", TASK).text == "a [CONSTANT] hat"


TRIGGERING = (
    "Step 1: 1. first, x_1 and H2O on 12 May 2024; 2024-05-12, one hundred and five, pi, e^x; (B)"
)


@settings(deadline=None, max_examples=300)
@given(st.text(alphabet=TRIGGERING, max_size=12), st.integers(0, len(TRIGGERING)))
def test_a_detector_that_is_left_out_would_have_found_nothing(piece: str, start: int) -> None:
    text = TRIGGERING[start : start + 25] + piece
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    for detector in idle_detectors(text):
        assert not list(detector(turn, Task(task_id="t", question="?", answers=("B",))))


def test_values_inside_a_value_are_a_part_of_it() -> None:
    spans = find_spans(ExpertTrace.from_text("12 May 2024, 2.5 million, 2pi"), MATH)
    assert [span.value for span in spans] == ["12 May 2024", "2.5 million", "2pi"]


def test_the_verifier_finds_the_target_in_another_form() -> None:
    task = Task(task_id="t", question="?", answers=(r"\sqrt{2}",))
    checks = Checks(equals=lambda value, answer: value == "1.414")
    spans = find_spans(ExpertTrace.from_text("it is 1.414, not 1.7"), task, checks)
    assert {span.value for span in spans if span.detector == TARGET_DETECTOR} == {"1.414"}


def test_a_detector_with_wrong_offsets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
        yield Span(start=0, end=5, kind=SpanKind.NUMBER, value="other")

    monkeypatch.setitem(DETECTORS, "wrong", wrong)
    with pytest.raises(ValueError, match="Detector 'wrong' gave a span at 0:5"):
        mask("a text", TASK)
