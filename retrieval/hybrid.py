"""In: queries to several retrievers. Out: one ranking of what they found, by reciprocal ranks."""

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from .passages import Hit, Passage
from .retriever import Retriever, check_search


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[str]], weights: Sequence[float], k: float = 60
) -> dict[str, float]:
    """The score of each id in any ranking: ``sum(weight / (k + rank))`` over those that have it.

    Ranks count from 1. Sums are exactly rounded: ids whose ranks are the same but for the order of
    the rankings, of equal weights, get equal scores.
    Source: Cormack, Clarke & Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods", SIGIR, with k = 60; the weights are not theirs.

    Args:
        rankings: Ids, the best first, each once.
        weights: Of each ranking.
        k: The larger it is, the less the first ranks stand out.
    """
    terms: dict[str, list[float]] = defaultdict(list)
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, identity in enumerate(ranking, start=1):
            terms[identity].append(weight / (k + rank))
    return {identity: math.fsum(of_one) for identity, of_one in terms.items()}


class HybridRetriever:
    """Several retrievers over one corpus as one; passages are the same where their ids are.

    Closing it closes them all. One that fails makes the search fail: a ranking without it would be
    another ranking.
    """

    def __init__(
        self,
        retrievers: Sequence[Retriever],
        weights: Sequence[float] | None = None,
        *,
        k: float = 60,
        depth: int = 100,
    ) -> None:
        """Puts retrievers side by side.

        Args:
            retrievers: At least one.
            weights: How much each counts; None is equally.
            k: As in `reciprocal_rank_fusion`.
            depth: Hits that each is asked for; more, if more than that are asked of this one.
        """
        self.retrievers = tuple(retrievers)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(self.retrievers)
        if not self.retrievers:
            raise ValueError("There is no retriever. Give at least one; two make a hybrid.")
        if len(self.weights) != len(self.retrievers):
            raise ValueError(
                f"There are {len(self.weights)} weights for {len(self.retrievers)} retrievers. "
                "Give one each."
            )
        if not all(math.isfinite(weight) and weight > 0 for weight in self.weights):
            raise ValueError(f"The weights are {self.weights}; each is a number above 0.")
        if not k >= 0 or depth < 1:
            raise ValueError(f"k is {k}, from 0 up; depth is {depth}, from 1 up.")
        self.k = k
        self.depth = depth

    @property
    def fingerprint(self) -> str:
        """Names the retrievers in their order and how they are brought together."""
        inner = [retriever.fingerprint for retriever in self.retrievers]
        named = json.dumps([inner, [float(w) for w in self.weights], float(self.k), self.depth])
        return f"hybrid-{hashlib.sha256(named.encode()).hexdigest()[:32]}"

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the best of what any retriever found; equal scores are ordered by id.

        Raises:
            ValueError: If ``top_k`` is below 1, or a query is no string.
        """
        check_search(queries, top_k)
        if not queries:
            return []
        depth = max(self.depth, top_k)
        found = [retriever.search(queries, depth) for retriever in self.retrievers]
        return [self._fuse(of_query, top_k) for of_query in zip(*found, strict=True)]

    def close(self) -> None:
        """Closes the retrievers."""
        for retriever in self.retrievers:
            retriever.close()

    def _fuse(self, found: Sequence[Sequence[Hit]], top_k: int) -> list[Hit]:
        passages: dict[str, Passage] = {}
        for hits in found:
            for hit in hits:
                passages.setdefault(hit.passage.id, hit.passage)
        rankings = [[hit.passage.id for hit in hits] for hits in found]
        scores = reciprocal_rank_fusion(rankings, self.weights, self.k)
        best = sorted(scores, key=lambda identity: (-scores[identity], identity))[:top_k]
        return [Hit(passage=passages[identity], score=scores[identity]) for identity in best]

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_parts, (self.retrievers, self.weights, self.k, self.depth)


def _from_parts(
    retrievers: Sequence[Retriever], weights: Sequence[float], k: float, depth: int
) -> HybridRetriever:
    return HybridRetriever(retrievers, weights, k=k, depth=depth)
