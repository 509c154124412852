"""In: a path to JSONL, JSON (both also gzipped) or Parquet. Out: its rows as dicts; and back."""

import gzip
import json
import os
import secrets
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, cast

Row: TypeAlias = dict[str, Any]
OnBadRow: TypeAlias = Literal["raise", "skip"]

_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_ENDINGS = ", ".join(_SUFFIXES)
_AGAIN = "Download or write it again."


@dataclass(frozen=True, kw_only=True, slots=True)
class LocatedRow:
    """One row and where it stands, so that an error about its content can name the place."""

    row: Row
    path: Path
    number: int
    """Counted from 1: the line in JSONL, the item of a JSON list, the row in Parquet."""

    @property
    def where(self) -> str:
        """The place in words, as errors show it: ``corpus.jsonl, line 3``."""
        return _where(self.path, self.number)


def read_rows(path: str | Path, *, on_bad_row: OnBadRow = "raise") -> Iterator[Row]:
    """The rows of a file as dicts, in file order; JSONL and Parquet are never held whole.

    Args:
        path: ``.jsonl`` or ``.json`` (a list of objects), either with ``.gz``, or ``.parquet``.
        on_bad_row: ``raise`` at the first row that is no JSON object, or ``skip`` such rows and
            warn at the end with their number and the first reason.

    Raises:
        FileNotFoundError: If there is no such file; the message offers the nearest name.
        ValueError: If the file or a row cannot be read; the message names file and line.
        ImportError: If a Parquet file is given and pyarrow is not installed.
    """
    return (located.row for located in read_located_rows(path, on_bad_row=on_bad_row))


