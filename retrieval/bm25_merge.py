"""In: sorted parts of an inverted index. Out: the one index of them all, a range of terms at a time."""

# N: documents, P: postings, V: terms, S: distinct pairs of term frequency and length byte

from collections.abc import Callable, Iterator, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from .bm25_arrays import ArraySink
from .postings import Codes, PostingsPart, as_codes, distinct_pairs, offsets

_BATCH = 4_000_000  # postings in memory at a time, unless one term has more


def merge_parts(
    parts: Sequence[PostingsPart],
    num_terms: int,
    sink: ArraySink,
    denominators_of: Callable[[NDArray[np.int64], NDArray[np.uint8]], NDArray[np.float32]],
) -> NDArray[np.bool_]:
    """Writes ``documents``, ``codes``, their pairs, ``starts`` and ``max_denominators``.

    Args:
        parts: Their documents do not mix: all of one part come before all of the next.
        num_terms: Terms of all parts together.
        sink: Takes the arrays.
        denominators_of: As `bm25_math.denominators`, for pairs of frequency and length byte.

    Returns:
        [V], whether the term is still in some document; the others are left out.
    """
    pairs_S = reduce(np.union1d, map(_pairs, parts), np.empty(0, np.int64))
    frequencies_S, length_bytes_S = pairs_S >> 8, (pairs_S & 0xFF).astype(np.uint8)
    by_code = denominators_of(frequencies_S, length_bytes_S)
    recoded = [as_codes(np.searchsorted(pairs_S, _pairs(part)), len(pairs_S)) for part in parts]
    no_codes = as_codes(np.empty(0, np.int64), len(pairs_S))
    counts_V = np.zeros(num_terms, np.int64)
    for part in parts:
        for ranks, _, _, sizes in _kept(part, _ranges(np.diff(part.starts_V)), None):
            counts_V[ranks] += sizes
    is_kept_V = counts_V > 0
    sink.append("documents", np.empty(0, np.int32))  # the pieces below may be none
    sink.append("codes", no_codes)
    sink.append("max_denominators", np.empty(0, np.float32))
    for first, last in _ranges(counts_V):
        ends = np.cumsum(counts_V[first:last])
        starts = ends - counts_V[first:last]
        documents_P = np.empty(ends[-1], np.int32)
        codes_P = np.empty(ends[-1], no_codes.dtype)
        next_free = starts.copy()
        for part, codes_of in zip(parts, recoded, strict=True):
            low, high = np.searchsorted(part.ranks_V, (first, last)).tolist()
            for ranks, documents, codes, sizes in _kept(part, [(low, high)], codes_of):
                places = np.repeat(next_free[ranks - first] - (np.cumsum(sizes) - sizes), sizes)
                places += np.arange(len(places))
                documents_P[places] = documents
                codes_P[places] = codes
                next_free[ranks - first] += sizes
        sink.append("documents", documents_P)
        sink.append("codes", codes_P)
        runs = starts[is_kept_V[first:last]]
        if len(runs):
            sink.append("max_denominators", np.maximum.reduceat(by_code[codes_P], runs))
    sink.append("starts", offsets(counts_V[is_kept_V]))
    sink.append("frequencies", frequencies_S)
    sink.append("length_bytes", length_bytes_S)
    return is_kept_V


def _pairs(part: PostingsPart) -> NDArray[np.int64]:
    return distinct_pairs(part.frequencies_S, part.length_bytes_S)


def _ranges(counts_V: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of terms with about a batch of postings each."""
    ends = np.cumsum(counts_V)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + _BATCH, side="right")))
        yield first, last
        first = last


def _kept(
    part: PostingsPart,
    ranges: Sequence[tuple[int, int]] | Iterator[tuple[int, int]],
    codes_of: Codes | None,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.integer], NDArray[np.int64]]]:
    """For ranges of the part's terms: their ranks, new documents, new codes, number of each.

    Without ``codes_of`` only the counts are wanted, and the documents only where some are left out.
    """
    for low, high in ranges:
        if low == high:
            continue
        clip = slice(int(part.starts_V[low]), int(part.starts_V[high]))
        sizes, ranks = np.diff(part.starts_V[low : high + 1]), part.ranks_V[low:high]
        nothing = np.empty(0, np.int32)
        if part.moved_N is None:
            if codes_of is None:
                yield ranks, nothing, nothing, sizes
            else:
                documents = part.documents_P[clip] + np.int32(part.base)
                yield ranks, documents, codes_of[part.codes_P[clip]], sizes
            continue
        documents = part.moved_N[part.documents_P[clip]]
        is_kept = documents >= 0
        sizes = np.diff(offsets(is_kept.astype(np.int64))[offsets(sizes)])
        codes = nothing if codes_of is None else codes_of[part.codes_P[clip][is_kept]]
        yield ranks, documents[is_kept], codes, sizes
