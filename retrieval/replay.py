"""In: searches, and a file. Out: their hits written down; later the same hits without the index.

A row is ``{"fingerprint", "query", "top_k", "hits": [{"id", "title", "text", "score"}]}``.
"""

import json
import threading
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeAlias

from .passages import Hit, Passage
from .retriever import Retriever, check_search
from .rows import LocatedRow, read_located_rows

_Key: TypeAlias = tuple[str, int]


class RecordingRetriever:
    """Writes down what the retriever behind it finds, each query with each ``top_k`` once.

    A file that is there already is continued; what a killed recording left of a line is cut off.
    """

    def __init__(self, inner: Retriever, file: str | Path) -> None:
        """Opens the file.

        Raises:
            ValueError: If the file holds searches in another index, or is no recording.
        """
        self.inner = inner
        self.path = _checked_path(file)
        self._lock = threading.Lock()
        self._known: set[_Key] = set()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _cut_torn_line(self.path)
            self._known = set(_read(self.path, inner.fingerprint)[1])
        self._file = self.path.open("ab")

    @property
    def fingerprint(self) -> str:
        """That of the retriever behind it."""
        return self.inner.fingerprint

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """As the retriever's own search; new ones are in the file when it returns."""
        found = self.inner.search(queries, top_k)
        fingerprint = self.inner.fingerprint
        with self._lock:
            lines = []
            for query, hits in zip(queries, found, strict=True):
                if (query, top_k) not in self._known:
                    self._known.add((query, top_k))
                    lines.append(_line(fingerprint, query, top_k, hits))
            self._file.write(b"".join(lines))
            self._file.flush()
        return found

    def close(self) -> None:
        """Closes the file and the retriever behind it."""
        self._file.close()
        self.inner.close()


class ReplayRetriever:
    """Answers from a recording, without the index: the same hits bit for bit, or an error."""

    def __init__(self, file: str | Path) -> None:
        """Reads the recording.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no recording, empty, or of several indexes.
        """
        self.path = _checked_path(file)
        self._fingerprint, self._hits = _read(self.path, None)
        if not self._hits:
            raise ValueError(f"{self.path} holds no searches. Record some: RecordingRetriever.")

    @property
    def fingerprint(self) -> str:
        """That of the index whose hits were recorded."""
        return self._fingerprint

    def __len__(self) -> int:
        return len(self._hits)

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """The hits recorded for each query with this very ``top_k``.

        Raises:
            LookupError: If one was not recorded.
        """
        check_search(queries, top_k)
        found = []
        for query in queries:
            hits = self._hits.get((query, top_k))
            if hits is None:
                raise LookupError(self._unknown(query, top_k))
            found.append(list(hits))
        return found

    def close(self) -> None:
        """Forgets the recording."""
        self._hits = {}

    def _unknown(self, query: str, top_k: int) -> str:
        others = sorted(k for known, k in self._hits if known == query)
        if others:
            hint = f"It was recorded with top_k = {', '.join(map(str, others))}."
        else:
            nearest = get_close_matches(query, {known for known, _ in self._hits}, n=1)
            hint = f"The nearest that was: {nearest[0]!r}." if nearest else ""
        return (
            f"{query[:200]!r} with top_k = {top_k} was not recorded in {self.path}. {hint} "
            "Record it: RecordingRetriever continues a file."
        )


def _checked_path(file: str | Path) -> Path:
    path = Path(file)
    if path.suffix != ".jsonl":
        raise ValueError(f"{path} is no name for a recording. Name it {path.stem}.jsonl.")
    return path


def _line(fingerprint: str, query: str, top_k: int, hits: Sequence[Hit]) -> bytes:
    row = {
        "fingerprint": fingerprint,
        "query": query,
        "top_k": top_k,
        "hits": [
            {
                "id": hit.passage.id,
                "title": hit.passage.title,
                "text": hit.passage.text,
                "score": float(hit.score),
            }
            for hit in hits
        ],
    }
    return json.dumps(row).encode("ascii") + b"\n"


def _read(path: Path, fingerprint: str | None) -> tuple[str, dict[_Key, tuple[Hit, ...]]]:
    """The recording and its fingerprint, which is the given one unless that is None."""
    found: dict[_Key, tuple[Hit, ...]] = {}
    for located in read_located_rows(path):
        name, key, hits = _parsed(located)
        if fingerprint is None:
            fingerprint = name
        if name != fingerprint:
            raise ValueError(
                f"{located.where}: a search in the index {name!r}, not in {fingerprint!r}. "
                "Use one file for each index."
            )
        found[key] = hits
    return fingerprint or "", found


def _parsed(located: LocatedRow) -> tuple[str, _Key, tuple[Hit, ...]]:
    row = located.row
    try:
        name, query, top_k = row["fingerprint"], row["query"], row["top_k"]
        if not (isinstance(name, str) and isinstance(query, str) and isinstance(top_k, int)):
            raise ValueError("fingerprint and query are strings, top_k is a whole number")
        hits = tuple(_hit(hit) for hit in row["hits"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{located.where}: no recorded search ({type(error).__name__}: {error}). "
            "Is it a file of RecordingRetriever?"
        ) from error
    return name, (query, top_k), hits


def _hit(fields: dict[str, Any]) -> Hit:
    passage = Passage(id=fields["id"], title=fields["title"], text=fields["text"])
    return Hit(passage=passage, score=float(fields["score"]))


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
