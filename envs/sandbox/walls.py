"""In: which kind of namespaces. Out: the command that puts a pool of processes into them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from . import bubblewrap

_OWN_FOLDER = str(Path(__file__).parent)
_START = (
    f"import sys; sys.path.insert(0, {_OWN_FOLDER!r}); "
    "from inside import namespaces; namespaces.main()"
)


class Wall(StrEnum):
    """What surrounds a pool: one set of namespaces for all of its processes, or nothing."""

    BUBBLEWRAP = "bubblewrap"
    UNSHARE = "unshare"
    """The same made by ourselves, where bubblewrap is not installed."""
    NONE = "none"


def command(wall: Wall, *, writable: str, readable: Iterable[str]) -> list[str] | None:
    """What to put before the command of a pool; None where this wall is not installed.

    Args:
        wall: The kind of wall.
        writable: The folder that both sides share, under the same name; holds the working folders.
        readable: What the pool reads, its own modules included; this Python is added.
    """
    if wall is Wall.NONE:
        return []
    shown = (*readable, *bubblewrap.interpreter_paths())
    if wall is Wall.BUBBLEWRAP:
        return bubblewrap.command(writable=writable, readable=shown)
    return [
        sys.executable,
        "-I",
        "-S",
        "-B",
        "-c",
        _START,
        writable,
        *bubblewrap.outermost(shown),
        "--",
    ]
