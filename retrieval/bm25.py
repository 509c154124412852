"""In: passages, then queries. Out: hits ranked by BM25 as Lucene ranks them."""

import hashlib
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .analyzer import ANALYZER_NAME, analyze
from .bm25_kernel import QueryTerms, best_documents
from .bm25_math import clause_scores, clause_weight, denominators
from .index_folder import open_index_arrays, read_index_metadata, write_index_folder
from .passage_store import PassageStore, PassageStoreBuilder
from .passages import Hit, Passage
from .postings import Postings, PostingsBuilder
from .retriever import check_search

# N: documents, V: terms, S: distinct pairs of term frequency and length byte

BACKEND = "bm25"

_PROGRESS_EVERY = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class BM25Config:
    """The two parameters of BM25, by default as Anserini and Pyserini set them."""

    k1: float = 0.9
    """Saturation of repeated terms, 0 or more; 0 counts each term once."""
    b: float = 0.4
    """How far long passages are held back, 0 (not at all) to 1 (in proportion)."""

    def __post_init__(self) -> None:
        if not 0 <= self.k1 < float("inf"):
            raise ValueError(
                f"k1 is {self.k1}; it is a finite number from 0 up, usually 0.9 to 1.5."
            )
        if not 0 <= self.b <= 1:
            raise ValueError(f"b is {self.b}; it lies between 0 and 1, usually 0.4 to 0.75.")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """All that an index holds, in memory or mapped."""

    postings: Postings
    passages: PassageStore
    id_rank_N: NDArray[np.int32]
    """Place of each document's id among all ids in order: Lucene breaks ties by it."""
    max_denominators_V: NDArray[np.float32]
    """The largest denominator of each term's postings: bounds what the term can add."""


