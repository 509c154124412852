"""Many aliases: the surfaces of thousands in, all mentions in a text out, at 50 MB/s.

All goes through one automaton over spaced text, in which each surface stands between spaces; few
hits are left to be looked at. What that costs against the careful search of a few aliases: words
are taken as they are spaced (a name across a line's indent, or run on from a digit as in "5km", is
not found), numbers as "1,234", "1234" or "5 million", and signs without a word ("?") not at all.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import lru_cache, partial

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from .aliases import SurfaceForm
from .magnitudes import magnitudes_of
from .mention_checks import CHECKS, is_choice
from .normal_text import SpacedText, normal_words

Plan = Mapping[str, tuple[int, SurfaceForm]]
"""Alias and form of each surface."""

_Place = Callable[[str, int, int], tuple[int, int] | None]
"""Where a mention lies if words stand at start:end of a text; None if there is none."""
_POINTED = re.compile(r"(?<=\b\w) (?=\w)|(?<=\d) (?=\d{4}$)")
_CASED = (SurfaceForm.CAPITALISED, SurfaceForm.CAPITALS)
"""Words of grammar; their quotations in lower case are not worth a look at each "of"."""
_DIGITS_BEFORE, _DIGITS_BEHIND = re.compile(r"\d[.,]$"), re.compile(r"[.,]?\d")
_WITHOUT_SPACES = "\u2e80"  # from here on, scripts have no spaces between words
_SCALES = {6: "million", 9: "billion", 12: "trillion"}


class ManyAliases:
    """The automaton of all surfaces; pickles as these."""

    def __init__(self, plans: list[Plan]):
        """Takes plans by form, the first first: a surface of two belongs to the earlier."""
        self._plans = plans
        self._entries: dict[str, tuple[int, bool, _Place | None]] = {}
        self._literals: dict[str, list[tuple[str, int]]] = {}  # by the first character
        for plan in plans:
            for text, (alias, form) in plan.items():
                self._add(text, alias, form)
        self._found = list(self._entries.values())
        self._automaton = AhoCorasick(
            [f" {text} " for text in self._entries],
            matchkind=MatchKind.Standard,
            store_patterns=False,
            implementation=Implementation.ContiguousNFA,
        )

    def __reduce__(self) -> tuple[type["ManyAliases"], tuple[list[Plan]]]:
        return ManyAliases, (self._plans,)

    def _add(self, text: str, alias: int, form: SurfaceForm) -> None:
        put = self._entries.setdefault
        if form is SurfaceForm.LITERAL or text[0] >= _WITHOUT_SPACES:
            self._literals.setdefault(text[0], []).append((text, alias))
        elif form is SurfaceForm.VALUE:
            for words in _value_words(text):
                put(words, (alias, False, partial(_value_at, text)))
        elif form is SurfaceForm.LETTER:
            put(text.lower(), (alias, True, partial(_choice_at, text)))
        elif form is SurfaceForm.SIGNS:
            if words := " ".join(normal_words(text)):
                put(words, (alias, False, partial(_signs_at, text)))
        else:
            place = partial(_words_at, CHECKS[form]) if form in CHECKS else None
            is_cased = form in _CASED
            put(text, (alias, is_cased, place))
            if form is SurfaceForm.REORDERED:
                put(text.replace(" ", "  ", 1), (alias, is_cased, place))
            # Two spaces where a point or comma is usual: "J. K. Rowling", "May 2, 2024".
            put(_POINTED.sub("  ", text), (alias, is_cased, place))

    def find(self, text: str) -> list[tuple[int, int, int]]:
        """Start, end and alias of every mention that is within no other, in reading order."""
        normal = SpacedText(text)
        is_plain = normal.has_same_offsets
        found = self._found
        outermost: list[tuple[int, int, int]] = []
        hits = self._automaton.find_matches_as_indexes(f" {normal.text} ", overlapping=True)
        for index, start, end in hits:  # by their end
            alias, is_cased, place = found[index]
            end -= 2  # in the text without the space in front of it
            if not is_plain:
                start, end = normal.original(start, end)
            if is_cased and text[start].islower():
                continue
            if place is not None:
                at = place(text, start, end)
                if at is None:
                    continue
                start, end = at
            while outermost and outermost[-1][0] >= start:
                outermost.pop()
            if not outermost or outermost[-1][1] < end:
                outermost.append((start, end, alias))
        literals = list(self._find_literals(text, normal)) if normal.characters else []
        return _outermost([*outermost, *literals]) if literals else outermost

    def _find_literals(self, text: str, normal: SpacedText) -> Iterator[tuple[int, int, int]]:
        for first in self._literals.keys() & normal.characters:
            for literal, alias in self._literals[first]:
                for match in re.finditer(re.escape(literal), text):
                    yield *match.span(), alias


def _outermost(found: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    kept: list[tuple[int, int, int]] = []
    for mention in sorted(found, key=lambda mention: (mention[0], -mention[1])):
        if not kept or mention[1] > kept[-1][1]:
            kept.append(mention)
    return kept


def _words_at(
    is_there: Callable[[str, int, int], bool], text: str, start: int, end: int
) -> tuple[int, int] | None:
    return (start, end) if is_there(text, start, end) else None


def _choice_at(letter: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    return (start, end) if text[start] == letter and is_choice(text, start) else None


def _signs_at(signs: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    reach = 2 * len(signs)
    match = _signs_pattern(signs).search(text, max(0, start - reach), end + reach)
    return match.span() if match and match.start() <= start and match.end() >= end else None


@lru_cache(maxsize=4096)
def _signs_pattern(signs: str) -> re.Pattern[str]:
    return re.compile(r"\s?".join(map(re.escape, signs)), re.IGNORECASE)


def _value_at(value: str, text: str, start: int, end: int) -> tuple[int, int] | None:
    """A number of this value, all of it: not the 5 of "1.5"."""
    is_part = _DIGITS_BEFORE.search(text, max(0, start - 2), start)
    if is_part or _DIGITS_BEHIND.match(text, end):
        return None
    if text[start:end] == value:
        return start, end
    return (start, end) if Fraction(value) in magnitudes_of(text[start:end]) else None


def _value_words(value: str) -> Iterator[str]:
    """A number in canonical digits as its words stand in spaced text: "1 234", "5 million"."""
    whole, _, decimals = value.partition(".")
    behind = f" {decimals}" if decimals else ""
    yield whole + behind
    if len(whole) > 3:
        yield f"{int(whole):,}".replace(",", " ") + behind
    for num_zeros, scale in _SCALES.items():
        if not decimals and len(whole) > num_zeros - 3:
            count, rest = whole[:-num_zeros] or "0", whole[-num_zeros:].rjust(num_zeros, "0")
            yield " ".join(part for part in (count, rest.rstrip("0"), scale) if part)
