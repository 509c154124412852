r"""Quantity detector: a turn in, its numbers, constants and expressions out; signs and operators stay."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, repeat

from .expressions import CONSTANTS, FUNCTIONS, quantity_at
from .numbers import RAISED, VULGAR
from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

_DETECTOR = "numbers"
_TEXT_COMMANDS = ("text", "mathrm", "textrm", "mbox")
_COMMANDS = rf"(?:{'|'.join((*FUNCTIONS, *CONSTANTS, *_TEXT_COMMANDS))})(?![A-Za-z])"
_FACTORS = "|".join((*FUNCTIONS, *CONSTANTS, "times", "cdot", "[,!]"))  # what may follow a number


def _splitter(digits: str, signs: str) -> re.Pattern[str]:
    r"""Splits a text into: what is no value, a value, a mark, what is no value, a value, ...

    The mark is None for a plain number whose neighbours do not matter, as nine of ten are, and ""
    where a quantity may start that `quantity_at` has to read: a command, "1,234", "10^6", ".5".
    """
    digit = f"[{digits}]"
    factor = rf"\\(?:{_FACTORS})"
    is_more = (
        rf"\{{,|[.,]?{digit}|\^(?<=10\^)|[eE][-+]?{digit}|[xX][0-9a-fA-F]"
        rf"|\\?%|\\,| ?(?:{factor}|x ?10\^|pi(?![A-Za-z]))"
    )
    is_more += rf"| ?(?:[{signs}]|\u00d7 ?10)" if signs else ""
    argument = rf"\{{{digit}++\}}"
    return re.compile(
        rf"([{digits}\\{signs}]"  # one set of first characters: the engine skips to them
        rf"(?:(?:(?<=[^.]{digit}){digit}*+(?:\.{digit}++)?+"
        rf"|(?<=\\)[dtc]?frac{argument}{argument})(?!{is_more})"
        rf"|()(?:(?<={digit}){digit}*+|(?<=\\){_COMMANDS}|(?<![\\{digits}]))))"
    )


_SPLIT_ASCII = _splitter("0-9", "")
_SPLIT_ANY = _splitter(r"\d", f"{VULGAR}{RAISED}\u03c0\u221e\u2205")
_NUMBERS, _NOT_GIVEN, _DETECTORS = repeat(SpanKind.NUMBER), repeat(False), repeat(_DETECTOR)
_NO_GROUP, _NO_REPLACEMENT = repeat(-1), repeat(None)  # these never end, and so never change
_ROMAN = re.compile(
    r"\{(?=[MDCLXVI]{2})(M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))\}"
)
CONSTANT_TRIGGERS = ("pi", "e^", "i^2", "imaginary", "complex number", "infinity")
"""One of these is in each text (in lower case) that has a constant written with letters."""
_BEFORE_POINT = frozenset(" \t\n($=+-*/<>{[")
_PI = re.compile(r"p(?<![A-Za-z_\\].)i(?![A-Za-z0-9_])")
_E = re.compile(r"e(?<![A-Za-z_\\].)(?=\^)", re.DOTALL)
# An index "i" is summed over, "i = 1", or stands in a subscript.
_I = re.compile(r"i(?<![A-Za-z_'\\].)(?<!_\{.)(?![A-Za-z_']| ?=)", re.DOTALL)
_INFINITY = re.compile(r"i(?<![A-Za-z].)nfinity(?![A-Za-z])", re.IGNORECASE | re.DOTALL)


def is_numeric(task: MaskableTask) -> bool:
    """Whether the numbers of a task's traces are values; those of code and searches are not."""
    return task.domain not in ("code", "search")


def find_quantities(turn: TraceTurn, task: MaskableTask) -> Iterable[Span]:
    r"""Numbers, constants such as ``\pi`` and expressions such as ``\frac{\sqrt{2}}{2}``.

    Prose about code and searches keeps its numbers: there the code and the entities pay.
    """
    if not is_numeric(task):
        return ()
    return scan_quantities(turn.text)


def scan_quantities(text: str, *, turn: int = 0) -> list[Span]:
    """All quantities of a text, in order and without overlaps; labels are not yet taken out."""
    parts = (_SPLIT_ASCII if text.isascii() else _SPLIT_ANY).split(text)
    marks = parts[2::3]
    del parts[2::3]
    bounds = list(accumulate(map(len, parts)))
    # A trace is full of numbers: made in one sweep, they take a quarter of the time that calls do.
    fields = zip(
        bounds[::2],
        bounds[1::2],
        _NUMBERS,
        parts[1::2],
        repeat(turn),
        _NOT_GIVEN,
        _DETECTORS,
        _NO_GROUP,
        _NO_REPLACEMENT,
        strict=False,
    )
    spans: list[Span] = list(map(tuple.__new__, repeat(Span), fields))
    if marks.count(None) < len(marks):
        marked = [index for index, mark in enumerate(marks) if mark is not None]
        spans = _with_marked_read(text, spans, marked)
    return spans


def _with_marked_read(text: str, spans: list[Span], marked: list[int]) -> list[Span]:
    """The spans with those at marked places replaced by the quantities that stand there."""
    read: list[Span] = []
    at = covered = 0  # the next span to take over, and where the text is read up to
    for index in marked:
        if index < at:
            continue
        read += spans[at:index]
        at = index
        while at < len(spans) and (at == index or spans[at][0] < covered):
            span = spans[at]
            at += 1
            start, end = max(span[0], covered), span[1]
            if end <= covered:
                continue
            is_text = text[start] == "\\" and span[3][1:] in _TEXT_COMMANDS
            found = _roman_number(text, end) if is_text else _quantity(text, start)
            if found is not None:
                start, covered, kind = found
                value = text[start:covered]
                fields = (start, covered, kind, value, span[4], False, _DETECTOR, -1, None)
                read.append(tuple.__new__(Span, fields))
    return read + spans[at:]


def _quantity(text: str, start: int) -> tuple[int, int, SpanKind] | None:
    quantity = quantity_at(text, start)
    if quantity is None:
        return None
    # ".5" has no digit before its point; "a.5" and "1.5.5" are something else.
    has_bare_point = start > 0 and text[start - 1] == "." and text[start].isdigit()
    if has_bare_point and (start == 1 or text[start - 2] in _BEFORE_POINT):
        start -= 1
    return start, quantity.end, quantity.kind


def _roman_number(text: str, at: int) -> tuple[int, int, SpanKind] | None:
    r"""``XII`` in ``\text{XII}``; elsewhere capitals may be a name."""
    match = _ROMAN.match(text, at)
    return (*match.span(1), SpanKind.NUMBER) if match else None


def find_constants(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Constants written with letters: pi, e to a power, the imaginary i, infinity."""
    if not is_numeric(task):
        return
    text = turn.text
    # A look for a few plain characters is ten times faster than a search for a pattern.
    for pattern, is_there in (
        (_PI, "pi" in text),
        (_E, "e^" in text),
        (_I, "i^2" in text or "maginary" in text or "complex number" in text),
        (_INFINITY, "nfinity" in text or "NFINITY" in text),
    ):
        for match in pattern.finditer(text) if is_there else ():
            yield Span(
                start=match.start(),
                end=match.end(),
                kind=SpanKind.CONSTANT,
                value=match[0],
                detector="constants",
            )
