"""In: the posting ranges of a query's terms. Out: its best documents, by a compiled loop.

The same hits bit for bit as `bm25_kernel.NumpyKernel`, several times faster, and other threads run
meanwhile. Needs numba, which is imported and compiles on the first use; later processes read what
was compiled from a cache.
"""

# T: query terms, P: postings, N: documents, S: distinct denominators, K: hits, W: a window

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .bm25_kernel import SAFETY, QueryTerms, ScoredPostings

_WINDOW = 4096  # its sums stay in the fastest cache
_SEARCHED = 24  # postings that are passed over in the time that one search among them takes
_COMPILING = Lock()

_Found: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]


class NumbaKernel:
    """The compiled loop over one segment; safe to call from several threads."""

    def __init__(self, postings: ScoredPostings) -> None:
        self._best_documents: Callable[..., Any] | None = None
        self._arrays = tuple(
            _read_only(array)
            for array in (
                postings.documents_P,
                postings.codes_P,
                postings.denominators_S,
                postings.id_rank_N,
                postings.is_deleted_N,
            )
        )

    def __call__(self, terms: QueryTerms, top_k: int) -> _Found:
        """As `bm25_kernel.NumpyKernel`."""
        if not len(terms.starts_T):
            return np.empty(0, np.int32), np.empty(0, np.float32)
        if self._best_documents is None:
            with _COMPILING:  # two threads at once would compile what is compiled
                self._best_documents = _compiled()
        found: _Found = self._best_documents(
            *self._arrays, terms.starts_T, terms.ends_T, terms.weights_T, terms.bounds_T, top_k
        )
        return found


