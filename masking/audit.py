"""Audit: a trace, its spans and what was hidden in, what the scaffold gives away and keeps out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

from .entities import matcher_of
from .labels import Labels
from .spans import VALUE_KINDS, MaskableTask, Span, SpanKind, merge_overlaps
from .targets import Target
from .traces import ExpertTrace

_MARKS = (
    "=+-*/<>\u00d7\u00f7\u00b7\u2264\u2265\u2260\n"  # also times, divided by, dot, and comparisons
)
# No letter, digit or white space, so that no alias matches across it.
_FILLER = "\ufffc"


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What one scaffold still gives away, and how much of the trace it keeps."""

    is_answer_visible: bool
    """Whether the target can be read off: literally, folded, as an equal number or word, or by
    `equals`; in a code task, whether a program is left."""

    hidden_share: float
    """Share of the trace's characters that are hidden."""

    hidden_share_by_kind: Mapping[str, float] = field(default_factory=dict)
    """For each kind of span found, the share of its characters that are hidden."""

    kept_structure: float = 1.0
    """Share of the operators, line breaks and labels outside of values that are still in sight."""

    num_characters: int = 0
    """Length of the trace without the turns that are not shown, before masking."""

    num_unverified: int = 0
    """Values that `equals` failed on; they count as not equal."""


def audit_scaffold(
    trace: ExpertTrace,
    spans: Sequence[Span],
    hidden: Sequence[Span],
    task: MaskableTask,
    equals: Callable[[str, str], bool] | None = None,
) -> Audit:
    """Audits a masked trace.

    Args:
        trace: The trace, with the text of dropped turns empty.
        spans: All spans found in it.
        hidden: The hidden ones, in reading order without overlaps.
        task: Its task.
        equals: Called as `equals(value, answer)` on each distinct number left in sight; the
            environment's own verifier. Bounding its time is up to the caller.
    """
    covers = [bytearray(len(turn.text)) for turn in trace.turns]
    for span in hidden:
        covers[span.turn][span.start : span.end] = b"\1" * (span.end - span.start)
    shares = _hidden_shares(trace, spans, covers)
    left = [span for span in spans if covers[span.turn].find(1, span.start, span.end) < 0]
    is_visible = _is_target_left(left, task) or _is_mentioned(trace, spans, hidden, task)
    num_unverified = 0
    if equals is not None and not is_visible:
        is_visible, num_unverified = _is_equal_left(left, task, equals)
    num_characters = sum(map(len, covers))
    num_hidden = sum(map(sum, covers))
    return Audit(
        is_answer_visible=is_visible,
        hidden_share=num_hidden / num_characters if num_characters else 0.0,
        hidden_share_by_kind=shares,
        kept_structure=_kept_structure(trace, spans, covers),
        num_characters=num_characters,
        num_unverified=num_unverified,
    )


def _hidden_shares(
    trace: ExpertTrace, spans: Sequence[Span], covers: Sequence[bytearray]
) -> dict[str, float]:
    texts = [turn.text for turn in trace.turns]
    by_kind: dict[str, list[Span]] = {}
    for span in spans:
        if span.kind is not SpanKind.LABEL:
            by_kind.setdefault(str(span.kind), []).append(span)
    shares: dict[str, float] = {}
    for kind in sorted(by_kind):
        found = merge_overlaps(by_kind[kind], texts)  # two detectors may find the same
        num_hidden = sum(sum(covers[span.turn][span.start : span.end]) for span in found)
        shares[kind] = num_hidden / sum(span.end - span.start for span in found)
    return shares


def _is_target_left(left: Sequence[Span], task: MaskableTask) -> bool:
    """Whether a number or a number in words of the target's value, or any program, is left."""
    if task.domain == "code" and any(span.kind is SpanKind.CODE for span in left):
        return True
    target = Target(task)
    return any(map(target.equals, {span.value for span in left if span.kind in VALUE_KINDS}))


def _is_mentioned(
    trace: ExpertTrace, spans: Sequence[Span], hidden: Sequence[Span], task: MaskableTask
) -> bool:
    """Whether an alias of the target is mentioned outside hidden spans and labels."""
    matcher = matcher_of(tuple(task.answers))
    for index, turn in enumerate(trace.turns):
        text = _blanked(turn.text, [span for span in hidden if span.turn == index])
        labels = Labels(span for span in spans if span.turn == index)
        for mention in matcher.find(text):
            start, end = mention.start, mention.end
            span = Span(start=start, end=end, kind=SpanKind.ANSWER, value=text[start:end])
            if not labels.protect(span):
                return True
    return False


def _blanked(text: str, hidden: Sequence[Span]) -> str:
    """The text with its hidden parts filled, every offset as it was."""
    pieces: list[str] = []
    at = 0
    for span in hidden:
        pieces += [text[at : span.start], _FILLER * (span.end - span.start)]
        at = span.end
    return "".join([*pieces, text[at:]])


def _is_equal_left(
    left: Sequence[Span], task: MaskableTask, equals: Callable[[str, str], bool]
) -> tuple[bool, int]:
    """Whether `equals` finds a value in sight equal to an answer, and how many calls failed."""
    num_failed = 0
    for value in sorted({span.value for span in left if span.kind in VALUE_KINDS}):
        for answer in task.answers:
            try:
                if equals(value, answer):
                    return True, num_failed
            except Exception:  # a verifier may raise anything on odd input; counted, not hidden
                num_failed += 1
    return False, num_failed


def _kept_structure(
    trace: ExpertTrace, spans: Sequence[Span], covers: Sequence[bytearray]
) -> float:
    """Operators, line breaks and labels in sight over those there are outside of values."""
    values = [bytearray(b"\1") * len(cover) for cover in covers]  # 0 inside a value
    for span in spans:
        if span.kind is not SpanKind.LABEL:
            values[span.turn][span.start : span.end] = bytes(span.end - span.start)
    num_marks = num_kept = 0
    for turn, is_outside, cover in zip(trace.turns, values, covers, strict=True):
        outside = "".join(compress(turn.text, is_outside))
        num_marks += sum(map(outside.count, _MARKS))
        hidden = "".join(compress(outside, compress(cover, is_outside)))
        num_kept -= sum(map(hidden.count, _MARKS))
    num_kept += num_marks
    for span in spans:
        if span.kind is SpanKind.LABEL and values[span.turn][span.start]:
            num_marks += 1
            num_kept += covers[span.turn].find(1, span.start, span.end) < 0
    return num_kept / num_marks if num_marks else 1.0
