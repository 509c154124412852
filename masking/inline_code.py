"""Inline code: a text in, the backtick spans that hold code out; the backticks stay.

A name alone, as in "the list `seen`" or "by `len()`", tells which thing is meant and stays; so do
words, and plain numbers, which are values. Whatever holds an operator, a bracket, a string or a
digit is code, in a math trace as well: "`x = 3`" shows a result.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from .code_blocks import CodePiece
from .code_lines import parses
from .spans import PLACEHOLDER

MAX_UNPARSED_CHARS = 200
"""Longer pieces are code only if they parse: two stray backticks have prose between them."""

_MARKS = re.compile(r"`++")
_BLANK_LINE = re.compile(r"\n[ \t\r]*+\n")
_NAME = re.compile(r"[^\W\d]\w*+(?:\(\)|(?:\.[^\W\d]\w*+)*+)")
_NUMBER = re.compile(r"[-+]?[\d.,]++%?")
_SIGNS = re.compile(r"[\d=+*/%<>()\[\]{}^|&~@#\\\";$-]|\A'")
_CLAUSE = re.compile(r"(?:else|try|finally|except) ?:")
_KEYWORD = re.compile(
    r"\b(?:return|import|lambda|not|and|or|in|is|if|for|while|with|except|del|assert|raise|from|yield|global|class|def)\b"
)


def find_inline_code(
    text: str, ranges: Iterable[tuple[int, int]], *, must_parse: bool
) -> Iterator[CodePiece]:
    """Code between backtick runs of one line, or of two with no blank line between, in the ranges.

    The pieces of a line whose runs do not pair may overlap.

    ``must_parse`` leaves out what is no Python expression or statement: titles of works in
    backticks, as search traces have them.
    """
    if "`" not in text:
        return
    for start, end in ranges:
        for inside, outside in _backtick_spans(text, start, end):
            if holds_code(text[inside:outside], must_parse=must_parse):
                yield CodePiece(start=inside, end=outside, detector="code:inline")


def _backtick_spans(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Contents of the backtick spans; ``LaTeX quotes'' are none.

    The runs of a line pair as in CommonMark. Where one is left over, nobody can tell which of them
    opens what: whatever stands between two neighbours is a content, and so is all between the first
    and the last. A stray mark thus turns nothing around beyond its line; two lines with one left
    over each may have a span across their break.
    """
    runs = _runs(text, start, end)
    was_uneven = False
    at = 0
    while at < len(runs):
        line_end = text.find("\n", runs[at][1], end)
        line_end = end if line_end < 0 else line_end
        stop = at + 1
        while stop < len(runs) and runs[stop][1] <= line_end:
            stop += 1
        pairs, is_uneven = _pairs(runs[at:stop])
        if not is_uneven:
            yield from pairs
        else:
            for opening, closing in itertools.pairwise(runs[at:stop]):
                yield opening[1], closing[0]
            if stop - at > 2:
                yield runs[at][1], runs[stop - 1][0]
            if was_uneven and not _BLANK_LINE.search(text, runs[at - 1][1], runs[at][0]):
                yield runs[at - 1][1], runs[at][0]
        was_uneven = is_uneven
        at = stop


def _runs(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """All runs of backticks but for those that open ``quotes''."""
    runs = [match.span() for match in _MARKS.finditer(text, start, end)]
    behind = [run[0] for run in (*runs[1:], (end, end))] if runs else []
    return [
        (opening, closing)
        for (opening, closing), until in zip(runs, behind, strict=True)
        if closing - opening != 2 or text.find("''", closing, until) < 0
    ]


def _pairs(runs: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], bool]:
    """Contents between runs of equal length, each with the next such; is a run left over?"""
    partners = [-1] * len(runs)
    last: dict[int, int] = {}
    for index in range(len(runs) - 1, -1, -1):
        length = runs[index][1] - runs[index][0]
        partners[index] = last.get(length, -1)
        last[length] = index
    pairs: list[tuple[int, int]] = []
    is_uneven = False
    index = 0
    while index < len(runs):
        partner = partners[index]
        if partner < 0:
            is_uneven = True
            index += 1
        else:
            pairs.append((runs[index][1], runs[partner][0]))
            index = partner + 1
    return pairs, is_uneven


def holds_code(content: str, *, must_parse: bool = False) -> bool:
    """Whether a short marked piece is code rather than a name, some words or a number."""
    content = content.strip()
    if not content or _NAME.fullmatch(content):
        return False
    if _NUMBER.fullmatch(content) or PLACEHOLDER.fullmatch(content):
        return False
    if _CLAUSE.fullmatch(content):
        return True
    if _SIGNS.search(content):
        is_long = len(content) > MAX_UNPARSED_CHARS
        return not (must_parse or is_long) or parses(content)
    return _KEYWORD.search(content) is not None and parses(content)
