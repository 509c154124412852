"""In: an index's metadata and arrays. Out: one folder on disk, never half; and back."""

import ctypes
import errno
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 2
METADATA_FILE = "metadata.json"

REBUILD = "Build it again: maskgym index CORPUS INDEX --force."
_PARTIAL = re.compile(r"\.(.+)\.[0-9a-f]{8}\.partial", re.DOTALL)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexMetadata:
    """What an index folder says about itself, in ``metadata.json``."""

    backend: str
    """Which backend wrote it, and so which one can open it."""
    fingerprint: str
    parameters: Mapping[str, float | str]
    """The backend's configuration."""
    counts: Mapping[str, int]
    """For people and for the backend: passages, terms, ..."""
    files: Mapping[str, int]
    """Size of each array file in bytes; a cut-off file is found at opening."""
    format_version: int = FORMAT_VERSION


def write_index_folder(
    folder: Path,
    arrays: Mapping[str, NDArray[Any]],
    *,
    backend: str,
    fingerprint: str,
    parameters: Mapping[str, float | str],
    counts: Mapping[str, int],
) -> None:
    """Writes an index that is in memory, as `new_index_folder` does.

    Raises:
        ValueError: If the folder holds something that is no index; nothing of it is touched.
        OSError: If it cannot be written; what was there stays.
    """
    with new_index_folder(folder) as partial:
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        write_metadata(
            partial,
            IndexMetadata(
                backend=backend,
                fingerprint=fingerprint,
                parameters=parameters,
                counts=counts,
                files=file_sizes(partial),
            ),
        )


@contextmanager
def new_index_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write an index into; at the end it takes that name.

    Whoever fails or is killed meanwhile leaves an earlier index as it was. What a killed writer
    leaves (a hidden ``.partial`` folder) is no index for any reader, and the next writer removes
    it. Processes that have the earlier index open keep it until they close it.

    Raises:
        ValueError: If the folder holds something that is no index, or is being changed.
        OSError: If it cannot be written; what was there stays.
    """
    check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over(folder)
        partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
        partial.mkdir()
        try:
            with locked(partial):
                yield partial
                flush_to_disk([*partial.iterdir(), partial])
                _put_in_place(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:  # numpy says "8388608 requested and 0 written" for a full disk
        raise OSError(
            f"The index could not be written to {folder} ({error}). Is there room on the disk, "
            "and may you write there? Nothing that was there has changed.",
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other writers away from an index folder; readers do not mind.

    Raises:
        ValueError: If another process, or thread, is changing the folder.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if not _lock(descriptor) or os.fstat(descriptor).st_ino != os.stat(folder).st_ino:
            raise ValueError(
                f"{folder} is being changed by another process. Try again when it is done."
            )
        yield
    finally:
        os.close(descriptor)


def write_metadata(folder: Path, metadata: IndexMetadata) -> None:
    """Makes the folder the index that the metadata describes, from one moment to the next."""
    partial = folder / f".{METADATA_FILE}.{secrets.token_hex(4)}"
    try:
        with partial.open("x") as file:
            file.write(json.dumps(asdict(metadata), indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / METADATA_FILE)
    finally:
        partial.unlink(missing_ok=True)


def file_sizes(folder: Path) -> dict[str, int]:
    """Name and size of the array files in a folder."""
    return {entry.name: entry.stat().st_size for entry in sorted(folder.glob("*.npy"))}


def check_replaceable(folder: Path) -> None:
    """Refuses a folder that holds something other than an index, before it would be overwritten.

    Raises:
        ValueError: If ``folder`` is a file, or a folder with other content.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file. An index is a folder: give it another name.")
    if any(folder.iterdir()) and not (folder / METADATA_FILE).is_file():
        raise ValueError(f"{folder} holds files and is no index; it stays as it is. Name another.")


def read_index_metadata(folder: Path) -> IndexMetadata:
    """What the index in ``folder`` says about itself.

    Raises:
        FileNotFoundError: If there is no such folder; the message offers the nearest name.
        ValueError: If the folder is no index, or one of another format version.
    """
    if not folder.exists():
        raise FileNotFoundError(f"No index folder {folder}. {_hint(folder)}")
    path = folder / METADATA_FILE
    if not path.is_file():
        meant = _PARTIAL.fullmatch(folder.name)
        if meant is not None:
            raise ValueError(
                f"{folder} is no index: it is of a build of {folder.with_name(meant[1])} that was "
                "killed, or is not done. Name that folder; the next build clears this one away."
            )
        raise ValueError(
            f"{folder} is no index: it has no {METADATA_FILE}. Name the index's folder."
        )
    try:
        content = json.loads(path.read_text())
        version = content.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder} is an index of format version {version!r}; this maskgym reads version "
                f"{FORMAT_VERSION}. {REBUILD}"
            )
        return IndexMetadata(**content)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}). {REBUILD}") from error


def _hint(folder: Path) -> str:
    """What to do where an index is not."""
    names = []
    if folder.parent.is_dir():
        names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
    if any((meant := _PARTIAL.fullmatch(name)) and meant[1] == folder.name for name in names):
        return (
            "A build of it was killed, or is not done: wait, or build it again: "
            f"maskgym index CORPUS {folder}."
        )
    shown = [name for name in names if not name.startswith(".")]
    nearest = get_close_matches(folder.name, shown, n=1)
    if nearest:
        return f"Did you mean {folder.with_name(nearest[0])}?"
    return "Build one: maskgym index CORPUS INDEX."


def open_index_arrays(
    folder: Path, metadata: IndexMetadata, names: tuple[str, ...]
) -> dict[str, NDArray[Any]]:
    """The named arrays, memory-mapped and read-only: processes share their pages.

    Raises:
        ValueError: If a file is missing, cut off or no array.
    """
    arrays = {}
    for name in names:
        path = folder / f"{name}.npy"
        if not path.is_file():
            raise ValueError(f"The index {folder} lacks its file {path.name}. {REBUILD}")
        expected, found = metadata.files.get(path.name), path.stat().st_size
        if found != expected:
            raise ValueError(f"{path} has {found} bytes instead of {expected}. {REBUILD}")
        try:
            arrays[name] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}). {REBUILD}") from error
    return arrays


def _lock(descriptor: int) -> bool:
    """Whether the folder is ours now; the lock goes with the descriptor, or with the process."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems know no locks: there the user must keep writers apart.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _remove_left_over(folder: Path) -> None:
    """Removes what earlier writers of this folder left when they were killed."""
    for partial in folder.parent.glob(f".{folder.name}.????????.partial"):
        with suppress(OSError, ValueError), locked(partial):
            shutil.rmtree(partial)


def flush_to_disk(paths: Iterable[Path]) -> None:
    """So that after a power cut no name stands for files that were never written."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put_in_place(partial: Path, folder: Path) -> None:
    """Gives the folder its name; what had it before bears the partial folder's then."""
    if not folder.exists():
        os.rename(partial, folder)
        return
    with locked(folder):
        if _exchange(partial, folder):
            return
        # Two steps where the system has no exchange: the old one steps aside, and back on failure.
        aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
        os.rename(folder, aside)
        try:
            os.rename(partial, folder)
        except BaseException:
            os.rename(aside, folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two folders could change names in one step (Linux has it, most file systems)."""
    try:
        renameat2: Callable[..., int] = ctypes.CDLL(None).renameat2
    except (OSError, AttributeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0
