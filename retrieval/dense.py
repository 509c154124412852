"""In: passages, then queries. Out: hits ranked by the inner product of their embeddings."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bm25_arrays import ArraySink, FolderSink, MemorySink
from .bm25_ids import order_of_ids
from .dense_folder import BACKEND, DenseContent, open_dense_folder, write_dense_folder
from .embedding_shards import Manifest, open_shards, shards_folder
from .encoder import EncoderConfig, SentenceEncoder
from .faiss_index import FaissIndex, SearchWidth, check_factory, resolve_factory
from .index_folder import REBUILD, new_index_folder
from .passage_store import PassageStore, PassageStoreBuilder, store_arrays
from .passages import Hit, Passage, checked_passages
from .retriever import check_search

__all__ = ["BACKEND", "DenseIndex"]

_HASHED_AT_ONCE = 1 << 24


class DenseIndex:
    """Embeddings of passages in FAISS, and the encoder that makes those of the queries.

    Make one with `build` or `load`. Searches may run in any number of threads; the encoder takes
    them in turn. Pickling a saved or loaded index sends its folder's path.

    Example:
        >>> from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
        >>> encoder = SentenceEncoder(EncoderConfig.for_model("e5-base-v2"))  # doctest: +SKIP
        >>> index = DenseIndex.build(passages, encoder, folder="index")  # doctest: +SKIP
    """

    def __init__(
        self,
        content: DenseContent,
        encoder: SentenceEncoder,
        *,
        width: SearchWidth | None = None,
        folder: Path | None = None,
    ) -> None:
        self._content: DenseContent | None = content
        self._encoder = encoder
        self._width = width or SearchWidth()
        self._folder = folder
        self._fingerprint = content.fingerprint(encoder)

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        encoder: SentenceEncoder,
        *,
        factory: str = "auto",
        folder: str | Path | None = None,
        progress: Callable[[int], object] | None = None,
        resume: bool = True,
        shard_passages: int = 4096,
        num_threads: int = 1,
    ) -> "DenseIndex":
        """An index of the passages.

        Args:
            passages: Read once, before the first is embedded.
            encoder: Embeds them, and later the queries.
            factory: What FAISS builds, as in `resolve_factory`. ``auto`` is exact to 200,000.
            folder: Writes the index there and opens it from there. An older index stays until the
                new one is whole. A build that is killed leaves its embeddings in a hidden folder
                beside; the next one goes on there, and gives the same index bit for bit. None
                builds in memory.
            progress: Called after each shard with its number of passages, as the ``update`` of a
                tqdm bar expects it.
            resume: False starts anew where an earlier build did not finish.
            shard_passages: Passages that are embedded, and saved, together.
            num_threads: FAISS's threads while it builds; see `FaissIndex.build`.

        Raises:
            ValueError: If there are no passages, two have one id, or one is no `Passage`; if the
                folder holds something that is no index; if an unfinished build there is of other
                passages or another encoder.
            OSError: If the folder cannot be written; what was there stays.
        """
        if shard_passages < 1:
            raise ValueError(f"shard_passages is {shard_passages}; it is a whole number from 1 up.")
        if folder is None:
            store = store_passages(passages, MemorySink())
            parts = [
                _embed(encoder, store, numbers, progress)
                for numbers in _shards(len(store), shard_passages)
            ]
            content = _content(store, hash_passages(store), parts, factory, num_threads)
            return cls(content, encoder)
        folder = Path(folder).absolute()
        with ExitStack() as stack:
            unfinished = stack.enter_context(new_index_folder(folder))
            sink = FolderSink(unfinished, "")
            stack.callback(sink.abort)
            store = store_passages(passages, sink)
            check_factory(resolve_factory(factory, len(store)))  # before hours of embedding
            manifest = Manifest(
                encoder=encoder.fingerprint,
                passages=hash_passages(store),
                shard_passages=shard_passages,
            )
            shards = stack.enter_context(
                open_shards(shards_folder(folder), manifest, resume=resume)
            )
            for numbers in _shards(len(store), shard_passages):
                shards.add(len(numbers), partial(_embed, encoder, store, numbers))
                if progress is not None:
                    progress(len(numbers))
            content = _content(store, manifest.passages, shards, factory, num_threads)
            write_dense_folder(unfinished, content, encoder)
        shards.remove()
        return cls.load(folder, encoder=encoder)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        encoder: SentenceEncoder | None = None,
        model: str | Path | None = None,
        device: str = "cpu",
        num_threads: int = 1,
        width: SearchWidth | None = None,
    ) -> "DenseIndex":
        """The index in a folder, memory-mapped; the model is loaded by the first search.

        Args:
            folder: Written by `build` or `save`.
            encoder: Embeds the queries; None makes it by the settings that the index holds.
            model: Where the model lies now, if not where it was: its folder, or its hub name.
            device: Of the model, as torch names it.
            num_threads: Of torch and FAISS, each.
            width: How far approximate indexes look.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If it is no dense index, damaged, or of another version; or if the model is
                not there, or is another than the one that embedded the passages.
        """
        folder = Path(folder).absolute()
        content, config, fingerprint = open_dense_folder(folder, num_threads=num_threads)
        if encoder is None:
            encoder = _find_encoder(folder, config, model, device, num_threads)
        if encoder.fingerprint != fingerprint:
            raise ValueError(
                f"{encoder.config.model} is not the model that embedded the passages of {folder} "
                f"(that was {config.model}), or has other settings: the scores would mean nothing. "
                f"Give the right one: DenseIndex.load(folder, model=...). {REBUILD}"
            )
        return cls(content, encoder, width=width, folder=folder)

    def save(self, folder: str | Path) -> None:
        """Writes the index; an older index in that folder is replaced whole or not at all.

        Raises:
            ValueError: If the folder holds something that is no index.
            OSError: If it cannot be written.
        """
        folder = Path(folder).absolute()
        content = self._opened()
        with new_index_folder(folder) as unfinished:
            for name, array in store_arrays(content.passages).items():
                np.save(unfinished / f"{name}.npy", array, allow_pickle=False)
            write_dense_folder(unfinished, content, self._encoder)
        self._folder = folder

    def with_width(
        self, *, nprobe: int | None = None, ef_search: int | None = None
    ) -> "DenseIndex":
        """The same index, searched more or less thoroughly; it shares everything with this one."""
        width = SearchWidth(nprobe=nprobe, ef_search=ef_search)
        return DenseIndex(self._opened(), self._encoder, width=width, folder=self._folder)

    @property
    def encoder(self) -> SentenceEncoder:
        """Embeds the queries."""
        return self._encoder

    @property
    def factory(self) -> str:
        """What FAISS built."""
        return self._opened().factory

    @property
    def fingerprint(self) -> str:
        """Names passages in their order, encoder, kind of index, and how far a search looks."""
        widths = asdict(self._width)
        return self._fingerprint + "".join(f"-{n}{v}" for n, v in widths.items() if v is not None)

    def __len__(self) -> int:
        return len(self._opened().passages)

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the ``top_k`` passages of the highest product, best first.

        Equal scores are ordered by passage id. A query of white space alone gets an empty list;
        an approximate index may find fewer than ``top_k``.

        Raises:
            ValueError: If ``top_k`` is below 1, a query is no string, or the index is closed.
        """
        check_search(queries, top_k)
        content = self._opened()
        hits: list[list[Hit]] = [[] for _ in queries]
        asked = [number for number, query in enumerate(queries) if query.strip()]
        if not asked:
            return hits
        embeddings = self._encoder.encode_queries([queries[number] for number in asked])
        found = content.vectors.search(embeddings, top_k, self._width)
        for number, (numbers, scores) in zip(asked, found, strict=True):
            ids = map(content.passages.id_at, numbers.tolist())
            ranked = sorted(zip((-scores).tolist(), ids, numbers.tolist(), strict=True))
            hits[number] = [
                Hit(passage=content.passages[place], score=-score)
                for score, _, place in ranked[:top_k]
            ]
        return hits

    def close(self) -> None:
        """Lets go of the mapped files; searches under way still finish."""
        self._content = None

    def _opened(self) -> DenseContent:
        content = self._content
        if content is None:
            raise ValueError("This index is closed. Load it again: load_index(folder).")
        return content

    def __reduce__(self) -> tuple[Any, ...]:
        content = self._opened()
        if self._folder is not None:
            return _load_same, (self._folder, self._encoder, self._width, self.fingerprint)
        return _from_memory, (content, self._encoder, self._width)


