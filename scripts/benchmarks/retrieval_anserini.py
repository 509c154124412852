"""The rival: Lucene as Pyserini drives it, through Anserini's own classes and none of our indexes.

In: a folder of JSONL passages, then queries. Out: an index, then ids with scores. Python modules of
Pyserini are not imported (they take seconds and 650 MB): what is measured is Lucene at its best.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskgym.retrieval.jvm import (
    JvmConfig,
    enter_java,
    find_jar,
    find_java,
    java_class,
    start_jvm,
)

HEAP = "2g"
K1, B = 0.9, 0.4


@dataclass(frozen=True, kw_only=True, slots=True)
class AnseriniBuild:
    """What building an index took."""

    cpu_s: float
    peak_mb: float


def why_missing() -> str | None:
    """Why Lucene cannot be measured here; None where it can."""
    try:
        find_jar()
        find_java()
        import jnius_config  # noqa: F401
    except (ImportError, ValueError) as error:
        return str(error)
    return None


def build_anserini(passages: Path, index: Path, *, num_threads: int = 2) -> AnseriniBuild:
    """Runs Anserini's indexer, which `python -m pyserini.index.lucene` runs too.

    Args:
        passages: Folder of JSONL files of {id, contents}.
        index: Where the index goes; texts are stored in it, and it is merged to one segment.
        num_threads: Of the indexer.

    Raises:
        ValueError: If it fails; the end of what it said is in the message.
    """
    options = "-generator DefaultLuceneDocumentGenerator -storeRaw -optimize -threads"
    command = [
        str(find_java() / "bin" / "java"),
        f"-Xmx{HEAP}",
        *("-cp", str(find_jar()), "io.anserini.index.IndexCollection"),
        *("-collection", "JsonCollection", "-input", str(passages), "-index", str(index)),
        *options.split(),
        str(num_threads),
    ]
    log = index.with_name(f"{index.name}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = log.read_text(errors="replace")[-300:]
        raise ValueError(f"Anserini's indexer failed ({process.returncode}): {end}")
    return AnseriniBuild(
        cpu_s=usage.ru_utime + usage.ru_stime, peak_mb=usage.ru_maxrss * 1024 / 1e6
    )


class AnseriniSearcher:
    """Anserini's `SimpleSearcher`, which Pyserini's `LuceneSearcher` wraps; safe under threads."""

    def __init__(self, index: Path) -> None:
        start_jvm(JvmConfig(heap=HEAP))
        self._searcher: Any = java_class("io.anserini.search.SimpleSearcher")(str(index))
        self._searcher.set_bm25(K1, B)

    def search(self, query: str, top_k: int) -> list[tuple[str, float]]:
        """Ids and scores, best first; no text is fetched."""
        enter_java()
        return [(hit.docid, hit.score) for hit in self._searcher.search(query, top_k)]

    def rankings(self, queries: Sequence[str], top_k: int) -> list[list[str]]:
        """The ids alone."""
        return [[name for name, _ in self.search(query, top_k)] for query in queries]

    def search_with_text(self, query: str, top_k: int) -> list[tuple[str, float, str]]:
        """Ids, scores and the JSON that was indexed."""
        enter_java()
        return [_with_text(hit) for hit in self._searcher.search(query, top_k)]

    def batch_with_text(
        self, queries: Sequence[str], top_k: int, num_threads: int
    ) -> list[list[tuple[str, float, str]]]:
        """As `search_with_text`, for several queries in Lucene's own threads."""
        enter_java()
        texts, names = java_class("java.util.ArrayList")(), java_class("java.util.ArrayList")()
        for number, query in enumerate(queries):
            texts.add(query)
            names.add(str(number))
        found = self._searcher.batch_search(texts, names, top_k, num_threads)
        return [
            [_with_text(hit) for hit in found.get(str(number))] for number in range(len(queries))
        ]

    def close(self) -> None:
        """Closes the index."""
        enter_java()
        self._searcher.close()


def _with_text(hit: Any) -> tuple[str, float, str]:
    # The variable matters: all threads share a pyjnius method, which holds the object of its last
    # call; a document that nobody else held was freed under the call of another thread.
    document = hit.lucene_document
    return hit.docid, hit.score, document.get("raw")
