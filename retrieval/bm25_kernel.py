"""In: the posting ranges of a query's terms. Out: its best documents and their exact scores.

The one hot loop of the BM25 index in numpy alone; `bm25_numba` has the same loop compiled.
"""

# T: query terms, P: postings of the segment, N: documents, S: distinct denominators, C: candidates

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .bm25_math import clause_scores

# Sums are 64-bit and equal documents are compared after rounding to 32 bits: a bound must lie
# further below the best than that rounding before a document may be dropped.
SAFETY = 1 - 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredPostings:
    """What a kernel needs of one segment."""

    documents_P: NDArray[np.int32]
    """The document of each posting, ascending within a term."""
    codes_P: NDArray[np.uint16] | NDArray[np.uint32]
    """The index of each posting's denominator."""
    denominators_S: NDArray[np.float32]
    """As `bm25_math.denominators` gives them."""
    id_rank_N: NDArray[np.int32]
    """Of equal scores the lower rank comes first."""
    is_deleted_N: NDArray[np.bool_]
    """Documents that are no hits any more; empty where there are none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryTerms:
    """The terms of one query that a segment knows, the weightiest first."""

    starts_T: NDArray[np.int64]
    ends_T: NDArray[np.int64]
    weights_T: NDArray[np.float32]
    bounds_T: NDArray[np.float64]
    """The most that each term can add to any document."""


Kernel: TypeAlias = Callable[[QueryTerms, int], tuple[NDArray[np.int32], NDArray[np.float32]]]
"""Documents and scores of the best ``top_k``: the higher score first, then the lower id rank."""


class NumpyKernel:
    """The loop over one segment; safe to call from several threads."""

    def __init__(self, postings: ScoredPostings) -> None:
        self._postings = postings
        # One zeroed array per search under way. A search that dies does not put its array back.
        self._scratch: list[NDArray[np.float64]] = []

    def __call__(
        self, terms: QueryTerms, top_k: int
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The best ``top_k`` documents, best first."""
        if not len(terms.starts_T):
            return np.empty(0, np.int32), np.empty(0, np.float32)
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = np.zeros(len(self._postings.id_rank_N), np.float64)
        documents, scores = best_documents(terms, self._postings, scratch, top_k)
        self._scratch.append(scratch)
        order = np.lexsort((self._postings.id_rank_N[documents], -scores))[:top_k]
        return documents[order], scores[order]


def best_documents(
    terms: QueryTerms, postings: ScoredPostings, scores_N: NDArray[np.float64], top_k: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Every document that scores at least as much as the ``top_k``-th best, in no order.

    Term at a time with MaxScore pruning: once the remaining terms together cannot lift a new
    document into the best ``top_k``, only the documents met so far are scored further. Each clause
    is 32-bit, the sum 64-bit, the result rounded to 32 bits: Lucene's arithmetic and its scores.
    Source: Turtle and Flood 1995, "Query evaluation: strategies and optimizations".

    Args:
        terms: Ranges into the postings, at least one.
        postings: Those of the segment.
        scores_N: [N], scratch space: all zeros, and all zeros again on return.
        top_k: How many documents are wanted.

    Returns:
        Documents and scores, [C] each; ``C > top_k`` only by ties with the last.
    """
    num_terms, term = len(terms.starts_T), 0
    starts, ends = terms.starts_T.tolist(), terms.ends_T.tolist()
    bounds = terms.bounds_T.tolist()
    met: list[NDArray[np.int32]] = []
    num_met, remaining = 0, sum(bounds)
    check_below = remaining / 2
    while term < num_terms:
        documents, codes = _kept(postings, slice(starts[term], ends[term]))
        before = scores_N[documents]
        after = before + clause_scores(terms.weights_T[term], postings.denominators_S[codes])
        scores_N[documents] = after
        new = documents[(before == 0) & (after > 0)]
        met.append(new)
        num_met += len(new)
        remaining -= bounds[term]
        term += 1
        # Each look at the threshold is a pass over all documents met: a query of ten thousand
        # words may afford a few dozen, so the next look waits until it is likely to succeed.
        if term < num_terms and num_met >= top_k and remaining < check_below:
            met = [np.concatenate(met)]
            threshold = _kth_largest(scores_N[met[0]], top_k) * SAFETY
            if remaining < threshold:
                break
            check_below = max(threshold, remaining / 1.5)
    candidates = np.concatenate(met)
    scores = scores_N[candidates]
    scores_N[candidates] = 0
    if term < num_terms:
        candidates, scores = _prune(candidates, scores, remaining, top_k)
        order = np.argsort(candidates)
        candidates, scores = candidates[order], scores[order]
    for late in range(term, num_terms):
        clip = slice(starts[late], ends[late])
        documents = postings.documents_P[clip]
        places = np.minimum(np.searchsorted(documents, candidates), len(documents) - 1)
        found = np.flatnonzero(documents[places] == candidates)
        codes = postings.codes_P[clip][places[found]]
        scores[found] += clause_scores(terms.weights_T[late], postings.denominators_S[codes])
        remaining -= bounds[late]
        candidates, scores = _prune(candidates, scores, remaining, top_k)
    rounded = scores.astype(np.float32)
    if len(rounded) > top_k:
        is_best = rounded >= _kth_largest(rounded, top_k)
        candidates, rounded = candidates[is_best], rounded[is_best]
    return candidates, rounded


def _kept(
    postings: ScoredPostings, clip: slice
) -> tuple[NDArray[np.int32], NDArray[np.uint16] | NDArray[np.uint32]]:
    documents, codes = postings.documents_P[clip], postings.codes_P[clip]
    if not len(postings.is_deleted_N):
        return documents, codes
    is_kept = ~postings.is_deleted_N[documents]
    return documents[is_kept], codes[is_kept]


def _prune(
    candidates: NDArray[np.int32], scores: NDArray[np.float64], remaining: float, top_k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Without the candidates that the remaining terms cannot lift into the best ``top_k``."""
    if len(candidates) <= top_k:
        return candidates, scores
    can_win = scores + remaining >= _kth_largest(scores, top_k) * SAFETY
    return candidates[can_win], scores[can_win]


def _kth_largest(values: NDArray[np.floating], k: int) -> float:
    place = len(values) - k
    return float(np.partition(values, place)[place])
