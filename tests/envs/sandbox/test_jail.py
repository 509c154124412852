"""What honest programs may do in the jail, and that it is shut before they begin."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits
from maskgym.envs.sandbox.inside import jail, landlock
from maskgym.envs.sandbox.inside.jail import JailConfig, default_readable
from maskgym.envs.sandbox.inside.rlimits import ProcessLimits
from maskgym.envs.sandbox.tiers import at_least, detect

HONEST = {
    "files": (
        "from pathlib import Path\nPath('a').touch()\nPath('a').write_text('hi')\n"
        "Path('d/e').mkdir(parents=True)\nPath('a').rename('d/e/b')\nprint(Path('d/e/b').read_text())",
        "hi",
    ),
    "copies": (
        "import shutil\nopen('a', 'w').write('hi')\nshutil.copy2('a', 'b')\nprint(open('b').read())",
        "hi",
    ),
    "temporary files": (
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n"
        "    f.write('hi'); f.seek(0); print(f.read())\nprint(tempfile.mkdtemp() != '')",
        "hi\nTrue",
    ),
    "standard input": ("print(input())\nprint(input())", "one\ntwo"),
    "standard input by name": ("print(open('/dev/stdin').read())", "one\ntwo\n"),
    "null device": ("open('/dev/null', 'w').write('x')\nprint('ok')", "ok"),
    "random bytes": (
        "import os\nprint(len(os.urandom(8)), len(open('/dev/urandom','rb').read(8)))",
        "8 8",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "print(sum(Pool(4).map(lambda x: x * x, range(10))))",
        "285",
    ),
    "asyncio": (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n"
        "    return await asyncio.to_thread(int, 7)\nprint(asyncio.run(f()))",
        "7",
    ),
    "signals to itself": (
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('got'))\n"
        "signal.raise_signal(signal.SIGUSR1)\nsignal.setitimer(signal.ITIMER_REAL, 0.01)\n"
        "signal.signal(signal.SIGALRM, lambda *_: print('rang'))\nsignal.pause()",
        "got\nrang",
    ),
    "databases": (
        "import sqlite3\nc = sqlite3.connect('d.db')\nc.execute('create table t(x)')\n"
        "c.execute('insert into t values (3)')\nc.commit()\nprint(c.execute('select x from t').fetchone())",
        "(3,)",
    ),
    "late imports": ("import xml.dom.minidom, unittest, http.client\nprint('ok')", "ok"),
    "time zones": (
        "import datetime, zoneinfo\n"
        "print(datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo('UTC')).isoformat())",
        "2026-01-01T00:00:00+00:00",
    ),
    "C libraries": ("import ctypes\nprint(ctypes.CDLL(None).abs(-3))", "3"),
    "callbacks from C": (
        "import ctypes\nprint(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda x: x + 1)(2))",
        "3",
    ),
    "shared memory of threads": (
        "import mmap\nm = mmap.mmap(-1, 4096)\nm[:2] = b'hi'\nprint(m[:2].decode())",
        "hi",
    ),
    "locks of processes": (
        "import fcntl\nf = open('l', 'w')\nfcntl.flock(f, 2)\nprint('ok')",
        "ok",
    ),
}


@pytest.fixture(scope="module", params=["T3", "T2", "T1"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[LocalSandbox]:
    tier = request.param
    if detect(tier).tier != tier:
        pytest.skip(f"this machine gives {detect(tier).tier}: {detect(tier).missing}")
    made = LocalSandbox(require=tier, at_most=tier)
    yield made
    made.close()


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_work(sandbox: LocalSandbox, name: str) -> None:
    code, expected = HONEST[name]
    result = sandbox.run(code, stdin="one\ntwo\n")
    assert (result.status, result.stdout.strip()) == (ExecStatus.OK, expected.strip()), (
        result.stderr
    )


def test_numpy_and_sympy_work() -> None:
    pytest.importorskip("numpy")
    pytest.importorskip("sympy")
    sandbox = LocalSandbox(require="T0")
    result = sandbox.run(
        "import numpy as np, sympy as sp\nx = sp.Symbol('x')\n"
        "print(sp.solve(x**2 - 4), int(np.linalg.eigvalsh(np.eye(2)).sum()), np.random.rand(2).shape)"
    )
    sandbox.close()
    assert result.stdout == "[-2, 2] 2 (2,)\n", result.stderr


def test_programs_that_start_others_are_told_that_they_may_not(sandbox: LocalSandbox) -> None:
    result = sandbox.run("import subprocess\nsubprocess.run(['/bin/echo', 'hi'])")
    assert result.status is ExecStatus.ERROR
    assert "PermissionError: [Errno 1] Operation not permitted" in result.stderr


def test_a_run_in_a_folder_of_fixed_size_cannot_pass_it(sandbox: LocalSandbox) -> None:
    if not detect(sandbox.tier).has_mounts:
        pytest.skip(f"runs of {sandbox.tier} have no file system of their own here")
    code = "n = 0\nfor _ in range(9):\n    n += open(f'f{_}', 'wb').write(bytes(1 << 20))"
    result = sandbox.run(code, limits=SandboxLimits(max_disk_mb=4))
    assert result.status is ExecStatus.DISK_LIMIT
    assert sandbox.run(code, limits=SandboxLimits(max_disk_mb=16)).status is ExecStatus.OK


def test_folders_of_people_are_not_readable() -> None:
    readable = [*default_readable(), "/lib"]
    for path in ("/etc/passwd", "/proc/self/environ", "/var/log", "/tmp", os.getcwd(), Path.home()):
        assert not any(f"{path}/".startswith(f"{folder}/") for folder in readable), path


def test_no_readable_folder_lies_in_another() -> None:
    readable = default_readable()
    assert not [p for p in readable if any(p.startswith(f"{other}/") for other in readable)]


def _status_after(prepared: jail.Prepared, workdir: str, limits: ProcessLimits) -> str:
    """What a fork of this process is allowed once it has entered; "" if it could not enter."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            status = os.open("/proc/self/status", os.O_RDONLY)
            score = os.open("/proc/self/oom_score_adj", os.O_RDONLY)
            jail.enter(prepared, workdir, limits)
            os.write(writer, os.pread(status, 65536, 0))
            os.write(writer, b"core %d\n" % resource.getrlimit(resource.RLIMIT_CORE)[1])
            os.write(writer, os.pread(score, 16, 0))
            os.write(writer, f"limit {resource.getrlimit(resource.RLIMIT_AS)}\n".encode())
            os.write(writer, f"folder {os.getcwd()}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(not at_least("T2", detect().tier), reason="needs Landlock and seccomp")
def test_who_has_entered_has_no_rights_left(tmp_path: Path) -> None:
    prepared = jail.prepare(JailConfig(readable=default_readable()))
    try:
        said = _status_after(prepared, str(tmp_path), ProcessLimits(memory_mb=100_000))
    finally:
        for descriptor in prepared.descriptors:
            os.close(descriptor)
    lines = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    assert int(lines["CapEff"], 16) == int(lines["CapPrm"], 16) == 0
    assert (lines["NoNewPrivs"].strip(), lines["Seccomp"].strip()) == ("1", "2")
    assert f"limit ({100_000 << 20}, {100_000 << 20})" in said
    assert "core 1\n1000\nlimit" in said
    assert f"folder {tmp_path}" in said


@pytest.mark.skipif(not at_least("T2", detect().tier), reason="needs Landlock and seccomp")
def test_an_older_kernel_does_not_let_files_outside_be_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("text")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(landlock, "claimed_abi", lambda: 1)
    prepared = jail.prepare(JailConfig(readable=()))
    child = os.fork()
    if child == 0:
        jail.enter(prepared, str(tmp_path / "work"), ProcessLimits())
        with contextlib.suppress(OSError):
            os.truncate(victim, 0)
        os._exit(0)
    os.waitpid(child, 0)
    for descriptor in prepared.descriptors:
        os.close(descriptor)
    assert victim.read_text() == "text"


def test_a_jail_that_cannot_be_entered_is_an_error(tmp_path: Path) -> None:
    prepared = jail.prepare(JailConfig(readable=(), has_landlock=False, has_seccomp=False))
    assert _status_after(prepared, str(tmp_path), ProcessLimits()) != ""
    assert _status_after(prepared, str(tmp_path / "missing"), ProcessLimits()) == ""
