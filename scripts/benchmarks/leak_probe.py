r"""Leak probe: a task and a scaffold's text in, how its target can still be read there out.

A second opinion: nothing of `maskgym.masking` is used here. Numbers are read by a pattern of its own
and compared as `Fraction`, number words by text2num, mathematics by math-verify where that is
installed, names by SQuAD-normalised containment, dates by day, month and year.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from maskgym.envs import Task

from .outside_libraries import are_equal_mathematics, with_digits_for_words

_PLACEHOLDER = re.compile(r"\[\\*[A-Z]+(?:_[A-Z]+)*(?:_\d+)?\]|__STRUCTURAL_NUMBER_\S*?__")
_HOLE = " \ufffc "

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}|\\,)\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(_DIGITS)
_LATEX_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_RATIO = re.compile(rf"({_DIGITS})\s*/\s*({_DIGITS})")
_POWER = re.compile(
    r"\s*(?:\\times|\\cdot|\u00d7|x|\*)\s*10\s*\^\s*\{?\s*([-+]?\d{1,3})|[eE]([-+]?\d{1,3})\b"
)
_LABEL_BEFORE = re.compile(
    r"(?:step|case|part|subcase|problem|example|exercise|lemma|theorem|claim|stage|round|section|"
    r"method|option|question|approach|phase|figure|table|equation|chapter)s?[ \t]+[#(]?$",
    re.IGNORECASE,
)
_FRACTION_WORDS = {"dozen": 12, "half": Fraction(1, 2), "quarter": Fraction(1, 4)}
_SMALL_WORDS = {"zero": 0, "two": 2, "three": 3}
_ONE = re.compile(r"\b(?:exactly|only|just|is|equals|are|leaves|get|gives)[ \t]+one\b", re.I)

_MATHEMATICS = re.compile(
    r"\$\$(.+?)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]|\\boxed\{([^\n]*)\}", re.DOTALL
)
_ANSWER_IS = r"(?:answer|choice|option|finish|solution)s?\W{0,3}(?:is|are|:|=|\[|>|\()?\W{0,4}"
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_CLOSED = frozenset(("yes", "no", "true", "false", "none"))
_MONTHS = re.findall(
    r"\w+", "january february march april may june july august september october november december"
)
_MONTH = rf"({'|'.join(_MONTHS)}|{'|'.join(month[:3] for month in _MONTHS)})\.?"
_DATES = (
    (re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH},? (\d{{4}})\b", re.I), "dmy"),
    (re.compile(rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?,? (\d{{4}})\b", re.I), "mdy"),
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b"), "ymd"),
)


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One way in which a target shows."""

    form: str
    """"number", "words", "literal", "equal", "name", "date" or "answer"."""
    excerpt: str
    """The place, with its surroundings."""
    aside: str = ""
    """Why it is no leak by itself: "label" (the 3 of "Step 3") or "division" (an open 12/4 for 3,
    which is one step away); "" for a leak."""


def find_leak(task: Task, scaffold: str) -> Leak | None:
    """The first leak of a math or search task's target; what is aside only where nothing leaks."""
    text = _PLACEHOLDER.sub(_HOLE, scaffold)
    aside = None
    for gold in task.answers:
        if not gold.strip():
            continue
        for leak in _leaks(task, gold.strip(), text):
            if not leak.aside:
                return leak
            aside = aside or leak
    return aside


def _leaks(task: Task, gold: str, text: str) -> Iterator[Leak]:
    words = normalised(gold)
    if words in _CLOSED or re.fullmatch(r"\(?[A-Za-z]\)?\.?", gold):
        yield from _closed_answers(words or gold.strip("().").lower(), gold, text)
        return
    value = number_of(gold)
    if value is not None:
        # In a search trace a number is an answer like any name: one of the question tells nothing.
        if task.domain == "search" and f" {words} " in f" {normalised(task.question)} ":
            return
        yield from _numbers(value, text)
        yield from _number_words(value, text)
        return
    date = date_of(gold)
    if date is not None and date not in dates_in(task.question):
        for found, start, end in dates_in_places(text):
            if found == date:
                yield Leak(form="date", excerpt=_around(text, start, end))
    if task.domain == "search":
        yield from _names(gold, task.question, text)
    else:
        yield from _formulas(gold, task.question, text)


