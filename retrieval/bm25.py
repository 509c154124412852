"""In: passages, then queries. Out: hits ranked by BM25 as Lucene ranks them."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .bm25_arrays import FolderSink, MemorySink
from .bm25_build import build_segment
from .bm25_config import BM25Config
from .bm25_folder import BACKEND, IndexContent, all_arrays, metadata_of, open_index, prefix_of
from .bm25_search import KernelName, Searcher, check_kernel
from .bm25_update import OnDuplicate, append_passages, compact_index, delete_passages
from .index_folder import file_sizes, new_index_folder, write_index_folder, write_metadata
from .passages import Hit, Passage
from .retriever import check_search

__all__ = ["BACKEND", "BM25Config", "BM25Index", "KernelName", "OnDuplicate"]


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
        self, content: IndexContent, *, folder: Path | None = None, kernel: KernelName = "auto"
    ) -> None:
        self._content = content
        self._kernel: KernelName = kernel
        self._folder = folder
        self._searcher: Searcher | None = Searcher(
            list(content.segments.values()), content.config, kernel
        )

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        *,
        config: BM25Config | None = None,
        progress: Callable[[int], object] | None = None,
        folder: str | Path | None = None,
        kernel: KernelName = "auto",
    ) -> "BM25Index":
        """An index of the passages; their titles are searched like their texts.

        Args:
            passages: Read once; the objects are not held in memory.
            config: The default is `BM25Config()`.
            progress: Called now and then with the number of passages taken since the last call, as
                the ``update`` of a tqdm bar expects it.
            folder: Writes the index there while it is built, and opens it from there: memory holds
                the vocabulary and a part of the corpus, whatever its size. An older index there
                stays until the new one is whole. None builds in memory.
            kernel: As in `load`.

        Raises:
            ValueError: If there are no passages, two have one id, or one is no `Passage`; or the
                folder holds something that is no index.
            OSError: If the folder cannot be written; what was there stays.
        """
        config = config or BM25Config()
        check_kernel(kernel)
        if folder is None:
            segment, digest = build_segment(passages, config, MemorySink(), progress=progress)
            content = IndexContent(config=config, segments={1: segment}, digest=digest)
            return cls(content, kernel=kernel)
        folder = Path(folder).absolute()
        with new_index_folder(folder) as partial:
            sink = FolderSink(partial, prefix_of(1))
            try:
                with tempfile.TemporaryDirectory(dir=partial) as scratch:
                    segment, digest = build_segment(
                        passages, config, sink, scratch=Path(scratch), progress=progress
                    )
            finally:
                sink.abort()
            content = IndexContent(config=config, segments={1: segment}, digest=digest)
            write_metadata(partial, metadata_of(content, file_sizes(partial)))
        return cls.load(folder, kernel=kernel)

    @classmethod
    def load(cls, folder: str | Path, *, kernel: KernelName = "auto") -> "BM25Index":
        """The index in a folder, memory-mapped: opening reads next to nothing.

        Args:
            folder: Written by `build` or `save`.
            kernel: The inner loop: ``numba`` (compiled: several times faster, and threads run in
                parallel), ``numpy``, or ``auto``, which is numba where it is installed and the
                index is not small. Both give the same hits bit for bit.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If it is no BM25 index, damaged, or of another version or analyser.
        """
        folder = Path(folder).absolute()
        content, _ = open_index(folder)
        return cls(content, folder=folder, kernel=kernel)

    def save(self, folder: str | Path) -> None:
        """Writes the index; an older index in that folder is replaced whole or not at all.

        Raises:
            ValueError: If the folder holds something that is no index.
            OSError: If it cannot be written.
        """
        folder = Path(folder).absolute()
        self._opened()
        metadata = metadata_of(self._content, {})
        write_index_folder(
            folder,
            all_arrays(self._content),
            backend=BACKEND,
            fingerprint=metadata.fingerprint,
            parameters=metadata.parameters,
            counts=metadata.counts,
        )
        self._folder = folder

    @property
    def config(self) -> BM25Config:
        """The parameters it was built with."""
        return self._content.config

    @property
    def fingerprint(self) -> str:
        """Names passages (in any order), tokeniser and parameters."""
        return self._content.fingerprint

    def __len__(self) -> int:
        return self._opened().statistics.num_passages

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the passages with a positive score, at most ``top_k``, best first.

        Equal scores are ordered by passage id. A query without a known word gets an empty list. Of
        a gigantic query the first 100,000 characters and 1,024 distinct words count.

        Raises:
            ValueError: If ``top_k`` is below 1, a query is no string, or the index is closed.
        """
        check_search(queries, top_k)
        searcher = self._opened()
        return [searcher.search(query, top_k) for query in queries]

    def warm_up(self) -> None:
        """Does what the first searches would wait for: compiles the kernel, reads the postings.

        Nothing needs it. A service calls it before it says that it is ready.

        Raises:
            ValueError: If the index is closed.
        """
        self._opened().warm_up()

    def append(
        self,
        passages: Iterable[Passage],
        *,
        on_duplicate: OnDuplicate = "raise",
        progress: Callable[[int], object] | None = None,
    ) -> None:
        """Adds passages to the index and its folder, from which it is then opened again.

        It ranks and scores as if built anew from all passages, the new ones last. Whoever else has
        the folder open goes on with what it opened; searches under way here do too.

        Args:
            passages: Read once.
            on_duplicate: What becomes of a passage whose id is there already: ``raise`` refuses all
                of them, ``replace`` puts it in the place of the old one.
            progress: As in `build`.

        Raises:
            ValueError: If there are no passages, an id is there already or twice among the new ones,
                one is no `Passage`, another process is changing the folder, or the index is closed
                or was never saved.
            OSError: If it cannot be written; the index is as it was.
        """
        folder = self._changeable()
        append_passages(folder, passages, on_duplicate=on_duplicate, progress=progress)
        self._reopen(folder)

    def delete(self, ids: Iterable[str]) -> None:
        """Takes passages out of the index and its folder, as `append` puts them in.

        Raises:
            LookupError: If an id is not there; nothing is deleted then.
            ValueError: If no passage would be left, and as in `append`.
            OSError: If it cannot be written; the index is as it was.
        """
        folder = self._changeable()
        delete_passages(folder, ids)
        self._reopen(folder)

    def compact(self) -> None:
        """Brings the folder into the form of a fresh build: smaller and faster, the hits the same.

        Raises:
            ValueError: As in `append`.
            OSError: If it cannot be written; the index is as it was.
        """
        folder = self._changeable()
        compact_index(folder)
        self._reopen(folder)

    def close(self) -> None:
        """Lets go of the arrays and mapped files; searches under way still finish."""
        self._searcher = None
        self._content = IndexContent(
            config=self._content.config, segments={}, digest=self._content.digest
        )

    def _opened(self) -> Searcher:
        if self._searcher is None:
            raise ValueError("This index is closed. Load it again: load_index(folder).")
        return self._searcher

    def _changeable(self) -> Path:
        self._opened()
        if self._folder is None:
            raise ValueError(
                "This index is in memory only. Save it to a folder first: save(folder)."
            )
        return self._folder

    def _reopen(self, folder: Path) -> None:
        content, _ = open_index(folder)
        # The fingerprint last: a cache must never file hits of the old state under the new name.
        self._searcher = Searcher(list(content.segments.values()), content.config, self._kernel)
        self._content = content

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is not None:
            return _load_same, (self._folder, self.fingerprint, self._kernel)
        self._opened()
        return _from_memory, (self._content, self._kernel)


def _from_memory(content: IndexContent, kernel: KernelName) -> BM25Index:
    return BM25Index(content, kernel=kernel)


def _load_same(folder: Path, fingerprint: str, kernel: KernelName) -> BM25Index:
    index = BM25Index.load(folder, kernel=kernel)
    if index.fingerprint != fingerprint:
        raise ValueError(f"{folder} was built anew since this index was sent here. Send it again.")
    return index
