"""In: a file of queries in a common layout, or standard input. Out: queries with their ids."""

import gzip
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskgym.retrieval import read_located_rows

_ROW_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_ID_KEYS = ("query_id", "id", "task_id", "qid", "_id")
_QUERY_KEYS = ("query", "question", "text")


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """One query of the file."""

    query_id: str
    text: str


def read_queries(source: str) -> Iterator[Query]:
    """The queries of a file, in its order.

    Args:
        source: Rows by their ending; anything else, and ``-`` (standard input), by its first line:
            JSON objects, ``ID<TAB>QUERY`` or plain text, of which empty lines are passed over.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a query cannot be read, or two have one id: to whoever reads the hits they
            would be one.
    """
    if source != "-" and source.lower().endswith(_ROW_SUFFIXES):
        located = read_located_rows(source)
        return _distinct(_query_of_row(row.row, row.where) for row in located)
    if source != "-" and not Path(source).is_file():
        raise FileNotFoundError(f"No file {source}. Name a file of queries, or - for stdin.")
    return _distinct(_from_lines(_lines(source), "stdin" if source == "-" else source))


def _distinct(queries: Iterable[Query]) -> Iterator[Query]:
    seen: set[str] = set()
    for number, query in enumerate(queries, start=1):
        if query.query_id in seen:
            raise ValueError(
                f"Query {number} has the id {query.query_id!r} of one before it. Give each its own."
            )
        seen.add(query.query_id)
        yield query


def _lines(source: str) -> Iterator[bytes]:
    # Binary files are split at b"\n" alone; text files split at "\r" as well.
    if source == "-":
        yield from sys.stdin.buffer
        return
    path = Path(source)
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        yield from file


def _from_lines(lines: Iterable[bytes], name: str) -> Iterator[Query]:
    layout = ""
    for number, raw in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{where}: not UTF-8. Convert the file.") from error
        if not line.strip():
            continue
        if not layout:
            is_json = line.lstrip().startswith("{")
            layout = "json" if is_json else "tsv" if "\t" in line else "text"
        if layout == "json":
            yield _query_of_json(line, where)
        elif layout == "tsv":
            yield _query_of_tsv(line, where)
        else:
            yield Query(query_id=str(number), text=line.strip())


def _query_of_json(line: str, where: str) -> Query:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: not JSON ({error}), as the first line was.") from error
    if not isinstance(row, dict):
        raise ValueError(f'{where}: no object. Write {{"id": ..., "query": ...}}.')
    return _query_of_row(row, where)


def _query_of_tsv(line: str, where: str) -> Query:
    identity, tab, text = line.partition("\t")
    if not tab or not identity.strip():
        raise ValueError(f"{where}: no id and tab before the query, as the first line has them.")
    return Query(query_id=identity.strip(), text=text.strip())


def _query_of_row(row: dict[str, Any], where: str) -> Query:
    identity = next((row[key] for key in _ID_KEYS if row.get(key) is not None), None)
    text = next((row[key] for key in _QUERY_KEYS if row.get(key) is not None), None)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    for value, keys, what in ((identity, _ID_KEYS, "id"), (text, _QUERY_KEYS, "query")):
        if not isinstance(value, str):
            raise ValueError(
                f"{where}: no {what} that is text among the keys {', '.join(map(str, row))}. "
                f"It stands under one of {', '.join(keys)}."
            )
    assert isinstance(identity, str) and isinstance(text, str)
    return Query(query_id=identity, text=text)
