"""Disk space that no folder shows."""

import os
from pathlib import Path

from maskgym.envs.sandbox.inside.unlinked import unlinked_bytes


def test_deleted_files_that_are_still_open_are_counted_once(tmp_path: Path) -> None:
    before = unlinked_bytes(os.getpid())
    path = tmp_path / "file"
    path.write_bytes(os.urandom(1 << 20))
    first, second = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    assert unlinked_bytes(os.getpid()) == before
    path.unlink()
    assert unlinked_bytes(os.getpid()) - before in range(1 << 20, 2 << 20)
    os.close(first)
    os.close(second)
    assert unlinked_bytes(os.getpid()) == before


def test_a_process_that_has_ended_holds_nothing() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert unlinked_bytes(child) == 0
