"""Renderer: a trace and the spans to hide in, the masked text of each expert action out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Literal, get_args

from .spans import PLACEHOLDER_BODY, Span, SpanKind
from .traces import ExpertTrace, TurnKind

ToolResults = Literal["drop", "mask", "keep"]
Queries = Literal["entities", "whole"]

_PLACEHOLDER_NAMES = {SpanKind.NUMBER_WORD: "NUMBER"}
_ONE_ACTION = ((0,),)
_LITERAL = re.compile(rf"\[(?={PLACEHOLDER_BODY})")


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """How a masked trace is written."""

    tool_results: ToolResults = "drop"
    """Results of the expert's tools: left out, masked like the rest, or shown word for word."""

    queries: Queries = "entities"
    """What is hidden of a query that names a hidden entity: the entity, or the whole query. "search:
    [ENTITY] birthplace" keeps the expert's plan, which is what a scaffold is there for."""

    indexed: bool = False
    """Whether equal values share a number, `[ENTITY_1]`. Keeps who is who, but lets arithmetic
    chains be solved."""

    escape_literals: bool = True
    r"""Whether placeholders of the source are written `[\NUMBER]`, so that they cannot be taken for
    ours. Nothing is escaped in a trace of which nothing is hidden behind a placeholder."""

    def __post_init__(self) -> None:
        if self.tool_results not in get_args(ToolResults):
            raise ValueError(
                f"tool_results is {self.tool_results!r}; it is one of "
                f"{', '.join(get_args(ToolResults))}."
            )
        if self.queries not in get_args(Queries):
            raise ValueError(
                f"queries is {self.queries!r}; it is one of {', '.join(get_args(Queries))}."
            )


def render_actions(
    trace: ExpertTrace, hidden: Sequence[Span], config: RenderConfig
) -> tuple[str, ...]:
    """Masked text of each action of the expert, "" where nothing is left of it.

    Thoughts stand as plain lines, a call as "search: ...", a result as "result: ...", an answer
    as "answer: ...". `hidden` is in reading order without overlaps.
    """
    is_escaping = config.escape_literals and any(map(_has_placeholder, hidden))
    if len(trace.turns) == 1:
        spans_of = {0: hidden}
    else:
        spans_of = {turn: list(spans) for turn, spans in groupby(hidden, key=itemgetter(4))}
    actions: list[str] = []
    for action in trace.actions if len(trace.turns) > 1 else _ONE_ACTION[: len(trace.turns)]:
        lines: list[str] = []
        for index in action:
            turn = trace.turns[index]
            spans = spans_of.get(index, ())
            text = _shown(turn.text, spans, config, is_escaping=is_escaping)
            if not text or (spans and spans[-1].kind is SpanKind.CUT and not text.strip()):
                continue
            if turn.kind is TurnKind.TOOL_CALL:
                text = f"{turn.tool or 'tool'}: {text}"
            elif turn.kind is not TurnKind.THOUGHT:
                name = "answer" if turn.kind is TurnKind.ANSWER else "result"
                text = f"{name}: {text}"
            lines.append(text)
        actions.append("\n".join(lines))
    return tuple(actions)


def render_turn(text: str, hidden: Sequence[Span], config: RenderConfig) -> str:
    """One turn's text with its hidden spans replaced."""
    is_escaping = config.escape_literals and any(map(_has_placeholder, hidden))
    return _shown(text, hidden, config, is_escaping=is_escaping)


def _shown(text: str, hidden: Sequence[Span], config: RenderConfig, *, is_escaping: bool) -> str:
    pieces: list[str] = []
    add, is_indexed, placeholders = pieces.append, config.indexed, _PLACEHOLDERS
    at = 0
    for span in hidden:
        add(text[at : span[0]])
        if span[8] is None and not is_indexed:
            add(placeholders[span[2]])
        else:
            add(placeholder(span, config))
        at = span[1]
    pieces.append(text[at:])
    if is_escaping and "[" in text and _LITERAL.search(text):
        pieces[::2] = [_LITERAL.sub(r"[\\", piece) for piece in pieces[::2]]
    return "".join(pieces)


def _has_placeholder(span: Span) -> bool:
    """Whether our placeholder stands for a span, and not nothing or a text of the policy's own."""
    return span[8] is None and span[2] is not SpanKind.CUT


def placeholder(span: Span, config: RenderConfig) -> str:
    """What stands in the place of a hidden span."""
    if span.replacement is not None:
        return span.replacement
    if not config.indexed or span.group <= 0 or span.kind is SpanKind.CUT:
        return _PLACEHOLDERS[span.kind]
    return f"[{placeholder_name(span.kind)}_{span.group}]"


def placeholder_name(kind: SpanKind) -> str:
    """Name of a kind inside its placeholder; a number in words hides as any number does."""
    return _PLACEHOLDER_NAMES.get(kind, kind.upper())


_PLACEHOLDERS = {
    kind: "" if kind is SpanKind.CUT else f"[{placeholder_name(kind)}]" for kind in SpanKind
}
