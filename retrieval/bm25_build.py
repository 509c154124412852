"""In: passages, or segments. Out: one new segment of them all, written as it is made."""

# N: passages of the new segment, V: its terms

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from .bm25_arrays import ArraySink, let_go
from .bm25_config import BM25Config
from .bm25_ids import order_of_ids, ranks
from .bm25_math import denominators
from .bm25_merge import merge_parts
from .bm25_segments import (
    INDEX_ARRAYS,
    Segment,
    Statistics,
    searched_text,
    segment_of,
    statistics_array,
)
from .passage_store import PassageStore, PassageStoreBuilder, store_arrays
from .passages import Passage, checked_passages
from .postings import PostingsBuilder, PostingsPart, mean_length, offsets

_PROGRESS_EVERY = 1000


def build_segment(
    passages: Iterable[Passage],
    config: BM25Config,
    sink: ArraySink,
    *,
    scratch: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Segment, int]:
    """A segment of the passages, and the sum of their digests.

    Args:
        passages: Read once; they are not held in memory.
        config: Goes into the bounds that a search prunes by.
        sink: Takes the segment's arrays.
        scratch: A folder for intermediate files; None keeps them in memory.
        progress: Called now and then with the number of passages taken since the last call.

    Raises:
        ValueError: If there are no passages, two have one id, or one is no `Passage`.
    """
    store_builder, postings_builder = PassageStoreBuilder(sink), PostingsBuilder(scratch)
    for passage in checked_passages(passages):
        store_builder.add(passage)
        postings_builder.add(searched_text(passage))
        if progress is not None and len(store_builder) % _PROGRESS_EVERY == 0:
            progress(_PROGRESS_EVERY)
    num_passages = len(store_builder)
    if progress is not None:
        progress(num_passages % _PROGRESS_EVERY)
    store, digest = store_builder.finish()
    texts = postings_builder.finish()
    statistics = Statistics(
        num_passages=num_passages, num_nonempty=texts.num_nonempty, num_tokens=texts.num_tokens
    )
    return _write(texts.parts, texts.terms, store, statistics, config, sink), digest


def merge_segments(segments: Sequence[Segment], config: BM25Config, sink: ArraySink) -> Segment:
    """One segment of what is not deleted in the given ones, in their order; ids are distinct."""
    store_builder = PassageStoreBuilder(sink)
    moves = []
    for segment in segments:
        is_live_N = segment.is_live_N()
        moved = np.cumsum(is_live_N, dtype=np.int32) + np.int32(len(store_builder) - 1)
        moves.append(np.where(is_live_N, moved, np.int32(-1)))
        for record, sizes in segment.passages.records(np.flatnonzero(is_live_N)):
            store_builder.add_record(record, sizes)
        let_go(segment.passages.content)
    store, _ = store_builder.finish()
    vocabularies = [_terms(segment) for segment in segments]
    terms = sorted(set().union(*vocabularies))
    rank = {term: place for place, term in enumerate(terms)}
    parts = [
        PostingsPart(
            documents_P=segment.postings.documents_P,
            codes_P=segment.postings.codes_P,
            frequencies_S=segment.postings.frequencies_S,
            length_bytes_S=segment.postings.length_bytes_S,
            starts_V=segment.postings.starts_V,
            ranks_V=np.array([rank[term] for term in vocabulary], np.int64),
            moved_N=moved,
        )
        for segment, vocabulary, moved in zip(segments, vocabularies, moves, strict=True)
    ]
    statistics = segments[0].statistics
    for segment in segments[1:]:
        statistics = statistics.plus(segment.statistics)
    return _write(parts, terms, store, statistics, config, sink)


def _write(
    parts: Sequence[PostingsPart],
    terms: Sequence[bytes],
    store: PassageStore,
    statistics: Statistics,
    config: BM25Config,
    sink: ArraySink,
) -> Segment:
    mean = mean_length(statistics.num_tokens, statistics.num_nonempty)
    denominators_of = partial(denominators, mean_length=mean, k1=config.k1, b=config.b)
    is_kept_V = merge_parts(parts, len(terms), sink, denominators_of)
    kept = [term for term, is_kept in zip(terms, is_kept_V.tolist(), strict=True) if is_kept]
    sink.append("terms", np.frombuffer(b"".join(kept), np.uint8))
    sink.append("term_offsets", offsets(np.fromiter(map(len, kept), np.int64, len(kept))))
    # At the end: this maps all passages, when the memory of the merge is free again.
    sink.append("id_rank", ranks(order_of_ids(store)))
    sink.append("statistics", statistics_array(statistics))
    return segment_of({**store_arrays(store), **sink.finish(*INDEX_ARRAYS)})


def _terms(segment: Segment) -> list[bytes]:
    content, bounds = segment.postings.terms.tobytes(), segment.postings.term_offsets_V.tolist()
    return [content[s:e] for s, e in pairwise(bounds)]
