"""In: a query and the segments of an index. Out: the hits of the whole, best first."""

# N: documents of a segment, V: its terms, S: its distinct pairs of frequency and length, T: terms

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Literal, TypeAlias, get_args

import numpy as np

from .analyzer import analyze
from .bm25_arrays import read_ahead
from .bm25_config import BM25Config
from .bm25_kernel import Kernel, NumpyKernel, QueryTerms, ScoredPostings
from .bm25_math import clause_weight, denominators
from .bm25_numba import NumbaKernel, has_numba
from .bm25_segments import NO_PASSAGES, Segment
from .bm25_terms import TermFinder
from .passages import Hit
from .postings import mean_length

KernelName: TypeAlias = Literal["auto", "numba", "numpy"]

MAX_QUERY_CHARS = 100_000
"""What of a query is read."""
MAX_QUERY_TERMS = 1024
"""Distinct terms of a query that count, the first ones; Lucene refuses queries that have more."""

# Below this numpy answers in less than a millisecond, and importing numba takes half a second.
_MIN_COMPILED = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class _SegmentView:
    segment: Segment
    find: TermFinder
    kernel: Kernel
    growth: float
    """The mean length of the collection by that of the segment, at which bounds were computed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Range:
    """A term's postings in one segment."""

    start: int
    end: int
    max_denominator: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Term:
    weight: np.float32
    """For a query that has the term once."""
    ranges: tuple[_Range | None, ...]
    """One for each segment."""


class Searcher:
    """Ranks the passages of some segments as one collection; never changes.

    Weights and mean length are those of all passages that are not deleted, so that scores do not
    depend on how an index came about.
    """

    def __init__(self, segments: Sequence[Segment], config: BM25Config, kernel: KernelName) -> None:
        self.segments = tuple(segments)
        statistics = NO_PASSAGES
        for segment in segments:
            statistics = statistics.plus(segment.statistics)
        self.statistics = statistics
        mean = mean_length(statistics.num_tokens, statistics.num_nonempty)
        make_kernel = _kernel(kernel, statistics.num_passages)
        self._views = [_view(segment, config, mean, make_kernel) for segment in segments]
        self._term = lru_cache(maxsize=1 << 16)(_TermTable(self._views, statistics.num_nonempty))

    def search(self, query: str, top_k: int) -> list[Hit]:
        """The passages with a positive score, at most ``top_k``; equal scores by id."""
        counts = Counter(analyze(query[:MAX_QUERY_CHARS]))
        terms = []
        for token, count in islice(counts.items(), MAX_QUERY_TERMS):
            term = self._term(token)
            if term is not None:
                weight = term.weight if count == 1 else np.float32(count) * term.weight
                terms.append((float(weight), token, weight, term))
        if not terms:
            return []
        # In an order that does not depend on the segments, nor then does the sum of the clauses.
        terms.sort(key=lambda entry: (-entry[0], entry[1]))
        weights = [weight for _, _, weight, _ in terms]
        hits: list[Hit] = []
        for place, view in enumerate(self._views):
            ranges = [term.ranges[place] for _, _, _, term in terms]
            known = [(w, r) for w, r in zip(weights, ranges, strict=True) if r is not None]
            if known:
                hits += _search_segment(view, known, top_k)
        if len(self._views) > 1:
            hits.sort(key=lambda hit: (-hit.score, hit.passage.id))
        return hits[:top_k]

    def warm_up(self) -> None:
        """Does what the first searches would wait for: compiles the kernel, reads the postings."""
        for view in self._views:
            segment, postings = view.segment, view.segment.postings
            for array in (
                postings.starts_V,
                postings.terms,
                postings.term_offsets_V,
                postings.documents_P,
                postings.codes_P,
                segment.id_rank_N,
                segment.passages.offsets,
            ):  # not the texts: of them a search reads its hits only
                read_ahead(array)
            if len(postings.starts_V) < 2:  # no passage has a word
                continue
            start, end = postings.starts_V[:2].tolist()
            largest = float(segment.max_denominators_V[0])
            _search_segment(
                view, [(np.float32(1), _Range(start=start, end=end, max_denominator=largest))], 1
            )


