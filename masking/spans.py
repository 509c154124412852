"""Spans: what a detector found in a turn, the task it is read against, and how overlaps merge."""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class SpanKind(StrEnum):
    """What a piece of a trace is; a hidden piece shows as its kind in square brackets."""

    NUMBER = "number"
    EXPRESSION = "expression"
    CONSTANT = "constant"
    NUMBER_WORD = "number_word"
    ANSWER = "answer"
    CHOICE = "choice"
    DATE = "date"
    ENTITY = "entity"
    QUERY = "query"
    DOCUMENT = "document"
    CODE = "code"
    OUTPUT = "output"
    WORD = "word"
    """A word taken at random (control policies only)."""
    CUT = "cut"
    """Left out altogether: rendered as nothing (prefix policies only)."""
    LABEL = "label"
    """Protected, never hidden: "Step 1", list markers, names with digits, literal placeholders."""

    # The hash of an enum member is a Python function; a trace looks hundreds of kinds up.
    __hash__ = str.__hash__


_LABEL = SpanKind.LABEL  # reading a member off its class takes a while, too

VALUE_KINDS = frozenset(
    {
        SpanKind.NUMBER,
        SpanKind.NUMBER_WORD,
        SpanKind.EXPRESSION,
        SpanKind.CONSTANT,
        SpanKind.DATE,
    }
)
"""Kinds that a label protects even when it is no longer than they are."""

_PRIORITY = {
    kind: rank
    for rank, kind in enumerate(
        (
            SpanKind.CUT,
            SpanKind.CODE,
            SpanKind.DOCUMENT,
            SpanKind.OUTPUT,
            SpanKind.QUERY,
            SpanKind.ANSWER,
            SpanKind.CHOICE,
            SpanKind.ENTITY,
            SpanKind.DATE,
            SpanKind.EXPRESSION,
            SpanKind.CONSTANT,
            SpanKind.NUMBER,
            SpanKind.NUMBER_WORD,
            SpanKind.WORD,
            _LABEL,
        )
    )
}

_HIDEABLE = "|".join(
    kind.upper() for kind in SpanKind if kind not in (SpanKind.CUT, SpanKind.LABEL)
)
PLACEHOLDER_BODY = rf"\\*(?:{_HIDEABLE})(?:_\d{{1,6}})?\]"
PLACEHOLDER = re.compile(rf"\[{PLACEHOLDER_BODY}")
r"""A placeholder as the renderer writes it, indexed or not, or one of the source: ``[\NUMBER]``."""


class MaskableTask(Protocol):
    """What masking reads of a task; `envs.Task` has all of it."""

    @property
    def task_id(self) -> str:
        """Name of the task; seeds random policies."""

    @property
    def question(self) -> str:
        """What is asked; values that stand in it are given."""

    @property
    def answers(self) -> Sequence[str]:
        """The target and its aliases."""

    @property
    def entities(self) -> Sequence[str]:
        """Bridge entities on the way to the target."""

    @property
    def domain(self) -> str:
        """One of "math", "code", "search"; any other domain gets every detector."""


class Span(NamedTuple):
    """A piece of one turn's text: ``turn.text[start:end] == value``.

    A named tuple, as a trace has hundreds of spans and a frozen dataclass takes five times as long
    to make. Give the fields by name; `span._replace(kind=...)` makes a changed copy.
    """

    start: int
    end: int
    kind: SpanKind
    value: str
    turn: int = 0
    """Index of the turn; a detector sees one turn and may leave it 0."""
    is_given: bool = False
    """Whether the value stands in the question."""
    detector: str = ""
    group: int = -1
    """Spans of one group name the same thing; the index of an indexed placeholder."""
    replacement: str | None = None
    """What stands in the span's place when it is hidden, if not the placeholder of its kind."""


def merge_overlaps(spans: Iterable[Span], texts: Sequence[str]) -> tuple[Span, ...]:
    """Spans in reading order, each cluster of overlapping ones joined into one.

    The union of the characters stays what it was, so merging never uncovers anything. The joined
    span takes the kind that says most (code before answers before entities before numbers), then
    the longest, then the first; it is given only if all its parts are. Labels are dropped.
    """
    spans = list(spans)
    num_apart = _num_apart(spans)
    merged = spans[:num_apart]
    clusters: dict[int, list[Span]] = {}  # by the place of the joined span in `merged`
    turn = 0
    last, end = merged[-1][:2] if merged else (0, 0)
    for span in spans[num_apart:]:
        if span[2] is _LABEL:
            continue
        start = span[0]
        if span[4] != turn or start >= end:
            if span[4] < turn:
                break
            turn, end = span[4], span[1]
            merged.append(span)
        elif start >= last:
            clusters.setdefault(len(merged) - 1, [merged[-1]]).append(span)
            end = max(end, span[1])
        else:
            break
        last = start
    else:
        for index, cluster in clusters.items():
            merged[index] = _joined(cluster, texts)
        return tuple(merged)
    return merge_overlaps(sorted(spans, key=lambda span: (span.turn, span.start)), texts)


def _num_apart(spans: Sequence[Span]) -> int:
    """How many of the first spans are in order, of the first turn, and neither labels nor overlap.

    In most traces that is nearly all of them, and to see it takes half the time of merging.
    """
    end = 0
    for index, span in enumerate(spans):
        if span[0] < end or span[2] is _LABEL or span[4]:
            return index
        end = span[1]
    return len(spans)


def _rank(span: Span) -> tuple[int, int, int]:
    return _PRIORITY[span[2]], span[0] - span[1], span[0]


def _joined(cluster: list[Span], texts: Sequence[str]) -> Span:
    """One span over the whole cluster, which is ordered by start."""
    end = max([span[1] for span in cluster])
    best = min(cluster, key=_rank)
    start = cluster[0].start
    if best.start == start and best.end == end:
        return best
    return best._replace(
        start=start,
        end=end,
        value=texts[best.turn][start:end],
        is_given=all(span.is_given for span in cluster),
    )


def check_span(span: Span, texts: Sequence[str], source: str) -> None:
    """Refuses a span that does not agree with the text it lies in.

    Raises:
        ValueError: If `texts[span.turn][span.start:span.end]` is not the span's value, or empty.
    """
    is_inside = 0 <= span.turn < len(texts) and 0 <= span.start < span.end <= len(texts[span.turn])
    if not is_inside or texts[span.turn][span.start : span.end] != span.value:
        raise ValueError(
            f"{source} gave a span at {span.start}:{span.end} of turn {span.turn} with value "
            f"{span.value[:40]!r}, which is not what stands there. Set value to text[start:end]."
        )


def stripped_span(
    text: str, start: int, end: int, *, kind: SpanKind, detector: str
) -> Iterator[Span]:
    """One span over a range without the white space around it; none if nothing is left."""
    value = text[start:end]
    start += len(value) - len(value.lstrip())
    value = value.strip()
    if value:
        yield Span(start=start, end=start + len(value), kind=kind, value=value, detector=detector)
