"""Leaks: a trace, its spans and what was hidden in, the audit of what is left in sight out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress

from .audit import Audit
from .checks import Checks
from .entities import TARGET_DETECTOR, find_aliases
from .equal_answers import equal_answers
from .labels import Labels
from .replay import is_one_step_away, is_replayable
from .spans import VALUE_KINDS, MaskableTask, Span, SpanKind, merge_overlaps
from .targets import Target, spelling_of
from .traces import ExpertTrace

_MARKS = (
    "=+-*/<>\u00d7\u00f7\u00b7\u2264\u2265\u2260\n"  # also times, divided by, dot, and comparisons
)
# No letter, digit or white space, so that no alias matches across it.
_FILLER = "\ufffc"
_VISIBLE_AS = ("literal", "words", "alias", "equal")
_NOT_HIDDEN = (1).__sub__
_CODE_SIGNS = ("def ", "class ", "lambda", "print(", "input(", "import ")


def audit_scaffold(
    trace: ExpertTrace,
    spans: Sequence[Span],
    hidden: Sequence[Span],
    task: MaskableTask,
    checks: Checks | None = None,
) -> Audit:
    """Audits a masked trace.

    An empty trace and one in which all is hidden leak nothing. Nothing equals a target of zero
    length, so a task without one leaks at most L4.

    Args:
        trace: The trace, with the text of dropped turns empty.
        spans: All spans found in it.
        hidden: The hidden ones, in reading order without overlaps.
        task: Its task.
        checks: The environment's own verifier, asked about values and programs left in sight.
    """
    view = _View(trace, spans, hidden)
    num_characters = sum(map(len, view.covers))
    num_hidden = sum(cover.count(1) for cover in view.covers)
    is_shown = num_hidden < num_characters
    has_target = any(map(spelling_of, task.answers))
    visible_as, num_unverified = _visible_as(view, task, checks) if is_shown else ("", 0)
    do_pass: bool | None = None
    if checks is not None and checks.passes is not None:
        do_pass = _do_remains_pass(view, checks) if is_shown else False
        num_unverified += do_pass is None
    return Audit(
        is_answer_visible=bool(visible_as),
        visible_as=visible_as,
        is_one_step_away=is_shown and has_target and is_one_step_away(trace, spans, hidden, task),
        is_replayable=is_shown and has_target and is_replayable(trace, spans, hidden, task),
        do_remains_pass=do_pass,
        hidden_share=num_hidden / num_characters if num_characters else 0.0,
        hidden_share_by_kind=_hidden_shares(view),
        kept_structure=_kept_structure(view),
        num_characters=num_characters,
        num_unverified=num_unverified,
    )


class _View:
    """A trace as the reader of the scaffold has it."""

    def __init__(self, trace: ExpertTrace, spans: Sequence[Span], hidden: Sequence[Span]):
        self.trace = trace
        self.texts = [turn.text for turn in trace.turns]
        self.spans = spans
        self.covers = [bytearray(len(text)) for text in self.texts]  # 1 where it is hidden
        self.hidden_of: list[list[Span]] = [[] for _ in self.texts]
        for span in hidden:
            self.covers[span.turn][span.start : span.end] = b"\1" * (span.end - span.start)
            self.hidden_of[span.turn].append(span)
        self.labels_of: list[list[Span]] = [[] for _ in self.texts]
        for span in spans:
            if span.kind is SpanKind.LABEL:
                self.labels_of[span.turn].append(span)

    def is_in_sight(self, span: Span) -> bool:
        """Whether no character of a span is hidden."""
        return self.covers[span.turn].find(1, span.start, span.end) < 0

    def blanked(self, index: int, filler: str) -> str:
        """A turn's text with each hidden character replaced by `filler`."""
        text = self.texts[index]
        pieces: list[str] = []
        at = 0
        for span in self.hidden_of[index]:
            pieces += [text[at : span.start], filler * (span.end - span.start)]
            at = span.end
        return "".join([*pieces, text[at:]])

    def has_code_outside(self, code: Sequence[Span]) -> bool:
        """Whether something in sight reads like Python that no detector found."""
        covers = [bytearray(cover) for cover in self.covers]
        for span in code:
            covers[span.turn][span.start : span.end] = b"\1" * (span.end - span.start)
        for text, cover in zip(self.texts, covers, strict=True):
            outside = "".join(compress(text, map(_NOT_HIDDEN, cover)))
            if any(sign in outside for sign in _CODE_SIGNS):
                return True
        return False


