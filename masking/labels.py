"""Label detector: a turn in, the pieces that no policy may hide out (steps, markers, names, units)."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from string import ascii_lowercase, digits

from ahocorasick_rs import AhoCorasick, MatchKind

from .numbers import LETTER
from .spans import PLACEHOLDER, VALUE_KINDS, MaskableTask, Span, SpanKind
from .traces import TraceTurn

_LABEL = SpanKind.LABEL  # reading a member off its class takes a while
_DETECTOR = "labels"
_PLACEHOLDERS = "placeholders"
_ALWAYS = frozenset(("step", "subcase", "section", "theorem", "lemma", "corollary", "proposition"))
# These are plain words as well ("in case 5 people come"): a label only when capitalised.
_HEADINGS = frozenset(
    (
        *("case", "part", "problem", "subproblem", "example", "exercise", "claim", "stage"),
        *("round", "method", "approach", "phase", "option", "scenario", "question", "solution"),
        *("property", "condition", "remark", "strategy", "attempt", "formula"),
        *("chapter", "figure", "table", "appendix", "equation", "definition", "eq", "eqn", "fig"),
    )
)
_DOTTED = (_ALWAYS - {"step", "subcase"}) | {"equation", "definition", "chapter", "figure", "table"}
_WORDS = tuple(sorted(_ALWAYS | _HEADINGS))
LABEL_TRIGGERS = (
    *(
        *_WORDS,
        "[",
        "\u00b2",
        "\u00b3",
        "m^",
        "ft^",
        "yd^",
        "}^",
        "\\tag",
        "ref{",
        "\\label",
        "\\cite",
    ),
    *(f"{digit}{mark}" for digit in "01" for mark in (". ", ") ", ".*", ")*", "**", ".\t", ")\t")),
    *(")\n", ")$\n", ")\\"),
)
"""One of these is in each text (in lower case) that has a label; a name may stand without."""
_AUTOMATON = AhoCorasick(_WORDS, matchkind=MatchKind.LeftmostLongest)
_IN_BRACKETS = frozenset(("equation", "eq", "eqn"))  # "equation (3)" in lower case, too
_NUMBER_BEHIND = re.compile(
    r"(s?)\.?[ \t]{1,2}([#(]?)(\d{1,3}(\.\d{1,2})?+[a-d]?)(?![\w%]|[.,]\d| ?[+*/=^])"
)
_MORE_NUMBERS = re.compile(r"(?: ?(?:[-\u2013,&]|and|to) ?\d{1,2}(?![\w%]|[.,]\d)){1,8}+")
_FIRST_MARKER = re.compile(r"[01](?:\*\*)?[.)](?=[ \t*])")
_LIST_MARKER = re.compile(r"^[ \t>*#(-]{0,12}+(\d{1,2})(?:\*\*)?[.)](?=[ \t*])", re.MULTILINE)
# Where a name such as H2O, x_1 or GPT-4 may be: a set of first characters that the engine skips to.
_NAME_INSIDE = re.compile(rf"[\d_-](?:(?<={LETTER}[\d_])|(?<=[A-Z]{{3}}-)(?=\d{{1,3}}\b(?!\.\d)))")
_NAME_ASCII = re.compile(r"[0-9_-](?:(?<=[A-Za-z][0-9_])|(?<=[A-Z]{3}-)(?=[0-9]{1,3}\b(?!\.\d)))")
NAME_TRIGGERS = tuple(
    f"{letter}{mark}"
    for letter in ascii_lowercase
    for mark in ("_", *digits, *(f"-{digit}" for digit in digits))
)
"""One of these is in each ASCII text (in lower case) that has a name with digits or an index."""
_NAME = re.compile(rf"{LETTER}++(?=[\d_])\w*+(?:(?<=_)\{{\w{{1,8}}\}})?+")
_LETTERS = re.compile(r"[^\W\d_]+")
_CURRENCIES = ("usd", "eur", "gbp", "inr", "rs")
# "\tag{3}", and the number of an equation, apart from it at the end of its line.
_REFERENCE = re.compile(r"\\(?:tag\*?|label|eqref|ref|autoref|cite)\{[^{}\n]{1,40}\}")
_EQUATION_NUMBER = re.compile(
    r"\((?<=[ \t.\u2026m]\()(?:(?<=  \()|(?<=\t\()|(?<=\.\.\()|(?<=uad\()|(?<=uad \())"
    r"\d{1,2}\)(?=[ \t$\]\\]{0,8}(?:\n|$))"
)
# Of most powers, the base is no unit: the letter before the sign tells.
_POWER = re.compile(
    r"[\^\u00b2\u00b3](?<=[mtdnih}].)(?:(?<=\^)\{?[23](?!\d)\}?|(?<=[\u00b2\u00b3]))"
)
_UNIT = re.compile(
    r"(?:(?<![A-Za-z\\])(?:[cmk]m|ft|yd)|\\(?:text|mathrm|mbox|textrm)\{[^{}\n]{1,20}\})$"
)
_UNIT_BEFORE_SIGN = re.compile(r"(?<![A-Za-z\\])(?:[cmk]?m|ft|yd|in|mi|inch)$")


def find_names(turn: TraceTurn, task: MaskableTask) -> Iterable[Span]:
    """Words with digits or an index in them: H2O, AMC12, x_1, x_{12}, GPT-4."""
    return [_label(turn.text, start, end, "names") for start, end in _names(turn.text)]


def find_labels(turn: TraceTurn, task: MaskableTask) -> Iterable[Span]:
    """Steps and cases, list markers, equation numbers, powers of units, literal placeholders."""
    text = turn.text
    labels: list[Span] = []
    if "[" in text:
        labels += [
            _label(text, match.start(), match.end(), _PLACEHOLDERS)
            for match in PLACEHOLDER.finditer(text)
        ]
    for start, end in _ranges(text):
        labels.append(_label(text, start, end, _DETECTOR))
    return labels


def _label(text: str, start: int, end: int, detector: str) -> Span:
    return Span(start=start, end=end, kind=SpanKind.LABEL, value=text[start:end], detector=detector)


def _ranges(text: str) -> Iterator[tuple[int, int]]:
    # Most of these are absent from most texts; a cheap look comes before each search.
    yield from _headings(text)
    if _FIRST_MARKER.search(text):
        yield from _list_markers(text)
    if "^" in text or not text.isascii():
        yield from _powers_of_units(text)
    if "\\" in text:
        for match in _REFERENCE.finditer(text):
            yield match.span()
    if ")\n" in text or text.endswith(")"):
        for match in _EQUATION_NUMBER.finditer(text):
            yield match.span()


def _headings(text: str) -> Iterator[tuple[int, int]]:
    """A word such as "Step" with its number, and with those that follow in "Steps 1 and 2"."""
    lowered = text.lower()
    if len(lowered) != len(text):
        return
    for index, start, word_end in _AUTOMATON.find_matches_as_indexes(lowered):
        if start > 0 and text[start - 1].isalnum():
            continue
        match = _NUMBER_BEHIND.match(text, word_end)
        if match is None or not _is_heading(text, start, _WORDS[index], match):
            continue
        end = match.end()
        if match[1]:
            more = _MORE_NUMBERS.match(text, end)
            end = more.end() if more else end
        yield start, end


def _is_heading(text: str, start: int, word: str, number: re.Match[str]) -> bool:
    if number[4] is not None and word not in _DOTTED:
        return False
    if word in _ALWAYS or (word in _IN_BRACKETS and number[2] == "("):
        return True
    if not text[start].isupper():
        return False
    # "Round 12 to the nearest ten" is an instruction about a value.
    return word != "round" or not text.startswith((" to", " up", " down"), number.end())


def _list_markers(text: str) -> Iterator[tuple[int, int]]:
    """Numbers that open a line and count on from 1; a "7." that no "6." precedes is a value."""
    seen = {0}
    for match in _LIST_MARKER.finditer(text):
        number = int(match[1])
        if number - 1 in seen or number == 0:
            seen.add(number)
            yield match.start(1), match.end()


def _names(text: str) -> Iterator[tuple[int, int]]:
    covered = 0
    for match in (_NAME_ASCII if text.isascii() else _NAME_INSIDE).finditer(text):
        at = match.start()
        if at < covered:
            continue
        start = at
        while start > covered and text[start - 1].isalpha():
            start -= 1
        if text[at] == "-":
            end = at + 1
            while text[end : end + 1].isdigit():
                end += 1
            is_name = start == 0 or not text[start - 1].isalnum()
        else:
            name = _NAME.match(text, start)
            if name is None:
                continue
            end = name.end()
            is_name = _is_name(text, start, name[0])
        covered = end
        if is_name:
            yield start, end


def _is_name(text: str, start: int, word: str) -> bool:
    """Whether digits belong to a word (H2O, AMC12, x_1) and are no value run into it (him16)."""
    letters = _LETTERS.match(word)
    before = text[start - 1] if start else ""
    if letters is None or before == "\\" or before == "_" or word.replace("_", "").isalpha():
        return False
    # "\times5" is no name, and neither is "x5" ("3 x5 = 15"): hiding too much beats a leak.
    if letters[0] in ("x", "X") and word[1].isdigit():
        return False
    # "2x_1" is twice x_1, while in "5km2" anything may be meant.
    if before.isdigit() and not (len(letters[0]) == 1 and "_" in word):
        return False
    if letters[0].lower() in _CURRENCIES:
        return False
    is_symbol = len(letters[0]) == 1 or (len(letters[0]) == 2 and letters[0][0].isupper())
    return "_" in word or letters[0].isupper() or is_symbol


def _powers_of_units(text: str) -> Iterator[tuple[int, int]]:
    r"""The unit with its power in ``5 cm^2``, ``\text{ m}^{2}`` and "5 m²"."""
    for match in _POWER.finditer(text):
        start = match.start()
        window = max(0, start - 30)
        pattern = _UNIT if text[start] == "^" else _UNIT_BEFORE_SIGN
        unit = pattern.search(text[window:start])
        if unit is not None:
            yield window + unit.start(), match.end()


class Labels:
    """The labels of one turn: which spans do they protect?

    A label protects what is a part of it ("1" in "Step 1"), and values of its own size. An entity
    that is itself the label ("H2O") or longer is not protected. Literal placeholders always are.
    """

    def __init__(self, spans: Iterable[Span]):
        labels = [span for span in spans if span[2] is _LABEL]
        self._outermost: list[Span] = []
        end = 0
        for label in sorted(labels, key=lambda span: (span[0], -span[1], span[6])):
            if label[1] > end:
                self._outermost.append(label)
                end = label[1]
        self._starts = [label.start for label in self._outermost]

    def protect(self, span: Span) -> bool:
        """Whether a span is protected; a label is not protected by another."""
        at = bisect_right(self._starts, span.start) - 1
        if span.kind is SpanKind.LABEL or at < 0 or span.end > self._outermost[at].end:
            return False
        return _is_protected(span, self._outermost[at])

    def filter(self, spans: Sequence[Span]) -> list[Span]:
        """The spans of the turn, ordered by start, without those that a label protects.

        Without the labels, too, that a value runs out of: "KM4" in "KM4.5" is no name.
        """
        starts = [span[0] for span in spans]
        dropped: set[int] = set()
        at = 0
        for label in self._outermost:
            begin, end = label.start, label.end
            inside: list[int] = []
            is_broken = False
            first = at = bisect_left(starts, begin, at)
            for index in range(first, len(spans)):
                span = spans[index]
                if span[0] >= end:
                    break
                if span[1] > end:
                    is_broken = is_broken or span[2] in VALUE_KINDS
                elif span[2] is not _LABEL and _is_protected(span, label):
                    inside.append(index)
            if is_broken and label.detector != _PLACEHOLDERS:
                dropped.add(spans.index(label, first))
            else:
                dropped.update(inside)
        return [span for index, span in enumerate(spans) if index not in dropped]


def _is_protected(span: Span, label: Span) -> bool:
    if span[2] in VALUE_KINDS or label.detector == _PLACEHOLDERS:
        return True
    return span.end - span.start < label.end - label.start
