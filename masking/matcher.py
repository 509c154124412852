"""Alias matcher: the surfaces of many aliases in, every place where a text writes one of them out."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from ahocorasick_rs import AhoCorasick, MatchKind

from .alias_values import scaled
from .aliases import ARTICLES, Surface, SurfaceForm, surfaces_of
from .folding import Folded, fold
from .many_aliases import ManyAliases
from .mention_checks import CAPITAL, CHECKS, is_choice, is_within
from .normal_text import NormalText
from .numbers import PLAIN, canonical_number

_VALUE = re.compile(rf"{PLAIN}(?:[\s-]?(hundred|thousand|million|billion|trillion)(?![^\W\d_]))?+")
_DIGIT = re.compile(r"\d")
_NO_SIGNS = b' \t\n\r\f\v"'
_SIGN = re.compile(r"[^ \t\n\r\f\v\"]")
_WORD = re.compile(r"\S+")
_MIN_SQUEEZED = 7
_MAX_GAP = 12
_MAX_SEARCHED = 24
"""Up to this many surfaces, one search for each beats an automaton and its construction."""
_MAX_CAREFUL = 1000
"""Beyond this many surfaces, speed is worth more than each spelling: see `many_aliases`."""

_make = tuple.__new__  # a third of the time of a call
_Plan = dict[str, tuple[int, SurfaceForm]]


class Mention(NamedTuple):
    """One place where a text names an alias."""

    start: int
    end: int
    alias: int
    """Index of the alias among those the index was built from."""


class AliasIndex:
    """Finds the surfaces of many aliases in one pass over a text.

    Words match folded (case, accents, punctuation), numbers by value ("1,234" and "1234",
    "5 million"), mathematics sign by sign. Time is linear in the text for a given index.

    ``AliasIndex.of(["Ada Lovelace"]).find("by Lovelace, Ada")`` gives one mention, 3 to 16.
    """

    def __init__(self, surfaces: Iterable[Sequence[Surface]]):
        """Takes the surfaces of each alias; a surface of two aliases belongs to the first."""
        plans: dict[SurfaceForm, _Plan] = {form: {} for form in SurfaceForm}
        partial: _Plan = {}
        for alias, forms in enumerate(surfaces):
            for surface in forms:
                if not surface.text:
                    continue  # it would be found everywhere
                plan = partial if surface.is_partial else plans[surface.form]
                plan.setdefault(surface.text, (alias, surface.form))
        words = dict(plans[SurfaceForm.WORDS])
        for plan in (*map(plans.__getitem__, CHECKS), partial):
            for text, entry in plan.items():
                words.setdefault(text, entry)
        self._values = plans[SurfaceForm.VALUE]
        self._letters = plans[SurfaceForm.LETTER]
        self._signs = _Patterns(plans[SurfaceForm.SIGNS])
        self._literals = _Patterns(plans[SurfaceForm.LITERAL])
        self._squeezed = {
            squeezed: (text, entry[0])
            for text, entry in plans[SurfaceForm.WORDS].items()
            if len(squeezed := _squeezed(text)) >= _MIN_SQUEEZED
        }
        self._many: ManyAliases | None = None
        if len(words) > _MAX_CAREFUL:
            others = (SurfaceForm.VALUE, SurfaceForm.SIGNS, SurfaceForm.LITERAL, SurfaceForm.LETTER)
            self._many = ManyAliases([words, *map(plans.__getitem__, others)])
            words = {}
        self._words = _Patterns(words)

    @classmethod
    def of(
        cls,
        aliases: Iterable[str],
        question_words: Collection[str] = frozenset(),
        *,
        has_partials: bool = True,
        has_orders: bool = True,
    ) -> "AliasIndex":
        """The index of these aliases; `surfaces_of` says what the further arguments mean."""
        return cls(
            surfaces_of(a, question_words, has_partials=has_partials, has_orders=has_orders)
            for a in aliases
        )

    def __bool__(self) -> bool:
        """Whether there is anything to look for."""
        parts = (
            self._many is not None,
            self._words,
            self._values,
            self._signs,
            self._literals,
            self._letters,
        )
        return any(map(bool, parts))

    def find(self, text: str) -> list[Mention]:
        """All mentions in reading order; of those at one place the longest, else they may overlap."""
        if self._many is not None:
            return [_make(Mention, mention) for mention in self._many.find(text)]
        found = self._find_carefully(text)
        if len(found) < 2:
            return found
        found.sort(key=lambda mention: (mention.start, -mention.end))
        outermost = found[:1]
        for mention in found:
            if mention.end > outermost[-1].end:
                outermost.append(mention)
        return outermost

    def _find_carefully(self, text: str) -> list[Mention]:
        found: list[Mention] = []
        if self._words:
            normal = NormalText(text)
            found += self._find_words(text, normal)
            if self._squeezed:
                found += self._find_squeezed(normal)
        if self._values or self._signs:
            folded = fold(text)
            found += self._find_values(folded) if self._values else ()
            found += self._find_signs(folded) if self._signs else ()
        if self._literals and not text.isascii():
            for index, start, end in self._literals.find(text):
                found.append(Mention(start, end, self._literals.entries[index][0]))
        if self._letters:
            found += self._find_letters(text)
        return found

    def _find_words(self, text: str, normal: NormalText) -> Iterator[Mention]:
        words = normal.text
        entries = self._words.entries
        for index, start, end in self._words.find(words):
            if is_within(words, start) or is_within(words, end):
                continue
            alias, form = entries[index]
            mention = Mention(*normal.original(start, end), alias)
            if mention.end - mention.start > end - start + _MAX_GAP:
                continue  # words that only white space and signs keep apart name nobody
            is_allowed = CHECKS.get(form)
            if is_allowed is None or is_allowed(text, mention.start, mention.end):
                yield mention

    def _find_squeezed(self, normal: NormalText) -> Iterator[Mention]:
        """Whole names whose words are split or joined otherwise, or have articles between them.

        "Spider-Man" for "Spiderman", "beauty and the beast" for "Beauty and Beast": what scorers
        that drop articles and punctuation take for the same.
        """
        squeezed = _squeezed(normal.text)
        starts: list[int] = []
        for pattern, (text, alias) in self._squeezed.items():
            if squeezed.count(pattern) <= normal.text.count(text):
                continue  # all of them were found as words
            if not starts:
                spans = [m.span() for m in _WORD.finditer(normal.text) if m[0] not in ARTICLES]
                starts = [0, *accumulate(end - start for start, end in spans)]
            at = squeezed.find(pattern)
            while at >= 0:
                first = bisect_right(starts, at) - 1
                last = bisect_left(starts, at + len(pattern)) - 1
                is_bounded = starts[first] == at and starts[last + 1] == at + len(pattern)
                if is_bounded:
                    start, end = normal.original(spans[first][0], spans[last][1])
                    yield Mention(start, end, alias)
                at = squeezed.find(pattern, at + 1)

    def _find_values(self, folded: Folded) -> Iterator[Mention]:
        at = 0
        # The look for a digit is five times as fast as the look for a number.
        while digit := _DIGIT.search(folded.text, at):
            match = _VALUE.match(folded.text, digit.start())
            assert match is not None
            at = match.end()
            magnitude = match[1]
            digits = match[0][: match.start(1) - match.start() - 1] if magnitude else match[0]
            value = canonical_number(digits.strip()) or digits
            entry = self._values.get(value)
            if entry is None and magnitude:
                entry = self._values.get(scaled(value, magnitude))
            if entry is not None:
                yield Mention(*folded.original(*match.span()), entry[0])

    def _find_signs(self, folded: Folded) -> Iterator[Mention]:
        squeezed = folded.text.encode(errors="surrogatepass").translate(None, _NO_SIGNS)
        places: list[int] = []
        for index, start, end in self._signs.find(squeezed.decode(errors="surrogatepass")):
            if not places:
                places = [m.start() for m in _SIGN.finditer(folded.text)]
            start, end = places[start], places[end - 1] + 1
            if not is_within(folded.text, start) and not is_within(folded.text, end):
                yield Mention(*folded.original(start, end), self._signs.entries[index][0])

    def _find_letters(self, text: str) -> Iterator[Mention]:
        for match in CAPITAL.finditer(text):
            entry = self._letters.get(match[0])
            if entry is not None and is_choice(text, match.start()):
                yield Mention(*match.span(), entry[0])


class _Patterns:
    """Literal strings, searched one by one if they are few, else by an automaton."""

    def __init__(self, plan: _Plan):
        self.entries = list(plan.values())
        self._texts = list(plan)
        self._automaton: AhoCorasick | None = None
        if len(plan) > _MAX_SEARCHED:
            self._automaton = AhoCorasick(
                self._texts, matchkind=MatchKind.Standard, store_patterns=False
            )

    def __bool__(self) -> bool:
        return bool(self._texts)

    def __reduce__(self) -> tuple[type["_Patterns"], tuple[_Plan]]:
        # The automaton does not pickle; it is built again in milliseconds.
        return _Patterns, (dict(zip(self._texts, self.entries, strict=True)),)

    def find(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Index, start and end of every occurrence, overlapping ones as well."""
        if self._automaton is None:
            yield from self._search(text)
        else:
            yield from self._automaton.find_matches_as_indexes(text, overlapping=True)

    def _search(self, text: str) -> Iterator[tuple[int, int, int]]:
        for index, pattern in enumerate(self._texts):
            at = text.find(pattern)
            while at >= 0:
                yield index, at, at + len(pattern)
                at = text.find(pattern, at + 1)


def _squeezed(normal: str) -> str:
    """The words of a normal text without articles, run together."""
    return "".join(word for word in normal.split() if word not in ARTICLES)
