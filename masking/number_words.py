"""Number-word detector: a turn in, numbers in words ("one hundred and five") out as spans.

Words that state a value are hidden: "twelve", "two thirds", "one and a half", "three million". Words
that state an operation or a place stay: "half of it", "twice", "a third of", "the third day".
"""

import re
from collections.abc import Iterator

from ahocorasick_rs import AhoCorasick, MatchKind

from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SMALL = {word: value for value, word in enumerate(_UNITS)}
_SMALL |= {word: 10 * ten for ten, word in enumerate(_TENS, start=2)}
_LARGE = {"dozen": 12, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SCALES = frozenset((*_LARGE, "hundred"))
_CARDINALS = frozenset((*_SMALL, *_SCALES))
_ORDINALS = {
    **{"third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9},
    **{"tenth": 10, "twelfth": 12, "twentieth": 20, "hundredth": 100, "thousandth": 1000},
}
_PLACES = {"first": 1, "second": 2}  # in "twenty-first"; never the lower part of a fraction
_RANKS = {word: value for word, value in (_ORDINALS | _PLACES).items() if value < 10}
_PARTS = {"half": 2, "halves": 2, "quarter": 4, "quarters": 4}
_PARTS |= {f"{word}{plural}": value for word, value in _ORDINALS.items() for plural in ("", "s")}
_WORDS = tuple({**dict.fromkeys(_CARDINALS), **_PARTS, **_PLACES})
NUMBER_WORD_TRIGGERS = tuple(_CARDINALS)
"""One of these is in each text (in lower case) that has a number in words."""
_AUTOMATON = AhoCorasick(_WORDS, matchkind=MatchKind.LeftmostLongest)

_LINKS = frozenset((" ", "-", "\u2011", "\u2010"))
_BEHIND_SCALE = frozenset((*_LINKS, " and "))
_MIXED = frozenset((" and a ", " and one ", "-and-a-"))  # "two and a half"
_PRONOUN = re.compile(r"(?<![^\W\d_])(?:no|other|another|this|that|which|each|every|any) $")
_MAX_DIGITS = 24


def find_number_words(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Cardinal numbers and fractions in English words."""
    if task.domain in ("code", "search"):
        return
    yield from scan_number_words(turn.text)


def scan_number_words(text: str) -> Iterator[Span]:
    """All numbers in words of a text, with the digits of "2.5 million"."""
    lowered = text.lower()
    if len(lowered) != len(text):  # a few letters grow when lower-cased; the offsets must fit
        lowered = "".join(letter.lower() if len(letter.lower()) == 1 else letter for letter in text)
    hits = _AUTOMATON.find_matches_as_indexes(lowered)
    if not hits:
        return
    run: list[str] = []  # words of the number being read
    start = end = 0
    for index, word_start, word_end in hits:
        if _is_inside_word(lowered, word_start, word_end):
            continue
        word = _WORDS[index]
        if run and _continues(run, lowered[end:word_start], word):
            run.append(word)
            end = word_end
            continue
        if run:
            yield from _span(text, lowered, run, start, end)
        run = [word] if word in _CARDINALS else []
        start, end = word_start, word_end
    if run:
        yield from _span(text, lowered, run, start, end)


def _is_inside_word(text: str, start: int, end: int) -> bool:
    return (start > 0 and text[start - 1].isalpha()) or text[end : end + 1].isalpha()


def _continues(run: list[str], gap: str, word: str) -> bool:
    """Whether a word behind a gap still belongs to the number of this run."""
    last = run[-1]
    if last not in _CARDINALS:
        return False
    if word in _CARDINALS:
        return gap in (_BEHIND_SCALE if last in _SCALES else _LINKS)
    if word in _PLACES:
        return last in _TENS and gap == "-"
    if gap in _MIXED:
        return word in _PARTS and not word.endswith("s")
    # "two thirds" and "one third" are values, "two third graders" are not; "twenty-third" is a place.
    is_plural = word.endswith("s")
    return gap in _LINKS and (is_plural or last == "one" or last in _TENS or last in _SCALES)


def _span(text: str, lowered: str, run: list[str], start: int, end: int) -> Iterator[Span]:
    if run == ["one"] and _PRONOUN.search(lowered[max(0, start - 9) : start]):
        return
    if run[0] in _SCALES and start >= 2 and text[start - 1] in " -":
        start = _start_of_digits(text, start)
    yield Span(
        start=start,
        end=end,
        kind=SpanKind.NUMBER_WORD,
        value=text[start:end],
        detector="number_words",
    )


def _start_of_digits(text: str, start: int) -> int:
    """Where the "2.5" of "2.5 million" starts; the word's own start if no digits precede it."""
    at = start - 1
    while at > 0 and start - at < _MAX_DIGITS and (text[at - 1].isdigit() or text[at - 1] in ".,"):
        at -= 1
    while at < start - 1 and text[at] in ".,":
        at += 1
    return at if at < start - 1 and text[start - 2].isdigit() else start


def number_in_words(text: str) -> str | None:
    """Digits of a number in words ("one hundred and five" -> "105"); None if it is not one.

    A fraction gives "2/3" and a mixed number its improper fraction ("one and a half" -> "3/2").
    """
    if not text[:1].isalpha():
        return None
    words = [word for word in re.split(r"[\s-]+", text.strip().lower()) if word != "and"]
    if not words or len(words) > 20:
        return None
    *whole, last = words
    if whole and whole[-1] in _TENS and last in _RANKS:
        tens = _cardinal(whole)
        return None if tens is None else str(tens + _RANKS[last])
    if whole and last in _PARTS and words[0] in _CARDINALS:
        return _fraction_in_words(whole, _PARTS[last])
    number = _cardinal(words)
    return None if number is None else str(number)


def _fraction_in_words(words: list[str], below: int) -> str | None:
    is_mixed = words[-1] in ("a", "one") and len(words) > 1
    above = _cardinal(words[:-1] if is_mixed else words)
    if above is None:
        return None
    return f"{above * below + 1 if is_mixed else above}/{below}"


def _cardinal(words: list[str]) -> int | None:
    total = current = 0
    for word in words:
        if word in _SMALL:
            current += _SMALL[word]
        elif word == "hundred":
            current = max(current, 1) * 100
        elif word in _LARGE:
            total += max(current, 1) * _LARGE[word]
            current = 0
        else:
            return None
    return total + current
