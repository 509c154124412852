"""Renderer: a trace and the spans to hide in, the masked text of each expert action out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from .spans import PLACEHOLDER_BODY, Span, SpanKind
from .traces import ExpertTrace, TurnKind

ToolResults = Literal["drop", "mask", "keep"]

_PLACEHOLDER_NAMES = {SpanKind.NUMBER_WORD: "NUMBER"}
_LITERAL = re.compile(rf"\[(?={PLACEHOLDER_BODY})")


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """How a masked trace is written."""

    tool_results: ToolResults = "drop"
    """Results of the expert's tools: left out, masked like the rest, or shown word for word."""

    indexed: bool = False
    """Whether equal values share a number, `[ENTITY_1]`. Keeps who is who, but lets arithmetic
    chains be solved."""

    escape_literals: bool = False
    r"""Whether placeholders of the source are written `[\NUMBER]`. Else they stand as they are,
    which keeps masking idempotent; `Scaffold.spans` says which ones hide something."""

    def __post_init__(self) -> None:
        if self.tool_results not in get_args(ToolResults):
            raise ValueError(
                f"tool_results is {self.tool_results!r}; it is one of "
                f"{', '.join(get_args(ToolResults))}."
            )


def render_actions(
    trace: ExpertTrace, hidden: Sequence[Span], config: RenderConfig
) -> tuple[str, ...]:
    """Masked text of each action of the expert, "" where nothing is left of it.

    Thoughts stand as plain lines, a call as "search: ...", a result as "result: ...", an answer
    as "answer: ...". `hidden` is in reading order without overlaps.
    """
    spans_of: dict[int, list[Span]] = {}
    for span in hidden:
        spans_of.setdefault(span.turn, []).append(span)
    actions: list[str] = []
    for action in trace.actions:
        lines: list[str] = []
        for index in action:
            turn = trace.turns[index]
            spans = spans_of.get(index, [])
            text = render_turn(turn.text, spans, config)
            is_cut = any(span.kind is SpanKind.CUT for span in spans)
            if not text or (is_cut and not text.strip()):
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
    pieces: list[str] = []
    at = 0
    for span in hidden:
        pieces += [_shown(text[at : span.start], config), placeholder(span, config)]
        at = span.end
    pieces.append(_shown(text[at:], config))
    return "".join(pieces)


def placeholder(span: Span, config: RenderConfig) -> str:
    """What stands in the place of a hidden span."""
    if span.replacement is not None:
        return span.replacement
    if span.kind is SpanKind.CUT:
        return ""
    name = placeholder_name(span.kind)
    return f"[{name}_{span.group}]" if config.indexed and span.group > 0 else f"[{name}]"


def placeholder_name(kind: SpanKind) -> str:
    """Name of a kind inside its placeholder; a number in words hides as any number does."""
    return _PLACEHOLDER_NAMES.get(kind, kind.upper())


def _shown(text: str, config: RenderConfig) -> str:
    if not config.escape_literals:
        return text
    return _LITERAL.sub(r"[\\", text)
