"""In: texts. Out: each as a row of numbered pieces, and once for every piece its terms.

A text is cut where every word ends (`analyzer.split_at_breaks`); a corpus has few distinct pieces, so
that to index it is to look numbers up. That is most of the work: with numba a compiled loop does it.
"""

from array import array
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .analyzer import BREAKS, analyze, split_at_breaks

_BATCH_BYTES = 1 << 18
_ERRORS = "surrogatepass"


class TermNumbering(dict[str, int]):
    """Numbers terms as they are first met."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


class PieceTerms:
    """The terms of each piece, by number, one piece after the other."""

    def __init__(self, numbering: TermNumbering) -> None:
        self._numbering = numbering
        self.counts = array("i")
        self.terms = array("i")

    def add(self, piece: str) -> None:
        """Analyses the next piece."""
        terms = analyze(piece)
        self.counts.append(len(terms))
        self.terms.extend(map(self._numbering.__getitem__, terms))


class Pieces(Protocol):
    """Takes texts, and numbers their pieces as they are first met."""

    found: PieceTerms

    def add(self, text: str) -> None:
        """Takes the next text."""
        ...

    @property
    def num_pending(self) -> int:
        """Pieces of the texts since `take`, or somewhat fewer."""
        ...

    def take(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pieces of the texts added since the last time, and how many each text has."""
        ...

    def renewed(self) -> "Pieces":
        """The same with no piece known, where memory must not grow further."""
        ...


class _NumberedPieces(dict[str, int]):
    def __init__(self, found: PieceTerms) -> None:
        super().__init__()
        self._found = found

    def __missing__(self, piece: str) -> int:
        self._found.add(piece)
        number = self[piece] = len(self)
        return number


