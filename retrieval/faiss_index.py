"""In: embeddings, then embeddings of queries. Out: for each the numbers of the nearest, with scores.

The score is the inner product. Files are always memory-mapped, by the one way that works for all
kinds of index (``IO_FLAG_MMAP_IFC``): opening reads next to nothing, and processes share the pages.
"""

# N: passages, Q: queries, D: dimensions, K: found for one query, S: rows of a sample

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_FOR_FLAT = 200_000
"""Up to here ``auto`` is exact: at 384 dimensions a query takes 13 ms alone, 2 ms in a batch of 64."""
MOST_FOR_IVF_FLAT = 2_000_000
"""Up to here ``auto`` keeps whole floats in its lists, above it a byte per dimension."""

_EF_CONSTRUCTION = 64
_EF_SEARCH = 64
_LEAST_NPROBE, _LISTS_PER_PROBE = 16, 32
_SAMPLE, _SAMPLE_PER_LIST = 100_000, 64
_SPARE = 8
"""More than asked for: what ties with the last hit must be known, and mostly is then."""
_ANY_DIMENSIONS = 3840  # whatever a factory divides them by mostly goes into it
_MOST_QUERIES_COUNTED = 1000
_LEAST_PRODUCT = 4 * 384  # or a small index would slow single queries of a larger one down
_NOISE = 1e-5
"""Of a product of float32; FAISS computes a batch and a single query by different ways."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchWidth:
    """How much of an approximate index a search looks at: more finds more, and takes longer."""

    nprobe: int | None = None
    """Lists of an IVF index; None is a thirty-second of them, at least 16."""
    ef_search: int | None = None
    """Candidates of an HNSW index; None is 64."""

    def __post_init__(self) -> None:
        for name in ("nprobe", "ef_search"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it is a whole number from 1 up, or None.")


def resolve_factory(factory: str, num_vectors: int) -> str:
    """What FAISS is to build: ``auto`` and a missing number of lists go by the number of vectors.

    Auto is ``Flat`` to 200,000 vectors, ``IVF,Flat`` to 2 million, and ``IVF,SQ8`` above. Lists are
    the power of two nearest to twice the root of the number of vectors.

    Args:
        factory: ``auto``, or as FAISS names it: ``Flat``, ``SQfp16``, ``SQ8``, ``IVF1024,Flat``,
            ``IVF,SQ8``, ``HNSW16``, ``HNSW16,SQ8``, ...
        num_vectors: N.

    Raises:
        ValueError: If there are more lists than vectors.
    """
    if factory == "auto":
        factory = "Flat" if num_vectors <= MOST_FOR_FLAT else "IVF,SQ8"
        if MOST_FOR_FLAT < num_vectors <= MOST_FOR_IVF_FLAT:
            factory = "IVF,Flat"
    lists = 2 ** round(math.log2(2 * math.sqrt(max(1, num_vectors))))
    factory = re.sub(r"\bIVF(?=,)", f"IVF{min(lists, num_vectors)}", factory)
    named = re.search(r"\bIVF(\d+)", factory)
    if named and int(named[1]) > num_vectors:
        raise ValueError(
            f"{factory} has more lists than the {num_vectors} passages. Use fewer, or 'Flat', which "
            "is exact and fast for so few."
        )
    return factory


def check_factory(factory: str) -> None:
    """Refuses a misspelt factory before anything is embedded for it.

    Raises:
        ValueError: If FAISS does not know it.
    """
    _empty_index(factory, _ANY_DIMENSIONS)


class FaissIndex:
    """A FAISS index for inner products. Searches may run in any number of threads."""

    def __init__(self, index: Any, *, num_threads: int = 1) -> None:
        self._index = index
        self._num_threads = num_threads
        if self._is_flat():
            _multiply_small_batches(self.dimensions)

    @classmethod
    def build(
        cls, parts: Sequence[NDArray[np.float32]], factory: str, *, num_threads: int = 1
    ) -> "FaissIndex":
        """An index of vectors, in memory.

        Args:
            parts: [n, D] each; together [N, D], in order.
            factory: As `resolve_factory` gives it.
            num_threads: FAISS's threads, here and in searches. With one, equal vectors give an
                equal index bit for bit; with more that does not hold for HNSW.

        Raises:
            ValueError: If a number is not finite, or FAISS does not know the factory.
        """
        faiss = _faiss()
        faiss.omp_set_num_threads(num_threads)
        num_vectors, dimensions = sum(map(len, parts)), parts[0].shape[1]
        index = _empty_index(factory, dimensions)
        is_graph = hasattr(index, "hnsw")
        if is_graph:
            index.hnsw.efConstruction = _EF_CONSTRUCTION
        if not index.is_trained:
            lists = faiss.try_extract_index_ivf(index)
            num_lists = lists.nlist if lists is not None else 0
            try:
                index.train(_sample(parts, max(_SAMPLE, _SAMPLE_PER_LIST * num_lists)))
            except RuntimeError as error:
                raise ValueError(
                    f"{factory} cannot be trained on {num_vectors} passages ({_reason(error)}). "
                    "Use 'Flat' for so few."
                ) from error
        for part in parts:
            vectors = np.ascontiguousarray(part, np.float32)
            if not np.isfinite(vectors).all():
                raise ValueError(
                    "The encoder gave embeddings that are no finite numbers. Use dtype 'float32'."
                )
            index.add(vectors)
        return cls(index, num_threads=num_threads)

    @classmethod
    def read(cls, path: Path, *, num_threads: int = 1) -> "FaissIndex":
        """An index in a file, memory-mapped.

        Raises:
            ValueError: If FAISS cannot read it.
        """
        faiss = _faiss()
        try:
            return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), num_threads=num_threads)
        except RuntimeError as error:
            raise ValueError(f"{path} cannot be read by FAISS ({_reason(error)}).") from error

    def write(self, path: Path) -> None:
        """Writes it to a file.

        Raises:
            OSError: If it cannot be written.
        """
        try:
            _faiss().write_index(self._index, str(path))
        except RuntimeError as error:  # FAISS says this of a full disk too
            raise OSError(f"FAISS could not write {path} ({_reason(error)}).") from error

    @property
    def dimensions(self) -> int:
        """D."""
        return int(self._index.d)

    @property
    def kind(self) -> str:
        """``Flat``, or what FAISS calls the class."""
        return "Flat" if self._is_flat() else str(type(self._index).__name__)

    @property
    def has_products(self) -> bool:
        """Whether the scores are inner products."""
        return bool(self._index.metric_type == _faiss().METRIC_INNER_PRODUCT)

    @property
    def has_own_ids(self) -> bool:
        """Whether vectors go by other numbers than those of their rows."""
        return isinstance(self._index, _faiss().IndexIDMap)

    def at(self, numbers_K: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """[K, D], what is kept of these vectors; None where the index cannot give them back."""
        try:
            found: NDArray[np.float32] = self._index.reconstruct_batch(numbers_K)
        except RuntimeError:
            return None
        return found

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(
        self, queries_QD: NDArray[np.float32], top_k: int, width: SearchWidth
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each query the numbers [K] and scores [K] of the best.

        These are the best ``top_k`` (fewer, where the index finds fewer) and all that tie with the
        last of them, in no particular order among equals.
        """
        found: list[Any] = [None] * len(queries_QD)
        left, asked = list(range(len(queries_QD))), min(top_k + _SPARE, len(self))
        while left:
            scores, numbers = self._nearest(queries_QD[left], asked, width)
            again = []
            for place, query in enumerate(left):
                is_found = numbers[place] >= 0  # FAISS fills up with -1
                best, of_best = numbers[place][is_found], scores[place][is_found].astype(float)
                last = of_best[-1] + self._noise(of_best) if len(of_best) else 0.0
                of_best = self._exact(queries_QD[query], best, of_best)
                is_cut_off = len(best) == asked < len(self)
                if is_cut_off and np.partition(of_best, -top_k)[-top_k] <= last:
                    again.append(query)
                elif len(best) > top_k:
                    is_in = of_best >= np.partition(of_best, -top_k)[-top_k]
                    best, of_best = best[is_in], of_best[is_in]
                found[query] = best, of_best
            left, asked = again, min(4 * asked, len(self))
        return found

    def _nearest(
        self, queries_QD: NDArray[np.float32], asked: int, width: SearchWidth
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        faiss = _faiss()
        faiss.omp_set_num_threads(self._num_threads)  # of this thread only, and cheap
        queries = np.ascontiguousarray(queries_QD, np.float32)
        scores, numbers = self._index.search(queries, asked, params=self._parameters(width))
        return scores, numbers

    def _parameters(self, width: SearchWidth) -> Any:
        """Of one search: two searches of one index may look differently far."""
        faiss = _faiss()
        lists = faiss.try_extract_index_ivf(self._index)
        if lists is not None:
            default = max(_LEAST_NPROBE, lists.nlist // _LISTS_PER_PROBE)
            parameters = faiss.SearchParametersIVF(
                nprobe=min(width.nprobe or default, int(lists.nlist))
            )
            if isinstance(faiss.downcast_index(self._index), faiss.IndexPreTransform):
                return faiss.SearchParametersPreTransform(index_params=parameters)
            return parameters
        if hasattr(self._index, "hnsw"):
            return faiss.SearchParametersHNSW(efSearch=width.ef_search or _EF_SEARCH)
        return None

    def _is_flat(self) -> bool:
        return isinstance(self._index, _faiss().IndexFlat)

    def _noise(self, scores: NDArray[np.float64]) -> float:
        return _NOISE * float(np.abs(scores).max(initial=0.0)) if self._is_flat() else 0.0

    def _exact(
        self,
        query_D: NDArray[np.float32],
        numbers_K: NDArray[np.int64],
        scores_K: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """The same scores whether a query was searched alone or in a batch.

        A flat index computes the two differently: one is a matrix product. Its few best are scored
        again, in double precision, from the vectors that it holds. An IVF index that keeps what its
        lists' centres leave over (IVF,SQ8) has such noise in its last bits, and keeps it.
        """
        if not self._is_flat():
            return scores_K
        pointer = self._index.get_xb()
        stored_ND = _faiss().rev_swig_ptr(pointer, len(self) * self.dimensions)
        rows_KD = stored_ND.reshape(len(self), -1)[numbers_K].astype(np.float64)
        scores: NDArray[np.float64] = (rows_KD * query_D.astype(np.float64)).sum(axis=1)
        return scores

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (_faiss().serialize_index(self._index), self._num_threads)


def _empty_index(factory: str, dimensions: int) -> Any:
    faiss = _faiss()
    try:
        return faiss.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ValueError(
            f"FAISS cannot make {factory!r} of {dimensions} dimensions ({_reason(error)}). Use "
            "'auto', 'Flat', 'SQfp16', 'SQ8', 'IVF1024,Flat', 'IVF1024,SQ8' or 'HNSW32'."
        ) from error


def _multiply_small_batches(dimensions: int) -> None:
    """Lets FAISS answer a batch from 4 queries on by one matrix product.

    Of 100,000 vectors of 384 dimensions 64 queries take 1.1 CPU-ms each then, not 4.9; a single one
    would take three times as long. FAISS 1.15 waits for 334 queries: its limit counts numbers,
    earlier ones counted 20 queries. It is the process's, and changes last bits of scores only.
    """
    settings = _faiss().cvar
    if settings.distance_compute_blas_threshold > _MOST_QUERIES_COUNTED:
        settings.distance_compute_blas_threshold = max(4 * dimensions, _LEAST_PRODUCT)


def _from_bytes(content: NDArray[np.uint8], num_threads: int) -> FaissIndex:
    return FaissIndex(_faiss().deserialize_index(content), num_threads=num_threads)


def _sample(parts: Sequence[NDArray[np.float32]], most: int) -> NDArray[np.float32]:
    """[S, D], rows evenly spread over all parts."""
    num_vectors = sum(map(len, parts))
    rows = np.linspace(0, num_vectors - 1, min(most, num_vectors)).astype(np.int64)
    chosen, start = [], 0
    for part in parts:
        inside = rows[(rows >= start) & (rows < start + len(part))] - start
        chosen.append(np.asarray(part[inside], np.float32))
        start += len(part)
    return np.concatenate(chosen)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise ImportError("Dense indexes need FAISS: pip install 'maskgym[dense]'.") from error
    return faiss


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the C++ signature before it."""
    return str(error).rpartition(": ")[2].strip() or type(error).__name__