class BM25Index:
    """Embedded BM25 with Lucene's tokens, arithmetic and ties; needs numpy alone.

    Make one with `build` or `load`. A search may run in any number of threads. Pickling a saved or
    loaded index sends its folder's path, pickling another sends its content.

    Example:
        >>> index = BM25Index.build([Passage(id="1", title="Röntgen", text="won the first prize")])
        >>> index.search(["prize winners"], top_k=1)[0][0].passage.id
        '1'
    """

    def __init__(
        self, config: BM25Config, parts: _Parts, fingerprint: str, folder: Path | None = None
    ) -> None:
        self._config = config
        self._parts: _Parts | None = parts
        self._fingerprint = fingerprint
        self._folder = folder
        self._denominators_S = _denominators(config, parts.postings)
        self._find = lru_cache(maxsize=1 << 16)(_TermFinder(parts.postings))
        # One zeroed array per search under way. A search that dies does not put its array back.
        self._scratch: list[NDArray[np.float64]] = []

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        *,
        config: BM25Config | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> "BM25Index":
        """An index of the passages, in memory; their titles are searched like their texts.

        Args:
            passages: Read once. Memory holds their text and the index, not the objects.
            config: The default is `BM25Config()`.
            progress: Called now and then with the number of passages taken since the last call, as
                the ``update`` of a tqdm bar expects it.

        Raises:
            ValueError: If there are no passages, two have one id, or one is no `Passage`.
        """
        config = config or BM25Config()
        store, postings = PassageStoreBuilder(), PostingsBuilder()
        ids: dict[str, int] = {}
        for number, passage in enumerate(passages):
            if not isinstance(passage, Passage):
                raise ValueError(
                    f"Item {number} of passages is {type(passage).__name__}, not a Passage. "
                    "Make one with Passage(id=..., text=...), or read a file with read_passages."
                )
            if ids.setdefault(passage.id, number) != number:
                raise ValueError(
                    f"Passages {ids[passage.id] + 1} and {number + 1} have the same id "
                    f"{passage.id!r}. Make ids unique: hits are told apart by them."
                )
            store.add(passage)
            postings.add(analyze(f"{passage.title} {passage.text}"))
            if progress is not None and len(ids) % _PROGRESS_EVERY == 0:
                progress(_PROGRESS_EVERY)
        if not ids:
            raise ValueError("There are no passages to index. Check the corpus: is the file empty?")
        if progress is not None:
            progress(len(ids) % _PROGRESS_EVERY)
        rank = np.empty(len(ids), np.int32)
        rank[[ids[name] for name in sorted(ids)]] = np.arange(len(ids), dtype=np.int32)
        parts = _assemble(config, postings.finish(), store.finish(), rank)
        return cls(config, parts, _fingerprint(config, parts.passages))

    @classmethod
    def load(cls, folder: str | Path) -> "BM25Index":
        """The index that `save` wrote, memory-mapped: opening reads next to nothing.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If it is no BM25 index, damaged, or of another version or analyser.
        """
        folder = Path(folder).absolute()
        metadata = read_index_metadata(folder)
        if metadata.backend != BACKEND:
            raise ValueError(f"{folder} is a {metadata.backend!r} index. Open it with load_index.")
        if metadata.parameters.get("analyzer") != ANALYZER_NAME:
            raise ValueError(
                f"{folder} was tokenised by {metadata.parameters.get('analyzer')!r}, this maskgym "
                f"has {ANALYZER_NAME!r}. Build it again: maskgym index CORPUS INDEX --force."
            )
        arrays = open_index_arrays(folder, metadata, _ARRAYS)
        try:
            config = BM25Config(
                k1=float(metadata.parameters["k1"]), b=float(metadata.parameters["b"])
            )
            parts = _parts(arrays, metadata.counts)
        except KeyError as error:
            raise ValueError(
                f"The metadata of {folder} lacks {error}. "
                "Build it again: maskgym index CORPUS INDEX --force."
            ) from error
        return cls(config, parts, metadata.fingerprint, folder)

    def save(self, folder: str | Path) -> None:
        """Writes the index; an older index in that folder is replaced whole or not at all.

        Raises:
            ValueError: If the folder holds something that is no index.
            OSError: If it cannot be written.
        """
        folder = Path(folder).absolute()
        parts = self._opened()
        write_index_folder(
            folder,
            _arrays(parts),
            backend=BACKEND,
            fingerprint=self._fingerprint,
            parameters={**asdict(self._config), "analyzer": ANALYZER_NAME},
            counts={
                "passages": len(parts.passages),
                "nonempty_passages": parts.postings.num_nonempty,
                "tokens": parts.postings.num_tokens,
                "terms": len(parts.max_denominators_V),
            },
        )
        self._folder = folder

    @property
    def config(self) -> BM25Config:
        """The parameters it was built with."""
        return self._config

    @property
    def fingerprint(self) -> str:
        """Names passages (in order), tokeniser and parameters."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._opened().passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the passages with a positive score, at most ``top_k``, best first.

        Equal scores are ordered by passage id. A query without a known word gets an empty list.

        Raises:
            ValueError: If ``top_k`` is below 1, a query is no string, or the index is closed.
        """
        check_search(queries, top_k)
        parts = self._opened()
        return [self._search_one(parts, query, top_k) for query in queries]

    def close(self) -> None:
        """Lets go of the arrays and mapped files; searches under way still finish."""
        self._parts = None
        self._find.cache_clear()
        self._find = lru_cache(maxsize=1)(_nothing)
        self._scratch = []

    def _search_one(self, parts: _Parts, query: str, top_k: int) -> list[Hit]:
        terms = self._query_terms(parts, query)
        if not terms.starts_T:
            return []
        try:
            scratch = self._scratch.pop()
        except IndexError:
            scratch = np.zeros(len(parts.passages), np.float64)
        documents, scores = best_documents(
            terms,
            parts.postings.documents_P,
            parts.postings.codes_P,
            self._denominators_S,
            scratch,
            min(top_k, len(parts.passages)),
        )
        self._scratch.append(scratch)
        order = np.lexsort((parts.id_rank_N[documents], -scores))[:top_k]
        best = zip(documents[order].tolist(), scores[order].tolist(), strict=True)
        return [Hit(passage=parts.passages[number], score=score) for number, score in best]

    def _query_terms(self, parts: _Parts, query: str) -> QueryTerms:
        ranges = []
        for token, count in Counter(analyze(query)).items():
            term = self._find(token)
            if term < 0:
                continue
            start, end = parts.postings.starts_V[term : term + 2].tolist()
            weight = clause_weight(
                num_documents=parts.postings.num_nonempty,
                document_frequency=end - start,
                query_frequency=count,
            )
            bound = float(clause_scores(weight, parts.max_denominators_V[term : term + 1])[0])
            ranges.append((bound, start, end, weight))
        ranges.sort(key=lambda entry: (-entry[0], entry[1]))
        return QueryTerms(
            starts_T=[start for _, start, _, _ in ranges],
            ends_T=[end for _, _, end, _ in ranges],
            weights_T=[weight for _, _, _, weight in ranges],
            bounds_T=[bound for bound, _, _, _ in ranges],
        )

    def _opened(self) -> _Parts:
        if self._parts is None:
            raise ValueError("This index is closed. Load it again: load_index(folder).")
        return self._parts

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is not None:
            return _reopen, (self._folder, self._fingerprint)
        return BM25Index, (self._config, self._opened(), self._fingerprint)


