"""Bare code: a text and its unmarked ranges in, the runs of lines that are a program out.

A run is a sequence of lines that look like statements, with the blocks that hang from them and the
blank lines between. It is taken for code when it holds enough evidence for the domain of its task:

* in any domain, one statement that only a program has, such as "def f(x):" or "print(x)";
* in a domain of the user's own, also three code-shaped lines, one of which calls or indexes;
* in code tasks, also a single assignment. Elsewhere "x = a + b" is algebra, where the numbers are
  hidden and the procedure stays.

Each line is judged by itself, so a part of a rejected run is rejected too: masking a masked text
finds nothing new.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .code_blocks import CodePiece
from .code_lines import Evidence, is_header, statement_evidence

STRICT_DOMAINS = frozenset(("math", "search"))
"""Domains in which only what no formula and no sentence looks like is taken for bare code."""

MAX_STATEMENT_LINES = 400
"""A bracket or string that is open for longer is taken for a mistake, not for a statement."""

_CONTAINER = r"[ \t]*+(?:(?:>(?!>)|[-*+][ \t]|\d{1,3}[.)][ \t])[ \t]*+)*+"
_PREFIX = re.compile(_CONTAINER)
_STRONG_START = (
    r">>> |@\w|(?:async )?def \w|class \w|import \w|from [\w.]+ import |print ?[(\"']|#include|"
    r"(?:for|while|with|if)\b[^\n]*:|return\b|assert |raise |yield |try:|using namespace |"
    r"(?:for|while|if)[ \t]*\(|[A-Za-z_][\w:<>*& ]{0,60}\([^(){};\n]{0,200}\)[ \t]*\{"
)
_ANY_START = rf"{_STRONG_START}|[A-Za-z_][^\n=]{{0,100}}+(?<![<>!:])=(?!=)|[A-Za-z_][\w.]*+[(\[]|[^\n]*;\r?\n"
_MIDLINE = re.compile(r"(?<=[\s`:(])def [A-Za-z_]\w*+\([^\n]{0,200}?\)[^\n:]{0,60}:")
_OPENING_BRACKETS, _CLOSING_BRACKETS = "([{", ")]}"


def _starts(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""For the first line and for the others: one that starts with "\n" is searched for fastest."""
    return re.compile(rf"{_CONTAINER}(?:{pattern})"), re.compile(rf"\n{_CONTAINER}(?:{pattern})")


_STRONG_STARTS, _ANY_STARTS = _starts(_STRONG_START), _starts(_ANY_START)


class _Line(NamedTuple):
    start: int
    at: int
    """Where its statement starts, behind white space, list markers and quote marks."""
    end: int
    indent: int
    net_brackets: int


class _Item(NamedTuple):
    """A statement of a run with the block that hangs from it: lines `first` to `last`."""

    first: int
    last: int
    at: int
    evidence: Evidence


def find_bare_code(text: str, start: int, end: int, domain: str) -> Iterator[CodePiece]:
    """The runs of a range that are code in this domain."""
    first, later = _STRONG_STARTS if domain in STRICT_DOMAINS else _ANY_STARTS
    has_start = first.match(text, start, end) or later.search(text, start, end)
    if not has_start and text.find(" def ", start, end) < 0:
        return
    lines = _lines(text, start, end)
    for run in _runs(text, lines):
        if not _is_code(run, domain):
            continue
        above = lines[run[0].first - 1] if run[0].first else None
        is_indented = all(lines[item.first].indent >= 4 for item in run)
        is_indented = is_indented and (above is None or above.at == above.end)
        yield CodePiece(
            start=run[0].at,
            end=lines[run[-1].last].end,
            detector="code:indented" if is_indented else "code:bare",
        )


def may_hold_program(text: str) -> bool:
    """Whether a statement that only a program has can be in a text: cheap, as most have none."""
    first, later = _STRONG_STARTS
    return bool(later.search(text) or first.match(text)) or " def " in text


def _is_code(run: Sequence[_Item], domain: str) -> bool:
    best = max(item.evidence for item in run)
    num_shaped = sum(item.evidence >= Evidence.SHAPED for item in run)
    if best is Evidence.STRONG:
        return True
    if domain in STRICT_DOMAINS:
        return False
    if domain == "code":
        return best >= Evidence.WEAK or num_shaped >= 3
    return num_shaped >= 3 and best >= Evidence.MEDIUM


def _lines(text: str, start: int, end: int) -> list[_Line]:
    lines: list[_Line] = []
    while start < end:
        line_end = text.find("\n", start, end)
        line_end = end if line_end < 0 else line_end
        prefix = _PREFIX.match(text, start, line_end)
        assert prefix is not None, "The pattern of a prefix matches the empty string."
        at = prefix.end()
        content = text[at:line_end].rstrip()
        net = sum(map(content.count, _OPENING_BRACKETS)) - sum(
            map(content.count, _CLOSING_BRACKETS)
        )
        lines.append(
            _Line(
                start=start,
                at=at,
                end=at + len(content),
                indent=len(prefix[0].expandtabs(4)),
                net_brackets=net,
            )
        )
        start = line_end + 1
    return lines


