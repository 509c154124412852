r"""Answer detector: a turn in, what it announces as its answer out.

That is what stands in ``\boxed{}``, after ``####`` or ``<answer>``, in an answer turn, behind "the
answer is", and at the end of a last line that concludes ("Therefore x + y = **42**."). Of a
sentence only the value is taken.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator

from .alias_values import unsigned
from .equal_answers import find_equal_answers
from .numbers import PLAIN, canonical_number
from .spans import MaskableTask, Span, SpanKind, stripped_span
from .traces import TraceTurn, TurnKind

__all__ = ["find_answers", "find_equal_answers"]

_BRACES = re.compile(r"\\(?:boxed|fbox)[ \t]*\{|\\.|[{}]", re.DOTALL)
_FENCE = re.compile(r"`{3}|~{3}")
_SAYS = re.compile(
    r"\banswer(?:[ \t]++(?:to|for|of|in)\b[^.\n:=]{0,60}?)?[ \t*]{0,4}(?:\bis\b|[:=])"
    r"[ \t:_]*+(?:\*\*(?=\s)[ \t:]*+)?",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"[ \t*>#-]*+(?:therefore|thus|hence|so|finally|consequently|accordingly|in total|altogether"
    r"|in conclusion|final(?:ly)? answer)\b",
    re.IGNORECASE,
)
_IN_DOLLARS = r"(?!\s)[^$\n]{1,200}(?<!\s)"  # not the money of "$4.00 + $2.00"
_VALUE = re.compile(
    r"\*\*(?P<bold>[^*\n]{1,200})\*\*|\\\((?P<round>[^\n]{1,200}?)\\\)"
    rf"|\$\$?(?P<math>{_IN_DOLLARS})\$(?!\d)"
    rf"|[-+]?\s?\\?[$\u20ac\u00a3]?(?P<number>{PLAIN})(?![.,]?\d|[\w{{^\\]|\s?[-+*/=\\\u00d7\u00f7])"
    r"|\(?(?P<choice>[A-J])\)?(?=[\s*]*(?:[.,;:)]|$))"
    r"|(?P<word>yes|no|true|false)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")
_PHRASE = re.compile(r"[^\n.;!?]+(?:(?:\.(?=\w)|(?<=\b[A-Z])\.)[^\n.;!?]*+)*+")
_OPERATION = re.compile(r"\d[\s}]?(?:[-+*/=\u00d7\u00f7]|\\(?:times|cdot|div))")
_MATH = re.compile(rf"\$({_IN_DOLLARS})\$(?!\d)|\\\(([^\n]{{1,200}}?)\\\)")
_NO_VALUE = frozenset(
    ("that", "to", "not", "in", "given", "found", "as", "if", "by", "what", "because", "obtained")
)
_MAX_WORDS = 6
_MAX_CHARS = 200
_SPECIAL = ("\\boxed", "\\fbox", "<answer>", "[", "`")
_HASHES = re.compile(r"####[ \t]+(\S[^\n]*)")  # up to its line's end, so at most once a line


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
        if text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \t"):
            continue  # not at its line's start
        # "#### Step 2" is a heading; GSM8K's "#### 18" is a number or the last line.
        if match.start() >= last_line or canonical_number(match[1]) is not None:
            yield from _announced(text, *match.span(1))
    if task.domain != "code":
        yield from _said(text, last_line)
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
    first = text.find("box") - 2
    while first > 0 and text[first - 1] == "\\":
        first -= 1  # whether "\\\\boxed" is a command is told by all the backslashes before it
    for match in _BRACES.finditer(text, max(first, 0)):  # no brace before it matters
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


def _said(text: str, last_line: int) -> Iterator[Span]:
    """Values of sentences that say what the answer is, and of a last line that concludes."""
    is_said_last = False
    end = -1
    for match in _sayings(text):
        start = match.end()
        if end < start:
            end = text.find("\n", start)
            end = len(text) if end < 0 else end
        is_last = start >= last_line
        span = list(
            _value_after(text, start, min(end, start + _MAX_CHARS), is_phrase_taken=is_last)
        )
        yield from span
        is_said_last = is_said_last or (is_last and bool(span))
    if is_said_last or not _CONCLUDES.match(text, last_line):
        return
    bold = list(_BOLD.finditer(text, last_line))
    if bold and (any(map(str.isdigit, bold[-1][1])) or "\\" in bold[-1][1] or "$" in bold[-1][1]):
        yield from _plain_value(text, *bold[-1].span(1))
        return
    equals = text.rfind("=", last_line)
    if equals >= 0:
        yield from _plain_value(text, equals + 1, len(text))
        return
    for match in list(_MATH.finditer(text, last_line))[-1:]:
        yield from _plain_value(text, *match.span(match.lastindex or 0))


def _sayings(text: str) -> Iterator[re.Match[str]]:
    """Matches of `_SAYS`; to look for its first word is ten times as fast as to search for it."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow when lower-cased
        yield from _SAYS.finditer(text)
        return
    at = lowered.find("answer")
    while at >= 0:
        match = _SAYS.match(text, at)
        if match is not None:
            yield match
        at = lowered.find("answer", match.end() if match else at + 1)


def _value_after(text: str, start: int, end: int, *, is_phrase_taken: bool) -> Iterator[Span]:
    """The value that a line goes on with, if it does."""
    if text.startswith(_SPECIAL, start):
        return  # found by itself, or hidden already
    match = _VALUE.match(text, start, end)
    if match is not None:
        inside = match.span(match.lastgroup or 0)
        is_marked = match.lastgroup in ("bold", "round", "math")
        yield from _plain_value(text, *inside) if is_marked else _answer_span(text, *inside)
        return
    phrase = _PHRASE.match(text, start, end)
    if phrase is None or not is_phrase_taken:
        return
    words = phrase[0].split()
    has_mark = any(mark in phrase[0] for mark in _SPECIAL) or _OPERATION.search(phrase[0])
    if 0 < len(words) <= _MAX_WORDS and words[0].lower() not in _NO_VALUE and not has_mark:
        yield from _answer_span(text, *phrase.span())


def _plain_value(text: str, start: int, end: int) -> Iterator[Span]:
    """The last side of an equation, or all that stands there; of a number, the digits alone."""
    start = max(start, text.rfind("=", start, end) + 1)
    while start < end and text[start] in " \t*$":
        start += 1
    match = _VALUE.match(text, start, end)
    if match is not None and match["number"] is not None:
        yield from _answer_span(text, *match.span("number"))
        return
    stop = re.compile(r"[$*\n]|\\[)\]]|\.(?!\d)").search(text, start, end)
    end = stop.start() if stop else end
    value = text[start:end]
    start += len(value) - len(unsigned(value))  # the sign stays, as that of plain digits does
    is_short = 0 < len(value) <= _MAX_CHARS and len(value.split()) <= _MAX_WORDS
    if is_short and not any(mark in value for mark in _SPECIAL) and not _OPERATION.search(value):
        yield from _answer_span(text, start, end)


def _announced(text: str, start: int, end: int) -> Iterator[Span]:
    """An answer up to the first code fence in it: half a fence would change what is code."""
    fence = _FENCE.search(text, start, end)
    return _answer_span(text, start, fence.start() if fence else end)


def _answer_span(text: str, start: int, end: int) -> Iterator[Span]:
    return stripped_span(text, start, end, kind=SpanKind.ANSWER, detector="final_answers")
