"""In: passages, or a folder. Out: Lucene's files in the folder; Anserini's searcher of them."""

# N: passages

from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from .bm25_config import BM25Config
from .jvm import enter_java, java_class, java_errors
from .lucene_documents import document_json
from .passage_store import digest_sum, record_digest
from .passages import Passage, checked_passages

_LOCK_FILE = "write.lock"
_BATCH = 1000
_BUFFER_MB = 256
_MAX_CLAUSES = 100_000


def open_searcher(folder: Path, config: BM25Config) -> Any:
    """Anserini's searcher of the Lucene index in a folder.

    Raises:
        ValueError: If it is no Lucene index, damaged, or of a Lucene that Anserini cannot read.
        OSError: If its files cannot be read.
    """
    searchers = java_class("io.anserini.search.SimpleSearcher")
    # A piece of text without white space may hold any number of terms; Lucene would refuse them.
    java_class("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(_MAX_CLAUSES)
    with java_errors(f"{folder} cannot be opened as a Lucene index"):
        searcher = searchers(str(folder))
        searcher.set_bm25(float(config.k1), float(config.b))
        return searcher


def write_lucene(
    passages: Iterable[Passage],
    folder: Path,
    *,
    num_threads: int,
    progress: Callable[[int], object] | None,
) -> tuple[int, int]:
    """Writes Lucene's files; gives the number of passages and the sum of their digests.

    Raises:
        ValueError: If there are no passages, two have one id, or one is no `Passage`.
        OSError: If the folder cannot be written.
    """
    arguments = ["-input", "", "-collection", "JsonCollection", "-index", str(folder)]
    arguments += ["-threads", str(num_threads), "-storeRaw", "-memoryBuffer", str(_BUFFER_MB)]
    failure = f"Lucene could not write to {folder}"
    with java_errors(failure):
        indexer = java_class("io.anserini.index.SimpleIndexer")(arguments)
    num_passages, digest = 0, 0
    hashes, batch = array("q"), list[str]()

    def flush() -> None:
        if not batch:
            return
        enter_java()
        with java_errors(failure):
            num_taken = indexer.addRawDocuments(batch)
        if num_taken != len(batch):
            raise OSError(f"Lucene took only {num_taken} of {len(batch)} passages")
        if progress is not None:
            progress(len(batch))
        batch.clear()

    try:
        for passage in checked_passages(passages):
            hashes.append(hash(passage.id))
            digest = digest_sum(digest, _digest(passage))
            batch.append(document_json(passage))
            num_passages += 1
            if len(batch) >= _BATCH:
                flush()
        flush()
        _check_distinct(hashes)
    except BaseException:
        with suppress(ValueError, OSError), java_errors(failure):
            indexer.close(False)
        raise
    with java_errors(failure):
        indexer.close(True)  # into one segment: the fastest to search
    (folder / _LOCK_FILE).unlink(missing_ok=True)
    _check_complete(folder, num_passages)
    return num_passages, digest


def _digest(passage: Passage) -> int:
    fields = [
        field.encode("utf-8", "surrogatepass")
        for field in (passage.id, passage.title, passage.text)
    ]
    return record_digest(b"".join(fields), list(map(len, fields)))


def _check_distinct(hashes: "array[int]") -> None:
    hashes_N = np.frombuffer(hashes, np.int64)
    order_N = np.argsort(hashes_N, kind="stable")
    is_again = np.flatnonzero(hashes_N[order_N[1:]] == hashes_N[order_N[:-1]])
    if len(is_again):
        first, second = order_N[is_again[0]], order_N[is_again[0] + 1]
        raise ValueError(
            f"Passages {first + 1} and {second + 1} have the same id. Make ids unique: "
            "hits are told apart by them."
        )


def _check_complete(folder: Path, num_passages: int) -> None:
    """Refuses what a full disk left: Anserini logs such trouble and goes on."""
    searcher = open_searcher(folder, BM25Config())
    found = searcher.get_total_num_docs()
    searcher.close()
    if found != num_passages:
        raise OSError(f"Lucene wrote {found} of {num_passages} passages")
