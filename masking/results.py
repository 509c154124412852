"""Result detector: a tool's result in, one span over it out (a document, a program's output)."""

from collections.abc import Iterator

from .code import CODE_TOOLS
from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn, TurnKind


def find_results(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """The whole of a tool result."""
    value = turn.text.strip()
    if turn.kind is not TurnKind.TOOL_RESULT or not value:
        return
    start = len(turn.text) - len(turn.text.lstrip())
    is_output = turn.tool.casefold() in CODE_TOOLS
    yield Span(
        start=start,
        end=start + len(value),
        kind=SpanKind.OUTPUT if is_output else SpanKind.DOCUMENT,
        value=value,
        detector="results",
    )