def _runs(text: str, lines: Sequence[_Line]) -> Iterator[list[_Item]]:
    """Sequences of statements that only blank lines part."""
    closing_lines = _closing_lines(lines)
    # Statements of several lines that fail are read again from their second line on: without a
    # budget, brackets within brackets would take quadratic time.
    budget = 3 * (lines[-1].end - lines[0].start) + 50_000 if lines else 0
    run: list[_Item] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        if line.at == line.end:
            index += 1
            continue
        last, at = index, line.at
        evidence = statement_evidence(text[at : line.end])
        if evidence is Evidence.NONE and " def " in text[at : line.end]:
            midline = _MIDLINE.search(text, at, line.end)
            if midline:
                yield from _trimmed(run, lines)
                run = []
                at, evidence = midline.start(), Evidence.STRONG
        if evidence <= Evidence.SHAPED:
            joined = _last_line_of_statement(text, lines, index, closing_lines)
            size = lines[joined].end - at
            if joined > index and size <= budget:
                whole = statement_evidence(_statement(text, lines, index, joined))
                if whole in (Evidence.NONE, Evidence.SHAPED):
                    budget -= size
                else:
                    last, evidence = joined, whole
        if evidence is Evidence.NONE:
            yield from _trimmed(run, lines)
            run = []
            index += 1
            continue
        head = last
        last = _last_line_of_block(text, lines, index, last, at)
        if evidence < Evidence.STRONG and head < last:
            evidence = max(evidence, _block_evidence(text, lines[head + 1 : last + 1]))
        run.append(_Item(first=index, last=last, at=at, evidence=evidence))
        index = last + 1
    yield from _trimmed(run, lines)


def _trimmed(run: list[_Item], lines: Sequence[_Line]) -> Iterator[list[_Item]]:
    """The run without comments and brackets at its ends that a blank line parts from it."""
    first, last = 0, len(run) - 1
    solid = [index for index, item in enumerate(run) if item.evidence > Evidence.NEUTRAL]
    if not solid:
        return
    first, last = solid[0], solid[-1]
    while first > 0 and run[first - 1].last + 1 == run[first].first:
        first -= 1
    while last + 1 < len(run) and run[last].last + 1 == run[last + 1].first:
        last += 1
    yield run[first : last + 1]


def _statement(text: str, lines: Sequence[_Line], first: int, last: int) -> str:
    """The statement of some lines; within brackets and strings indentation means nothing."""
    following = (text[line.start : line.end].lstrip(" \t>") for line in lines[first + 1 : last + 1])
    return "\n".join((text[lines[first].at : lines[first].end], *following))


def _block_evidence(text: str, lines: Sequence[_Line]) -> Evidence:
    """What the lines under a header such as "try:" say about it."""
    best = Evidence.NONE
    for line in lines:
        best = max(best, statement_evidence(text[line.at : line.end]))
        if best is Evidence.STRONG:
            break
    return best


def _last_line_of_statement(
    text: str, lines: Sequence[_Line], index: int, closing_lines: Sequence[int]
) -> int:
    """The line on which the brackets or the string that this line opens are closed, or itself."""
    line = lines[index]
    content = text[line.at : line.end]
    for quotes in ('"""', "'''"):
        if content.count(quotes) % 2:
            for later in range(index + 1, min(index + MAX_STATEMENT_LINES, len(lines))):
                if quotes in text[lines[later].at : lines[later].end]:
                    return later
            return index
    if line.net_brackets > 0 and index < closing_lines[index] <= index + MAX_STATEMENT_LINES:
        return closing_lines[index]
    if content.endswith("\\") and index + 1 < len(lines):
        return index + 1
    return index


def _last_line_of_block(text: str, lines: Sequence[_Line], first: int, last: int, at: int) -> int:
    """The last line of what hangs from a statement: its indented block, or a doctest's output."""
    statement = text[at : lines[last].end]
    following = last + 1
    if statement.startswith(">>>"):
        while following < len(lines) and lines[following].at < lines[following].end:
            if text.startswith(">>>", lines[following].at):
                break
            last = following
            following += 1
        return last
    if not is_header(statement) and not statement.endswith("{"):
        return last
    indent = lines[first].indent
    while following < len(lines):
        line = lines[following]
        if line.at < line.end:
            if line.indent <= indent:
                break
            last = following
        following += 1
    return last


def _closing_lines(lines: Sequence[_Line]) -> list[int]:
    """For each line the first line after which no bracket that it opened is open; -1 if none."""
    closing = [-1] * len(lines)
    waiting: list[tuple[int, int]] = []
    depth = 0
    for index, line in enumerate(lines):
        waiting.append((depth, index))
        depth += line.net_brackets
        while waiting and waiting[-1][0] >= depth:
            closing[waiting.pop()[1]] = index
    return closing
