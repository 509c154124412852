"""In: texts, one at a time. Out: the inverted index as flat arrays, by way of sorted parts."""

# N: documents, P: postings, V: terms, S: distinct pairs of term frequency and length byte

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .bm25_math import length_bytes
from .bm25_numba import has_numba
from .bm25_pieces import CompiledPieces, Pieces, PlainPieces, TermNumbering

_CHUNK_PIECES = 4_000_000  # bounds the memory of one sort
_PLAIN_CHUNK_PIECES = 1_000_000  # numba is worth its import from then on
_MAX_KEPT_PIECES = 1_000_000  # a hundred megabytes
_MAX_TABLE = 1 << 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Postings:
    """Which documents hold which terms how often; terms are numbered in order of their bytes."""

    documents_P: NDArray[np.int32]
    """Document of each posting, ascending within a term."""
    codes_P: NDArray[np.uint16] | NDArray[np.uint32]
    """Index into the pairs below: a corpus has few distinct ones, and each is scored once."""
    frequencies_S: NDArray[np.int64]
    length_bytes_S: NDArray[np.uint8]
    starts_V: NDArray[np.int64]
    """[V + 1], the postings of term v are ``starts_V[v]:starts_V[v + 1]``."""
    terms: NDArray[np.uint8]
    """The bytes of all terms, one after the other."""
    term_offsets_V: NDArray[np.int64]
    """[V + 1], term v is ``terms[term_offsets_V[v]:term_offsets_V[v + 1]]``."""
    num_nonempty: int
    """Documents with at least one term; the others do not count in Lucene's statistics."""
    num_tokens: int

    @property
    def mean_length(self) -> float:
        """Tokens of a document that has any; 1 where none has, and so nothing is scored."""
        return mean_length(self.num_tokens, self.num_nonempty)


