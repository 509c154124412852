"""ForkServer and Child: the words between host, server and child."""

import contextlib
import glob
import os
import resource
import select
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskgym.envs.sandbox import LocalSandbox, SandboxLimits
from maskgym.envs.sandbox.child import MAX_MESSAGE_BYTES, Child, ChildGoneError
from maskgym.envs.sandbox.fork_server import (
    ForkServer,
    ForkServerLostError,
    ServerConfig,
    shared_server,
)
from maskgym.envs.sandbox.inside import workdir
from maskgym.envs.sandbox.inside.jail import JailConfig, default_readable

LIMITS = SandboxLimits(max_output_bytes=1000)
CONFIG = ServerConfig(warm_up="bare", jail=JailConfig(readable=default_readable()))


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with contextlib.closing(ForkServer(CONFIG)) as server:
        yield server


@contextlib.contextmanager
def _spawned(server: ForkServer, mode: str, code: str, stdin: bytes = b"") -> Iterator[Child]:
    folder = server.make_workdir()
    child = server.spawn(mode, code, stdin=stdin, limits=LIMITS, workdir=folder)  # type: ignore[arg-type]
    try:
        yield child
    finally:
        child.close()
        server.take_back(folder)


def test_a_script_reads_its_input_and_its_ending_is_told(server: ForkServer) -> None:
    with _spawned(server, "script", "print(input()); raise SystemExit(7)", b"word") as child:
        ending = child.wait(20.0)
        child.drain()
        assert ending is not None and ending.exit_code == 7
        assert 0 < ending.cpu_s < 5
        assert ending.max_rss_kb > 1000
        assert child.started_at is not None and child.ended_at is not None
        assert (child.stdout.take(), child.stderr.take(), child.failure) == ("word\n", "", "")


@pytest.mark.parametrize("num_kills", [1, 3])
def test_words_that_come_too_late_do_not_hide_the_ending(
    server: ForkServer, num_kills: int
) -> None:
    for _ in range(20):
        with _spawned(server, "script", "pass" if num_kills == 1 else "while True: pass") as child:
            for _ in range(num_kills):
                child.kill()
            assert child.wait(20.0) is not None


def test_messages_larger_than_any_buffer_pass_both_ways(server: ForkServer) -> None:
    with _spawned(server, "session", "") as child:
        deadline = time.monotonic() + 20
        cell = f"x = {'y' * 3_000_000!r}".encode()
        assert child.exchange(cell, deadline) == b"o"
        assert child.exchange(b"len(x)", deadline) == b"o"
        assert child.stdout.take() == "3000000\n"


def test_a_child_that_never_reads_does_not_block_the_host(server: ForkServer) -> None:
    with _spawned(server, "session", "") as child:
        begun = time.monotonic()
        assert child.exchange(b"import time; time.sleep(30)", begun + 0.1) is None
        child.send(b"#" * 9_000_000)
        assert child.await_message(begun + 0.3) is None
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("size", [MAX_MESSAGE_BYTES + 1, 0xFFFFFFFF])
def test_a_message_that_claims_to_be_huge_is_refused(server: ForkServer, size: int) -> None:
    with _spawned(server, "session", "") as child:
        lie = f"import os; os.write(3, {size.to_bytes(4, 'big')!r})"
        with pytest.raises(ChildGoneError, match="at most"):
            child.exchange(lie.encode(), time.monotonic() + 20)


def test_what_a_candidate_says_is_left_to_who_reads_its_channel(server: ForkServer) -> None:
    with _spawned(server, "candidate", "x = 1") as child:
        assert child.channel is not None
        child.channel.send(bytes(4))  # an empty message: load now
        select.select([child.channel], [], [], 20.0)  # it has loaded before we look for its start
        while child.started_at is None:
            assert child.poll(20.0)
        assert len(child.channel.recv(1 << 16)) > 4


