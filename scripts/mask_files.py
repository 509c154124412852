"""Rows in batches: a file in, its rows as the file holds them; masked rows in, a new file out."""

import gzip
import hashlib
import json
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from maskgym.retrieval import read_located_rows

OUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")

_MAX_BATCH_ROWS = 64
_MAX_BATCH_BYTES = 1 << 19
_ROW_GROUP_ROWS = 4096
_ROW_GROUP_BYTES = 1 << 26
_GZIP_LEVEL = 6  # level 9, the default, takes longer than the masking


@dataclass(frozen=True, kw_only=True, slots=True)
class RowBatch:
    """Neighbouring rows, not read yet: that is work for many cores."""

    first: int
    """Number of the first row of a table, counted from 1."""
    lines: tuple[tuple[int, bytes], ...] = ()
    """JSON rows with their numbers (the line, or the item of a list)."""
    table: bytes = b""
    """Or rows of Parquet, as an Arrow stream."""
    num_examples: int = 0
    """How many of its first traces are wanted as examples."""


def place(path: Path, number: int) -> str:
    """A row in words, as errors show it: ``corpus.jsonl, line 3``; else ``row 3``."""
    is_lines = path.name.lower().endswith((".jsonl", ".jsonl.gz"))
    return f"{path}, {'line' if is_lines else 'row'} {number}"


def read_batches(path: Path) -> Iterator[RowBatch]:
    """The rows of a JSONL, JSON (also .gz) or Parquet file; a bad path raises at once.

    Raises:
        FileNotFoundError: If there is no such file; the message offers the nearest name.
        ValueError: If the file is none of these or is cut off. What is wrong with a row shows only
            when the row is read.
    """
    located = read_located_rows(path)  # looks at the path, not at the rows
    name = path.name.lower()
    if name.endswith(".parquet"):
        return _table_batches(path)
    if name.endswith((".jsonl", ".jsonl.gz")):
        return _line_batches(_json_lines(path))
    return _line_batches((row.number, json.dumps(row.row).encode()) for row in located)


def row_of(line: bytes) -> dict[str, Any]:
    """A line of JSON as a row.

    Raises:
        ValueError: If it is no UTF-8, no JSON or no object; says which, not where.
    """
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8. Convert the file.") from None
    except (ValueError, RecursionError) as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        raise ValueError(f"not JSON ({error}) in {shown!r}. Mend the line.") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds {str(value)[:60]!r}, not an object; write rows as {{...}}.")
    return value


def count_rows(path: Path) -> int:
    """Number of rows, good or bad; blank lines are none."""
    if path.name.lower().endswith(".parquet"):
        with _parquet_file(path) as file:
            return int(file.metadata.num_rows)
    return sum(len(batch.lines) for batch in read_batches(path))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies on the disk."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def arrow_schema(path: Path) -> Any:
    """The Arrow schema of all rows of a file: its own, or one that every JSON row fits.

    Raises:
        ValueError: If rows differ in a way that no table allows.
    """
    if path.name.lower().endswith(".parquet"):
        with _parquet_file(path) as file:
            # Its metadata may describe columns one by one (Hugging Face) and would lack the new.
            return file.schema_arrow.remove_metadata()
    require_pyarrow(path)
    import pyarrow as pa

    schema = pa.schema([])
    for batch in read_batches(path):
        with fits_table(f"{place(path, batch.first)} and the rows after it"):
            schema = pa.unify_schemas([schema, _inferred(batch)], promote_options="permissive")
    return schema


def arrow_bytes(table: Any) -> bytes:
    """A record batch as an Arrow stream; unlike a pickle, it holds no more than the rows."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_batch(table)
    return cast(bytes, sink.getvalue().to_pybytes())


def arrow_table(stream: bytes) -> Any:
    """The record batch of an Arrow stream that `arrow_bytes` made."""
    import pyarrow as pa

    with pa.ipc.open_stream(stream) as reader:
        return reader.read_next_batch()


def require_pyarrow(path: Path) -> None:
    """Refuses a Parquet file where pyarrow is not installed."""
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Parquet needs pyarrow: pip install 'maskgym[parquet]' ({path})."
        ) from error


@contextmanager
def fits_table(what: str) -> Iterator[None]:
    """Says in words that rows cannot be made a table: Arrow's errors have many classes."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OverflowError) as error:
        message = f"{what} cannot be written as a table ({error}). Name OUT .jsonl."
        raise ValueError(message) from None


