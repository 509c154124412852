r"""Fences: a text in, its fenced code blocks out; a fence and its language are no code.

Fences open and close as CommonMark has it (https://spec.commonmark.org/0.31.2/#fenced-code-blocks),
except that

* a fence may open anywhere in a line, as models write "Code: ```python";
* an unterminated fence of a list item runs to the end of the text: hiding too much beats a leak;
* a fence inside a triple-quoted string of a program does not close the program;
* a "```python" inside a block of Markdown opens a block of its own.
"""

import re
from typing import NamedTuple

from .code_blocks import CodeBlock, CodePiece
from .spans import PLACEHOLDER

_MARKS = re.compile(r"`{3,}+|~{3,}+")
# A placeholder is taken for a language, as it may stand for a word that was one.
_LANGUAGE = re.compile(rf"[ \t]*(?:{PLACEHOLDER.pattern}|[A-Za-z][\w+#.-]{{0,19}}(?![^\s,{{:\[]))?")
_CONTAINER = re.compile(r"[ \t]*+(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]*+)*+")
_QUOTE = re.compile(r"[ \t>]*+")
_MARKDOWN = frozenset(("md", "markdown"))
_PYTHON = frozenset(("", "py", "python", "python3", "pycon", "ipython"))

_CLOSING = {mark: rf"[ \t]*+({mark}{{3,}}+)[ \t\r]*+(?=\n|\Z)" for mark in "`~"}
_CLOSING_LINE = {mark: re.compile(rf"\n{closing}") for mark, closing in _CLOSING.items()}
_QUOTED_CLOSING_LINE = {
    mark: re.compile(rf"\n(?:[ \t]*+>[ \t>]*+{closing}|(?![ \t]*+>))")
    for mark, closing in _CLOSING.items()
}
_OPENING_OR_CLOSING_LINE = {
    mark: re.compile(rf"\n(?:{closing}|[ \t]*+{mark}{{3,}}+[ \t]*+(?P<opens>[A-Za-z]))")
    for mark, closing in _CLOSING.items()
}
_STRING_START = re.compile(
    r"""\"{3}|'{3}|"(?:[^"\\\n]|\\[^\n])*+"|'(?:[^'\\\n]|\\[^\n])*+'|#[^\n]*+"""
)


class _Opening(NamedTuple):
    marks: str
    line_end: int
    indent: int
    """Columns before the fence; a closing fence stands less than four columns further right."""
    is_quoted: bool
    language: str


def find_fences(text: str) -> list[CodeBlock]:
    """All fenced blocks in order, each with its content, without its fences and language.

    What follows the language in the info string counts as content, because it can say anything.
    """
    blocks: list[CodeBlock] = []
    if "```" not in text and "~~~" not in text:
        return blocks
    at = 0
    may_nest = True
    while match := _MARKS.search(text, at):
        marks, start, inside = match[0], match.start(), match.end()
        line_end = _line_end(text, inside)
        inline_end = text.find(marks, inside, line_end)
        if inline_end >= 0:
            after = inline_end + len(marks)
            while text.startswith(marks[0], after):
                after += 1
            piece = CodePiece(start=inside, end=inline_end, detector="code:inline")
            blocks.append(CodeBlock(start=start, end=after, pieces=(piece,)))
            at = after
            continue
        language = _LANGUAGE.match(text, inside, line_end)
        assert language is not None, "The pattern of a language matches the empty string."
        line_start = text.rfind("\n", at, start) + 1 or at
        prefix = _CONTAINER.match(text, line_start, start)
        assert prefix is not None, "The pattern of a prefix matches the empty string."
        is_at_start = prefix.end() == start and (line_start == 0 or text[line_start - 1] == "\n")
        if marks[0] == "~" and not is_at_start and text[language.end() : line_end].strip():
            at = inside  # "~~~ so ~~~~ long": decoration
            continue
        opening = _Opening(
            marks=marks,
            line_end=line_end,
            indent=_columns(prefix[0] if is_at_start else _indent(prefix[0])),
            is_quoted=is_at_start and ">" in prefix[0],
            language=language[0].strip().lower(),
        )
        closing = None
        if may_nest and opening.language in _MARKDOWN and not opening.is_quoted:
            closing = _closing_of_nest(text, opening)
            may_nest = closing is not None  # else each block would be searched to the text's end
        content_end, after, is_closed = closing or _closing(text, opening)
        form = ("code:fence" if marks[0] == "`" else "code:tilde") if is_closed else _UNTERMINATED
        content = min(line_end + 1, content_end)
        if opening.is_quoted:
            quote = _QUOTE.match(text, content, content_end)
            content = quote.end() if quote else content
        pieces = (
            CodePiece(start=language.end(), end=line_end, detector=form),
            CodePiece(start=content, end=content_end, detector=form),
        )
        blocks.append(CodeBlock(start=start, end=after, pieces=pieces))
        at = after
    return blocks


_UNTERMINATED = "code:unterminated"


def _closing(text: str, opening: _Opening) -> tuple[int, int, bool]:
    """Where the content ends, where the text behind the block starts, and whether it is closed."""
    pattern = (_QUOTED_CLOSING_LINE if opening.is_quoted else _CLOSING_LINE)[opening.marks[0]]
    first: tuple[int, int, bool] | None = None
    checked = at = opening.line_end
    while match := pattern.search(text, at):
        at = match.end()
        if match[1] is None:
            # The block quote ends, and with it the block.
            return match.start(), match.start(), False
        if not _can_close(text, match, opening):
            continue
        found = (match.start(), match.end(), True)
        if opening.language not in _PYTHON:
            return found
        checked = _string_end(text, checked, match.start())
        if checked < 0:
            return first or found
        if checked <= match.start():
            return found
        first = first or found
        at = checked
    return len(text), len(text), False


def _closing_of_nest(text: str, opening: _Opening) -> tuple[int, int, bool] | None:
    """As `_closing`, where inner blocks open and close; None if the inner ones do not add up."""
    depth = 0
    at = opening.line_end
    while match := _OPENING_OR_CLOSING_LINE[opening.marks[0]].search(text, at):
        at = match.end()
        if match["opens"]:
            depth += 1
        elif depth:
            depth -= 1
        elif _can_close(text, match, opening):
            return match.start(), match.end(), True
    return None


def _can_close(text: str, match: re.Match[str], opening: _Opening) -> bool:
    if len(match[1]) < len(opening.marks):
        return False
    indent = _columns(text[match.start() + 1 : match.start(1)])
    return opening.is_quoted or indent < opening.indent + 4


def _string_end(text: str, start: int, end: int) -> int:
    """`end`, or where the triple-quoted string that is open there ends; -1 if it never does.

    `start` lies outside of strings, as the end of a string that was found before does.
    """
    while (match := _STRING_START.search(text, start, end)) is not None:
        start = match.end()
        if match[0] in ('"""', "'''"):
            closing = text.find(match[0], start)
            if closing < 0:
                return -1
            start = closing + 3
            if start > end:
                return start
    return end


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _columns(prefix: str) -> int:
    return len(prefix.expandtabs(4))


def _indent(prefix: str) -> str:
    return prefix[: len(prefix) - len(prefix.lstrip())]