class _TermFinder:
    """Term -> its number, or -1, by bisection in the mapped terms: no dictionary to load."""

    def __init__(self, postings: Postings) -> None:
        self._terms = postings.terms.data
        self._offsets = postings.term_offsets_V.data

    def __call__(self, term: str) -> int:
        wanted, num_terms = term.encode(), len(self._offsets) - 1
        place = bisect_left(range(num_terms), wanted, key=self._at)
        return place if place < num_terms and self._at(place) == wanted else -1

    def _at(self, number: int) -> bytes:
        return bytes(self._terms[self._offsets[number] : self._offsets[number + 1]])


def _nothing(term: str) -> int:
    return -1


_ARRAYS = (
    "documents",
    "codes",
    "frequencies",
    "length_bytes",
    "starts",
    "terms",
    "term_offsets",
    "max_denominators",
    "id_rank",
    "passage_content",
    "passage_offsets",
)


def _arrays(parts: _Parts) -> dict[str, NDArray[Any]]:
    postings = parts.postings
    arrays = (
        postings.documents_P,
        postings.codes_P,
        postings.frequencies_S,
        postings.length_bytes_S,
        postings.starts_V,
        postings.terms,
        postings.term_offsets_V,
        parts.max_denominators_V,
        parts.id_rank_N,
        parts.passages.content,
        parts.passages.offsets,
    )
    return dict(zip(_ARRAYS, arrays, strict=True))


def _parts(arrays: Mapping[str, NDArray[Any]], counts: Mapping[str, int]) -> _Parts:
    return _Parts(
        postings=Postings(
            documents_P=arrays["documents"],
            codes_P=arrays["codes"],
            frequencies_S=arrays["frequencies"],
            length_bytes_S=arrays["length_bytes"],
            starts_V=arrays["starts"],
            terms=arrays["terms"],
            term_offsets_V=arrays["term_offsets"],
            num_nonempty=counts["nonempty_passages"],
            num_tokens=counts["tokens"],
        ),
        passages=PassageStore(content=arrays["passage_content"], offsets=arrays["passage_offsets"]),
        id_rank_N=arrays["id_rank"],
        max_denominators_V=arrays["max_denominators"],
    )


def _assemble(
    config: BM25Config, postings: Postings, passages: PassageStore, id_rank_N: NDArray[np.int32]
) -> _Parts:
    by_code = _denominators(config, postings)
    starts_V = postings.starts_V
    largest = np.zeros(len(starts_V) - 1, np.float32)
    if len(largest):
        np.maximum.reduceat(by_code[postings.codes_P], starts_V[:-1], out=largest)
    return _Parts(
        postings=postings, passages=passages, id_rank_N=id_rank_N, max_denominators_V=largest
    )


def _denominators(config: BM25Config, postings: Postings) -> NDArray[np.float32]:
    return denominators(
        postings.frequencies_S,
        postings.length_bytes_S,
        mean_length=postings.mean_length,
        k1=config.k1,
        b=config.b,
    )


def _fingerprint(config: BM25Config, passages: PassageStore) -> str:
    parameters = {"backend": BACKEND, "analyzer": ANALYZER_NAME, **asdict(config)}
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    digest.update(passages.offsets.astype("<i8").data)
    digest.update(passages.content.data)
    return f"{BACKEND}-{digest.hexdigest()[:32]}"


def _reopen(folder: Path, fingerprint: str) -> BM25Index:
    index = BM25Index.load(folder)
    if index.fingerprint != fingerprint:
        raise ValueError(f"{folder} was built anew since this index was sent here. Send it again.")
    return index
