from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import postings as module
from maskgym.retrieval.bm25_math import LENGTHS, length_bytes
from maskgym.retrieval.postings import Postings, PostingsBuilder

DOCUMENTS = st.lists(
    st.lists(st.sampled_from(["a", "b", "é", "日", "zz"]), max_size=12), max_size=12
)


def build(documents: list[list[str]]) -> Postings:
    builder = PostingsBuilder()
    for tokens in documents:
        builder.add(tokens)
    return builder.finish()


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


@given(DOCUMENTS, st.sampled_from([1, 5, 1000]))
def test_postings_count_each_term_in_each_document(documents: list[list[str]], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK_TOKENS", chunk)
        found = build(documents)
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
    found = build([["a"] * 300, ["a"] * 70_000, ["a", "b"]])
    assert as_dict(found) == {"a": {0: 300, 1: 70_000, 2: 1}, "b": {2: 1}}


def test_more_than_65536_distinct_pairs_take_wider_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [["a"] * count for count in (1, 2, 400)]
    small = build(documents)
    monkeypatch.setattr(module, "_MAX_TABLE", 0)
    assert as_dict(build(documents)) == as_dict(small)
    assert small.codes_P.dtype == "uint16"
