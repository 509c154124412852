"""Code detector: a turn in, the contents of fences and Python tool calls out (fences stay)."""

import re
from collections.abc import Iterator

from .spans import PLACEHOLDER, MaskableTask, Span, SpanKind, stripped_span
from .traces import TraceTurn, TurnKind

CODE_TOOLS = frozenset(("python", "code", "code_interpreter", "execute", "ipython", "interpreter"))
"""Tools (casefolded) whose calls are programs."""

_FENCE = re.compile(r"`{3,}|~{3,}")
# A placeholder is taken for a language, as it may stand for a word that was one.
_LANGUAGE = re.compile(rf"[ \t]*(?:{PLACEHOLDER.pattern}|[A-Za-z][\w+#.-]{{0,19}}(?![^\s,{{:\[]))?")


def find_code(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """A Python call and the final program of a code task as a whole; in text, fenced blocks."""
    if turn.kind is TurnKind.TOOL_CALL and turn.tool.casefold() in CODE_TOOLS:
        yield from stripped_span(turn.text, 0, len(turn.text), kind=SpanKind.CODE, detector="code")
        return
    blocks = list(_fenced_blocks(turn.text))
    if turn.kind is TurnKind.ANSWER and task.domain == "code" and not blocks:
        yield from stripped_span(turn.text, 0, len(turn.text), kind=SpanKind.CODE, detector="code")
    for start, end in blocks:
        yield from stripped_span(turn.text, start, end, kind=SpanKind.CODE, detector="code")


def _fenced_blocks(text: str) -> Iterator[tuple[int, int]]:
    """Contents of the fences, as CommonMark closes them; an unterminated one runs to the end.

    Beyond CommonMark, a fence may open anywhere in a line, as models write "Code: ```python"; the
    info string behind the language counts as content, because it can say anything.
    """
    at = 0
    while match := _FENCE.search(text, at):
        fence = match[0]
        line_end = text.find("\n", match.end())
        line_end = len(text) if line_end < 0 else line_end
        inline_end = text.find(fence, match.end(), line_end)
        if inline_end >= 0:
            yield match.end(), inline_end
            at = inline_end + len(fence)
            while text.startswith(fence[0], at):
                at += 1
            continue
        language = _LANGUAGE.match(text, match.end(), line_end)
        yield (language.end() if language else match.end()), line_end
        content_end, at = _closing_fence(text, fence, line_end)
        yield line_end, content_end


def _closing_fence(text: str, fence: str, line_end: int) -> tuple[int, int]:
    """Where the content ends and where the text after the closing fence starts."""
    closing = _CLOSING[fence[0]]
    at = line_end
    while match := closing.search(text, at):
        if len(match[1]) >= len(fence):
            return match.start(), match.end()
        at = match.end()
    return len(text), len(text)


_CLOSING = {
    mark: re.compile(rf"^[ \t>]{{0,20}}+({mark}{{3,}}+)[ \t]*+$", re.MULTILINE) for mark in "`~"
}
