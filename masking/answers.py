r"""Answer detector: a turn in, what stands in ``\boxed{}``, after ``####`` or ``<answer>`` out."""

import re
from bisect import bisect_right
from collections.abc import Iterator

from .numbers import canonical_number
from .spans import MaskableTask, Span, SpanKind, stripped_span
from .traces import TraceTurn, TurnKind

_BRACES = re.compile(r"\\(?:boxed|fbox)[ \t]*\{|\\.|[{}]", re.DOTALL)
_FENCE = re.compile(r"`{3}|~{3}")
_HASHES = re.compile(r"^[ \t]*####[ \t]+(\S[^\n]*)", re.MULTILINE)


def find_answers(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Places that announce the answer, whatever stands there, and the whole of an answer turn."""
    text = turn.text
    if turn.kind is TurnKind.ANSWER and task.domain != "code":
        yield from _answer_span(text, 0, len(text))
    boxes = list(_boxed(text)) if "box" in text else []
    for start, end in boxes:
        yield from _announced(text, start, end)
    last_line = text.rstrip().rfind("\n") + 1
    for match in _HASHES.finditer(text):
        # "#### Step 2" is a heading; GSM8K's "#### 18" is a number or the last line.
        if match.start() >= last_line or canonical_number(match[1]) is not None:
            yield from _announced(text, *match.span(1))
    at = 0
    while (start := text.find("<answer>", at)) >= 0:
        at = start = start + len("<answer>")
        box = bisect_right(boxes, (start, len(text))) - 1
        if box >= 0 and start <= boxes[box][1]:
            continue  # a tag inside a box is a part of what is boxed
        end = text.find("</answer>", start)
        at = len(text) if end < 0 else end
        yield from _announced(text, start, at)


def _boxed(text: str) -> Iterator[tuple[int, int]]:
    r"""Contents of outermost ``\boxed{...}``, in one pass; an unclosed one ends with its line."""
    found: list[tuple[int, int]] = []
    open_braces: list[int] = []  # content start of a box, -1 for any other brace
    for match in _BRACES.finditer(text):
        token = match[0]
        if token.endswith("{") and len(token) > 2:
            open_braces.append(match.end())
        elif token == "{":
            open_braces.append(-1)
        elif token == "}" and open_braces:
            start = open_braces.pop()
            if start >= 0:
                found.append((start, match.start()))
    unclosed = [start for start in open_braces if start >= 0]
    line_end = -1
    for start in unclosed:
        if start > line_end:
            line_end = text.find("\n", start)
            line_end = len(text) if line_end < 0 else line_end
            found.append((start, line_end))
    covered = 0
    for start, end in sorted(found, key=lambda box: (box[0], -box[1])):
        if start >= covered:
            yield start, end
            covered = end


def _announced(text: str, start: int, end: int) -> Iterator[Span]:
    """An answer up to the first code fence in it: half a fence would change what is code."""
    fence = _FENCE.search(text, start, end)
    return _answer_span(text, start, fence.start() if fence else end)


def _answer_span(text: str, start: int, end: int) -> Iterator[Span]:
    return stripped_span(text, start, end, kind=SpanKind.ANSWER, detector="final_answers")
