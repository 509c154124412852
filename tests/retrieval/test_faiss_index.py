import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from maskgym.retrieval.faiss_index import (
    FaissIndex,
    SearchWidth,
    check_factory,
    resolve_factory,
)

pytest.importorskip("faiss", reason="dense indexes need faiss-cpu")

WIDTH = SearchWidth()
ALL_KINDS = ["Flat", "SQfp16", "SQ8", "IVF64,Flat", "IVF64,SQ8", "HNSW16", "HNSW16,SQ8"]


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    """5,000 of length 1 around 50 centres, as embeddings lie."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((50, 32))
    points = centres[random.integers(50, size=5000)] + random.standard_normal((5000, 32))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def queries(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    noise = 0.05 * np.random.default_rng(1).standard_normal((100, 32))
    return np.asarray(vectors[::50] + noise, np.float32)


def recall(
    index: FaissIndex,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    width: SearchWidth,
) -> float:
    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    found = index.search(queries, 10, width)
    return np.mean(
        [len({*best} & {*true}) / 10 for (best, _), true in zip(found, exact, strict=True)]
    ).item()


@pytest.mark.parametrize(
    ("factory", "num_vectors", "expected"),
    [
        ("auto", 200_000, "Flat"),
        ("auto", 200_001, "IVF1024,Flat"),
        ("auto", 2_000_000, "IVF2048,Flat"),
        ("auto", 21_015_324, "IVF8192,SQ8"),
        ("IVF,SQ8", 1_000_000, "IVF2048,SQ8"),
        ("IVF16,Flat", 1_000_000, "IVF16,Flat"),
        ("IVF,Flat", 3, "IVF3,Flat"),
        ("HNSW16", 10, "HNSW16"),
    ],
)
def test_the_kind_of_index_goes_by_the_number_of_vectors(
    factory: str, num_vectors: int, expected: str
) -> None:
    assert resolve_factory(factory, num_vectors) == expected


def test_more_lists_than_vectors_and_unknown_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more lists than the 10 passages.*'Flat'"):
        resolve_factory("IVF11,Flat", 10)
    with pytest.raises(ValueError, match=r"FAISS cannot make 'HSNW16'.*Use 'auto'"):
        check_factory("HSNW16")
    with pytest.raises(ValueError, match="nprobe is 0"):
        SearchWidth(nprobe=0)
    for factory in ALL_KINDS:
        check_factory(factory)


def test_a_flat_index_finds_what_numpy_finds(
    vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    index = FaissIndex.build([vectors[:3000], vectors[3000:]], "Flat")
    assert (len(index), index.dimensions) == (5000, 32)
    exact = queries.astype(float) @ vectors.T.astype(float)
    for (numbers, scores), products in zip(index.search(queries, 10, WIDTH), exact, strict=True):
        best = np.argsort(-products)[:10]
        assert set(numbers.tolist()) == set(best.tolist())
        np.testing.assert_allclose(scores, products[numbers], rtol=1e-12)


@pytest.mark.parametrize(
    ("factory", "least"),
    [
        ("SQfp16", 0.999),
        ("SQ8", 0.95),
        ("IVF64,Flat", 0.95),
        ("IVF64,SQ8", 0.92),
        ("HNSW16", 0.95),
        ("HNSW16,SQ8", 0.92),
        ("PCA24,IVF64,SQ8", 0.4),
    ],
)
def test_approximate_indexes_find_most_and_read_back_from_a_file_the_same(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    factory: str,
    least: float,
    tmp_path: Path,
) -> None:
    index = FaissIndex.build([vectors], factory)
    assert recall(index, vectors, queries, WIDTH) >= least
    index.write(tmp_path / "vectors.faiss")
    for copy in (FaissIndex.read(tmp_path / "vectors.faiss"), pickle.loads(pickle.dumps(index))):
        for one, other in zip(
            index.search(queries, 10, WIDTH), copy.search(queries, 10, WIDTH), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_looking_further_finds_more(
    vectors: NDArray[np.float32], queries: NDArray[np.float32]
) -> None:
    lists = FaissIndex.build([vectors], "IVF64,Flat")
    found = [recall(lists, vectors, queries, SearchWidth(nprobe=n)) for n in (1, 4, 64, 1000)]
    assert found[0] < found[1] < found[2] == found[3] == 1.0
    graph = FaissIndex.build([vectors], "HNSW4")
    narrow, wide = (recall(graph, vectors, queries, SearchWidth(ef_search=n)) for n in (1, 500))
    assert narrow < wide


@pytest.mark.parametrize("factory", ALL_KINDS)
def test_a_query_gets_the_same_alone_in_a_batch_and_from_many_threads(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], factory: str
) -> None:
    index = FaissIndex.build([vectors], factory)
    together = index.search(queries, 7, WIDTH)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda query: index.search(query[None], 7, WIDTH)[0], queries))
    for one, other in zip(together, alone, strict=True):
        found, expected = (dict(zip(*best, strict=True)) for best in (one, other))
        assert found == pytest.approx(expected, rel=1e-6)
        if factory == "Flat":
            assert found == expected


@pytest.mark.parametrize("factory", ["Flat", "SQ8"])
def test_all_that_tie_with_the_last_are_found(factory: str) -> None:
    random = np.random.default_rng(2)
    vectors = random.standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[100:200] = vectors[7]
    index = FaissIndex.build([vectors], factory)
    ((numbers, scores),) = index.search(vectors[7:8], 3, WIDTH)
    assert {*numbers.tolist()} == {7, *range(100, 200)}
    assert len({*scores.tolist()}) == 1
    assert scores[0] == pytest.approx(1, rel=0.02)
    assert len(index.search(vectors[:1], 1000, WIDTH)[0][0]) == 300


def test_an_equal_build_gives_equal_bytes(vectors: NDArray[np.float32], tmp_path: Path) -> None:
    for factory in ALL_KINDS:
        contents = []
        for name in ("one", "two"):
            FaissIndex.build([vectors[:2000], vectors[2000:]], factory).write(tmp_path / name)
            contents.append((tmp_path / name).read_bytes())
        assert contents[0] == contents[1], factory


def test_numbers_that_are_not_finite_and_damaged_files_are_refused(tmp_path: Path) -> None:
    vectors = np.ones((10, 4), np.float32)
    vectors[3, 2] = np.nan
    with pytest.raises(ValueError, match="no finite numbers"):
        FaissIndex.build([vectors], "Flat")
    (tmp_path / "vectors.faiss").write_bytes(b"no index at all, no index at all")
    with pytest.raises(ValueError, match="cannot be read by FAISS"):
        FaissIndex.read(tmp_path / "vectors.faiss")
    with pytest.raises(OSError, match="could not write"):
        FaissIndex.build([vectors[:3]], "Flat").write(tmp_path / "missing" / "vectors.faiss")


def test_too_few_vectors_to_train_on_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be trained on 20 passages"):
        FaissIndex.build([np.eye(20, dtype=np.float32)], "IVF4,PQ4")


def test_opening_a_file_takes_next_to_no_private_memory(tmp_path: Path) -> None:
    """Of 64 MB, for each kind; a plain `read_index` holds them all."""
    vectors = np.random.default_rng(3).standard_normal((64_000, 256)).astype(np.float32)
    for factory, least_bytes in (("Flat", 6e7), ("SQ8", 1.5e7), ("IVF8,Flat", 6e7)):
        path = tmp_path / "vectors.faiss"
        FaissIndex.build([vectors], factory).write(path)
        assert path.stat().st_size > least_bytes
        before = private_bytes()
        index = FaissIndex.read(path)
        index.search(vectors[:5], 10, WIDTH)
        assert private_bytes() - before < 0.15 * least_bytes, factory
        del index


def private_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError
