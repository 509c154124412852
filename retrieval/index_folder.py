"""In: an index's metadata and arrays. Out: one folder on disk, never half; and back."""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 1
METADATA_FILE = "metadata.json"

_REBUILD = "Build it again: maskgym index CORPUS INDEX --force."


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
    """Writes an index beside ``folder`` and gives it that name at the end.

    Whoever is killed while writing leaves an earlier index as it was (and a hidden ``.partial``
    folder beside it). Processes that have the earlier index open keep it until they close it.

    Raises:
        ValueError: If the folder holds something that is no index; nothing of it is touched.
        OSError: If it cannot be written; what was there stays.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.mkdir()
        for name, array in arrays.items():
            np.save(partial / f"{name}.npy", array, allow_pickle=False)
        metadata = IndexMetadata(
            backend=backend,
            fingerprint=fingerprint,
            parameters=parameters,
            counts=counts,
            files={entry.name: entry.stat().st_size for entry in sorted(partial.iterdir())},
        )
        (partial / METADATA_FILE).write_text(json.dumps(asdict(metadata), indent=2) + "\n")
        _put_in_place(partial, folder)
    except OSError as error:  # numpy says "8388608 requested and 0 written" for a full disk
        raise OSError(
            f"The index could not be written to {folder} ({error}). Is there room on the disk, "
            "and may you write there? Nothing that was there has changed."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
        names = []
        if folder.parent.is_dir():
            names = [entry.name for entry in folder.parent.iterdir() if entry.is_dir()]
        nearest = get_close_matches(folder.name, names, n=1)
        hint = f"Did you mean {folder.with_name(nearest[0])}?" if nearest else "Build one: maskgym "
        raise FileNotFoundError(
            f"No index folder {folder}. {hint if nearest else hint + 'index CORPUS INDEX.'}"
        )
    path = folder / METADATA_FILE
    if not path.is_file():
        raise ValueError(
            f"{folder} is no index: it has no {METADATA_FILE}. Name the index's folder."
        )
    try:
        content = json.loads(path.read_text())
        version = content.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{folder} is an index of format version {version!r}; this maskgym reads version "
                f"{FORMAT_VERSION}. {_REBUILD}"
            )
        return IndexMetadata(**content)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error!r}). {_REBUILD}") from error


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
            raise ValueError(f"The index {folder} lacks its file {path.name}. {_REBUILD}")
        expected, found = metadata.files.get(path.name), path.stat().st_size
        if found != expected:
            raise ValueError(f"{path} has {found} bytes instead of {expected}. {_REBUILD}")
        try:
            arrays[name] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (ValueError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}). {_REBUILD}") from error
    return arrays


def _put_in_place(partial: Path, folder: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
        return
    # A folder with files cannot be renamed over: the old one steps aside, and back if that fails.
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old")
    os.rename(folder, aside)
    try:
        os.rename(partial, folder)
    except BaseException:
        os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
