import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.retrieval.bm25_kernel import Kernel, NumpyKernel, QueryTerms, ScoredPostings
from maskgym.retrieval.bm25_math import clause_scores
from maskgym.retrieval.bm25_numba import NumbaKernel, has_numba

# T: query terms, N: documents


def draw(
    seed: int, num_documents: int, num_terms: int, num_codes: int, deleted: float
) -> tuple[ScoredPostings, QueryTerms]:
    """Random postings; ids rank the documents in a random order."""
    rng = np.random.default_rng(seed)
    by_code = (1 + rng.exponential(1, num_codes)).astype(np.float32)
    parts = [
        np.flatnonzero(rng.random(num_documents) < rng.random() ** 3).astype(np.int32)
        for _ in range(num_terms)
    ]
    parts = [part if len(part) else np.array([0], np.int32) for part in parts]
    documents = np.concatenate(parts)
    codes = rng.integers(0, num_codes, len(documents)).astype(np.uint16)
    ends = np.cumsum([len(part) for part in parts])
    starts = np.concatenate([[0], ends[:-1]])
    # Few distinct weights: many documents tie.
    weights = np.ceil(rng.exponential(3, num_terms)).astype(np.float32)
    order = np.argsort(-weights, kind="stable")
    postings = ScoredPostings(
        documents_P=documents,
        codes_P=codes,
        denominators_S=by_code,
        id_rank_N=rng.permutation(num_documents).astype(np.int32),
        is_deleted_N=rng.random(num_documents) < deleted if deleted else np.empty(0, bool),
    )
    largest = np.maximum.reduceat(by_code[codes], starts)
    bounds = clause_scores(np.float32(1), largest) * weights * np.float32(1.001)
    terms = QueryTerms(
        starts_T=starts[order],
        ends_T=ends[order],
        weights_T=weights[order],
        bounds_T=bounds[order].astype(np.float64),
    )
    return postings, terms


def plain_best(
    postings: ScoredPostings, terms: QueryTerms, top_k: int
) -> list[tuple[int, np.float32]]:
    """Every document scored in full, then sorted."""
    scores_N = np.zeros(len(postings.id_rank_N))
    for start, end, weight in zip(terms.starts_T, terms.ends_T, terms.weights_T, strict=True):
        by_posting = postings.denominators_S[postings.codes_P[start:end]]
        scores_N[postings.documents_P[start:end]] += clause_scores(weight, by_posting)
    if len(postings.is_deleted_N):
        scores_N[postings.is_deleted_N] = 0
    rounded = scores_N.astype(np.float32)
    found = np.flatnonzero(rounded).tolist()
    found.sort(key=lambda document: (-rounded[document], postings.id_rank_N[document]))
    return [(document, rounded[document]) for document in found[:top_k]]


CASES = {
    "seed": st.integers(0, 2**32 - 1),
    "num_documents": st.integers(1, 400),
    "num_terms": st.integers(1, 30),
    "top_k": st.integers(1, 20),
    "num_codes": st.integers(1, 40),
    "deleted": st.sampled_from([0, 0.1, 0.9, 1]),
}


def check_kernel(
    make: type[NumpyKernel] | type[NumbaKernel],
    seed: int,
    num_documents: int,
    num_terms: int,
    top_k: int,
    num_codes: int,
    deleted: float,
) -> None:
    postings, terms = draw(seed, num_documents, num_terms, num_codes, deleted)
    top_k = min(top_k, num_documents)
    kernel: Kernel = make(postings)
    for _ in range(2):  # a search leaves nothing behind for the next one
        documents, scores = kernel(terms, top_k)
        assert documents.dtype == np.int32
        assert scores.dtype == np.float32
        found = list(zip(documents.tolist(), scores, strict=True))
        assert found == plain_best(postings, terms, top_k)


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_pruning_changes_neither_documents_nor_scores_nor_order(
    seed: int, num_documents: int, num_terms: int, top_k: int, num_codes: int, deleted: float
) -> None:
    check_kernel(NumpyKernel, seed, num_documents, num_terms, top_k, num_codes, deleted)


@pytest.mark.skipif(not has_numba(), reason="numba is not installed (maskgym[fast])")
@settings(max_examples=300, deadline=None)
@given(**CASES)
def test_the_compiled_kernel_gives_the_same_bit_for_bit(
    seed: int, num_documents: int, num_terms: int, top_k: int, num_codes: int, deleted: float
) -> None:
    check_kernel(NumbaKernel, seed, num_documents, num_terms, top_k, num_codes, deleted)


@pytest.mark.skipif(not has_numba(), reason="numba is not installed (maskgym[fast])")
@pytest.mark.parametrize("deleted", [0, 0.3])
@pytest.mark.parametrize("top_k", [1, 10, 1000])
def test_kernels_agree_over_many_windows_of_documents(top_k: int, deleted: float) -> None:
    for seed in range(10):
        postings, terms = draw(seed, 60_000, 7, 300, deleted)
        documents, scores = NumpyKernel(postings)(terms, top_k)
        compiled_documents, compiled_scores = NumbaKernel(postings)(terms, top_k)
        assert compiled_documents.tolist() == documents.tolist()
        assert compiled_scores.tolist() == scores.tolist()
        assert len(documents) == top_k


@pytest.mark.parametrize("make", [NumpyKernel, NumbaKernel])
def test_a_query_without_terms_finds_nothing(make: type[NumpyKernel] | type[NumbaKernel]) -> None:
    if make is NumbaKernel:
        pytest.importorskip("numba", reason="maskgym[fast] is not installed")
    postings, _ = draw(0, 10, 2, 3, 0)
    none = QueryTerms(
        starts_T=np.empty(0, np.int64),
        ends_T=np.empty(0, np.int64),
        weights_T=np.empty(0, np.float32),
        bounds_T=np.empty(0, np.float64),
    )
    assert [array.tolist() for array in make(postings)(none, 3)] == [[], []]