def read_located_rows(path: str | Path, *, on_bad_row: OnBadRow = "raise") -> Iterator[LocatedRow]:
    """As `read_rows`, with each row's place. A bad path raises at once, not at the first row."""
    path = Path(path)
    if on_bad_row not in ("raise", "skip"):
        raise ValueError(f"on_bad_row is {on_bad_row!r}; it is 'raise' or 'skip'.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Name one file in it, ending in {_ENDINGS}.")
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(_missing(path))
    readers = {".parquet": _parquet_rows, ".json": _json_rows, ".jsonl": _lines}
    parsed = readers[suffix.removesuffix(".gz")](path)
    return _located(path, parsed, on_bad_row)


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Writes rows to ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` and gives their number.

    The rows go to a hidden file beside the target, which takes the target's name at the end: a
    killed writer leaves the old file as it was. Parquet rows are held in memory until then.
    """
    path = Path(path)
    suffix = _suffix(path)
    if suffix in (".json", ".json.gz"):
        raise ValueError(f"{path} cannot be written as one JSON list. Name it {path.stem}.jsonl.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        if suffix == ".parquet":
            count = _write_parquet(partial, rows)
        else:
            with partial.open("xb") as raw:
                if suffix == ".jsonl":
                    count = _write_lines(raw, rows)
                else:  # no name and no time in the header: equal rows give equal bytes
                    with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                        count = _write_lines(cast(IO[bytes], packed), rows)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return count


def _suffix(path: Path) -> str:
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise ValueError(f"{path} has an unknown kind of name. It must end in {_ENDINGS}.")
    return suffix


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"No file {path}: there is no folder {path.parent} either. Check the path."
    names = sorted(e.name for e in path.parent.iterdir() if e.name.lower().endswith(_SUFFIXES))
    nearest = get_close_matches(path.name, names, n=1)
    if nearest:
        return f"No file {path}. Did you mean {path.with_name(nearest[0])}?"
    return f"No file {path}. Data files in its folder: {', '.join(names[:5]) or 'none'}."


def _where(path: Path, number: int) -> str:
    return f"{path}, {'line' if _suffix(path).startswith('.jsonl') else 'row'} {number}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parsed:
    """One row as read: its number and its value, or what was wrong with it."""

    number: int
    value: Any = None
    problem: str = ""


def _located(path: Path, parsed: Iterator[_Parsed], on_bad_row: OnBadRow) -> Iterator[LocatedRow]:
    num_skipped, first_problem = 0, ""
    for item in parsed:
        problem = item.problem
        if not problem and not isinstance(item.value, dict):
            problem = f"it holds {_kind(item.value)}, not an object. Write each row as {{...}}."
        if not problem:
            yield LocatedRow(row=item.value, path=path, number=item.number)
            continue
        message = f"{_where(path, item.number)}: {problem}"
        if on_bad_row == "raise":
            raise ValueError(message)
        num_skipped += 1
        first_problem = first_problem or message
    if num_skipped:
        warnings.warn(f"Skipped {num_skipped} bad rows; the first: {first_problem}", stacklevel=2)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", type(None): "null", bool: "true or false"}
    return names.get(
        type(value), "a number" if isinstance(value, int | float) else "something else"
    )


def _open(path: Path) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return path.open("rb")


def _lines(path: Path) -> Iterator[_Parsed]:
    # A binary file is split on b"\n" alone. str.splitlines and text files also split at "\r", and
    # the former at U+2028, which real rows hold inside their strings.
    with _open(path) as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(
                        line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line, number
                    )
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{path} is cut off or not gzip after line {number}. {_AGAIN}"
            ) from error


def _parse(line: bytes, number: int) -> _Parsed:
    try:
        return _Parsed(number=number, value=json.loads(line.decode("utf-8")))
    except UnicodeDecodeError as error:
        return _Parsed(
            number=number, problem=f"byte {error.start + 1} is not UTF-8. Convert the file."
        )
    except (ValueError, RecursionError) as error:
        shown = line[:60].decode("utf-8", "replace").strip()
        return _Parsed(
            number=number,
            problem=f"not JSON ({error}) in {shown!r}. Mend the line, or skip bad rows.",
        )


def _json_rows(path: Path) -> Iterator[_Parsed]:
    try:
        with _open(path) as file:
            content = json.loads(file.read().decode("utf-8-sig"))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is cut off or not gzip. {_AGAIN}") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start + 1} is not UTF-8. Convert the file."
        ) from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            remedy = "It looks like one object a line: rename it to .jsonl (or .jsonl.gz)."
        else:
            remedy = "Mend it there."
        raise ValueError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}). {remedy}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON that can be read ({error}). Mend the file.") from error
    if not isinstance(content, list):
        raise ValueError(
            f"{path} holds {_described(content)}; a list of objects [{{...}}, ...] is needed."
        )
    for number, value in enumerate(content, start=1):
        yield _Parsed(number=number, value=value)


def _described(content: object) -> str:
    if isinstance(content, dict):
        return f"one object with the keys {', '.join(map(str, islice(content, 5)))}"
    return _kind(content)


def _parquet_rows(path: Path) -> Iterator[_Parsed]:
    _require_pyarrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=4096)
            for number, row in enumerate((row for b in batches for row in b.to_pylist()), start=1):
                yield _Parsed(number=number, value=row)
    except pa.ArrowException as error:
        raise ValueError(
            f"{path} is not a Parquet file that can be read ({error}). {_AGAIN}"
        ) from error


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    _require_pyarrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = list(rows)
    names = dict.fromkeys(name for row in held for name in row)
    try:
        # Columns by hand: Table.from_pylist takes the names of the first row and drops the others.
        table = pa.table({name: [row.get(name) for row in held] for name in names})
    except pa.ArrowException as error:
        raise ValueError(f"The rows do not fit a table ({error}). Write them as .jsonl.") from error
    pq.write_table(table, path)
    return len(held)


def _require_pyarrow(path: Path) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"Parquet needs pyarrow: pip install 'maskgym[parquet]' ({path})."
        ) from error


def _write_lines(file: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    number = 0
    for number, row in enumerate(rows, start=1):
        try:
            try:
                line = json.dumps(row, ensure_ascii=False).encode()
            except UnicodeEncodeError:  # a lone surrogate: JSON can say it, UTF-8 cannot
                line = json.dumps(row).encode()
        except (TypeError, ValueError) as error:
            raise ValueError(f"Row {number} cannot be written as JSON ({error}).") from error
        file.write(line + b"\n")
    return number
