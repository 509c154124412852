"""Registry of detectors: a trace and its task in, the spans of every turn out, labels protected."""

from collections.abc import Callable, Container, Iterable, Sequence, Set
from operator import itemgetter

from ahocorasick_rs import AhoCorasick, Implementation

from .answers import find_answers, find_equal_answers
from .checks import Checks
from .choices import CHOICE_TRIGGERS, find_choices
from .code import find_code
from .dates import DATE_TRIGGERS, find_dates
from .entities import find_aliases
from .givens import givens_of
from .labels import LABEL_TRIGGERS, NAME_TRIGGERS, Labels, find_labels, find_names
from .number_words import NUMBER_WORD_TRIGGERS, find_number_words
from .quantities import (
    CONSTANT_TRIGGERS,
    find_constants,
    find_quantities,
    is_numeric,
    scan_quantities,
)
from .queries import find_documents, find_queries
from .results import find_results
from .spans import VALUE_KINDS, MaskableTask, Span, SpanKind, check_span
from .traces import ExpertTrace, TraceTurn

Detector = Callable[[TraceTurn, MaskableTask], Iterable[Span]]
"""Finds spans in one turn; may look at the task's domain, answers and entities."""

DETECTORS: dict[str, Detector] = {
    "labels": find_labels,
    "names": find_names,
    "code": find_code,
    "results": find_results,
    "final_answers": find_answers,
    "aliases": find_aliases,
    "queries": find_queries,
    "documents": find_documents,
    "dates": find_dates,
    "choices": find_choices,
    "number_words": find_number_words,
    "numbers": find_quantities,
    "constants": find_constants,
}
"""All detectors by name; each runs on every turn. Delete one to switch it off."""

_OURS = frozenset(DETECTORS.values())  # their spans are known to fit; others' are checked
_TRIGGERS: dict[Detector, tuple[str, ...]] = {
    find_labels: LABEL_TRIGGERS,
    find_names: NAME_TRIGGERS,
    find_documents: ("<information>", "observation"),
    find_dates: DATE_TRIGGERS,
    find_choices: CHOICE_TRIGGERS,
    find_constants: CONSTANT_TRIGGERS,
    find_number_words: NUMBER_WORD_TRIGGERS,
}
"""Detectors that find nothing in an ASCII text (in lower case) without one of these strings."""
_TRIGGER_OWNERS = [detector for detector, triggers in _TRIGGERS.items() for _ in triggers]
_TRIGGER_AUTOMATON = AhoCorasick(
    [trigger for triggers in _TRIGGERS.values() for trigger in triggers],
    implementation=Implementation.DFA,  # twice as fast as what is chosen by itself
)
_LABEL = SpanKind.LABEL
_COMPOUND_KINDS = frozenset((SpanKind.DATE, SpanKind.NUMBER_WORD, SpanKind.CONSTANT))
_START, _END = itemgetter(0), itemgetter(1)  # of a span; faster than its attributes


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


def find_spans(
    trace: ExpertTrace, task: MaskableTask, checks: Checks | None = None
) -> tuple[Span, ...]:
    """All spans of a trace in reading order; spans of different detectors may overlap.

    What a label protects is left out already; the labels themselves are among the spans.

    Args:
        trace: An expert trace.
        task: Its task; tells the target, the given values and which detectors apply.
        checks: The environment's verifier, asked which values equal the target.

    Raises:
        ValueError: If a detector gives a span whose offsets and value do not agree.
    """
    return givens_of(task.question).mark_all(find_unmarked(trace, task, checks))


def find_unmarked(
    trace: ExpertTrace,
    task: MaskableTask,
    checks: Checks | None = None,
    *,
    without: Container[str] = (),
) -> tuple[Span, ...]:
    """As `find_spans`, with values that stand in the question not yet marked as given.

    Reading the question takes as long as finding the numbers of its solution, and the policy "all"
    does not ask. `without` names detectors that are left out.
    """
    spans: list[Span] = []
    for index, turn in enumerate(trace.turns):
        if turn.text:
            spans += _spans_of(trace, index, task, without)
    equal = find_equal_answers(trace, task, spans, checks) if task.answers else ()
    if equal:
        labels: dict[int, list[Span]] = {span.turn: [] for span in equal}
        for span in spans:
            if span.kind is SpanKind.LABEL and span.turn in labels:
                labels[span.turn].append(span)
        protected = {turn: Labels(labels_of_turn) for turn, labels_of_turn in labels.items()}
        spans += [span for span in equal if not protected[span.turn].protect(span)]
        spans.sort(key=lambda span: (span.turn, span.start, -span.end))
    return tuple(spans)


def _spans_of(
    trace: ExpertTrace, index: int, task: MaskableTask, without: Container[str]
) -> Sequence[Span]:
    """The spans of one turn by start, the longer first among those of our detectors."""
    turn = trace.turns[index]
    found: list[Span] = []
    kinds: set[SpanKind] = set()  # but for those of the numbers, which do not overlap
    idle = idle_detectors(turn.text)
    for name, detector in DETECTORS.items():
        if detector in idle or name in without:
            continue
        if detector is find_quantities:
            # Nearly all spans of a trace are numbers: they are made complete, not completed later.
            if is_numeric(task):
                found += scan_quantities(turn.text, turn=index)
            continue
        for span in detector(turn, task):
            if span.turn != index or not span.detector:
                span = span._replace(turn=index, detector=span.detector or name)
            if detector not in _OURS:
                check_span(span, [turn.text for turn in trace.turns], f"Detector {name!r}")
            found.append(span)
            kinds.add(span.kind)
    if not kinds:
        return found
    found.sort(key=_START)
    if _LABEL in kinds:
        found = Labels(found).filter(found)
    if not kinds.isdisjoint(_COMPOUND_KINDS):
        found = _without_parts(found)
    return found


def idle_detectors(text: str) -> Set[Detector]:
    """Detectors that would find nothing; one pass for the triggers of all is cheaper than theirs."""
    if not text.isascii():
        return frozenset()
    hits = _TRIGGER_AUTOMATON.find_matches_as_indexes(text.lower(), overlapping=True)
    return _TRIGGERS.keys() - {_TRIGGER_OWNERS[hit[0]] for hit in hits}


def _without_parts(found: Sequence[Span]) -> list[Span]:
    """The spans without values inside another: 12 in "12 May", 2 in "2 million", pi in "2pi"."""
    kept: list[Span] = []
    covered = 0
    # Two sorts that call no function of ours are faster than one by a pair.
    for span in sorted(sorted(found, key=_END, reverse=True), key=_START):
        if span[2] in VALUE_KINDS:
            if span[1] <= covered:
                continue
            covered = span[1]
        kept.append(span)
    return kept
