"""One masked trace in, its text in pieces out: kept or hidden, by kind; painted for a terminal."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, Scaffold, Span, SpanKind, TurnKind
from maskgym.masking.audit import LeakLevel
from maskgym.masking.spans import PLACEHOLDER

from .console import Style, paint

_MAX_CHARACTERS = 12_000
"""An example of a longer trace is cut: a page of examples is there to be read."""

_STYLES = {
    SpanKind.ANSWER: Style.YELLOW,
    SpanKind.CHOICE: Style.YELLOW,
    SpanKind.ENTITY: Style.MAGENTA,
    SpanKind.QUERY: Style.MAGENTA,
    SpanKind.DATE: Style.MAGENTA,
    SpanKind.CODE: Style.CYAN,
    SpanKind.DOCUMENT: Style.BLUE,
    SpanKind.OUTPUT: Style.BLUE,
}
_KIND_OF_NAME = {str(kind).upper(): kind for kind in SpanKind}

Piece = tuple[str, SpanKind | None]
"""A run of text and, where it is hidden or a placeholder, its kind."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExampleTurn:
    """One turn of the expert as it was."""

    title: str
    """What the turn is and its tool: "tool_call search"."""
    pieces: tuple[Piece, ...]
    is_left_out: bool = False
    """Whether the whole turn was left out before masking."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A trace before and after masking, small enough to travel and to be shown."""

    where: str
    task_id: str
    question: str
    answer: str
    turns: tuple[ExampleTurn, ...]
    scaffold: tuple[Piece, ...]
    level: LeakLevel
    visible_as: str
    policy: str
    requested_policy: str
    is_dropped: bool
    num_cut: int
    """Characters of the trace that are not shown here."""


def example_of(
    task: Task, trace: ExpertTrace, scaffold: Scaffold, *, where: str, has_results: bool
) -> Example:
    """What is shown of one masked trace; `has_results` says whether tool results are in it."""
    left = _MAX_CHARACTERS
    num_cut = 0
    turns: list[ExampleTurn] = []
    spans_of: dict[int, list[Span]] = {}
    for span in scaffold.spans:
        spans_of.setdefault(span.turn, []).append(span)
    for index, turn in enumerate(trace.turns):
        text = turn.text[:left]
        num_cut += len(turn.text) - len(text)
        left -= len(text)
        if text:
            spans = spans_of.get(index, [])
            turns.append(
                ExampleTurn(
                    title=f"{turn.kind.value} {turn.tool}".strip(),
                    pieces=tuple(turn_pieces(text, spans)),
                    is_left_out=turn.kind is TurnKind.TOOL_RESULT and not has_results,
                )
            )
    return Example(
        where=where,
        task_id=task.task_id,
        question=task.question[:_MAX_CHARACTERS],
        answer=" | ".join(task.answers)[:200],
        turns=tuple(turns),
        scaffold=tuple(scaffold_pieces(scaffold.text[:_MAX_CHARACTERS])),
        level=scaffold.audit.level,
        visible_as=scaffold.audit.visible_as,
        policy=scaffold.policy,
        requested_policy=scaffold.requested_policy,
        is_dropped=scaffold.is_dropped,
        num_cut=num_cut,
    )


def turn_pieces(text: str, spans: Sequence[Span]) -> Iterator[Piece]:
    """The text of a turn with its hidden spans, in reading order, as pieces of their own.

    >>> span = Span(start=2, end=3, kind=SpanKind.NUMBER, value="7")
    >>> [piece for piece, kind in turn_pieces("x=7.", [span])]
    ['x=', '7', '.']
    """
    at = 0
    for span in spans:
        if span.start >= len(text):
            break
        if span.start > at:
            yield text[at : span.start], None
        yield text[span.start : span.end], span.kind
        at = span.end
    if at < len(text):
        yield text[at:], None


def scaffold_pieces(text: str) -> Iterator[Piece]:
    """The text of a scaffold with its placeholders as pieces of their own."""
    at = 0
    for match in PLACEHOLDER.finditer(text):
        if "\\" in match[0]:
            continue  # a literal placeholder of the source, escaped
        if match.start() > at:
            yield text[at : match.start()], None
        name = match[0].strip("[]").rstrip("0123456789").rstrip("_")
        yield match[0], _KIND_OF_NAME.get(name, SpanKind.NUMBER)
        at = match.end()
    if at < len(text):
        yield text[at:], None


def painted(example: Example) -> str:
    """An example for the terminal: hidden text coloured by kind, placeholders green."""
    out = sys.stdout
    title = paint(f"=== {example.task_id}", Style.BOLD, stream=out)
    before, after = (paint(f"--- {name}", Style.DIM, stream=out) for name in ("before", "after"))
    lines = [f"{title} ({example.where}, leak {example.level.label})", example.question, before]
    for turn in example.turns:
        lines.append(
            "".join(
                paint(text, Style.DIM, stream=out)
                if turn.is_left_out
                else paint(text, *([_STYLES.get(kind, Style.RED)] if kind else []), stream=out)
                for text, kind in turn.pieces
            )
        )
    if example.num_cut:
        lines.append(paint(f"... {example.num_cut} characters more", Style.DIM, stream=out))
    lines.append(after)
    lines.append(
        "".join(
            paint(text, *([Style.GREEN] if kind else []), stream=out)
            for text, kind in example.scaffold
        )
    )
    if example.is_dropped:
        lines.append("(dropped: every policy leaks more than --max-leak allows)")
    return "\n".join([*lines, ""])
