"""Pseudo-code: a text in, the executable statements that stand inside its sentences out.

"Let dp[i] = max(dp[i-1], dp[i-2] + a[i]); return dp[n]" is a solution in one line of prose.
"""

import re
from collections.abc import Iterator

from .bare_code import STRICT_DOMAINS
from .code_blocks import CodePiece
from .code_lines import parses
from .spans import PLACEHOLDER

_TARGET = r"[A-Za-z_]\w*+(?:\.[A-Za-z_]\w*+|\[[^\[\]\n]{0,100}+\])*+"
_STATEMENT = re.compile(
    rf"(?<![\w.\])\\$])(?:(?P<return>[Rr]eturn[ \t]++)|"
    rf"{_TARGET}(?:,[ \t]*+{_TARGET})?+[ \t]*+(?:[-+*/%|&^]|//|\*\*|<<|>>|:)?=(?!=)[ \t]*+)"
)
_OPERAND = re.compile(
    r"(?:[-+~][ \t]*+|not[ \t]++)*+"
    r"(?:(?P<name>[A-Za-z_]\w*+)|\d[\w.]*+|\"[^\"\n]*+\"|'[^'\n]*+'|(?P<group>(?=[(\[{])))"
)
_ATTRIBUTE = re.compile(r"\.[A-Za-z_]\w*+")
_OPERATOR = re.compile(r"[ \t]*+(?:\*\*|//|<<|>>|==|!=|<=|>=|[-+*/%|&^<>])[ \t]*+")
_CLAUSE = re.compile(r"[^;.\n]{1,200}+(?:\.[^;.\s][^;.\n]{0,200}+){0,5}+")
_SIGN = re.compile(r"[-+*/%<>=()\[\]]")
_BRACKET = re.compile(r"[()\[\]{}\n]")


def find_pseudo_code(text: str, start: int, end: int, domain: str) -> Iterator[CodePiece]:
    """Assignments and returns in the middle of prose that call, index or (in code tasks) compute.

    Math and search traces have none: "f(x) = g(x) + 1" is their subject, not a program.
    """
    if domain in STRICT_DOMAINS:
        return
    if text.find("=", start, end) < 0 and text.find("eturn ", start, end) < 0:
        return
    closing: dict[int, int] | None = None
    at = start
    while match := _STATEMENT.search(text, at, end):
        at = match.end()
        if closing is None:
            closing = _closing_brackets(text, at, end)
        stop, is_code = _expression(text, at, end, closing, is_code_task=domain == "code")
        if match["return"] is None:
            is_code = is_code or "[" in match[0]
        else:
            clause = _CLAUSE.match(text, at, end)
            # "return a if a > b else b"; "return voyage in January" is Python as well.
            if clause and _SIGN.search(clause[0]) and parses(f"return {clause[0].strip()}"):
                stop, is_code = max(stop, clause.end()), True
        if is_code and stop > at and not PLACEHOLDER.search(text, match.start(), stop):
            yield CodePiece(start=match.start(), end=stop, detector="code:bare")
        at = stop


def _expression(
    text: str, at: int, end: int, closing: dict[int, int], *, is_code_task: bool
) -> tuple[int, bool]:
    """Where the expression ends that starts here, and whether it is one of a program."""
    is_code = has_operator = False
    stop = at
    while operand := _OPERAND.match(text, at, end):
        at = operand.end()
        if operand["group"] is not None:
            at = closing.get(at, -1)
            if at < 0:
                break
        while at < end:
            attribute = _ATTRIBUTE.match(text, at, end)
            after = attribute.end() if attribute else closing.get(at, -1)
            if after < 0:
                break
            is_code = is_code or (not attribute and operand["name"] is not None)
            at = after
        is_code = is_code or (has_operator and is_code_task)
        stop = at
        operator = _OPERATOR.match(text, at, end)
        if operator is None:
            break
        has_operator = True
        at = operator.end()
    return stop, is_code


def _closing_brackets(text: str, start: int, end: int) -> dict[int, int]:
    """Position behind the closing bracket, for each opening one that its own line closes."""
    closing: dict[int, int] = {}
    waiting: list[int] = []
    for match in _BRACKET.finditer(text, start, end):
        if match[0] == "\n":
            waiting.clear()
        elif match[0] in "([{":
            waiting.append(match.start())
        elif waiting:
            closing[waiting.pop()] = match.end()
    return closing
