"""Folding: any text in; case-, accent- and format-free text with a map back to the original out."""

from __future__ import annotations

import re
import unicodedata
from array import array
from dataclasses import dataclass
from functools import lru_cache

_RUN = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
_PUNCTUATION = {0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2212: "-"}
_PUNCTUATION |= dict.fromkeys(range(0x2010, 0x2016), "-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Folded:
    """Folded text and, where its length may differ, the original index of each character."""

    text: str
    offsets: array[int] | None
    """None when folding kept every index (plain ASCII)."""
    original_length: int

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Offsets into the original of the non-empty folded range; dropped accents go with it."""
        if self.offsets is None:
            return start, end
        following = self.offsets[end] if end < len(self.offsets) else self.original_length
        return self.offsets[start], max(self.offsets[end - 1] + 1, following)


def fold(text: str) -> Folded:
    """Casefolded text (NFKD) without accents and invisible characters; quotes and dashes plain."""
    if text.isascii():
        return Folded(text=text.lower(), offsets=None, original_length=len(text))
    pieces: list[str] = []
    offsets = array("l")
    for match in _RUN.finditer(text):
        start, end = match.span()
        if text[start] < "\x80":
            pieces.append(match[0].lower())
            offsets.extend(range(start, end))
        else:
            piece = _fold_character(match[0])
            pieces.append(piece)
            offsets.extend([start] * len(piece))
    return Folded(text="".join(pieces), offsets=offsets, original_length=len(text))


@lru_cache(maxsize=8192)
def _fold_character(character: str) -> str:
    plain = _PUNCTUATION.get(ord(character))
    if plain is not None:
        return plain
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(
        _PUNCTUATION.get(ord(part), part)
        for part in decomposed
        if unicodedata.category(part) not in ("Mn", "Cf")
    )