def _from_memory(content: DenseContent, encoder: SentenceEncoder, width: SearchWidth) -> DenseIndex:
    return DenseIndex(content, encoder, width=width)


def _load_same(
    folder: Path, encoder: SentenceEncoder, width: SearchWidth, fingerprint: str
) -> DenseIndex:
    index = DenseIndex.load(folder, encoder=encoder, width=width)
    if index.fingerprint != fingerprint:
        raise ValueError(f"{folder} was built anew since this index was sent here. Send it again.")
    return index


def store_passages(passages: Iterable[Passage], sink: ArraySink) -> PassageStore:
    """All passages, whose ids are distinct."""
    builder = PassageStoreBuilder(sink)
    for passage in checked_passages(passages):
        builder.add(passage)
    store, _ = builder.finish()
    order_of_ids(store)
    return store


def hash_passages(store: PassageStore) -> str:
    """Names the passages in their order."""
    digest = hashlib.sha256()
    for array in (store.offsets, store.content):
        raw = array.view(np.uint8)
        for start in range(0, len(raw), _HASHED_AT_ONCE):
            digest.update(raw[start : start + _HASHED_AT_ONCE].tobytes())
    return digest.hexdigest()[:32]


def _shards(num_passages: int, size: int) -> Iterator[range]:
    for start in range(0, num_passages, size):
        yield range(start, min(start + size, num_passages))


def _embed(
    encoder: SentenceEncoder,
    store: PassageStore,
    numbers: range,
    progress: Callable[[int], object] | None = None,
) -> NDArray[np.float32]:
    found = encoder.encode_passages([store[number] for number in numbers])
    if progress is not None:
        progress(len(numbers))
    return found


def _content(
    store: PassageStore,
    passages_hash: str,
    parts: Sequence[NDArray[np.float32]],
    factory: str,
    num_threads: int,
) -> DenseContent:
    factory = resolve_factory(factory, len(store))
    vectors = FaissIndex.build(parts, factory, num_threads=num_threads)
    return DenseContent(
        passages=store, passages_hash=passages_hash, vectors=vectors, factory=factory
    )


def _find_encoder(
    folder: Path, config: EncoderConfig, model: str | Path | None, device: str, num_threads: int
) -> SentenceEncoder:
    if model is not None:
        config = replace(config, model=str(model))
    try:
        return SentenceEncoder(config, device=device, num_threads=num_threads)
    except ValueError as error:
        raise ValueError(
            f"{folder} was embedded by the model {config.model}, and its queries need it too: "
            f"{error} If it lies elsewhere now: DenseIndex.load({str(folder)!r}, model=PATH)."
        ) from error
