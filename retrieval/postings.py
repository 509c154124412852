"""In: the tokens of documents, one document at a time. Out: the inverted index as flat arrays."""

# N: documents, P: postings, V: terms, S: distinct pairs of term frequency and length byte

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bm25_math import length_bytes

_CHUNK_TOKENS = 4_000_000  # bounds the memory of one sort
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
        return self.num_tokens / self.num_nonempty if self.num_nonempty else 1.0


class _Numbering(dict[str, int]):
    """Numbers terms as they are first met."""

    def __missing__(self, term: str) -> int:
        number = self[term] = len(self)
        return number


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """Postings of some consecutive documents, by term (as first met), then by document."""

    terms: NDArray[np.int32]
    documents: NDArray[np.int32]
    frequencies: NDArray[np.int32]


class PostingsBuilder:
    """Takes the documents' tokens in order and sorts them, a chunk at a time."""

    def __init__(self) -> None:
        self._numbering = _Numbering()
        self._lengths = array("q")
        self._pending = array("q")
        self._first_pending = 0
        self._chunks: list[_Chunk] = []

    def add(self, tokens: list[str]) -> None:
        """Takes the tokens of the next document."""
        self._pending.extend(map(self._numbering.__getitem__, tokens))
        self._lengths.append(len(tokens))
        if len(self._pending) >= _CHUNK_TOKENS:
            self._sort_pending()

    def finish(self) -> Postings:
        """The index of all documents taken; the builder is spent."""
        self._sort_pending()
        by_bytes = sorted((term.encode(), number) for term, number in self._numbering.items())
        num_terms = len(by_bytes)
        rank = np.empty(num_terms, np.int32)
        rank[[number for _, number in by_bytes]] = np.arange(num_terms, dtype=np.int32)
        counts = np.zeros(num_terms, np.int64)
        for chunk in self._chunks:
            counts += np.bincount(rank[chunk.terms], minlength=num_terms)
        starts_V = _offsets(counts)
        lengths_N = np.array(self._lengths, np.int64)
        documents_P = np.empty(starts_V[-1], np.int32)
        frequencies_P = np.empty(starts_V[-1], np.int32)
        next_free = starts_V[:-1].copy()
        while self._chunks:
            chunk = self._chunks.pop(0)
            terms = rank[chunk.terms]
            sizes = np.bincount(terms, minlength=num_terms)
            # Within a chunk the postings of a term stand together, in the order first met of terms.
            is_first = np.r_[True, chunk.terms[1:] != chunk.terms[:-1]]
            runs = np.flatnonzero(is_first)
            within = np.arange(len(terms)) - np.repeat(runs, np.diff(np.r_[runs, len(terms)]))
            places = next_free[terms] + within
            documents_P[places] = chunk.documents
            frequencies_P[places] = chunk.frequencies
            next_free += sizes
        codes_P, frequencies_S, length_bytes_S = _coded(
            frequencies_P, length_bytes(lengths_N)[documents_P]
        )
        return Postings(
            documents_P=documents_P,
            codes_P=codes_P,
            frequencies_S=frequencies_S,
            length_bytes_S=length_bytes_S,
            starts_V=starts_V,
            terms=np.frombuffer(b"".join(term for term, _ in by_bytes), np.uint8),
            term_offsets_V=_offsets(np.array([len(term) for term, _ in by_bytes], np.int64)),
            num_nonempty=int(np.count_nonzero(lengths_N)),
            num_tokens=int(lengths_N.sum()),
        )

    def _sort_pending(self) -> None:
        tokens = np.array(self._pending, np.int64)
        del self._pending[:]
        first, count = self._first_pending, len(self._lengths) - self._first_pending
        self._first_pending = len(self._lengths)
        if not len(tokens):
            return
        lengths = np.array(self._lengths[first:], np.int64)
        keys = tokens * count + np.repeat(np.arange(count), lengths)
        keys.sort()
        runs = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        frequencies = np.diff(np.r_[runs, len(keys)])
        terms, documents = np.divmod(keys[runs], count)
        self._chunks.append(
            _Chunk(
                terms=terms.astype(np.int32),
                documents=(documents + first).astype(np.int32),
                frequencies=frequencies.astype(np.int32),
            )
        )


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _coded(
    frequencies_P: NDArray[np.int32], length_bytes_P: NDArray[np.uint8]
) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint8]]:
    """Each posting's pair as its place among the distinct pairs; and those pairs."""
    pairs_P = frequencies_P.astype(np.int64) << 8 | length_bytes_P
    if len(pairs_P) and pairs_P.max() < _MAX_TABLE:  # a table instead of a sort: linear time
        is_there = np.zeros(_MAX_TABLE, bool)
        is_there[pairs_P] = True
        pairs_S = np.flatnonzero(is_there)
        places = np.zeros(_MAX_TABLE, np.uint32)
        places[pairs_S] = np.arange(len(pairs_S), dtype=np.uint32)
        codes_P = places[pairs_P]
    else:
        pairs_S, inverse = np.unique(pairs_P, return_inverse=True)
        codes_P = inverse.astype(np.uint32)
    frequencies_S, length_bytes_S = pairs_S >> 8, (pairs_S & 0xFF).astype(np.uint8)
    if len(pairs_S) <= 1 << 16:
        return codes_P.astype(np.uint16), frequencies_S, length_bytes_S
    return codes_P, frequencies_S, length_bytes_S
