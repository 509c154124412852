"""The folders of programs: what they hold, and that they can always be removed."""

import os
from pathlib import Path

import pytest

from maskgym.envs.sandbox.inside.workdir import clear, remove, size_on_disk


def test_the_size_counts_every_entry_and_follows_no_link(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(bytes(1 << 20))
    assert size_on_disk(str(folder), 1 << 30) == 32768
    (folder / "inner" / "file").write_bytes(bytes(100_000))
    (folder / "empty").touch()
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "up").symlink_to(tmp_path)
    size = size_on_disk(str(folder), 1 << 30)
    assert 100_000 + 4 * 32768 <= size < 300_000
    assert 40_000 < size_on_disk(str(folder), 40_000) <= size


def test_a_folder_that_is_gone_has_no_size(tmp_path: Path) -> None:
    assert size_on_disk(str(tmp_path / "missing"), 1) == 0
    remove(str(tmp_path / "missing"))


def test_removing_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = tmp_path / "work"
    (folder / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(outside)
    (folder / "inner" / "link").symlink_to(outside)
    os.mkfifo(folder / "fifo")
    remove(str(folder))
    assert not folder.exists()
    assert (outside / "precious").exists()


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(250):
        os.mkdir("a" * 50, dir_fd=fd)
        inner = os.open("a" * 50, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.close(fd)
    remove(str(folder))
    assert not folder.exists()


@pytest.mark.parametrize("mode", [0, 0o400, 0o500])
def test_folders_without_rights_are_removed(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "work"
    (folder / "outer" / "inner").mkdir(parents=True)
    (folder / "outer" / "inner" / "file").touch()
    (folder / "outer" / "inner").chmod(mode)
    (folder / "outer").chmod(mode)
    remove(str(folder))
    assert not folder.exists()


def test_clearing_keeps_the_folder_and_can_be_bounded_in_time(tmp_path: Path) -> None:
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    assert not clear(str(tmp_path), max_s=0)
    assert clear(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
