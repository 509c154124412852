"""Structure: a trace and its scaffold in, which operators, labels, breaks and turns are gone out.

Checked by patterns of its own: all text between placeholders is the source's, in its order, and no
hidden value holds what is no value. Programs, documents and queries are hidden as a whole, so what
stands inside them is not counted.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from maskgym.masking import RenderConfig, Scaffold, SpanKind, TraceTurn, TurnKind

from .trace_sets import Case

_WHOLE = frozenset(
    (SpanKind.CODE, SpanKind.DOCUMENT, SpanKind.OUTPUT, SpanKind.QUERY, SpanKind.CUT)
)
_LONG = frozenset((SpanKind.ANSWER, SpanKind.EXPRESSION, SpanKind.ENTITY))
"""Kinds whose value may be a formula or a phrase, with operators of its own."""

_PLACEHOLDER = r"\[[A-Z_]+(?:_\d+)?\]"
_LITERAL = re.compile(r"\[(?=\\*[A-Z]+(?:_[A-Z]+)*(?:_\d{1,6})?\])")
_OPERATOR = re.compile(r"[=<>\u00d7\u00f7\u2264\u2265\u2260]|[+*](?!\s*10)|(?<=\s)[-/](?=\s)")
_EDGE = re.compile(r"^\s*[-+*/=<>]|[-+*/=<>]\s*$")
_LABEL = re.compile(
    r"\b(?:Step|Case|Part|Subcase|Section|Theorem|Lemma|Claim|Stage|Problem|Example)[ \t]+(\d+)\b"
)
_MARKER = re.compile(r"^[ \t]*(?:[-*>]+ )?(\d{1,2})[.)](?=[ \t])", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[a-z]{3})[.!?](?=\s+[A-Z])")  # not behind "Mr", "v" or "W"


@dataclass(kw_only=True)
class StructureCount:
    """What one policy took away from one set of traces that was no value."""

    COLUMNS = (
        "text changed",
        "operators hidden",
        "operators inside formulas and answers",
        "line breaks hidden",
        "labels hidden",
        "sentence ends hidden",
        "actions changed",
    )

    gone: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, case: Case, scaffold: Scaffold, config: RenderConfig) -> None:
        """Counts one scaffold."""
        turns = [
            TraceTurn(kind=turn.kind, tool=turn.tool, text="")
            if turn.kind is TurnKind.TOOL_RESULT and config.tool_results == "drop"
            else turn
            for turn in case.trace.turns
        ]
        row = case.task.task_id
        if not _is_unchanged(turns, scaffold):
            self._note("text changed", row, scaffold.text[:80])
        if len(scaffold.turns) > num_actions(turns):
            self._note("actions changed", row, str(len(scaffold.turns)))
        hidden: dict[int, list[tuple[int, int]]] = {}
        for span in scaffold.spans:
            if span.kind in _WHOLE:
                continue
            hidden.setdefault(span.turn, []).append((span.start, span.end))
            self._add_value(span.kind, span.value, row)
        for index, ranges in hidden.items():
            for start, end in labels_in(turns[index].text):
                if any(left < end and start < right for left, right in ranges):
                    shown = turns[index].text[max(0, start - 20) : end + 20]
                    self._note("labels hidden", row, shown)

    def _add_value(self, kind: SpanKind, value: str, row: str) -> None:
        is_long = kind in _LONG
        num = len(_OPERATOR.findall(value)) + (not is_long and bool(_EDGE.search(value)))
        name = "operators inside formulas and answers" if is_long else "operators hidden"
        for _ in range(num):
            self._note(name, row, value)
        for _ in range(value.count("\n")):
            self._note("line breaks hidden", row, value)
        for _ in _SENTENCE_END.findall(value):
            self._note("sentence ends hidden", row, value)

    def _note(self, what: str, row: str, example: str) -> None:
        self.gone[what] += 1
        self.examples.setdefault(what, f"{row}: {example[:90]!r}")

    def cells(self) -> list[int]:
        """One count for each column."""
        return [self.gone[name] for name in self.COLUMNS]

    def notes(self, name: str, policy: str) -> list[str]:
        """The first example of each thing that is gone."""
        return [f"{name}, {policy}, {what}: {row}" for what, row in sorted(self.examples.items())]


def labels_in(text: str) -> list[tuple[int, int]]:
    """Numbers of labels ("Step 3"), and list markers that count on from 1 (or 0)."""
    found = [match.span(1) for match in _LABEL.finditer(text)]
    seen = {0}
    for match in _MARKER.finditer(text):
        number = int(match[1])
        if number <= 1 or number - 1 in seen:
            seen.add(number)
            found.append(match.span(1))
    return found


def num_actions(turns: list[TraceTurn]) -> int:
    """Calls and answers, and one more where thoughts follow the last of them."""
    ends = [turn.kind in (TurnKind.TOOL_CALL, TurnKind.ANSWER) for turn in turns]
    last = max((index for index, is_end in enumerate(ends) if is_end), default=-1)
    return sum(ends) + any(turn.kind is TurnKind.THOUGHT for turn in turns[last + 1 :])


def _is_unchanged(turns: list[TraceTurn], scaffold: Scaffold) -> bool:
    """Whether the scaffold is the source with placeholders in the place of the hidden spans."""
    parts: list[str] = []
    for index, turn in enumerate(turns):
        pieces: list[str] = []
        at = 0
        for span in scaffold.spans:
            if span.turn == index:
                if span.start < at or turn.text[span.start : span.end] != span.value:
                    return False
                pieces += [_escaped(turn.text[at : span.start]), _PLACEHOLDER]
                at = span.end
        pieces.append(_escaped(turn.text[at:]))
        if turn.text:
            speaker = "" if turn.kind is TurnKind.THOUGHT else r"[^\n:]*: "
            parts.append(speaker + "".join(pieces))
    return re.fullmatch("\n".join(parts), scaffold.text) is not None


def _escaped(text: str) -> str:
    """A pattern for source text, in which a literal placeholder may be marked as one."""
    return r"\[\\?".join(re.escape(piece) for piece in _LITERAL.split(text))
