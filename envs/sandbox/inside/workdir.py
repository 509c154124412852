"""In: a folder that a program could write to. Out: its size on disk; its removal.

Nothing here follows a link, and no depth, number or name of what the program made can stop it.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import time

_MIN_ENTRY_BYTES = 32768  # so the number of files is limited too, as in `namespaces.mount_folder`


def size_on_disk(folder: str, at_most: int) -> int:
    """Bytes that the folder's contents take, each entry at least 32 KiB; stops counting above `at_most`.

    Files that were unlinked and are still open are not among them.
    """
    total, waiting = 0, [folder]
    while waiting:
        try:
            entries = os.scandir(waiting.pop())
        except OSError:  # unreadable, too deep, or gone meanwhile
            continue
        with entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                total += max(info.st_blocks * 512, _MIN_ENTRY_BYTES)
                if total > at_most:
                    return total
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(entry.path)
    return total


def remove(folder: str) -> None:
    """Removes a folder whose program has ended; what cannot be removed stays without an error."""
    clear(folder)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def clear(folder: str, *, max_s: float = math.inf) -> bool:
    """Empties a folder whose program has ended; gives whether it is there and as good as new."""
    deadline = time.monotonic() + max_s
    try:
        os.chmod(folder, stat.S_IRWXU)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _empty(fd, deadline)
        finally:
            os.close(fd)
    except OSError:
        return False
    return True


def _empty(root: int, deadline: float) -> None:
    """Removes what is in the folder `root`, with one descriptor and whatever depth.

    Raises:
        TimeoutError: If it is not done by then.
    """
    here = os.dup(root)
    try:
        names: list[str] = []
        waiting = [_unlink_files(here)]
        while True:
            if time.monotonic() > deadline:
                raise TimeoutError
            if waiting[-1]:
                names.append(waiting[-1].pop())
                above, here = here, _open_folder(names[-1], here)
                os.close(above)
                waiting.append(_unlink_files(here))
                continue
            waiting.pop()
            if not waiting:
                return
            below, here = here, os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
            os.close(below)
            os.rmdir(names.pop(), dir_fd=here)
    finally:
        os.close(here)


def _unlink_files(folder: int) -> list[str]:
    """Removes all but folders; gives the folders' names."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders


def _open_folder(name: str, parent: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        fd = os.open(name, flags, dir_fd=parent)
    # A folder without the right to write can be opened but not emptied.
    os.fchmod(fd, stat.S_IRWXU)
    return fd
