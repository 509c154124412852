"""Registry of detectors: a trace and its task in, the spans of every turn out, labels protected."""

from collections.abc import Callable, Iterable

from .answers import find_answers
from .code import find_code
from .entities import find_aliases
from .givens import is_given
from .labels import Labels, find_labels, without_broken_labels
from .number_words import find_number_words
from .numbers import find_numbers
from .results import find_results
from .spans import MaskableTask, Span, SpanKind, check_span
from .traces import ExpertTrace, TraceTurn

Detector = Callable[[TraceTurn, MaskableTask], Iterable[Span]]
"""Finds spans in one turn; may look at the task's domain, answers and entities."""

DETECTORS: dict[str, Detector] = {
    "labels": find_labels,
    "code": find_code,
    "results": find_results,
    "final_answers": find_answers,
    "aliases": find_aliases,
    "numbers": find_numbers,
    "number_words": find_number_words,
}
"""All detectors by name; each runs on every turn."""


def register_detector(name: str, detector: Detector) -> Detector:
    """Adds a detector that runs on every turn from now on; returns it.

    Raises:
        ValueError: If the name is taken.
    """
    if name in DETECTORS:
        raise ValueError(
            f"There is a detector {name!r} already; choose another name, or delete "
            f"DETECTORS[{name!r}] first to replace it."
        )
    DETECTORS[name] = detector
    return detector


def find_spans(trace: ExpertTrace, task: MaskableTask) -> tuple[Span, ...]:
    """All spans of a trace in reading order; spans of different detectors may overlap.

    What a label protects is left out already; the labels themselves are among the spans.

    Raises:
        ValueError: If a detector gives a span whose offsets and value do not agree.
    """
    spans: list[Span] = []
    texts = [turn.text for turn in trace.turns]
    for index, turn in enumerate(trace.turns):
        found: list[Span] = []
        for name, detector in DETECTORS.items():
            for span in detector(turn, task):
                if span.turn != index or not span.detector:
                    span = span._replace(turn=index, detector=span.detector or name)
                check_span(span, texts, f"Detector {name!r}")
                found.append(span)
        found = without_broken_labels(found)
        labels = Labels(found)
        # One value, one look-up: a trace repeats its numbers.
        given: dict[tuple[SpanKind, str], bool] = {}
        for span in found:
            if labels.protect(span):
                continue
            key = (span.kind, span.value)
            if key not in given:
                given[key] = is_given(span, task.question)
            spans.append(span._replace(is_given=True) if given[key] else span)
    spans.sort(key=lambda span: (span.turn, span.start, -span.end, span.kind))
    return tuple(spans)
