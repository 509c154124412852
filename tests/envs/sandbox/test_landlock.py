import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.envs.sandbox.inside import kernel, landlock

pytestmark = pytest.mark.skipif(
    landlock.claimed_abi() == 0, reason="this kernel offers no Landlock"
)


def try_inside(rules: landlock.Rules, workdir: Path, attempts: list[Callable[[], object]]) -> str:
    """Binds a fork of this process and says of each attempt: y if it went well, n if refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
            landlock.enter(rules, str(workdir))
            for attempt in attempts:
                try:
                    attempt()
                    os.write(writer, b"y")
                except PermissionError:
                    os.write(writer, b"n")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


def close(rules: landlock.Rules) -> None:
    for path in (*rules.readable, *rules.devices):
        os.close(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    for name in ("library", "mine", "yours"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("text")
    return tmp_path / "library", tmp_path / "mine", tmp_path / "yours"


def test_libraries_are_read_and_the_own_folder_is_written(folders: tuple[Path, Path, Path]) -> None:
    library, mine, yours = folders
    rules = landlock.prepare((str(library),), ("/dev/null",))
    said = try_inside(
        rules,
        mine,
        [
            (library / "file").read_text,
            lambda: (library / "file").write_text("x"),
            lambda: (mine / "new").write_text("x"),
            lambda: (mine / "new").rename(mine / "newer"),
            (yours / "file").read_text,
            (yours / "file").unlink,
            lambda: os.listdir(yours.parent),
            lambda: Path("/dev/null").write_text("x"),
            lambda: os.mkfifo(mine / "pipe"),
            lambda: (mine / "link").symlink_to(yours / "file"),
            (mine / "link").read_text,
        ],
    )
    close(rules)
    assert said == "ynyynnnynyn"


def test_a_folder_given_to_one_run_is_closed_to_the_next(
    folders: tuple[Path, Path, Path],
) -> None:
    library, mine, yours = folders
    rules = landlock.prepare((str(library),), ())
    assert try_inside(rules, mine, [(mine / "file").read_text]) == "y"
    assert try_inside(rules, yours, [(mine / "file").read_text]) == "n"
    close(rules)


def test_a_program_may_not_be_executed(folders: tuple[Path, Path, Path]) -> None:
    _, mine, _ = folders
    script = mine / "script"
    script.write_text("#!/bin/sh\n")
    script.chmod(stat.S_IRWXU)
    rules = landlock.prepare(("/usr",), ())
    assert try_inside(rules, mine, [lambda: os.execv(script, ["script"])]) == "n"
    close(rules)


def test_paths_that_do_not_exist_are_left_out(tmp_path: Path) -> None:
    rules = landlock.prepare((str(tmp_path), "/nonexistent"), ("/dev/nonexistent",))
    assert (len(rules.readable), len(rules.devices)) == (1, 0)
    close(rules)


def test_a_kernel_that_claims_more_than_it_accepts_gets_fewer_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = landlock._create

    def refuse_scopes(attributes: bytes) -> int:
        if len(attributes) > 8:
            raise OSError(errno.EINVAL, "no such field")
        return real(attributes)

    monkeypatch.setattr(landlock, "_create", refuse_scopes)
    rules = landlock.prepare((), ())
    assert rules.abi == min(3, landlock.claimed_abi())
    (tmp_path / "file").write_text("x")
    assert try_inside(rules, tmp_path, [lambda: os.listdir("/")]) == "n"


def test_a_kernel_without_landlock_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "claimed_abi", lambda: 0)
    with pytest.raises(OSError, match="no Landlock"):
        landlock.prepare((), ())