def _visible_as(view: _View, task: MaskableTask, checks: Checks | None) -> tuple[str, int]:
    """The best way in which the target is seen, and how many values could not be told."""
    left = [span for span in view.spans if view.is_in_sight(span)]
    if task.domain == "code" and any(span.kind is SpanKind.CODE for span in left):
        return "literal", 0
    target = Target(task)
    ways: set[str] = set()
    for span in left:
        if span.kind in VALUE_KINDS and target.equals(span.value):
            is_word = span.kind is SpanKind.NUMBER_WORD
            spelled = "words" if is_word else "literal"
            ways.add(spelled if target.is_spelled(span.value) else "equal")
    mentioned: set[tuple[int, int, int]] = set()
    for span in _mentions(view, task):
        mentioned.add((span.turn, span.start, span.end))
        ways.add(_way(span.value, task, "alias"))
    for span in left:
        is_target = span.detector == TARGET_DETECTOR
        if is_target and (span.turn, span.start, span.end) not in mentioned:
            ways.add(_way(span.value, task, "equal"))
    unverified: set[str] = set()
    if checks is not None and checks.equals is not None:
        found = equal_answers(view.trace, task, view.spans, checks)
        if any(map(view.is_in_sight, found.spans)):
            ways.add("equal")
        unverified = {span.value for span in found.unverified if view.is_in_sight(span)}
    return next((way for way in _VISIBLE_AS if way in ways), ""), len(unverified)


def _way(value: str, task: MaskableTask, otherwise: str) -> str:
    """How a value shows the target that is known to be it."""
    spelling = spelling_of(value)
    if spelling == spelling_of(task.answers[0]):
        return "literal"
    return "alias" if spelling in map(spelling_of, task.answers) else otherwise


def _mentions(view: _View, task: MaskableTask) -> Iterator[Span]:
    """Mentions of the target outside hidden spans and labels, found anew in what is in sight."""
    for index, turn in enumerate(view.trace.turns):
        labels = Labels(view.labels_of[index])
        for span in find_aliases(replace(turn, text=view.blanked(index, _FILLER)), task):
            if span.detector == TARGET_DETECTOR and not labels.protect(span):
                yield span._replace(turn=index)


def _do_remains_pass(view: _View, checks: Checks) -> bool | None:
    """Whether what is in sight of the code passes; None if the verifier could not tell.

    Tried are the remains of the code that was found, joined, and, where Python seems to stand
    beside it, all of the text in sight.
    """
    code = merge_overlaps((s for s in view.spans if s.kind is SpanKind.CODE), view.texts)
    pieces = [
        "".join(
            compress(span.value, map(_NOT_HIDDEN, view.covers[span.turn][span.start : span.end]))
        )
        for span in code
    ]
    remains = "\n".join(piece for piece in pieces if piece.strip())
    programs = [remains] if remains else []
    if view.has_code_outside(code):
        programs.append("\n".join(view.blanked(i, "") for i in range(len(view.texts))))
    verdict: bool | None = False
    for program in programs:
        is_passing = checks.is_passing(program)
        if is_passing:
            return True
        verdict = None if is_passing is None else verdict
    return verdict


def _hidden_shares(view: _View) -> dict[str, float]:
    by_kind: dict[str, list[Span]] = {}
    for span in view.spans:
        if span.kind is not SpanKind.LABEL:
            by_kind.setdefault(str(span.kind), []).append(span)
    shares: dict[str, float] = {}
    for kind in sorted(by_kind):
        found = merge_overlaps(by_kind[kind], view.texts)  # two detectors may find the same
        num_hidden = sum(view.covers[span.turn].count(1, span.start, span.end) for span in found)
        shares[kind] = num_hidden / sum(span.end - span.start for span in found)
    return shares


def _kept_structure(view: _View) -> float:
    """Operators, line breaks and labels in sight over those there are outside of values."""
    values = [bytearray(b"\1") * len(cover) for cover in view.covers]  # 0 inside a value
    for span in view.spans:
        if span.kind is not SpanKind.LABEL:
            values[span.turn][span.start : span.end] = bytes(span.end - span.start)
    num_marks = num_kept = 0
    for text, is_outside, cover in zip(view.texts, values, view.covers, strict=True):
        outside = "".join(compress(text, is_outside))
        num_marks += sum(map(outside.count, _MARKS))
        hidden = "".join(compress(outside, compress(cover, is_outside)))
        num_kept -= sum(map(hidden.count, _MARKS))
    num_kept += num_marks
    for labels in view.labels_of:
        for span in labels:
            if values[span.turn][span.start]:
                num_marks += 1
                num_kept += view.is_in_sight(span)
    return num_kept / num_marks if num_marks else 1.0
