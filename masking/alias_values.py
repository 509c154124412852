"""Values as aliases: a number or a date in, the other ways of writing it out."""

import itertools
import re
from collections.abc import Iterator, Sequence

from .expressions import quantity_at
from .number_words import number_in_words
from .numbers import canonical_number

_MAGNITUDES = {
    "hundred": 2,
    "thousand": 3,
    "million": 6,
    "billion": 9,
    "trillion": 12,
}
_MAGNITUDE = re.compile(rf"(.*\d)[\s-]?({'|'.join(_MAGNITUDES)})", re.IGNORECASE | re.DOTALL)
_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
_MONTH_OF = {name: month for month, name in enumerate(_MONTHS, start=1)}
_MONTH_OF |= {name[:3]: month for name, month in _MONTH_OF.items()} | {"sept": 9}
_DAY = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_YEAR = re.compile(r"\d{3,4}")
_MAX_IN_WORDS = 10**13


def number_forms(alias: str) -> tuple[str | None, tuple[str, ...]]:
    """Canonical digits of a number written in any way, and its forms in words.

    "5 million" -> ("5000000", ("five million",)); (None, ()) if the alias is no number, and
    for fractions, which have no digits of their own.
    """
    value = canonical_number(alias) or number_in_words(alias)
    if value is None and (match := _MAGNITUDE.fullmatch(alias.strip())):
        digits = canonical_number(match[1])
        value = scaled(digits, match[2]) if digits and "/" not in digits else None
    if value is None or "/" in value:
        return None, ()
    is_whole = value.isascii() and value.isdigit() and len(value) <= 13
    return value, tuple(_in_words(int(value))) if is_whole else ()


def unsigned(value: str) -> str:
    r"""A value without the sign in front of it: "-\frac12" -> "\frac12", but "-x+1" as it is.

    The sign of a single quantity is an operator to a scaffold, which keeps those.
    """
    rest = value[1:].lstrip()
    if not value.startswith(("-", "+", "\u2212")) or not rest:
        return value
    quantity = quantity_at(rest, 0)
    return rest if quantity is not None and quantity.end == len(rest.rstrip()) else value


def scaled(digits: str, magnitude: str) -> str:
    """Canonical digits times a magnitude in words: ("1.5", "million") -> "1500000"."""
    num_zeros = _MAGNITUDES[magnitude.lower()]
    whole, _, decimals = digits.partition(".")
    shifted = f"{whole}{decimals[:num_zeros].ljust(num_zeros, '0')}".lstrip("0") or "0"
    rest = decimals[num_zeros:]
    return f"{shifted}.{rest}" if rest else shifted


def _in_words(number: int) -> Iterator[str]:
    """Cardinal words of a number, with and without "and"; years also in pairs."""
    if number >= _MAX_IN_WORDS:
        return
    yield _cardinal(number, "")
    if number > 100 and number % 100:
        yield _cardinal(number, "and ")
    hundreds, rest = divmod(number, 100)
    if 11 <= hundreds <= 20 and rest >= 10:
        yield f"{_cardinal(hundreds, '')} {_cardinal(rest, '')}"


def _cardinal(number: int, joint: str) -> str:
    if number < 20:
        return _UNITS[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _TENS[tens - 2] + (f" {_UNITS[units]}" if units else "")
    for name, zeros in reversed(_MAGNITUDES.items()):
        count, rest = divmod(number, 10**zeros)
        if count:
            behind = f" {joint if rest < 100 else ''}{_cardinal(rest, joint)}" if rest else ""
            return f"{_cardinal(count, joint)} {name}{behind}"
    raise AssertionError(number)


def date_forms(words: Sequence[str]) -> Iterator[str]:
    """Other ways to write a date given in normal words: "12 may 2024" -> "2024 05 12", ...

    Nothing if the words are no date. A date without a year gives the forms without one.
    """
    date = _date(words)
    if date is None:
        return
    year, month, day = date
    names = [name for name, number in _MONTH_OF.items() if number == month]
    if day is None:
        yield from (f"{name} {year}" for name in names)
        yield from (f"{name} of {year}" for name in names)
        return
    behind = f" {year}" if year else ""
    suffix = "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    days = (str(day), f"{day:02}", f"{day}{suffix}")
    for name, number in itertools.product(names, dict.fromkeys(days)):
        yield f"{number} {name}{behind}"
        yield f"{name} {number}{behind}"
        yield f"{number} of {name}{behind}"
    if year:
        for m, d in {(f"{month:02}", f"{day:02}"), (str(month), str(day))}:
            yield from (f"{year} {m} {d}", f"{d} {m} {year}", f"{m} {d} {year}")


def _date(words: Sequence[str]) -> tuple[str, int, int | None] | None:
    """Year ("" if there is none), month and day (None if there is none)."""
    words = [word for word in words if word not in ("of", "the")]
    if not 2 <= len(words) <= 3:
        return None
    year = ""
    if _YEAR.fullmatch(words[-1]):
        year, words = words[-1], words[:-1]
    elif len(words) == 3 and _YEAR.fullmatch(words[0]) and words[1].isdigit():
        year, words = (
            words[0],
            [_MONTHS[int(words[1]) - 1], words[2]] if (1 <= int(words[1]) <= 12) else words,
        )
    months = [_MONTH_OF[word] for word in words if word in _MONTH_OF]
    days = [int(match[1]) for word in words if (match := _DAY.fullmatch(word))]
    if len(months) != 1 or len(months) + len(days) != len(words) or not (days or year):
        return None
    if days and not 1 <= days[0] <= 31:
        return None
    return year, months[0], days[0] if days else None
