from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import bm25_merge, postings
from maskgym.retrieval.bm25_arrays import FolderSink, MemorySink
from maskgym.retrieval.bm25_build import build_segment
from maskgym.retrieval.bm25_config import BM25Config
from maskgym.retrieval.bm25_math import LENGTHS, length_bytes
from maskgym.retrieval.passages import Passage
from maskgym.retrieval.postings import Postings

DOCUMENTS = st.lists(
    st.lists(st.sampled_from(["c", "b", "é", "日", "zz"]), max_size=12), max_size=12, min_size=1
)


def build(documents: list[list[str]], folder: Path | None = None) -> Postings:
    passages = [Passage(id=str(n), text=" ".join(tokens)) for n, tokens in enumerate(documents)]
    sink = MemorySink() if folder is None else FolderSink(folder, "")
    return build_segment(passages, BM25Config(), sink, scratch=folder)[0].postings


def as_dict(found: Postings) -> dict[str, dict[int, int]]:
    """Term -> document -> frequency."""
    terms = {}
    for v in range(len(found.starts_V) - 1):
        term = found.terms[found.term_offsets_V[v] : found.term_offsets_V[v + 1]].tobytes().decode()
        clip = slice(found.starts_V[v], found.starts_V[v + 1])
        documents = found.documents_P[clip].tolist()
        assert documents == sorted(set(documents))
        frequencies = found.frequencies_S[found.codes_P[clip]].tolist()
        terms[term] = dict(zip(documents, frequencies, strict=True))
    return terms


@given(
    DOCUMENTS,
    st.sampled_from([1, 5, 1000]),
    st.sampled_from([1, 1000]),
    st.sampled_from([0, 3, 1000]),
    st.booleans(),
)
def test_postings_count_each_term_in_each_document(
    documents: list[list[str]], chunk: int, batch: int, kept_pieces: int, on_disk: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(postings, "_CHUNK_PIECES", chunk)
        patch.setattr(postings, "_MAX_KEPT_PIECES", kept_pieces)
        patch.setattr(bm25_merge, "_BATCH", batch)
        found = build(documents, Path(folder) if on_disk else None)
    expected: dict[str, dict[int, int]] = {}
    for number, tokens in enumerate(documents):
        for token, count in Counter(tokens).items():
            expected.setdefault(token, {})[number] = count
    assert as_dict(found) == expected
    assert list(as_dict(found)) == sorted(expected, key=str.encode)
    assert found.num_nonempty == sum(map(bool, documents))
    assert found.num_tokens == sum(map(len, documents))
    for place, code in enumerate(found.codes_P.tolist()):
        length = len(documents[found.documents_P[place]])
        assert LENGTHS[found.length_bytes_S[code]] == LENGTHS[length_bytes(np.array([length]))]


def test_frequencies_are_exact_however_large() -> None:
    found = build([["c"] * 300, ["c"] * 70_000, ["c", "b"]])
    assert as_dict(found) == {"b": {2: 1}, "c": {0: 300, 1: 70_000, 2: 1}}


def test_more_than_65536_distinct_pairs_take_wider_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [["c"] * count for count in (1, 2, 400)]
    small = build(documents)
    monkeypatch.setattr(postings, "_MAX_TABLE", 0)
    assert as_dict(build(documents)) == as_dict(small)
    assert small.codes_P.dtype == "uint16"