class Slices(Protocol):
    """An array of which slices are read: in memory, or a file."""

    def __getitem__(self, clip: slice, /) -> NDArray[Any]:
        """A slice without a step."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PostingsPart:
    """Postings of some documents, to be merged with those of others."""

    documents_P: Slices
    codes_P: Slices
    frequencies_S: NDArray[np.int64]
    length_bytes_S: NDArray[np.uint8]
    starts_V: NDArray[np.int64]
    ranks_V: NDArray[np.int64]
    """Ascending: the place of each of the part's terms among the terms of all parts."""
    base: int = 0
    """Added to each document's number."""
    moved_N: NDArray[np.int32] | None = None
    """Instead of a base: each document's new number, ascending, or -1 to leave it out."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SortedTexts:
    """What `PostingsBuilder` gives in the end."""

    parts: list[PostingsPart]
    terms: list[bytes]
    """All of them, in order."""
    num_nonempty: int
    num_tokens: int


class PostingsBuilder:
    """Takes texts in order and sorts their terms, so many texts at a time.

    Memory holds the vocabulary and one chunk of text; with a scratch folder the sorted parts lie
    there.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = scratch
        self._numbering = TermNumbering()
        self._order: list[int] = []
        self._pieces: Pieces = PlainPieces(self._numbering)
        # Until the end their terms have the numbers of first meeting, in the order of their bytes.
        self._runs: list[PostingsPart] = []
        self._num_documents = self._num_nonempty = self._num_tokens = 0

    def add(self, text: str) -> None:
        """Takes the next text."""
        self._pieces.add(text)
        limit = _CHUNK_PIECES if isinstance(self._pieces, CompiledPieces) else _PLAIN_CHUNK_PIECES
        if self._pieces.num_pending >= limit:
            self._sort_pending()
            if has_numba() and isinstance(self._pieces, PlainPieces):  # a large corpus
                self._pieces = CompiledPieces(self._numbering)

    def finish(self) -> SortedTexts:
        """Sorted parts of all texts taken; the builder is spent."""
        self._sort_pending()
        terms = list(self._numbering)
        rank = self._ranks()
        return SortedTexts(
            parts=[replace(run, ranks_V=rank[run.ranks_V]) for run in self._runs],
            terms=[terms[number].encode() for number in self._order],
            num_nonempty=self._num_nonempty,
            num_tokens=self._num_tokens,
        )

    def _ranks(self) -> NDArray[np.int64]:
        """The place of each term met so far, by code point, which is by byte."""
        terms = list(self._numbering)
        self._order.extend(range(len(self._order), len(terms)))
        self._order.sort(key=terms.__getitem__)  # linear in what was in order before
        rank = np.empty(len(terms), np.int64)
        rank[self._order] = np.arange(len(terms))
        return rank

    def _sort_pending(self) -> None:
        lengths_N, terms = self._terms_of_pending()
        if len(terms):
            self._runs.append(self._sorted_run(lengths_N, terms))
        self._num_documents += len(lengths_N)
        self._num_nonempty += int(np.count_nonzero(lengths_N))
        self._num_tokens += int(lengths_N.sum())
        if len(self._pieces.found.counts) > _MAX_KEPT_PIECES:
            self._pieces = self._pieces.renewed()

    def _terms_of_pending(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The number of terms in each document, and the terms one after the other."""
        pieces, sizes = self._pieces.take()
        counts_of = np.array(self._pieces.found.counts, np.int64)
        counts = counts_of[pieces]
        ends = offsets(counts)
        bounds = ends[offsets(sizes)]
        # The terms of a piece stand together: from where they start, less what was before.
        shifts = np.repeat(offsets(counts_of)[pieces] - ends[:-1], counts)
        shifts += np.arange(len(shifts))
        terms = np.array(self._pieces.found.terms, np.int32)[shifts]
        return bounds[1:] - bounds[:-1], terms.astype(np.int64)

    def _sorted_run(self, lengths_N: NDArray[np.int64], terms: NDArray[np.int64]) -> PostingsPart:
        rank = self._ranks()
        bits = max(1, int(len(lengths_N) - 1).bit_length())
        keys = rank[terms] << bits
        keys |= np.repeat(np.arange(len(lengths_N)), lengths_N)
        keys.sort()
        firsts = _first_places(keys)
        frequencies_P = np.diff(firsts, append=len(keys))
        keys = keys[firsts]
        documents_P = (keys & ((1 << bits) - 1)).astype(np.int32)
        keys >>= bits
        starts = _first_places(keys)
        codes_P, frequencies_S, length_bytes_S = _coded(
            frequencies_P, length_bytes(lengths_N)[documents_P]
        )
        documents: Slices = documents_P
        codes: Slices = codes_P
        if self._scratch is not None:
            name = f"run-{len(self._runs):06d}"
            documents = _ArrayFile.write(self._scratch / f"{name}.documents", documents_P)
            codes = _ArrayFile.write(self._scratch / f"{name}.codes", codes_P)
        return PostingsPart(
            documents_P=documents,
            codes_P=codes,
            frequencies_S=frequencies_S,
            length_bytes_S=length_bytes_S,
            starts_V=np.append(starts, len(keys)),
            ranks_V=np.array(self._order, np.int64)[keys[starts]],
            base=self._num_documents,
        )


def mean_length(num_tokens: int, num_nonempty: int) -> float:
    """Tokens of a document that has any; 1 where none has."""
    return num_tokens / num_nonempty if num_nonempty else 1.0


def offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each of consecutive pieces starts, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def distinct_pairs(
    frequencies_S: NDArray[np.int64], length_bytes_S: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """Each pair as one number, in the order of the pairs."""
    return frequencies_S.astype(np.int64) << 8 | length_bytes_S


Codes: TypeAlias = NDArray[np.uint16] | NDArray[np.uint32]


def as_codes(values: NDArray[np.integer], num_pairs: int) -> Codes:
    """In the narrower type where it suffices."""
    return values.astype(np.uint16) if num_pairs <= 1 << 16 else values.astype(np.uint32)


def _first_places(ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each distinct value first stands."""
    return np.flatnonzero(np.r_[True, ascending[1:] != ascending[:-1]])


def _coded(
    frequencies_P: NDArray[np.int64], length_bytes_P: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint8]]:
    """Each posting's pair as its place among the distinct pairs; and those pairs."""
    pairs_P = distinct_pairs(frequencies_P, length_bytes_P)
    if pairs_P.max() < _MAX_TABLE:  # a table instead of a sort: linear time
        is_there = np.zeros(_MAX_TABLE, bool)
        is_there[pairs_P] = True
        pairs_S = np.flatnonzero(is_there)
        places = np.zeros(_MAX_TABLE, np.uint32)
        places[pairs_S] = np.arange(len(pairs_S), dtype=np.uint32)
        codes_P = places[pairs_P]
    else:
        pairs_S, inverse = np.unique(pairs_P, return_inverse=True)
        codes_P = inverse.astype(np.uint32)
    return as_codes(codes_P, len(pairs_S)), pairs_S >> 8, (pairs_S & 0xFF).astype(np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class _ArrayFile:
    """An array in a file, read a slice at a time: mapped pages would count as our memory."""

    path: Path
    dtype: np.dtype[Any]

    @classmethod
    def write(cls, path: Path, values: NDArray[Any]) -> "_ArrayFile":
        with path.open("xb") as file:
            file.write(values.data)
        return cls(path=path, dtype=values.dtype)

    def __getitem__(self, clip: slice, /) -> NDArray[Any]:
        count, offset = clip.stop - clip.start, clip.start * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, count=count, offset=offset)
