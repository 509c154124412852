"""In: text. Out: the tokens that Lucene's English analysis, as Anserini sets it up, would index.

In this order: standard tokeniser, possessive 's, lower case, Lucene's 33 stop words, Porter.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from .porter import stem
from .unicode_words import unicode_words

ANALYZER_NAME = "lucene-english-1"
"""Goes into fingerprints and metadata: change it with anything that changes a token."""

_MAX_TOKEN_CHARS = 255  # Lucene chops longer words into pieces of this length

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
_STOPPED = frozenset(_STOP_WORDS.split())

# Text within ASCII needs no character classes: the same rules as one expression. Letters and
# digits, held together by . : ' between letters, by . , ; ' between digits, by _ anywhere.
_ASCII_WORD = re.compile(
    r"\w+(?:(?:(?<=\d)[.,;'](?=\d)|(?<=[A-Za-z])[.:'](?=[A-Za-z]))\w+)*", re.ASCII
)
_POSSESSIVES = tuple(mark + letter for mark in "'\u2019\uff07" for letter in "sS")

# No word reaches over any of these, whatever stands beside it. Not among them: what can stand
# within a word (. , : ; ' _, and " in Hebrew).
BREAKS = "".join(
    char for char in map(chr, range(128)) if not char.isalnum() and char not in ".,:;'\"_"
)
"""Characters that end every word, all of them ASCII."""
_TO_SPACES = "".join(" " if char in BREAKS else char for char in map(chr, range(128)))
_BREAK_RUN = re.compile(f"[{re.escape(BREAKS)}]+")


def analyze(text: str) -> list[str]:
    """The index terms of a text, in order and with repetitions."""
    words = _ASCII_WORD.findall(text) if text.isascii() else unicode_words(text)
    if len(text) > _MAX_TOKEN_CHARS and max(map(len, words), default=0) > _MAX_TOKEN_CHARS:
        words = [piece for word in words for piece in _pieces(word)]
    return [term for term in map(_term, words) if term]


def split_at_breaks(text: str) -> list[str]:
    """The text cut where every word ends: ``analyze`` of the whole is that of the parts in turn.

    Most parts are one word with its punctuation, so a corpus has few distinct ones: who keeps what
    each gives analyses a text at the cost of looking its parts up.
    """
    if text.isascii():
        return text.translate(_TO_SPACES).split()
    return _BREAK_RUN.split(text)


def _pieces(word: str) -> Iterable[str]:
    if len(word) <= _MAX_TOKEN_CHARS:
        return (word,)
    starts = range(0, len(word), _MAX_TOKEN_CHARS)
    return (word[start : start + _MAX_TOKEN_CHARS] for start in starts)


@lru_cache(maxsize=1 << 18)
def _term(word: str) -> str:
    """The index term of one word as it stood in the text; empty where nothing is indexed."""
    if word.endswith(_POSSESSIVES):
        word = word[:-2]
    word = word.lower() if word.isascii() else _java_lower(word)
    return "" if word in _STOPPED or not word.strip("_") else stem(word)


def _java_lower(word: str) -> str:
    """Lower case letter by letter: `str.lower` minds a final sigma and splits the Turkish I."""
    return "".join(map(str.lower, word.replace("\u0130", "i")))