class _TermTable:
    """What a query needs to know of a term.

    Apart from the searcher, which caches what it gives: in a cycle of references the files of an
    earlier state would stay mapped for a while.
    """

    def __init__(self, views: Sequence[_SegmentView], num_documents: int) -> None:
        self._views = views
        self._num_documents = num_documents

    def __call__(self, token: str) -> _Term | None:
        """None where no passage has it."""
        ranges: list[_Range | None] = []
        frequency = 0
        for view in self._views:
            number = view.find(token)
            if number < 0:
                ranges.append(None)
                continue
            postings = view.segment.postings
            start, end = postings.starts_V[number : number + 2].tolist()
            largest = float(view.segment.max_denominators_V[number])
            if view.growth != 1:
                # d - 1 = tf / (k1 (1 - b + b length / mean)) grows at most in proportion to the
                # mean; the rest is for rounding to 32 bits on the way.
                largest = (1 + (largest - 1) * max(1.0, view.growth)) * (1 + 1e-6)
            ranges.append(_Range(start=start, end=end, max_denominator=largest))
            frequency += end - start - _num_deleted(view.segment, number)
        if frequency == 0:
            return None
        weight = clause_weight(
            num_documents=self._num_documents,
            document_frequency=frequency,
            query_frequency=1,
        )
        return _Term(weight=weight, ranges=tuple(ranges))


def check_kernel(name: KernelName) -> None:
    """Refuses an unknown kernel, or one whose library is missing.

    Raises:
        ValueError: If there is no kernel of that name.
        ImportError: If it is numba, which is not installed.
    """
    if name not in get_args(KernelName):
        raise ValueError(f"kernel is {name!r}; it is one of {', '.join(get_args(KernelName))}.")
    if name == "numba" and not has_numba():
        raise ImportError("kernel='numba' needs numba: pip install 'maskgym[fast]'.")


def _kernel(name: KernelName, num_passages: int) -> Callable[[ScoredPostings], Kernel]:
    check_kernel(name)
    if name == "auto" and num_passages >= _MIN_COMPILED and has_numba():
        name = "numba"
    return NumbaKernel if name == "numba" else NumpyKernel


def _view(
    segment: Segment,
    config: BM25Config,
    mean: float,
    make_kernel: Callable[[ScoredPostings], Kernel],
) -> _SegmentView:
    postings, deletions = segment.postings, segment.deletions
    scored = ScoredPostings(
        documents_P=postings.documents_P,
        codes_P=postings.codes_P,
        denominators_S=denominators(
            postings.frequencies_S,
            postings.length_bytes_S,
            mean_length=mean,
            k1=config.k1,
            b=config.b,
        ),
        id_rank_N=segment.id_rank_N,
        is_deleted_N=np.empty(0, bool) if deletions is None else deletions.is_deleted_N,
    )
    return _SegmentView(
        segment=segment,
        find=TermFinder(postings),
        kernel=make_kernel(scored),
        growth=mean / postings.mean_length,
    )


def _num_deleted(segment: Segment, term: int) -> int:
    if segment.deletions is None:
        return 0
    terms_D = segment.deletions.terms_D
    place = int(np.searchsorted(terms_D, term))
    is_there = place < len(terms_D) and terms_D[place] == term
    return int(segment.deletions.counts_D[place]) if is_there else 0


def _search_segment(
    view: _SegmentView, known: Sequence[tuple[np.float32, _Range]], top_k: int
) -> list[Hit]:
    weights_T = np.array([weight for weight, _ in known], np.float32)
    largest_T = np.array([found.max_denominator for _, found in known], np.float32)
    terms = QueryTerms(
        starts_T=np.array([found.start for _, found in known], np.int64),
        ends_T=np.array([found.end for _, found in known], np.int64),
        weights_T=weights_T,
        bounds_T=(weights_T - weights_T / largest_T).astype(np.float64),
    )
    passages = view.segment.passages
    documents, scores = view.kernel(terms, min(top_k, len(passages)))
    best = zip(passages.many(documents), scores.tolist(), strict=True)
    return [Hit(passage=passage, score=score) for passage, score in best]
