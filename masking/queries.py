"""Query and document detectors: a turn in, telling queries and what a search returned out."""

import re
from collections.abc import Iterator

from .code import CODE_TOOLS
from .entities import TARGET_DETECTOR, find_aliases
from .spans import MaskableTask, Span, SpanKind, stripped_span
from .traces import TraceTurn, TurnKind

_QUERY_TAG = "<search>"
_TOOL = re.compile(r"\b(?:search|lookup|retrieve|browse)$", re.IGNORECASE)
_QUERY_END = re.compile(r"</|<(?=search|information|think|answer)|\n")
_BRACKET = re.compile(r"[\[\]\n]")
_DOCUMENT_TAG = "<information>"
_MARKER = re.compile(
    r"^[ \t]*(Thought|Action|Action Input|Observation|Question|Answer|Final Answer)(?: \d+)?:",
    re.MULTILINE,
)


def find_queries(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Queries that carry a hidden entity: the target, or a bridge entity not in the question.

    A query is a search call, or in plain text what stands in ``<search>...</search>`` or
    ``Search[...]``. One without hidden entities is procedure and stays.
    """
    queries = list(_queries(turn))
    if not queries:
        return
    hidden = [
        span.start
        for span in find_aliases(turn, task)
        if span.detector == TARGET_DETECTOR or not span.is_given
    ]
    at = 0
    for query in queries:
        while at < len(hidden) and hidden[at] < query.start:
            at += 1
        if at < len(hidden) and hidden[at] < query.end:
            yield query


def _queries(turn: TraceTurn) -> Iterator[Span]:
    """All queries of a turn in reading order, without overlaps."""
    text = turn.text
    if turn.kind is TurnKind.TOOL_CALL:
        if turn.tool.casefold() not in CODE_TOOLS:
            yield from _query(text, 0, len(text))
        return
    if turn.kind is TurnKind.TOOL_RESULT:
        return
    starts: list[tuple[int, bool]] = []
    at = text.find("[")
    while at >= 0:
        if _TOOL.search(text[max(0, at - 9) : at]):
            starts.append((at + 1, False))
        at = text.find("[", at + 1)
    at = text.find(_QUERY_TAG)
    while at >= 0:
        starts.append((at + len(_QUERY_TAG), True))
        at = text.find(_QUERY_TAG, at + 1)
    covered = 0
    for start, is_tag in sorted(starts):
        if start < covered:
            continue
        if is_tag:
            match = _QUERY_END.search(text, start)
            covered = match.start() if match else len(text)
        else:
            covered = _closing_bracket(text, start)
        yield from _query(text, start, covered)


def _query(text: str, start: int, end: int) -> Iterator[Span]:
    return stripped_span(text, start, end, kind=SpanKind.QUERY, detector="queries")


def _closing_bracket(text: str, start: int) -> int:
    """Where the bracket that opened before `start` closes; the line's end if it does not."""
    depth = 1
    for match in _BRACKET.finditer(text, start):
        if match[0] == "\n":
            return match.start()
        depth += 1 if match[0] == "[" else -1
        if depth == 0:
            return match.start()
    return len(text)


def find_documents(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """What a search returned inside plain text.

    That is what stands in ``<information>...</information>``, or as "Observation 2: ..." behind an
    action.
    """
    text = turn.text
    if turn.kind is TurnKind.TOOL_RESULT:
        return  # as a whole the work of `find_results`
    at = text.find(_DOCUMENT_TAG)
    while at >= 0:
        start = at + len(_DOCUMENT_TAG)
        end = text.find("</information>", start)
        end = len(text) if end < 0 else end
        yield from _document(text, start, end)
        at = text.find(_DOCUMENT_TAG, end)
    if "Observation" not in text:
        return
    markers = list(_MARKER.finditer(text))
    has_action = False
    for index, marker in enumerate(markers):
        has_action = has_action or marker[1].startswith("Action")
        if marker[1] == "Observation" and has_action:
            behind = markers[index + 1].start() if index + 1 < len(markers) else len(text)
            yield from _document(text, marker.end(), behind)


def _document(text: str, start: int, end: int) -> Iterator[Span]:
    return stripped_span(text, start, end, kind=SpanKind.DOCUMENT, detector="documents")
