"""In: passages, or a folder that Lucene wrote; then queries. Out: hits as Anserini ranks them."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .analyzer import analyze
from .bm25_config import BM25Config
from .index_folder import (
    METADATA_FILE,
    REBUILD,
    IndexMetadata,
    new_index_folder,
    read_index_metadata,
    write_metadata,
)
from .jvm import JvmConfig, check_not_forked, enter_java, java_class, java_errors, start_jvm
from .lucene_build import open_searcher, write_lucene
from .lucene_documents import passage_of
from .lucene_prebuilt import download_prebuilt
from .passages import Hit, Passage
from .retriever import check_search

BACKEND = "lucene"

MAX_QUERY_CHARS = 100_000
"""What of a query is read."""
MAX_QUERY_TERMS = 1024
"""Distinct terms of a query that count, the first ones."""

_ANALYZER = "anserini-english"


class LuceneIndex:
    """A Lucene index on disk, searched in this process by Anserini's ``SimpleSearcher``.

    Make one with `build`, `load`, `open` or `open_prebuilt`; each starts Java if it does not run
    (see `start_jvm` for its memory). Searches may run in any number of threads. A process that was
    forked after Java started is refused; pickling sends the folder's path, so ``spawn`` works.

    Scores are Lucene's, which Anserini rounds to four decimals.

    Example:
        >>> index = LuceneIndex.build(passages, "index")  # doctest: +SKIP
        >>> index.search(["prize winners"], top_k=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: Path,
        config: BM25Config,
        fingerprint: str,
        searcher: Any,
        *,
        num_threads: int,
    ) -> None:
        self._folder = folder
        self._config = config
        self._fingerprint = fingerprint
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._num_searching = 0
        self._searcher = searcher
        self._num_passages = 0 if searcher is None else int(searcher.get_total_num_docs())

    @classmethod
    def build(
        cls,
        passages: Iterable[Passage],
        folder: str | Path,
        *,
        config: BM25Config | None = None,
        progress: Callable[[int], object] | None = None,
        num_threads: int = 1,
        jvm: JvmConfig | None = None,
    ) -> "LuceneIndex":
        """A new index of the passages in a folder; their titles are searched like their texts.

        Args:
            passages: Read once; the objects are not held in memory.
            folder: An older index there stays until the new one is whole.
            config: The default is `BM25Config()`. The folder holds it as a default for `load`.
            progress: Called now and then with the number of passages taken since the last call, as
                the ``update`` of a tqdm bar expects it.
            num_threads: Of Lucene; hits do not depend on it.
            jvm: As in `start_jvm`.

        Raises:
            ValueError: If there are no passages, two have one id, or one is no `Passage`; or the
                folder holds something that is no index.
            OSError: If the folder cannot be written; what was there stays.
            ImportError: If Java or Anserini is missing.
        """
        config = config or BM25Config()
        if num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}; building needs at least 1.")
        start_jvm(jvm)
        folder = Path(folder).absolute()
        with new_index_folder(folder) as partial:
            num_passages, digest = write_lucene(
                passages, partial, num_threads=num_threads, progress=progress
            )
            parameters: dict[str, float | str] = {
                "k1": float(config.k1),
                "b": float(config.b),
                "analyzer": _ANALYZER,
                "passages": f"{digest:032x}",
            }
            metadata = IndexMetadata(
                backend=BACKEND,
                fingerprint=_fingerprint(parameters, config),
                parameters=parameters,
                counts={"passages": num_passages},
                files={entry.name: entry.stat().st_size for entry in sorted(partial.iterdir())},
            )
            write_metadata(partial, metadata)
        return cls.load(folder, num_threads=num_threads)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        config: BM25Config | None = None,
        num_threads: int = 1,
        jvm: JvmConfig | None = None,
    ) -> "LuceneIndex":
        """The index that `build` wrote to a folder.

        Args:
            folder: Written by `build`; for any other Lucene index there is `open`.
            config: None takes the one it was built with; any other works as well.
            num_threads: Of one search with several queries.
            jvm: As in `start_jvm`.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If it is no Lucene index of ours, damaged, or of another version.
            ImportError: If Java or Anserini is missing.
        """
        folder = Path(folder).absolute()
        metadata = read_index_metadata(folder)
        if metadata.backend != BACKEND:
            raise ValueError(f"{folder} is a {metadata.backend!r} index. Open it with load_index.")
        if metadata.parameters.get("analyzer") != _ANALYZER:
            raise ValueError(
                f"{folder} was tokenised by {metadata.parameters.get('analyzer')!r}, this maskgym "
                f"asks with {_ANALYZER!r}. {REBUILD}"
            )
        _check_files(folder, metadata.files)
        try:
            built_with = BM25Config(
                k1=float(metadata.parameters["k1"]), b=float(metadata.parameters["b"])
            )
            metadata.parameters["passages"]
        except (KeyError, ValueError) as error:
            raise ValueError(f"The metadata of {folder} lacks {error}. {REBUILD}") from error
        config = config or built_with
        fingerprint = _fingerprint(metadata.parameters, config)
        return cls._open(folder, config, fingerprint, num_threads, jvm)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        config: BM25Config | None = None,
        num_threads: int = 1,
        jvm: JvmConfig | None = None,
    ) -> "LuceneIndex":
        """Any Lucene index that Anserini or Pyserini wrote, or `build` did; it is not changed.

        It is searched in its field ``contents`` with Anserini's English analyser. Hits have the
        text that it stores: as JSON in Search-R1's or BEIR's form, or whatever else the collection
        held. The arguments are those of `load`; without `config` k1 is 0.9 and b 0.4.

        Raises:
            FileNotFoundError: If there is no such folder.
            ValueError: If it is no Lucene index, damaged, or of a Lucene that Anserini cannot read.
            ImportError: If Java or Anserini is missing.
        """
        folder = Path(folder).absolute()
        if not folder.is_dir() or (folder / METADATA_FILE).is_file():
            return cls.load(folder, config=config, num_threads=num_threads, jvm=jvm)
        commit = _last_commit(folder)
        config = config or BM25Config()
        # The commit names each segment by a random id that goes with the segment's files.
        parameters = {"analyzer": _ANALYZER, "commit": hashlib.sha256(commit).hexdigest()}
        fingerprint = _fingerprint(parameters, config)
        return cls._open(folder, config, fingerprint, num_threads, jvm)

    @classmethod
    def open_prebuilt(
        cls,
        name: str,
        *,
        config: BM25Config | None = None,
        num_threads: int = 1,
        jvm: JvmConfig | None = None,
    ) -> "LuceneIndex":
        """One of Pyserini's prebuilt indexes by name, downloaded at the first use.

        It lands where Pyserini keeps them: ``~/.cache/pyserini/indexes``, or ``PYSERINI_CACHE``.
        The other arguments are those of `open`.

        Raises:
            LookupError: If Pyserini knows no such index; the message offers the nearest names.
            OSError: If it cannot be downloaded.
            ImportError: If Pyserini, or the pandas that it needs for this, is missing.
        """
        start_jvm(jvm)  # before Pyserini does, which would take any Java and its own options
        folder = download_prebuilt(name)
        return cls.open(folder, config=config, num_threads=num_threads)

    @classmethod
    def _open(
        cls,
        folder: Path,
        config: BM25Config,
        fingerprint: str,
        num_threads: int,
        jvm: JvmConfig | None,
    ) -> "LuceneIndex":
        if num_threads < 1:
            raise ValueError(f"num_threads is {num_threads}; a search needs at least 1.")
        start_jvm(jvm)
        searcher = open_searcher(folder, config)
        return cls(folder, config, fingerprint, searcher, num_threads=num_threads)

    @property
    def config(self) -> BM25Config:
        """The parameters that it ranks by."""
        return self._config

    @property
    def fingerprint(self) -> str:
        """Names passages, tokeniser and parameters; of a foreign index its state on disk."""
        return self._fingerprint

    def __len__(self) -> int:
        return self._num_passages

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the passages with a positive score, at most ``top_k``, best first.

        Equal scores are ordered by passage id. A query without a known word gets an empty list. Of
        a gigantic query the first 100,000 characters and 1,024 distinct words count.

        Raises:
            ValueError: If ``top_k`` is below 1, a query is no string, or the index is closed; or if
                the index keeps no text.
            RuntimeError: In a process that was forked after Java started.
        """
        check_search(queries, top_k)
        enter_java()
        num_hits = min(top_k, max(1, self._num_passages))
        asked = [_askable(query) for query in queries]
        with self._searching() as searcher, java_errors(f"Lucene could not search {self._folder}"):
            if self._num_threads == 1 or len(asked) == 1:
                return [_hits(searcher.search(query, num_hits)) for query in asked]
            names = [str(number) for number in range(len(asked))]
            found = searcher.batch_search(
                _java_list(asked), _java_list(names), num_hits, self._num_threads
            )
            return [_hits(found.get(name)) for name in names]

    def close(self) -> None:
        """Closes the files; searches under way still finish. In a forked child it does nothing."""
        try:
            enter_java()
        except RuntimeError:  # the parent's files are the parent's to close
            return
        with self._lock:
            searcher, self._searcher = self._searcher, None
            is_idle = self._num_searching == 0
        if searcher is not None and is_idle:
            searcher.close()

    @contextmanager
    def _searching(self) -> Iterator[Any]:
        with self._lock:
            searcher = self._searcher
            if searcher is None:
                raise ValueError("This index is closed. Load it again: load_index(folder).")
            self._num_searching += 1
        try:
            yield searcher
        finally:
            with self._lock:
                self._num_searching -= 1
                is_last = self._searcher is None and self._num_searching == 0
            if is_last:
                searcher.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _open_same, (self._folder, self._config, self._num_threads, self._fingerprint)


def _open_same(folder: Path, config: BM25Config, num_threads: int, fingerprint: str) -> LuceneIndex:
    try:
        check_not_forked()
    except RuntimeError:
        # A pool of processes would lose a task that cannot be unpickled, and wait for it for ever.
        return LuceneIndex(folder, config, fingerprint, None, num_threads=num_threads)
    index = LuceneIndex.open(folder, config=config, num_threads=num_threads)
    if index.fingerprint != fingerprint:
        index.close()
        raise ValueError(f"{folder} was built anew since this index was sent here. Send it again.")
    return index


def _askable(query: str) -> str:
    """What of a query Lucene is asked; the whole one, unless it is gigantic or no valid text."""
    query = query[:MAX_QUERY_CHARS].encode("utf-8", "replace").decode()
    if len(query) < 2 * MAX_QUERY_TERMS:  # too short for so many terms
        return query
    terms: set[str] = set()
    kept: list[str] = []
    for piece in query.split():
        terms.update(analyze(piece))
        if len(terms) > MAX_QUERY_TERMS and kept:
            break
        kept.append(piece)
    return " ".join(kept)


def _hits(found: Iterable[Any]) -> list[Hit]:
    hits = []
    for scored in found:
        document = scored.lucene_document
        raw = document.get("raw")
        contents = None if raw is not None else document.get("contents")
        passage = passage_of(scored.docid, raw, contents)
        hits.append(Hit(passage=passage, score=scored.score))
    return hits


def _java_list(texts: Iterable[str]) -> Any:
    listed = java_class("java.util.ArrayList")()
    for text in texts:
        listed.add(text)
    return listed


def _fingerprint(parameters: Mapping[str, float | str], config: BM25Config) -> str:
    named = {**parameters, "backend": BACKEND, "k1": float(config.k1), "b": float(config.b)}
    return (
        f"{BACKEND}-{hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:32]}"
    )


def _check_files(folder: Path, files: Mapping[str, int]) -> None:
    for name, expected in files.items():
        path = folder / name
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            raise ValueError(f"The index {folder} lacks its file {name}. {REBUILD}")
        if found != expected:
            raise ValueError(f"{path} has {found} bytes instead of {expected}. {REBUILD}")


def _last_commit(folder: Path) -> bytes:
    commits = [path for path in folder.glob("segments_*") if path.is_file()]
    if not commits:
        inner = [path.parent for path in sorted(folder.glob("*/segments_*"))]
        hint = f"Did you mean {inner[0]}?" if inner else "Name the folder with its files."
        raise ValueError(f"{folder} is no Lucene index: it has no segments file. {hint}")
    return max(commits, key=lambda path: int(path.name.partition("_")[2], 36)).read_bytes()