@contextmanager
def complete_or_absent(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Names to write to; on success the files take the names `paths`, the last one last.

    On any error, Ctrl-C included, what was written is removed and older files stay as they were.
    """
    partials = tuple(
        path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial") for path in paths
    )
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partials
        for partial, path in zip(partials, paths, strict=True):
            os.replace(partial, path)
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)


class BatchWriter:
    """Writes batches to a file of the kind that `name` ends in; a context manager.

    JSON batches are lines of bytes; Parquet batches are Arrow streams and become row groups of a
    few thousand rows, whose bounds depend on the rows alone.
    """

    def __init__(self, path: Path, *, name: str, schema: Any = None):
        self._close = ExitStack()
        self._name = name
        self._schema = schema
        self._held: list[Any] = []
        if name.lower().endswith(".parquet"):
            import pyarrow.parquet as pq

            with fits_table(name):
                self._table = self._close.enter_context(pq.ParquetWriter(path, schema))
            return
        raw = self._close.enter_context(path.open("xb"))
        self._file: IO[bytes] = raw
        if name.lower().endswith(".gz"):  # no name and no time in it: equal rows, equal bytes
            packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, fileobj=raw, mtime=0)
            self._file = cast(IO[bytes], self._close.enter_context(packed))

    def __enter__(self) -> "BatchWriter":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._write_group()
        finally:
            self._close.close()

    def write(self, batch: bytes) -> None:
        """Appends a batch of rows; an empty one is none."""
        if not batch:
            return
        if self._schema is None:
            self._file.write(batch)
            return
        self._held.append(arrow_table(batch))
        num_rows = sum(table.num_rows for table in self._held)
        num_bytes = sum(table.nbytes for table in self._held)
        if num_rows >= _ROW_GROUP_ROWS or num_bytes >= _ROW_GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        if self._held:
            import pyarrow as pa

            with fits_table(self._name):
                self._table.write_table(pa.Table.from_batches(self._held, schema=self._schema))
            self._held = []


def _json_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    # Split at b"\n" alone: strings of real rows hold U+2028, at which text files would split too.
    number = 0
    is_packed = path.name.lower().endswith(".gz")
    with gzip.open(path, "rb") if is_packed else path.open("rb") as file:
        try:
            for number, line in enumerate(file, start=1):
                line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is cut off or not gzip after line {number}. Download or write it again."
            ) from error


def _line_batches(lines: Iterator[tuple[int, bytes]]) -> Iterator[RowBatch]:
    held: list[tuple[int, bytes]] = []
    num_bytes = 0
    for number, line in lines:
        held.append((number, line))
        num_bytes += len(line)
        if len(held) == _MAX_BATCH_ROWS or num_bytes >= _MAX_BATCH_BYTES:
            yield RowBatch(first=held[0][0], lines=tuple(held))
            held, num_bytes = [], 0
    if held:
        yield RowBatch(first=held[0][0], lines=tuple(held))


def _table_batches(path: Path) -> Iterator[RowBatch]:
    with _parquet_file(path) as file:
        first = 1
        for table in file.iter_batches(batch_size=_MAX_BATCH_ROWS):
            yield RowBatch(first=first, table=arrow_bytes(table))
            first += table.num_rows


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    require_pyarrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise ValueError(
            f"{path} is not a Parquet file that can be read ({error}). Download or write it again."
        ) from error


def _inferred(batch: RowBatch) -> Any:
    """The schema of the rows of a batch that can be read."""
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for _, line in batch.lines:
        try:
            rows.append(row_of(line))
        except ValueError:  # reported, or skipped and counted, when the row is masked
            continue
    names = dict.fromkeys(name for row in rows for name in row)
    types = {name: pa.infer_type([row.get(name) for row in rows]) for name in names}
    return pa.schema(list(types.items()))
