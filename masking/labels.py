"""Label detector: a turn in, the pieces that no policy may hide out (steps, markers, names)."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from .numbers import LETTER
from .spans import PLACEHOLDER, VALUE_KINDS, MaskableTask, Span, SpanKind
from .traces import TraceTurn

_PLACEHOLDERS = "placeholders"
_ALWAYS = frozenset(("step", "subcase", "section", "theorem", "lemma", "corollary", "proposition"))
# These are plain words as well ("in case 5 people come"): a label only when capitalised.
_HEADINGS = frozenset(
    (
        *("case", "part", "problem", "subproblem", "example", "exercise", "claim", "stage"),
        *("round", "method", "approach", "phase", "option", "scenario"),
        *("chapter", "figure", "table", "appendix", "equation", "definition"),
    )
)
_DOTTED = (_ALWAYS - {"step", "subcase"}) | {"equation", "definition", "chapter", "figure", "table"}
_BEFORE_NUMBER = re.compile(r"(?<![^\W_])([A-Za-z]{4,11})[ \t]{1,2}[#(]?$")
_LABEL_NUMBER = re.compile(r"(?<=[ \t#(])\d{1,3}(\.\d{1,2})?+[a-d]?(?![\w%]|[.,]\d| ?[+*/=^])")
_MORE_NUMBERS = re.compile(r"(?: ?(?:[-\u2013,&]|and|to) ?\d{1,2}(?![\w%]|[.,]\d)){1,8}+")
_LIST_MARKER = re.compile(r"^[ \t>*#(-]{0,12}+(\d{1,2})(?:\*\*)?[.)](?=[ \t*])", re.MULTILINE)
# "\times5" is no name, and neither is "x5" ("3 x5 = 15"): hiding too much beats a leak.
_NAME = re.compile(rf"(?<!\\)\b(?![xX]\d){LETTER}++(?=[\d_])\w*+(?:(?<=_)\{{\w{{1,8}}\}})?+")
_LETTERS = re.compile(r"[^\W\d_]+")
_HYPHENATED = re.compile(r"\b[A-Z]{3,}+-\d{1,3}\b(?!\.\d)")
_CURRENCIES = ("usd", "eur", "gbp", "inr", "rs")


def find_labels(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Steps and cases, list markers, names such as AMC12, H2O and x_1, literal placeholders."""
    text = turn.text
    for match in PLACEHOLDER.finditer(text):
        yield _label(text, match.start(), match.end(), _PLACEHOLDERS)
    for match in _LABEL_NUMBER.finditer(text):
        start = _structural_start(text, match)
        if start is not None:
            end = match.end()
            if text.endswith(("s ", "S "), start, match.start()):
                more = _MORE_NUMBERS.match(text, end)
                end = more.end() if more else end
            yield _label(text, start, end, "labels")
    yield from _list_markers(text)
    for match in _NAME.finditer(text):
        if _is_name(match[0]):
            yield _label(text, match.start(), match.end(), "labels")
    for match in _HYPHENATED.finditer(text):
        yield _label(text, match.start(), match.end(), "labels")


def _label(text: str, start: int, end: int, detector: str) -> Span:
    return Span(start=start, end=end, kind=SpanKind.LABEL, value=text[start:end], detector=detector)


def _is_name(word: str) -> bool:
    """Whether digits belong to a word (H2O, AMC12, x_1) and are no value run into it (him16)."""
    letters = _LETTERS.match(word)
    if letters is None or letters[0].lower() in _CURRENCIES or word.replace("_", "").isalpha():
        return False
    is_symbol = len(letters[0]) == 1 or (len(letters[0]) == 2 and letters[0][0].isupper())
    return "_" in word or letters[0].isupper() or is_symbol


def _structural_start(text: str, number: re.Match[str]) -> int | None:
    """Where the word before this number starts, if the two form a label such as "Step 3"."""
    at = number.start()
    window = max(0, at - 15)
    match = _BEFORE_NUMBER.search(text[window:at])
    if match is None:
        return None
    start = window + match.start(1)
    word = match[1].lower()
    if word not in _ALWAYS and word not in _HEADINGS:
        word = word.removesuffix("s")
    if number[1] is not None and word not in _DOTTED:
        return None
    if word in _ALWAYS:
        return start
    if word not in _HEADINGS or not match[1][0].isupper():
        return None
    # "Round 12 to the nearest ten" is an instruction about a value.
    if word == "round" and text.startswith((" to", " up", " down"), number.end()):
        return None
    return start


def _list_markers(text: str) -> Iterator[Span]:
    """Numbers that open a line and count on from 1; a "7." that no "6." precedes is a value."""
    seen = {0}
    for match in _LIST_MARKER.finditer(text):
        number = int(match[1])
        if number - 1 in seen or number == 0:
            seen.add(number)
            yield _label(text, match.start(1), match.end(), "labels")


class Labels:
    """The labels of one turn: which spans do they protect?

    A label protects what is a part of it ("1" in "Step 1"), and values of its own size. An entity
    that is itself the label ("H2O") or longer is not protected. Literal placeholders always are.
    """

    def __init__(self, spans: Iterable[Span]):
        labels = (span for span in spans if span.kind is SpanKind.LABEL)
        self._outermost: list[Span] = []
        for label in sorted(labels, key=lambda span: (span.start, -span.end, span.detector)):
            if not self._outermost or label.end > self._outermost[-1].end:
                self._outermost.append(label)
        self._starts = [label.start for label in self._outermost]

    def protect(self, span: Span) -> bool:
        """Whether a span is protected; a label is not protected by another."""
        at = bisect_right(self._starts, span.start) - 1
        if span.kind is SpanKind.LABEL or at < 0 or span.end > self._outermost[at].end:
            return False
        label = self._outermost[at]
        is_smaller = span.end - span.start < label.end - label.start
        return is_smaller or label.detector == _PLACEHOLDERS or span.kind in VALUE_KINDS


def without_broken_labels(spans: Sequence[Span]) -> list[Span]:
    """The spans of one turn without labels that a value runs out of: "KM4" in "KM4.5" is no name."""
    values = sorted((s.start, s.end) for s in spans if s.kind in VALUE_KINDS)
    starts = [start for start, _ in values]

    def is_broken(label: Span) -> bool:
        at = bisect_left(starts, label.end) - 1  # the last value that starts before its end
        return at >= 0 and label.start <= starts[at] and values[at][1] > label.end

    return [
        span
        for span in spans
        if span.kind is not SpanKind.LABEL or span.detector == _PLACEHOLDERS or not is_broken(span)
    ]
