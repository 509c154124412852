"""In: arrays, a piece at a time. Out: the whole arrays, in memory or as files that numpy maps."""

import mmap
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

_BUFFER_BYTES = 1 << 20


class ArraySink(Protocol):
    """Takes one-dimensional arrays by name, each from its beginning to its end."""

    def append(self, name: str, piece: NDArray[Any]) -> None:
        """Adds to the array of that name; all its pieces have one type."""
        ...

    def finish(self, *names: str) -> dict[str, NDArray[Any]]:
        """Those arrays whole and read-only; nothing more is added to them."""
        ...


class MemorySink:
    """Keeps the arrays in memory."""

    def __init__(self) -> None:
        self._pieces: dict[str, list[NDArray[Any]]] = {}

    def append(self, name: str, piece: NDArray[Any]) -> None:
        """Keeps the piece itself, not a copy."""
        self._pieces.setdefault(name, []).append(piece)

    def finish(self, *names: str) -> dict[str, NDArray[Any]]:
        """Joins the pieces and lets go of them."""
        whole = {}
        for name in names:
            pieces = self._pieces.pop(name)
            whole[name] = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
            whole[name].flags.writeable = False
        return whole


class FolderSink:
    """Writes each array to ``<prefix><name>.npy`` in a folder; memory holds one buffer each."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._writers: dict[str, _ArrayWriter] = {}

    def append(self, name: str, piece: NDArray[Any]) -> None:
        """Writes the piece behind those before it."""
        writer = self._writers.get(name)
        if writer is None:
            path = self._folder / f"{self._prefix}{name}.npy"
            writer = self._writers[name] = _ArrayWriter(path, piece.dtype)
        writer.append(piece)

    def finish(self, *names: str) -> dict[str, NDArray[Any]]:
        """Closes the files and maps them."""
        whole = {}
        for name in names:
            path = self._writers.pop(name).close()
            whole[name] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        return whole

    def abort(self) -> None:
        """Closes what is open, as it is."""
        for writer in self._writers.values():
            writer.abort()
        self._writers.clear()


def let_go(array: NDArray[Any]) -> None:
    """Gives back the memory of mapped pages: what is read once of each would hold the whole file."""
    mapped = _mapping(array)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_ahead(array: NDArray[Any]) -> None:
    """Has the system read the file of a mapped array into its cache, as far as there is room."""
    mapped = _mapping(array)
    if mapped is not None and hasattr(mmap, "MADV_WILLNEED"):
        mapped.madvise(mmap.MADV_WILLNEED)


def _mapping(array: NDArray[Any]) -> mmap.mmap | None:
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


class _ArrayWriter:
    """One .npy file, whose length becomes known at the end."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._path = path
        self._dtype = dtype
        self._count = 0
        self._file: IO[bytes] = path.open("xb", buffering=_BUFFER_BYTES)
        self._write_header()
        self._header_bytes = self._file.tell()

    def append(self, piece: NDArray[Any]) -> None:
        assert piece.dtype == self._dtype, (self._path, piece.dtype, self._dtype)
        self._file.write(np.ascontiguousarray(piece).data)
        self._count += len(piece)

    def close(self) -> Path:
        self._file.seek(0)
        self._write_header()
        assert self._file.tell() == self._header_bytes  # numpy leaves room for the longest number
        self._file.close()
        return self._path

    def abort(self) -> None:
        with suppress(
            OSError
        ):  # a full disk does not take what is buffered; the file is closed all the same
            self._file.close()

    def _write_header(self) -> None:
        # Through a name without types: numpy gives these functions none.
        form: Any = np.lib.format
        header = form.header_data_from_array_1_0(np.empty(0, self._dtype))
        form.write_array_header_1_0(self._file, {**header, "shape": (self._count,)})
