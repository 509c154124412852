import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.retrieval.bm25_kernel import QueryTerms, best_documents
from maskgym.retrieval.bm25_math import clause_scores

# T: query terms, N: documents


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_documents=st.integers(1, 400),
    num_terms=st.integers(1, 30),
    top_k=st.integers(1, 20),
    num_codes=st.integers(1, 40),
)
def test_pruning_changes_neither_documents_nor_scores(
    seed: int, num_documents: int, num_terms: int, top_k: int, num_codes: int
) -> None:
    rng = np.random.default_rng(seed)
    top_k = min(top_k, num_documents)
    by_code = (1 + rng.exponential(1, num_codes)).astype(np.float32)
    parts = [
        np.flatnonzero(rng.random(num_documents) < rng.random() ** 3).astype(np.int32)
        for _ in range(num_terms)
    ]
    parts = [part if len(part) else np.array([0], np.int32) for part in parts]
    documents = np.concatenate(parts)
    codes = rng.integers(0, num_codes, len(documents)).astype(np.uint16)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    starts = [0, *ends[:-1]]
    weights = [np.float32(w) for w in rng.exponential(3, num_terms)]
    clauses = [
        clause_scores(w, by_code[codes[s:e]]) for w, s, e in zip(weights, starts, ends, strict=True)
    ]
    bounds = [float(clause.max()) for clause in clauses]
    order = sorted(range(num_terms), key=lambda term: -bounds[term])

    plain = np.zeros(num_documents)
    for term in order:
        plain[parts[term]] += clauses[term]
    rounded = plain.astype(np.float32)
    positive = np.sort(rounded[rounded > 0])[::-1]
    expected = set()
    if len(positive):
        expected = set(
            np.flatnonzero(rounded >= max(positive[:top_k][-1], np.float32(1e-45))).tolist()
        )

    scratch = np.zeros(num_documents)
    found, scores = best_documents(
        QueryTerms(
            starts_T=[starts[t] for t in order],
            ends_T=[ends[t] for t in order],
            weights_T=[weights[t] for t in order],
            bounds_T=[bounds[t] for t in order],
        ),
        documents,
        codes,
        by_code,
        scratch,
        top_k,
    )
    assert set(found.tolist()) == expected
    assert len(found) == len(expected)
    assert scores == pytest.approx(rounded[found], rel=2e-7)
    assert not scratch.any()