class PlainPieces:
    """Looks pieces up in a dictionary."""

    def __init__(self, numbering: TermNumbering) -> None:
        self._numbering = numbering
        self.found = PieceTerms(numbering)
        self._numbers = _NumberedPieces(self.found)
        self._pending = array("i")
        self._sizes = array("i")

    def add(self, text: str) -> None:
        """Takes the next text."""
        pieces = split_at_breaks(text)
        self._pending.extend(map(self._numbers.__getitem__, pieces))
        self._sizes.append(len(pieces))

    @property
    def num_pending(self) -> int:
        """Pieces of the texts since `take`."""
        return len(self._pending)

    def take(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pieces of the texts added since the last time, and how many each text has."""
        taken = np.array(self._pending, np.int64), np.array(self._sizes, np.int64)
        del self._pending[:], self._sizes[:]
        return taken

    def renewed(self) -> "PlainPieces":
        """The same with no piece known."""
        return PlainPieces(self._numbering)


class CompiledPieces:
    """Looks pieces up in a table of flat arrays, by a loop that numba compiles."""

    def __init__(self, numbering: TermNumbering) -> None:
        self._numbering = numbering
        self.found = PieceTerms(numbering)
        self._number_pieces = _compiled()
        self._texts = bytearray()
        self._ends = array("q")
        self._pending: list[NDArray[np.int32]] = []
        self._sizes: list[NDArray[np.int32]] = []
        self.num_pending = 0
        # A slot holds the upper half of a piece's hash and, from 1 up, its number.
        self._slots = np.zeros(0, np.uint64)
        self._hashes = np.zeros(0, np.uint64)
        self._starts = np.zeros(1, np.int64)
        self._letters = np.zeros(0, np.uint8)

    def add(self, text: str) -> None:
        """Takes the next text."""
        self._texts += text.encode("utf-8", _ERRORS)
        self._ends.append(len(self._texts))
        if len(self._texts) >= _BATCH_BYTES:
            self._number()

    def take(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pieces of the texts added since the last time, and how many each text has."""
        self._number()
        none = [np.empty(0, np.int32)]
        pieces, sizes = np.concatenate(none + self._pending), np.concatenate(none + self._sizes)
        self._pending, self._sizes, self.num_pending = [], [], 0
        return pieces.astype(np.int64), sizes.astype(np.int64)

    def renewed(self) -> "CompiledPieces":
        """The same with no piece known."""
        return CompiledPieces(self._numbering)

    def _number(self) -> None:
        texts, ends = np.frombuffer(self._texts, np.uint8), np.array(self._ends, np.int64)
        if not len(ends):
            return
        known = len(self.found.counts)
        self._reserve(known + len(texts) // 2 + 1, len(texts))
        pieces = np.empty(len(texts) // 2 + len(ends), np.int32)
        sizes = np.empty(len(ends), np.int32)
        now = self._number_pieces(
            texts, ends, _IS_BREAK, pieces, sizes, known,
            self._slots, self._hashes, self._starts, self._letters,
        )  # fmt: skip
        count = int(sizes.sum())
        self._pending.append(pieces[:count].copy())
        self._sizes.append(sizes)
        self.num_pending += count
        for number in range(known, now):
            start, end = self._starts[number : number + 2].tolist()
            self.found.add(self._letters[start:end].tobytes().decode("utf-8", _ERRORS))
        self._texts, self._ends = bytearray(), array("q")

    def _reserve(self, num_pieces: int, num_letters: int) -> None:
        """Makes room for so many pieces in all, and so many more letters."""
        known = len(self.found.counts)
        if num_pieces > len(self._hashes):
            size = 1 << (2 * num_pieces).bit_length()
            self._hashes = (
                np.resize(self._hashes, size // 2) if known else np.zeros(size // 2, np.uint64)
            )
            starts = np.zeros(size // 2 + 1, np.int64)
            starts[: known + 1] = self._starts[: known + 1]
            self._starts = starts
            self._slots = np.zeros(size, np.uint64)
            _place_again(self._slots, self._hashes[:known])
        used = int(self._starts[known])
        if used + num_letters > len(self._letters):
            self._letters = _longer(self._letters, used, 2 * (used + num_letters))


_IS_BREAK = np.zeros(256, bool)
_IS_BREAK[list(BREAKS.encode())] = True


def _longer(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    """A larger array that begins with what is used of the old one."""
    larger = np.zeros(size, array.dtype)
    larger[:used] = array[:used]
    return larger


def _place_again(slots: NDArray[np.uint64], hashes: NDArray[np.uint64]) -> None:
    """Puts known pieces into an empty, larger table."""
    mask = np.uint64(len(slots) - 1)
    waiting = np.arange(len(hashes))
    places = hashes & mask
    while len(waiting):  # all at once; of several that want one slot the first gets it
        free = slots[places] == 0
        _, first = np.unique(places[free], return_index=True)
        placed = np.flatnonzero(free)[first]
        high = hashes[waiting[placed]] >> np.uint64(32) << np.uint64(32)
        slots[places[placed]] = high | (waiting[placed] + 1).astype(np.uint64)
        is_left = np.ones(len(waiting), bool)
        is_left[placed] = False
        waiting, places = waiting[is_left], (places[is_left] + np.uint64(1)) & mask


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    from .bm25_numba import compile_with_cache

    return compile_with_cache(_number_pieces)


def _number_pieces(
    texts: NDArray[np.uint8],
    ends: NDArray[np.int64],
    is_break: NDArray[np.bool_],
    pieces: NDArray[np.int32],
    sizes: NDArray[np.int32],
    num_known: int,
    slots: NDArray[np.uint64],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    letters: NDArray[np.uint8],
) -> int:
    """Fills ``pieces`` and ``sizes`` and adds unknown pieces to the table; gives their number."""
    mask = np.uint64(len(slots) - 1)
    low_half = np.uint64(0xFFFFFFFF)
    count = 0
    place = 0
    for text in range(len(ends)):
        before = count
        end = ends[text]
        while True:
            while place < end and is_break[texts[place]]:
                place += 1
            if place == end:
                break
            start = place
            value = np.uint64(14695981039346656037)  # FNV-1a
            while place < end and not is_break[texts[place]]:
                value = (value ^ np.uint64(texts[place])) * np.uint64(1099511628211)
                place += 1
            value ^= value >> np.uint64(29)  # the slot is taken from the low bits
            slot = value & mask
            number = np.int64(-1)
            while slots[slot] != 0:
                if (slots[slot] ^ value) >> np.uint64(32) == 0:
                    other = np.int64(slots[slot] & low_half) - 1
                    first = starts[other]
                    size = place - start
                    if starts[other + 1] - first == size:
                        i = 0
                        while i < size and letters[first + i] == texts[start + i]:
                            i += 1
                        if i == size:
                            number = other
                            break
                slot = (slot + np.uint64(1)) & mask
            if number < 0:
                number = np.int64(num_known)
                num_known += 1
                slots[slot] = (value & ~low_half) | np.uint64(num_known)
                hashes[number] = value
                first = starts[number]
                for i in range(place - start):
                    letters[first + i] = texts[start + i]
                starts[num_known] = first + place - start
            pieces[count] = number
            count += 1
        sizes[text] = count - before
    return num_known