def _numbers(target: Fraction, text: str) -> Iterator[Leak]:
    taken = -1
    # A whole number is not written as a ratio: "12/4 =" leaves something to be worked out.
    aside = "division" if target.denominator == 1 else ""
    for pattern in (_LATEX_FRACTION, _RATIO):
        for match in pattern.finditer(text):
            above, below = (_plain(part) for part in match.groups() if part is not None)
            if below and above / below == abs(target):
                excerpt = _around(text, *match.span())
                yield Leak(form="number", excerpt=excerpt, aside=aside)
    fractions = [match.span() for match in _LATEX_FRACTION.finditer(text)]
    for match in _NUMBER.finditer(text):
        while fractions and fractions[0][0] <= match.start():
            taken = fractions.pop(0)[1]
        if match.start() < taken or _is_in_name(text, match.start()):
            continue
        values = {_plain(match[0])}
        power = _POWER.match(text, match.end())
        if power:
            values = {_plain(match[0]) * Fraction(10) ** int(power[1] or power[2])}
        elif text[match.end() :].lstrip(" \\").startswith("%"):
            values.add(_plain(match[0]) / 100)
        if abs(target) in values:
            excerpt = _around(text, *match.span())
            aside = "label" if _is_label(text, match) else ""
            yield Leak(form="number", excerpt=excerpt, aside=aside)


def _number_words(target: Fraction, text: str) -> Iterator[Leak]:
    spoken = with_digits_for_words(text)
    if spoken is not None and target.denominator == 1:
        # What has digits only now, was words before.
        pattern = rf"(?<![\w.,])(?<!\d )(?<!\ufffc  ){target}(?![\w,]|\.\d)"  # nor 3 1000000 for 3 million
        before = len(re.findall(pattern, text))
        places = list(re.finditer(pattern, spoken))
        if len(places) > before and target != 1:
            yield Leak(form="words", excerpt=_around(spoken, *places[-1].span()))
    for word, value in {**_FRACTION_WORDS, **_SMALL_WORDS}.items():
        # The dozen of "3 dozen" is no twelve.
        pattern = rf"(?<!\d )(?<!\d-)\b{word}s?\b"
        match = re.search(pattern, text, re.IGNORECASE) if value == target else None
        if match:
            yield Leak(form="words", excerpt=_around(text, *match.span()))
    one = _ONE.search(text) if target == 1 else None
    if one:
        yield Leak(form="words", excerpt=_around(text, *one.span()))


def _names(gold: str, question: str, text: str) -> Iterator[Leak]:
    words = normalised(gold)
    if not words or f" {words} " in f" {normalised(question)} ":
        return
    if f" {words} " not in f" {normalised(text)} ":
        return
    plain = without_accents(text)
    for match in _name_pattern(words).finditer(plain):
        # "... the question. The poem ..." does not name "The Question (poem)".
        is_two_sentences = re.search(r"[a-z]{2}[.!?]\s", match[0]) and not re.search(r"[.!?]", gold)
        if not is_two_sentences:
            yield Leak(form="name", excerpt=_around(plain, *match.span()))


@lru_cache(maxsize=4096)
def _name_pattern(words: str) -> re.Pattern[str]:
    """The words of a name in a row, with marks and articles between them."""
    letters = [r"['.]?".join(map(re.escape, word)) for word in words.split()]
    gap = r"(?:[^\w]|_|\b(?:a|an|the)\b)+"
    return re.compile(rf"(?<!\w){gap.join(letters)}(?!\w)", re.IGNORECASE)


def _closed_answers(word: str, gold: str, text: str) -> Iterator[Leak]:
    """Yes, no, true, false or a choice, only where it stands as an answer."""
    letter = re.escape(word)
    forms = [rf"{_ANSWER_IS}\b{letter}\b(?!\s+[a-z])", rf"^\W*{letter}\W*$"]
    if len(word) == 1:
        forms = [rf"{_ANSWER_IS}\b{letter}\b(?!['\u2019]|\s+[a-z])", rf"^\W*{letter}\W*$"]
        forms.append(rf"\({letter}\)")
    for form in forms:
        match = re.search(form, text, re.IGNORECASE | re.MULTILINE)
        if match:
            yield Leak(form="answer", excerpt=_around(text, *match.span()))
            return


def _formulas(gold: str, question: str, text: str) -> Iterator[Leak]:
    wanted = squeezed(gold)
    # An expression of the question tells nothing, except where it is announced.
    is_asked = wanted in squeezed(question)
    pieces = [
        (match, next(part for part in match.groups() if part is not None))
        for match in _MATHEMATICS.finditer(text)
    ]
    for match, piece in pieces:
        is_boxed = match[0].startswith("\\boxed")
        if is_asked and not is_boxed:
            continue
        if squeezed(piece) == wanted:
            yield Leak(form="literal", excerpt=_around(text, *match.span()))
        elif "\ufffc" not in piece and are_equal_mathematics(piece, gold):
            yield Leak(form="equal", excerpt=_around(text, *match.span()))
    if not is_asked and len(wanted) > 2:
        flat = squeezed(text)
        at = flat.find(wanted)
        before, after = flat[max(0, at - 1) : at], flat[at + len(wanted) :][:1]
        is_inside = (before + wanted[0]).isalnum() and bool(before)
        is_inside |= (wanted[-1] + after).isalnum() and bool(after)
        if at >= 0 and not is_inside:
            yield Leak(form="literal", excerpt=_around(flat, at, at + len(wanted)))


