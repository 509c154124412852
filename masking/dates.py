"""Date detector: a turn in, dates out ("12 May 2024", "2024-05-12", "Tuesday", "in 1969")."""

import re
from collections.abc import Iterable, Iterator

from ahocorasick_rs import AhoCorasick, MatchKind

from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August"),
    *("September", "October", "November", "December"),
)
_SHORT_MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Sept",
    "Oct",
    "Nov",
    "Dec",
)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NAMES = (*_MONTHS, *_SHORT_MONTHS, *_DAYS)
DATE_TRIGGERS = (
    *(name.lower() for name in _NAMES),
    *(f"{year}" for year in range(1000, 2100)),
)
"""One of these is in each text (in lower case) that has a date."""
_AUTOMATON = AhoCorasick(_NAMES, matchkind=MatchKind.LeftmostLongest)
_VERBS = frozenset(("March", "May"))  # months only behind a word of time or beside a day or a year

_YEAR = r"(?:1\d|20)\d\d"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_END = r"(?![\w/]|[.,]\d)"
_DAY_BEFORE = re.compile(rf"(?<![\w.,/])({_DAY}(?:st|nd|rd|th)?(?: of)?,? )$")
_REST = re.compile(
    rf"\.?(?:,? {_DAY}(?:st|nd|rd|th)?{_END})?(?:(?:,| of)? ?(?<=[ ,]){_YEAR}{_END})?"
)
_TIME_WORD = re.compile(
    r"(?:\b(?:in|of|by|since|until|till|during|last|next|this|every|each|early|late|mid|from|to|and"
    r"|through|between|before|after|for)|,)[ -]$",
    re.IGNORECASE,
)
_MAY_BE_NUMERIC = re.compile(r"[-/.](?<=\d.)\d{1,2}[-/.]\d")  # a cheap look before the search
_NUMERIC = re.compile(
    rf"(?<![\w.,/-])(?:{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:T\d\d:\d\d(?::\d\d)?Z?)?"
    rf"|{_YEAR}/(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])"
    rf"|{_DAY}([/.]){_DAY}\1{_YEAR})(?![\w/-]|[.,]\d)"
)
_BARE_YEAR = re.compile(
    rf"(?:\b(?:in|since|until|by|year|before|after|from|to|and|during|circa|of|spring|summer|autumn"
    rf"|fall|winter)|[(\u2013-]) ?(?<![A-Za-z])({_YEAR})(?![\w%]|[.,]\d|[/*+=^]| [*+=/] )",
    re.IGNORECASE,
)


def find_dates(turn: TraceTurn, task: MaskableTask) -> Iterable[Span]:
    """Dates in full or in part; a bare year ("in 1969") only where numbers are not hidden anyway."""
    if task.domain == "code":
        return ()
    text = turn.text
    found = _named(text)
    if _MAY_BE_NUMERIC.search(text):
        found += [match.span() for match in _NUMERIC.finditer(text)]
    if task.domain == "search":
        found += [match.span(1) for match in _BARE_YEAR.finditer(text)]
    return _spans(text, sorted(found)) if found else ()


def _named(text: str) -> list[tuple[int, int]]:
    """Dates with the name of a month or a day in them."""
    found: list[tuple[int, int]] = []
    for index, start, end in _AUTOMATON.find_matches_as_indexes(text):
        if (start > 0 and text[start - 1].isalnum()) or text[end : end + 1].isalpha():
            continue
        name = _NAMES[index]
        if name in _DAYS:
            found.append((start, end))
            continue
        rest = _REST.match(text, end)
        assert rest is not None
        window = text[max(0, start - 16) : start]
        day = _DAY_BEFORE.search(window)
        has_number = day is not None or any(map(str.isdigit, rest[0]))
        is_named = name in _MONTHS and (name not in _VERBS or bool(_TIME_WORD.search(window)))
        if not has_number and not is_named:
            continue
        if has_number or name in _SHORT_MONTHS:
            end = rest.end()
        found.append((start - len(day[1]) if day else start, end))
    return found


def _spans(text: str, found: list[tuple[int, int]]) -> Iterator[Span]:
    """Spans over the ranges, overlapping ones and a day with its date ("Tuesday, 5 May") joined."""
    at, covered = found[0]
    for start, end in [*found[1:], (len(text) + 9, 0)]:
        if start < covered or (text[covered:start] == ", " and text[at:covered] in _DAYS):
            covered = max(covered, end)
            continue
        value = text[at:covered]
        yield Span(start=at, end=covered, kind=SpanKind.DATE, value=value, detector="dates")
        at, covered = start, end
