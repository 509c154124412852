"""In: embeddings, some passages at a time. Out: them all, also when the process was killed between.

A folder beside the index holds one file for each shard that is whole, and a manifest that says of
which passages and which encoder they are. It is removed when the index is in place.
"""

# n: passages of one shard, D: dimensions

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from .index_folder import flush_to_disk, locked

_MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What the shards of one folder have in common."""

    encoder: str
    """The encoder's fingerprint."""
    passages: str
    """A hash of all passages in their order."""
    shard_passages: int
    """Passages in each shard but the last."""


def shards_folder(index_folder: Path) -> Path:
    """Where the shards of an index lie while it is built."""
    return index_folder.with_name(f".{index_folder.name}.embeddings")


@contextmanager
def open_shards(folder: Path, manifest: Manifest, *, resume: bool) -> Iterator["EmbeddingShards"]:
    """The shards of an earlier build that did not finish, or none yet.

    Args:
        folder: As `shards_folder` gives it; what is in it stays if the build fails.
        manifest: What is to be built.
        resume: False throws away what an earlier build left.

    Raises:
        ValueError: If the folder holds shards of other passages or another encoder, or another
            process is building there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not resume:
            for path in folder.iterdir():
                path.unlink()
        _check(folder, manifest)
        for path in folder.glob("*.partial"):
            path.unlink()
        yield EmbeddingShards(folder)


class EmbeddingShards(Sequence[NDArray[np.float32]]):
    """The shards so far, memory-mapped one at a time: a large corpus has thousands of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: list[Path] = []

    def add(self, num_passages: int, make: Callable[[], NDArray[np.float32]]) -> None:
        """The next shard, [n, D]; made and written if an earlier build did not leave it whole."""
        path = self._folder / f"{len(self._paths):06d}.npy"
        if not _is_whole(path, num_passages):
            partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
            with partial.open("xb") as file:
                np.save(file, make(), allow_pickle=False)
            flush_to_disk([partial])
            os.replace(partial, path)
        self._paths.append(path)

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, number: int) -> NDArray[np.float32]: ...
    @overload
    def __getitem__(self, number: slice) -> list[NDArray[np.float32]]: ...
    def __getitem__(self, number: int | slice) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        if isinstance(number, slice):
            return [_mapped(path) for path in self._paths[number]]
        return _mapped(self._paths[number])

    def remove(self) -> None:
        """Removes them all; the index that was built of them is in place."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _mapped(path: Path) -> NDArray[np.float32]:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _is_whole(path: Path, num_passages: int) -> bool:
    try:
        found = _mapped(path)
    except (FileNotFoundError, ValueError, EOFError):
        return False  # not made yet, or cut off
    return found.ndim == 2 and len(found) == num_passages and found.dtype == np.float32


def _check(folder: Path, manifest: Manifest) -> None:
    path = folder / _MANIFEST
    if not path.is_file():
        partial = folder / f"{_MANIFEST}.{secrets.token_hex(4)}.partial"
        partial.write_text(json.dumps(asdict(manifest), indent=2) + "\n")
        flush_to_disk([partial])
        os.replace(partial, path)
        return
    cure = (
        "Build with the same passages and settings to go on there, or without resuming to start "
        f"anew (resume=False; or delete {folder})."
    )
    try:
        found = Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}). {cure}") from error
    for name, what in (
        ("passages", "other passages"),
        ("encoder", "another encoder or other settings of it"),
        ("shard_passages", "shards of another size"),
    ):
        if getattr(found, name) != getattr(manifest, name):
            raise ValueError(
                f"{folder} is of a build that did not finish, and it has {what}. {cure}"
            )
