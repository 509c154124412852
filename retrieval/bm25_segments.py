"""In: the arrays of a segment, and what was deleted from it. Out: one part of an index to search.

An index is a row of segments, written once and never changed. What is deleted is marked beside a
segment, with what the marked passages add to the statistics of the collection.
"""

# N: passages of the segment, V: its terms, D: terms of the deleted passages

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .analyzer import analyze
from .bm25_terms import TermFinder
from .passage_store import CONTENT, OFFSETS, PassageStore, store_arrays
from .passages import Passage
from .postings import Postings

STORE_ARRAYS = (CONTENT, OFFSETS)
INDEX_ARRAYS = (
    "documents",
    "codes",
    "frequencies",
    "length_bytes",
    "starts",
    "terms",
    "term_offsets",
    "max_denominators",
    "id_rank",
    "statistics",
)
SEGMENT_ARRAYS = (*STORE_ARRAYS, *INDEX_ARRAYS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What a ranking needs to know of a collection as a whole."""

    num_passages: int
    num_nonempty: int
    """Passages with at least one term."""
    num_tokens: int

    def plus(self, other: "Statistics", sign: int = 1) -> "Statistics":
        """Those of both together, or with -1 of what is left without the other."""
        return Statistics(
            num_passages=self.num_passages + sign * other.num_passages,
            num_nonempty=self.num_nonempty + sign * other.num_nonempty,
            num_tokens=self.num_tokens + sign * other.num_tokens,
        )


NO_PASSAGES = Statistics(num_passages=0, num_nonempty=0, num_tokens=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletions:
    """What was taken out of a segment since it was written."""

    is_deleted_N: NDArray[np.bool_]
    terms_D: NDArray[np.int64]
    """Ascending: the terms that stand in a deleted passage."""
    counts_D: NDArray[np.int64]
    """How many deleted passages hold each."""
    statistics: Statistics


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Some passages of an index, in memory or mapped."""

    postings: Postings
    passages: PassageStore
    id_rank_N: NDArray[np.int32]
    """Place of each passage's id among the ids in order: Lucene breaks ties by it."""
    max_denominators_V: NDArray[np.float32]
    """The largest denominator of each term's postings, at the segment's own mean length."""
    deletions: Deletions | None = None

    @property
    def statistics(self) -> Statistics:
        """Of the passages that are not deleted."""
        written = Statistics(
            num_passages=len(self.passages),
            num_nonempty=self.postings.num_nonempty,
            num_tokens=self.postings.num_tokens,
        )
        return written.plus(self.deletions.statistics, -1) if self.deletions else written

    def is_live_N(self) -> NDArray[np.bool_]:
        """[N], whether each passage is not deleted."""
        if self.deletions is None:
            return np.ones(len(self.passages), bool)
        return ~self.deletions.is_deleted_N


def segment_of(arrays: Mapping[str, NDArray[Any]]) -> Segment:
    """The segment of arrays with the names above; those of deletions may be missing."""
    _, num_nonempty, num_tokens = arrays["statistics"].tolist()
    deletions = None
    if "deleted" in arrays:
        passages, nonempty, tokens = arrays["deleted_statistics"].tolist()
        deletions = Deletions(
            is_deleted_N=arrays["deleted"],
            terms_D=arrays["deleted_terms"],
            counts_D=arrays["deleted_counts"],
            statistics=Statistics(num_passages=passages, num_nonempty=nonempty, num_tokens=tokens),
        )
    return Segment(
        postings=Postings(
            documents_P=arrays["documents"],
            codes_P=arrays["codes"],
            frequencies_S=arrays["frequencies"],
            length_bytes_S=arrays["length_bytes"],
            starts_V=arrays["starts"],
            terms=arrays["terms"],
            term_offsets_V=arrays["term_offsets"],
            num_nonempty=num_nonempty,
            num_tokens=num_tokens,
        ),
        passages=PassageStore(content=arrays[CONTENT], offsets=arrays[OFFSETS]),
        id_rank_N=arrays["id_rank"],
        max_denominators_V=arrays["max_denominators"],
        deletions=deletions,
    )


def arrays_of(segment: Segment) -> dict[str, NDArray[Any]]:
    """The other way round."""
    postings = segment.postings
    arrays = {
        **store_arrays(segment.passages),
        "documents": postings.documents_P,
        "codes": postings.codes_P,
        "frequencies": postings.frequencies_S,
        "length_bytes": postings.length_bytes_S,
        "starts": postings.starts_V,
        "terms": postings.terms,
        "term_offsets": postings.term_offsets_V,
        "max_denominators": segment.max_denominators_V,
        "id_rank": segment.id_rank_N,
        "statistics": statistics_array(
            Statistics(
                num_passages=len(segment.passages),
                num_nonempty=postings.num_nonempty,
                num_tokens=postings.num_tokens,
            )
        ),
    }
    return {**arrays, **(deletion_arrays(segment.deletions) if segment.deletions else {})}


def deletion_arrays(deletions: Deletions) -> dict[str, NDArray[Any]]:
    """The arrays of deletions alone."""
    return {
        "deleted": deletions.is_deleted_N,
        "deleted_terms": deletions.terms_D,
        "deleted_counts": deletions.counts_D,
        "deleted_statistics": statistics_array(deletions.statistics),
    }


def statistics_array(statistics: Statistics) -> NDArray[np.int64]:
    """Three numbers, as `segment_of` reads them."""
    values = (statistics.num_passages, statistics.num_nonempty, statistics.num_tokens)
    return np.array(values, np.int64)


def without_passages(segment: Segment, numbers: NDArray[np.int64]) -> Segment:
    """The segment with more passages marked as deleted; none of them was yet.

    Their texts are analysed again: that gives the very terms that were counted when it was written.
    """
    old = segment.deletions
    is_deleted_N = ~segment.is_live_N()
    assert not is_deleted_N[numbers].any()
    is_deleted_N[numbers] = True
    finder = TermFinder(segment.postings)
    counts: Counter[int] = Counter()
    if old is not None:
        counts.update(dict(zip(old.terms_D.tolist(), old.counts_D.tolist(), strict=True)))
    num_nonempty = num_tokens = 0
    for number in numbers.tolist():
        tokens = analyze(searched_text(segment.passages[number]))
        num_nonempty += bool(tokens)
        num_tokens += len(tokens)
        counts.update(finder(token) for token in set(tokens))
    assert -1 not in counts
    terms_D = np.array(sorted(counts), np.int64)
    more = Statistics(num_passages=len(numbers), num_nonempty=num_nonempty, num_tokens=num_tokens)
    return replace(
        segment,
        deletions=Deletions(
            is_deleted_N=is_deleted_N,
            terms_D=terms_D,
            counts_D=np.array([counts[term] for term in terms_D.tolist()], np.int64),
            statistics=more.plus(old.statistics) if old else more,
        ),
    )


def searched_text(passage: Passage) -> str:
    """What of a passage is indexed: titles are searched like texts."""
    return f"{passage.title} {passage.text}"
