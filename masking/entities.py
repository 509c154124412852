"""Alias detector: a turn in, every mention of the task's answers and bridge entities out."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from .folding import Folded, fold
from .numbers import LETTER, PLAIN, canonical_number
from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

TARGET_DETECTOR = "answers"
"""`Span.detector` of the mentions of the target."""

_TOKEN = re.compile(rf"{PLAIN}|[^\W\d_]+")
_GAP = re.compile(r"\s{0,8}[-_'.,&]?\s{0,8}")
_WRAPPED = re.compile(r"\$+(.+?)\$+|\\\((.+)\\\)|\\(?:text|textbf|mathrm|mbox)\{([^{}]*)\}")
_ARTICLES = frozenset(("the", "a", "an"))
_CHOICE_WORDS = re.compile(r"(?:option|choice|answer|letter|select|pick|is)[ \t]$", re.IGNORECASE)
_BEFORE_CHOICE = frozenset("([{:=*\"'`")
_AFTER_CHOICE = frozenset(")]}.*\"'`\n,;:")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mention:
    """One place where a text names an alias."""

    start: int
    end: int
    alias: int
    """Index of the alias among those the matcher was built from."""


@dataclass(slots=True)
class _Node:
    alias: int = -1
    children: "dict[str, _Node]" = field(default_factory=dict)


class AliasMatcher:
    """Finds many aliases in one pass over the words of a text.

    Words match folded (case, accents), numbers by value ("1,234" and "1234"). Between words, white
    space and one of ``-_'.,&`` are all the same. An alias with other signs in it ("x - 1") matches
    sign by sign, white space ignored. A single letter counts only where an answer stands: "(B)",
    "answer is B", never the article "A".
    """

    def __init__(self, aliases: Sequence[str]):
        self._root = _Node()
        self._literals: list[tuple[str, int]] = []
        self._letters: dict[str, int] = {}
        for index, alias in enumerate(aliases):
            self._add(_unwrapped(alias), index)

    def _add(self, alias: str, index: int) -> None:
        letter = alias.strip("().")
        if len(letter) == 1 and letter.isalpha() and letter.isascii():
            self._letters.setdefault(letter, index)
            return
        number = canonical_number(alias)
        if number is not None and "/" in number:
            self._literals.append((number, index))
        elif number is not None:
            node = self._root.children.setdefault(number, _Node())
            node.alias = index if node.alias < 0 else node.alias
            return
        folded = fold(alias).text
        matches = list(_TOKEN.finditer(folded))
        if not _is_plain(folded, matches):
            literal = "".join(folded.split())
            if literal:
                self._literals.append((literal, index))
            return
        if len(matches) > 1 and matches[0][0] in _ARTICLES:
            del matches[0]
        node = self._root
        for token in matches:
            node = node.children.setdefault(_key(token[0]), _Node())
        if node.alias < 0:
            node.alias = index

    def find(self, text: str) -> Iterator[Mention]:
        """All mentions in a text; they may overlap each other."""
        folded = fold(text)
        if self._root.children:
            for start, end, alias in self._phrases(folded.text):
                yield _mention(folded, start, end, alias)
        if self._literals:
            for start, end, alias in self._signs(folded.text):
                yield _mention(folded, start, end, alias)
        for letter, alias in self._letters.items():
            for at in _choice_positions(text, letter):
                yield Mention(start=at, end=at + 1, alias=alias)

    def _phrases(self, text: str) -> Iterator[tuple[int, int, int]]:
        roots = self._root.children
        for match in _TOKEN.finditer(text):
            node = roots.get(_key(match[0]))
            end = match.end()
            best = -1
            while node is not None:
                if node.alias >= 0:
                    best, best_end = node.alias, end
                if not node.children:
                    break
                gap = _GAP.match(text, end)
                assert gap is not None
                token = _TOKEN.match(text, gap.end())
                if token is None or gap.end() == end:
                    break
                node, end = node.children.get(_key(token[0])), token.end()
            if best >= 0:
                yield match.start(), best_end, best

    def _signs(self, text: str) -> Iterator[tuple[int, int, int]]:
        places = [at for at, character in enumerate(text) if not character.isspace()]
        squeezed = "".join(text.split())
        for literal, alias in self._literals:
            at = squeezed.find(literal)
            while at >= 0:
                start, end = places[at], places[at + len(literal) - 1] + 1
                before = text[start - 1 : start] + text[start]
                if not _is_inside_word(before) and not _is_inside_word(text[end - 1 : end + 1]):
                    yield start, end, alias
                at = squeezed.find(literal, at + len(literal))


def _mention(folded: Folded, start: int, end: int, alias: int) -> Mention:
    start, end = folded.original(start, end)
    return Mention(start=start, end=end, alias=alias)


def _unwrapped(alias: str) -> str:
    r"""An alias without the mathematics or text mode around it: "$\text{Yes}$" -> "Yes"."""
    alias = alias.strip()
    while match := _WRAPPED.fullmatch(alias):
        alias = next(part for part in match.groups() if part is not None).strip()
    return alias


def _key(token: str) -> str:
    return token if token[0].isalpha() else canonical_number(token) or token


def _is_plain(folded: str, tokens: list[re.Match[str]]) -> bool:
    """Whether an alias is words (and numbers beside words), so that its gaps may vary."""
    if not tokens or tokens[0].start() > 0 or tokens[-1].end() < len(folded):
        return False
    # Scripts without spaces have no words to be bounded by.
    if any(character >= "\u2e80" for character in folded):
        return False
    for left, right in itertools.pairwise(tokens):
        gap = folded[left.end() : right.start()]
        are_words = all(len(token[0]) > 1 and token[0].isalpha() for token in (left, right))
        is_one_number = left[0][0].isdigit() and right[0][0].isdigit()
        is_loose = bool(_GAP.fullmatch(gap)) and gap != ""
        if not is_loose or is_one_number or not (are_words or gap.isspace()):
            return False
    return True


def _is_inside_word(pair: str) -> bool:
    """Whether no word ends between these two characters."""
    if len(pair) < 2 or pair[0] >= "\u2e80" or pair[1] >= "\u2e80":
        return False
    return (pair[0].isalpha() and pair[1].isalpha()) or (pair[0].isdigit() and pair[1].isdigit())


def _choice_positions(text: str, letter: str) -> Iterator[int]:
    for match in re.finditer(rf"(?<!{LETTER}){letter}(?!{LETTER})", text):
        at = match.start()
        before, after = text[max(0, at - 1) : at], text[at + 1 : at + 2]
        is_marked = before in _BEFORE_CHOICE or after in _AFTER_CHOICE or after == ""
        if is_marked or _CHOICE_WORDS.search(text[max(0, at - 7) : at]):
            yield at


@lru_cache(maxsize=256)
def matcher_of(aliases: tuple[str, ...]) -> AliasMatcher:
    """The matcher of these aliases, built once for all turns of a trace."""
    return AliasMatcher(aliases)


def find_aliases(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Mentions of the target, then of bridge entities, also inside tool calls."""
    answers, entities = tuple(task.answers), tuple(task.entities)
    if not answers and not entities:
        return
    for mention in matcher_of(answers + entities).find(turn.text):
        value = turn.text[mention.start : mention.end]
        is_target = mention.alias < len(answers)
        yield Span(
            start=mention.start,
            end=mention.end,
            kind=_target_kind(value, task.domain) if is_target else SpanKind.ENTITY,
            value=value,
            detector=TARGET_DETECTOR if is_target else "entities",
        )


def _target_kind(value: str, domain: str) -> SpanKind:
    """What kind of value a mention of the target is, so that its placeholder does not mark it."""
    if len(value) == 1 and value.isalpha():
        return SpanKind.CHOICE
    if domain == "search" and value.casefold() not in ("yes", "no", "true", "false"):
        return SpanKind.ENTITY
    return SpanKind.ANSWER if canonical_number(value) is None else SpanKind.NUMBER