def number_of(text: str) -> Fraction | None:
    r"""The value of a text that is one number: "$1,234.50", "1/2", "\frac{1}{2}", "5\%"."""
    text = re.sub(r"\\(?:text|mathrm)\{([^{}]*)\}", r"\1", text)
    text = text.replace("\\$", "").replace("$", "").replace("\\!", "").strip().rstrip(".")
    text = re.sub(r"\s*\\?%$", "", text)
    match = re.fullmatch(rf"([-+]?)\s*({_DIGITS})(?:[eE]([-+]?\d{{1,3}}))?", text)
    if match:
        value = _plain(match[2]) * Fraction(10) ** int(match[3] or 0)
        return -value if match[1] == "-" else value
    match = re.fullmatch(rf"([-+]?)\s*(?:{_LATEX_FRACTION.pattern}|(\d+)\s*/\s*(\d+))", text)
    if match:
        above, below = (int(part) for part in match.groups()[1:] if part is not None)
        if below:
            return Fraction(above, below) * (-1 if match[1] == "-" else 1)
    return None


def dates_in_places(text: str) -> Iterator[tuple[tuple[int, int, int], int, int]]:
    """Every full date as (year, month, day), with its place."""
    for pattern, order in _DATES:
        for match in pattern.finditer(text):
            parts = dict(zip(order, match.groups(), strict=True))
            month = parts["m"]
            names = [name[:3] for name in _MONTHS]
            number = int(month) if month.isdigit() else names.index(month[:3].lower()) + 1
            yield (int(parts["y"]), number, int(parts["d"])), *match.span()


def dates_in(text: str) -> set[tuple[int, int, int]]:
    """All full dates of a text."""
    return {date for date, _, _ in dates_in_places(text)}


def date_of(text: str) -> tuple[int, int, int] | None:
    """The date, if a text is one and nothing more."""
    for date, start, end in dates_in_places(text):
        if start == 0 and end == len(text):
            return date
    return None


@lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """Lower case without accents, ASCII punctuation and articles, single spaces (SQuAD)."""
    folded = without_accents(text.casefold())
    for mark in string.punctuation:
        folded = folded.replace(mark, "" if mark in "'." else " ")
    return " ".join(_ARTICLES.sub(" ", folded).split())


def without_accents(text: str) -> str:
    """The letters without their marks; typographic quotes and dashes as ASCII has them."""
    letters = unicodedata.normalize("NFKD", text)
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return letters.replace("\u2013", "-").replace("\u2014", "-").replace("\u2019", "'")


@lru_cache(maxsize=4096)
def squeezed(text: str) -> str:
    """Mathematics without what changes only its looks: spaces, sizes, text mode."""
    text = re.sub(r"\\(?:text|mathrm|textbf|mbox|displaystyle)\b\s*", "", text)
    text = re.sub(r"\\(?:left|right|big|Big|[,;:! ])", "", text)
    text = re.sub(r"\\[dtc]frac", r"\\frac", text)
    return re.sub(r"[\s{}$]", "", text).lower().rstrip(".")


def _plain(digits: str) -> Fraction:
    return Fraction(re.sub(r"[,{}\\]", "", digits) if digits[0] != "." else f"0{digits}")


def _is_in_name(text: str, at: int) -> bool:
    """Whether digits belong to a name: x_1, x_{12}, H2, AMC12; "him16" is a value run into it."""
    before = text[max(0, at - 12) : at]
    if before.endswith(("_", "_{")):
        return True
    letters = re.search(r"(?<!\\)(?<![A-Za-z])[A-Za-z]+-?\Z", before)
    if letters is None:
        return False
    is_symbol = len(letters[0]) == 1  # "x2", but not "x-2"
    return letters[0][0].isupper() or is_symbol


def _is_label(text: str, match: re.Match[str]) -> bool:
    line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
    is_marker = re.fullmatch(r"[\s>*#(-]{0,12}", line) is not None
    if is_marker and re.match(r"(?:\*\*)?[.)](?:\s|\*|$)", text[match.end() :]):
        return True
    return _LABEL_BEFORE.search(text[max(0, match.start() - 20) : match.start()]) is not None


def _around(text: str, start: int, end: int, width: int = 45) -> str:
    left, right = text[max(0, start - width) : start], text[end : end + width]
    return f"{left}>>{text[start:end]}<<{right}".replace("\n", "\\n").replace("\ufffc", "_")