def has_numba() -> bool:
    """Whether numba is installed; it is not imported."""
    return find_spec("numba") is not None


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Mapped arrays cannot be written to: with all of them so, one version is compiled."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def compile_with_cache(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function compiled, without the interpreter's lock.

    Raises:
        ImportError: If numba is not installed.
    """
    try:
        import numba
    except ImportError as error:
        raise ImportError(
            "The compiled kernel needs numba: pip install 'maskgym[fast]', or ask for "
            "kernel='numpy'."
        ) from error

    options = {"nogil": True, "error_model": "numpy"}  # no checks for division by zero
    try:  # what is compiled is kept beside the file, else in the user's cache folder
        return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # neither can be written: compile in each process
        return numba.njit(**options)(function)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Any]:
    for name in ("_first_at_least", "_keep", "_sorted_hits"):
        globals()[name] = compile_with_cache(globals()[name])
    return compile_with_cache(_best_documents)


# From here on plain Python that numba can compile, and that runs without it too, a hundred times
# slower.


def _best_documents(
    documents_P: NDArray[np.int32],
    codes_P: NDArray[np.uint16],
    denominators_S: NDArray[np.float32],
    id_rank_N: NDArray[np.int32],
    is_deleted_N: NDArray[np.bool_],
    starts_T: NDArray[np.int64],
    ends_T: NDArray[np.int64],
    weights_T: NDArray[np.float32],
    bounds_T: NDArray[np.float64],
    top_k: int,
) -> _Found:
    """MaxScore over windows of documents.

    The first terms are summed for every document of a window; the last ones, which together cannot
    lift a document into the best, are looked up for the documents that they could still lift.
    Sources: Turtle and Flood 1995, "Query evaluation: strategies and optimizations"; for the
    windows Lucene's MaxScoreBulkScorer.
    """
    num_terms = len(starts_T)
    next_T = starts_T.copy()
    rest_T = np.zeros(num_terms + 1)  # [t]: the most that terms t, t + 1, ... add together
    for term in range(num_terms - 1, -1, -1):
        rest_T[term] = rest_T[term + 1] + bounds_T[term]
    sums_W = np.zeros(_WINDOW)
    met_W = np.empty(_WINDOW, np.int32)
    # The hits so far: a heap with the worst of them on top.
    hits_K = np.empty(top_k, np.int32)
    scores_K = np.empty(top_k, np.float32)
    ranks_K = np.empty(top_k, np.int32)
    num_hits = 0
    floor = -1.0  # what a document must reach; below the worst hit by more than rounding
    num_summed = num_terms
    while True:
        while num_summed > 0 and rest_T[num_summed - 1] < floor:
            num_summed -= 1
        base = 1 << 62
        for term in range(num_summed):
            if next_T[term] < ends_T[term]:
                base = min(base, documents_P[next_T[term]])
        if base == 1 << 62:
            break
        limit = base + _WINDOW
        num_met = 0
        for term in range(num_summed):
            weight, place, end = weights_T[term], next_T[term], ends_T[term]
            while place < end:
                document = documents_P[place]
                if document >= limit:
                    break
                clause = weight - weight / denominators_S[codes_P[place]]
                place += 1
                slot = document - base
                before = sums_W[slot]
                sums_W[slot] = before + clause
                if before == 0 and clause > 0:
                    met_W[num_met] = slot
                    num_met += 1
            next_T[term] = place
        # Of the documents met those stay whom the terms not yet summed could still lift.
        for term in range(num_summed, num_terms + 1):
            num_left = 0
            for i in range(num_met):
                slot = met_W[i]
                if sums_W[slot] + rest_T[term] >= floor:
                    met_W[num_left] = slot
                    num_left += 1
                else:
                    sums_W[slot] = 0
            num_met = num_left
            if num_met == 0 or term == num_terms:
                break
            weight, end = weights_T[term], ends_T[term]
            start = _first_at_least(documents_P, next_T[term], end, base)
            end = _first_at_least(documents_P, start, end, limit)
            next_T[term] = end
            if end - start > _SEARCHED * num_met:
                for i in range(num_met):
                    slot = met_W[i]
                    place = _first_at_least(documents_P, start, end, base + slot)
                    if place < end and documents_P[place] == base + slot:
                        sums_W[slot] += weight - weight / denominators_S[codes_P[place]]
            else:
                for place in range(start, end):
                    slot = documents_P[place] - base
                    if sums_W[slot] > 0:
                        sums_W[slot] += weight - weight / denominators_S[codes_P[place]]
        for i in range(num_met):
            slot = met_W[i]
            score = np.float32(sums_W[slot])
            sums_W[slot] = 0
            document = base + slot
            if len(is_deleted_N) and is_deleted_N[document]:
                continue
            rank = id_rank_N[document]
            num_hits = _keep(hits_K, scores_K, ranks_K, num_hits, document, score, rank)
            if num_hits == top_k:
                floor = scores_K[0] * SAFETY
    return _sorted_hits(hits_K, scores_K, ranks_K, num_hits)


def _first_at_least(values: NDArray[np.int32], start: int, end: int, wanted: int) -> int:
    """The first place of ``values[start:end]``, ascending, that holds at least ``wanted``."""
    step = 1
    while start + step < end and values[start + step] < wanted:
        start += step
        step *= 2
    end = min(end, start + step + 1)
    while start < end:
        middle = (start + end) >> 1
        if values[middle] < wanted:
            start = middle + 1
        else:
            end = middle
    return start


def _keep(
    hits_K: NDArray[np.int32],
    scores_K: NDArray[np.float32],
    ranks_K: NDArray[np.int32],
    num_hits: int,
    document: int,
    score: np.float32,
    rank: int,
) -> int:
    """Puts a document among the hits, if need be in place of the worst; gives their number."""
    size = len(hits_K)
    if num_hits < size:  # up from the end
        place = num_hits
        num_hits += 1
        while place > 0:
            above = (place - 1) >> 1
            if score > scores_K[above] or (score == scores_K[above] and rank < ranks_K[above]):
                break
            hits_K[place] = hits_K[above]
            scores_K[place] = scores_K[above]
            ranks_K[place] = ranks_K[above]
            place = above
    elif score < scores_K[0] or (score == scores_K[0] and rank > ranks_K[0]):
        return num_hits
    else:  # down from the top
        place = 0
        while True:
            below = 2 * place + 1
            if below >= size:
                break
            other = below + 1
            if other < size and (
                scores_K[other] < scores_K[below]
                or (scores_K[other] == scores_K[below] and ranks_K[other] > ranks_K[below])
            ):
                below = other
            if scores_K[below] > score or (scores_K[below] == score and ranks_K[below] < rank):
                break
            hits_K[place] = hits_K[below]
            scores_K[place] = scores_K[below]
            ranks_K[place] = ranks_K[below]
            place = below
    hits_K[place] = document
    scores_K[place] = score
    ranks_K[place] = rank
    return num_hits


def _sorted_hits(
    hits_K: NDArray[np.int32],
    scores_K: NDArray[np.float32],
    ranks_K: NDArray[np.int32],
    num_hits: int,
) -> _Found:
    """Best first, emptying the heap from its top."""
    hits, scores = np.empty(num_hits, np.int32), np.empty(num_hits, np.float32)
    for last in range(num_hits - 1, -1, -1):
        hits[last], scores[last] = hits_K[0], scores_K[0]
        if last:  # the last entry takes the place of the top, in a heap that is one shorter
            hit, score, rank = hits_K[last], scores_K[last], ranks_K[last]
            _keep(hits_K[:last], scores_K[:last], ranks_K[:last], last, hit, score, rank)
    return hits, scores
