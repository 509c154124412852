"""Normal text: any text in; its words, folded and one space apart, with a way back out."""

import re
from bisect import bisect_right
from collections.abc import Set
from functools import lru_cache
from itertools import accumulate

from .folding import Folded, fold

# For UTF-8: ASCII signs become spaces, the bytes of all other characters stay.
_SPACED = bytes(code if code >= 128 or chr(code).isalnum() else ord(" ") for code in range(256))
_RUN = re.compile(" {2,}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SYMBOL = re.compile(r"[^\w\x00-\x7f]")


class SpacedText:
    """A text without case, accents and punctuation: "J.K. Rowling's" -> "j k  rowling s".

    Each sign has become a space, so that offsets are nearly always those of the original.
    """

    __slots__ = ("_folded", "characters", "text")

    def __init__(self, text: str):
        self._folded: Folded | None = None
        self.characters: Set[str] = frozenset()
        """Those beyond ASCII."""
        if not text.isascii():
            self.characters = set(_NOT_ASCII.findall(text))
            plain = _with_same_length(text, self.characters)
            if plain is None:
                self._folded = fold(text)
                plain = _SYMBOL.sub(" ", self._folded.text)
            text = plain
        spaced = text.lower().encode(errors="surrogatepass").translate(_SPACED)
        self.text = spaced.decode(errors="surrogatepass")

    @property
    def has_same_offsets(self) -> bool:
        """Whether every character stands where it stood."""
        return self._folded is None

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Offsets into the original of a range that neither starts nor ends with a space."""
        return (start, end) if self._folded is None else self._folded.original(start, end)


class NormalText(SpacedText):
    """Spaced text with one space between words: "J.K.  Rowling's" -> "j k rowling s".

    The way back is laid only when it is first asked for, as most texts name no alias.
    """

    __slots__ = ("_ends", "_spaced")

    def __init__(self, text: str):
        super().__init__(text)
        self._spaced = self.text
        self._ends: tuple[list[int], list[int]] | None = None
        self.text = _RUN.sub(" ", self._spaced)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Offsets into the original of a range that neither starts nor ends with a space."""
        return super().original(self._before(start), self._before(end - 1) + 1)

    def _before(self, at: int) -> int:
        """Where the character at `at` stood before runs of spaces became one."""
        if self._ends is None:
            runs = [match.span() for match in _RUN.finditer(self._spaced)]
            dropped = list(accumulate(end - start - 1 for start, end in runs))
            ends = [end - num for (_, end), num in zip(runs, dropped, strict=True)]
            self._ends = ends, dropped
        ends, dropped = self._ends
        run = bisect_right(ends, at) - 1
        return at + dropped[run] if run >= 0 else at


def normal_words(text: str) -> list[str]:
    """The words of a text, folded: "Saint-Étienne, 2001" -> ["saint", "etienne", "2001"]."""
    return SpacedText(text).text.split()


def _with_same_length(text: str, characters: Set[str]) -> str | None:
    """The text with these characters folded; None if one folds to none or several."""
    for character in characters:
        plain = _plain(character)
        if len(plain) != 1:
            return None
        if plain != character:
            text = text.replace(character, plain)
    return text


@lru_cache(maxsize=8192)
def _plain(character: str) -> str:
    # A combining mark is no letter either, but it must go without leaving a space.
    is_symbol = bool(_SYMBOL.match(character)) and fold(character).text != ""
    return " " if is_symbol else fold(character).text