def test_a_server_that_cannot_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd"), glob.glob(f"{tempfile.gettempdir()}/maskgym-sandbox-*")
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    with pytest.raises(ForkServerLostError, match="nonexistent"):
        ForkServer(CONFIG)
    after = os.listdir("/proc/self/fd"), glob.glob(f"{tempfile.gettempdir()}/maskgym-sandbox-*")
    assert len(after[0]) == len(before[0])
    assert set(after[1]) <= set(before[1])


def test_old_empty_folders_of_others_are_removed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("maskgym-sandbox-old", "maskgym-sandbox-full", "maskgym-sandbox-new", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "maskgym-sandbox-full" / "file").touch()
    for name in ("maskgym-sandbox-old", "maskgym-sandbox-full", "other"):
        os.utime(tmp_path / name, (0, 0))
    ForkServer(CONFIG).close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["maskgym-sandbox-full", "maskgym-sandbox-new", "other"]


def test_a_folder_that_was_removed_costs_a_new_server_and_no_run() -> None:
    sandbox = LocalSandbox("T0", at_most="T2")
    assert sandbox.run("print(1)").stdout == "1\n"
    server = sandbox.server()
    workdir.remove(server.folder)
    assert sandbox.run("print(1)").stdout == "1\n"
    assert sandbox.server() is not server


def test_the_child_dies_with_the_hosts_end_of_its_leash(server: ForkServer) -> None:
    before = len(os.listdir(f"/proc/{server.pid}/fd"))
    for _ in range(5):
        folder = server.make_workdir()
        code = "import time; time.sleep(60)"
        server.spawn("script", code, limits=LIMITS, workdir=folder).close()
    with _spawned(server, "script", "pass") as child:
        child.wait(20.0)
    deadline = time.monotonic() + 20
    while len(os.listdir(f"/proc/{server.pid}/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir(f"/proc/{server.pid}/fd")) <= before


def test_a_jail_that_cannot_be_made_runs_nothing(server: ForkServer) -> None:
    code = "print('ran')"
    with contextlib.closing(
        server.spawn("script", code, limits=LIMITS, workdir="/nonexistent/folder")
    ) as child:
        child.wait(20.0)
        child.drain()
        assert "No such file" in child.failure
        assert (child.stdout.take(), child.started_at) == ("", None)


def test_running_out_of_descriptors_is_said_and_leaves_none_behind(server: ForkServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    folder = server.make_workdir()
    for room in range(1, 12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + room, hard))
        try:
            with pytest.raises(OSError, match="ulimit -n"):
                server.spawn("session", "pass", limits=LIMITS, workdir=folder).close()
                raise OSError("there was room enough: ulimit -n")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_server_without_descriptors_says_so_and_lives() -> None:
    with contextlib.closing(ForkServer(CONFIG)) as server:
        held = os.listdir(f"/proc/{server.pid}/fd")
        soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        for room in range(1, 8):
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (len(held) + room, hard))
            with _spawned(server, "script", "print(1)") as child:
                child.wait(20.0)
                assert child.failure or child.ending is not None
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        with _spawned(server, "script", "print(1)") as child:
            assert child.wait(20.0) is not None
        assert server.is_alive


def test_a_closed_server_forks_no_more_and_its_folder_is_gone() -> None:
    server = ForkServer(CONFIG)
    folder = server.make_workdir()
    assert server.is_alive
    server.close()
    server.close()
    assert not server.is_alive
    assert not os.path.exists(server.folder)
    with pytest.raises(ForkServerLostError):
        server.spawn("script", "pass", limits=LIMITS, workdir=folder)


def test_a_layer_that_cannot_be_had_is_no_server() -> None:
    config = ServerConfig(warm_up="nothing", jail=CONFIG.jail)  # type: ignore[arg-type]
    with pytest.raises(ForkServerLostError, match="nothing"):
        ForkServer(config)


def test_one_server_of_a_kind_is_shared() -> None:
    assert shared_server(CONFIG) is shared_server(CONFIG)
