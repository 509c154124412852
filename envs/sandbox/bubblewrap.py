"""In: what a server may see. Out: the command line of `bwrap` that starts it in namespaces.

One wall around a whole pool of processes: its own mounts, processes, network, users and names of
the machine. Start it with an environment of your own making: `--clearenv` hides variables from the
program but leaves them readable in /proc/1/environ (bubblewrap issue 725).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable


def command(*, writable: str, readable: Iterable[str]) -> list[str] | None:
    """What to put before a command that runs Python; None where bubblewrap is not installed.

    Args:
        writable: The one folder that both sides share.
        readable: Paths that exist inside too, each under its own name.

    Returns:
        Arguments ending just before the command. When the command ends, so does all it started.
    """
    program = shutil.which("bwrap")
    if program is None:
        return None
    return [
        program,
        # Not --die-with-parent: its parent would be the thread that starts it, which may end first.
        *("--unshare-all", "--new-session"),
        # Only within its own namespaces: gives each run a folder of fixed size. Runs lose it.
        *("--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN"),
        *(word for path, to in _system_links().items() for word in ("--symlink", to, path)),
        *("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"),
        *(word for path in outermost(readable) for word in ("--ro-bind", path, path)),
        *("--bind", writable, writable),
        *("--chdir", "/"),
    ]


def interpreter_paths() -> tuple[str, ...]:
    """What this Python needs to start: itself under both its names, and its settings."""
    candidates = (
        sys.executable,
        os.path.realpath(sys.executable),
        os.path.join(sys.prefix, "pyvenv.cfg"),
    )
    return tuple(path for path in candidates if os.path.isfile(path))


def outermost(paths: Iterable[str]) -> list[str]:
    """Those of the paths that exist and lie in none of the others, links and their targets both."""
    found = {path for path in paths if os.path.exists(path)}
    found |= {os.path.realpath(path) for path in found}
    outer = found | set(_system_links())
    return sorted(
        path
        for path in found
        if path not in _system_links() and not any(path.startswith(f"{other}/") for other in outer)
    )


def _system_links() -> dict[str, str]:
    """/lib and its like, which the loader's own name starts with, are often links into /usr."""
    links = (path for path in ("/lib", "/lib64", "/lib32", "/bin") if os.path.islink(path))
    return {path: os.readlink(path) for path in links}
