"""In: a file of questions in a layout that others publish. Out: its rows, each with its place.

Beside what `retrieval.read_rows` reads: topics with answers (a question, a tab and a Python list on
each line, as DPR and Anserini keep them), one JSON object of rows by their ids, and qrels.
"""

from __future__ import annotations

import ast
import gzip
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from ..retrieval.rows import read_located_rows

_TOPICS = (".txt", ".txt.gz", ".tsv", ".tsv.gz")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    """One row of a file."""

    row: dict[str, Any]
    number: int
    """Counted from 1: the line, the item of a list, or the row of a table."""
    where: str
    """The place in words, as errors show it."""


def read_task_rows(
    path: str | Path, *, on_bad_row: Literal["raise", "skip"] = "raise"
) -> Iterator[TaskRow]:
    """The rows of a file, in file order.

    Args:
        path: What `retrieval.read_rows` reads, topics (`.txt`, `.tsv`), or a JSON object of rows by
            id; text may be gzipped.
        on_bad_row: "raise" at the first row that cannot be read, or "skip" such rows and warn.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file or a row cannot be read; the message names file and line.
    """
    path = Path(path)
    if path.name.lower().endswith(_TOPICS):
        return _topics(path, on_bad_row)
    if path.name.lower().endswith((".json", ".json.gz")) and path.is_file():
        by_id = _object(path)
        if by_id is not None:
            return _by_id(path, by_id)
    return (
        TaskRow(row=located.row, number=located.number, where=located.where)
        for located in read_located_rows(path, on_bad_row=on_bad_row)
    )


def read_qrels(path: str | Path) -> dict[str, tuple[str, ...]]:
    """Ids of the relevant passages of each question, in file order.

    A line is ``question id, iteration, passage id, relevance`` between tabs or spaces, as
    trec_eval reads it; a relevance of 0 or less means not relevant.

    Raises:
        ValueError: If a line is not of this form; the message names it.
    """
    relevant: dict[str, list[str]] = {}
    with _open(Path(path)) as file:
        for number, line in enumerate(file, start=1):
            fields = line.decode("utf-8").split()
            if not fields:
                continue
            try:
                question_id, _, passage_id, relevance = fields
                is_relevant = int(relevance) > 0
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: expected `question 0 passage relevance`, found "
                    f"{line[:60]!r}."
                ) from None
            if is_relevant:
                relevant.setdefault(question_id, []).append(passage_id)
    return {question_id: tuple(passages) for question_id, passages in relevant.items()}


def _topics(path: Path, on_bad_row: str) -> Iterator[TaskRow]:
    num_skipped, first_problem = 0, ""
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            text = line.decode("utf-8").rstrip("\r\n")
            if not text.strip():
                continue
            question, tab, literal = text.partition("\t")
            try:
                answers = ast.literal_eval(_unquoted(literal)) if tab else None
            except (ValueError, SyntaxError, RecursionError, MemoryError):
                answers = None
            if isinstance(answers, list | tuple):
                row = {"question": _unquoted(question), "answers": list(answers)}
                yield TaskRow(row=row, number=number, where=where)
                continue
            problem = (
                f"{where}: expected a question, a tab and ['answer', ...], found {text[:60]!r}."
            )
            if on_bad_row == "raise":
                raise ValueError(problem)
            num_skipped += 1
            first_problem = first_problem or problem
    if num_skipped:
        warnings.warn(f"Skipped {num_skipped} bad rows; the first: {first_problem}", stacklevel=2)


def _unquoted(field: str) -> str:
    """A field of a table as CSV quotes it where it holds quotes itself."""
    if len(field) > 1 and field[0] == field[-1] == '"':
        return field[1:-1].replace('""', '"')
    return field


def _object(path: Path) -> dict[str, Any] | None:
    """The JSON object of a file; None if it holds something else, which `read_rows` then judges."""
    try:
        with _open(path) as file:
            text = file.read()
        if not text.lstrip().startswith((b"{", b"\xef\xbb\xbf{")):
            return None
        content = json.loads(text.decode("utf-8-sig"))
    except (OSError, EOFError, ValueError, RecursionError):
        return None
    is_rows = isinstance(content, dict) and all(isinstance(v, dict) for v in content.values())
    return content if is_rows else None


def _by_id(path: Path, rows: dict[str, Any]) -> Iterator[TaskRow]:
    for number, (row_id, row) in enumerate(rows.items(), start=1):
        yield TaskRow(row={"id": row_id, **row}, number=number, where=f"{path}, row {row_id!r}")


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]
