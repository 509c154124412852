"""Walls of namespaces: what a pool behind one sees of the machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from maskgym.envs.sandbox import bubblewrap, walls
from maskgym.envs.sandbox.inside.jail import default_readable
from maskgym.envs.sandbox.walls import Wall

WALLS = [wall for wall in Wall if wall is not Wall.NONE]


def behind(wall: Wall, pool: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python behind a wall; the test is skipped where this machine has no such wall."""
    prefix = walls.command(wall, writable=str(pool), readable=default_readable())
    if prefix is None:
        pytest.skip(f"{wall} is not installed")
    done = subprocess.run(
        [*prefix, sys.executable, "-I", "-S", "-c", code],
        env={"HERE": "mine"},
        input="given",
        capture_output=True,
        text=True,
        timeout=60,
    )
    refused = ("unshare", "namespace", "Operation not permitted")
    if done.returncode and any(word in done.stderr for word in refused):
        pytest.skip(f"this machine allows no namespaces: {done.stderr.strip()[-100:]}")
    return done


@pytest.mark.parametrize("wall", WALLS)
def test_only_what_is_named_exists(wall: Wall, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    (tmp_path / "secret").write_text("x")
    code = (
        "import os\nprint(os.listdir('/etc'), os.path.exists('/home'), os.listdir('/tmp') )\n"
        f"print(os.path.exists({str(tmp_path / 'secret')!r}), os.listdir({str(pool)!r}))"
    )
    done = behind(wall, pool, code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert "passwd" not in first and "False" in first
    assert second == "False []"


@pytest.mark.parametrize("wall", WALLS)
def test_the_pool_is_shared_and_the_rest_is_read_only(wall: Wall, tmp_path: Path) -> None:
    code = (
        "import os\n"
        f"open({str(tmp_path / 'new')!r}, 'w').write(input())\n"
        "try:\n    open(os.__file__, 'a')\nexcept OSError:\n    print('refused')"
    )
    done = behind(wall, tmp_path, code)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    assert (tmp_path / "new").read_text() == "given"


@pytest.mark.parametrize("wall", WALLS)
def test_there_is_no_network_and_no_foreign_process(wall: Wall, tmp_path: Path) -> None:
    code = (
        "import os, socket\nprint([name for _, name in socket.if_nameindex()])\n"
        "print(max(int(p) for p in os.listdir('/proc') if p.isdigit()) < 10, os.getpid() < 10)"
    )
    done = behind(wall, tmp_path, code)
    assert done.stdout == "['lo']\nTrue True\n", done.stderr


@pytest.mark.parametrize("wall", WALLS)
def test_the_launchers_environment_is_nowhere(
    wall: Wall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASKGYM_SECRET", "hidden-from-programs")
    code = (
        "import glob, os\nprint(os.environ['HERE'])\n"
        "print([p for p in glob.glob('/proc/[0-9]*/environ') "
        "if b'hidden-from' in open(p, 'rb').read()])"
    )
    done = behind(wall, tmp_path, code)
    assert done.stdout == "mine\n[]\n", done.stderr


@pytest.mark.parametrize("wall", WALLS)
def test_the_command_ends_as_what_it_runs_ends(wall: Wall, tmp_path: Path) -> None:
    assert behind(wall, tmp_path, "raise SystemExit(7)").returncode == 7


@pytest.mark.parametrize("wall", WALLS)
def test_only_the_right_to_mount_is_left(wall: Wall, tmp_path: Path) -> None:
    code = "print(open('/proc/self/status').read().split('CapPrm:')[1].split()[0])"
    rights = int(behind(wall, tmp_path, code).stdout, 16)
    assert rights in (0, 1 << 21)


def test_no_wall_is_no_command() -> None:
    assert walls.command(Wall.NONE, writable="/tmp", readable=()) == []


def test_bubblewrap_does_not_die_with_the_thread_that_starts_it() -> None:
    prefix = bubblewrap.command(writable="/tmp", readable=())
    assert prefix is None or "--die-with-parent" not in prefix


def test_a_machine_without_bubblewrap_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert bubblewrap.command(writable="/tmp", readable=()) is None


def test_a_path_in_another_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    asked = [str(tmp_path / "link"), str(tmp_path / "real" / "inner"), str(tmp_path / "missing")]
    found = bubblewrap.outermost(asked)
    assert found == [str(tmp_path / "link"), str(tmp_path / "real")]
    if os.path.islink("/lib"):
        assert bubblewrap.outermost(["/lib"]) == [os.path.realpath("/lib")]
