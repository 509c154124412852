"""In: the posting ranges of a query's terms. Out: its best documents and their exact scores.

The one hot loop of the BM25 index: plain arrays in, plain arrays out, so that a compiled version
can take its place.
"""

# T: query terms, P: postings of the index, N: documents, S: distinct denominators, C: candidates

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bm25_math import clause_scores

# Sums are 64-bit and equal documents are compared after rounding to 32 bits: a bound must lie
# further below the best than that rounding before a document may be dropped.
_SAFETY = 1 - 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryTerms:
    """The terms of one query that the index knows, the weightiest first."""

    starts_T: list[int]
    ends_T: list[int]
    weights_T: list[np.float32]
    bounds_T: list[float]
    """The most that each term can add to any document."""


def best_documents(
    terms: QueryTerms,
    documents_P: NDArray[np.int32],
    codes_P: NDArray[np.uint16] | NDArray[np.uint32],
    denominators_S: NDArray[np.float32],
    scores_N: NDArray[np.float64],
    top_k: int,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Every document that scores at least as much as the ``top_k``-th best, in no order.

    Term at a time with MaxScore pruning: once the remaining terms together cannot lift a new
    document into the best ``top_k``, only the documents met so far are scored further. Each clause
    is 32-bit, the sum 64-bit, the result rounded to 32 bits: Lucene's arithmetic and its scores.
    Source: Turtle and Flood 1995, "Query evaluation: strategies and optimizations".

    Args:
        terms: Ranges into the postings, each range with ascending documents.
        documents_P: [P], the document of each posting.
        codes_P: [P], the index of each posting's denominator.
        denominators_S: [S], as `bm25_math.denominators` gives them.
        scores_N: [N], scratch space: all zeros, and all zeros again on return.
        top_k: How many documents are wanted.

    Returns:
        Documents and scores, [C] each; ``C > top_k`` only by ties with the last.
    """
    num_terms, term = len(terms.starts_T), 0
    met: list[NDArray[np.int32]] = []
    num_met, remaining = 0, sum(terms.bounds_T)
    check_below = remaining / 2
    while term < num_terms:
        clip = slice(terms.starts_T[term], terms.ends_T[term])
        documents = documents_P[clip]
        before = scores_N[documents]
        after = before + clause_scores(terms.weights_T[term], denominators_S[codes_P[clip]])
        scores_N[documents] = after
        new = documents[(before == 0) & (after > 0)]
        met.append(new)
        num_met += len(new)
        remaining -= terms.bounds_T[term]
        term += 1
        # Each look at the threshold is a pass over all documents met: a query of ten thousand
        # words may afford a few dozen, so the next look waits until it is likely to succeed.
        if term < num_terms and num_met >= top_k and remaining < check_below:
            met = [np.concatenate(met)]
            threshold = _kth_largest(scores_N[met[0]], top_k) * _SAFETY
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
        clip = slice(terms.starts_T[late], terms.ends_T[late])
        documents = documents_P[clip]
        places = np.minimum(np.searchsorted(documents, candidates), len(documents) - 1)
        found = np.flatnonzero(documents[places] == candidates)
        codes = codes_P[clip][places[found]]
        scores[found] += clause_scores(terms.weights_T[late], denominators_S[codes])
        remaining -= terms.bounds_T[late]
        candidates, scores = _prune(candidates, scores, remaining, top_k)
    rounded = scores.astype(np.float32)
    if len(rounded) > top_k:
        is_best = rounded >= _kth_largest(rounded, top_k)
        candidates, rounded = candidates[is_best], rounded[is_best]
    return candidates, rounded


def _prune(
    candidates: NDArray[np.int32], scores: NDArray[np.float64], remaining: float, top_k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Without the candidates that the remaining terms cannot lift into the best ``top_k``."""
    if len(candidates) <= top_k:
        return candidates, scores
    can_win = scores + remaining >= _kth_largest(scores, top_k) * _SAFETY
    return candidates[can_win], scores[can_win]


def _kth_largest(values: NDArray[np.floating], k: int) -> float:
    place = len(values) - k
    return float(np.partition(values, place)[place])
