"""LocalSandbox: tiers, warm interpreters, limits that are watched, lost servers, forks, leaks."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.envs.sandbox import (
    Candidate,
    ExecStatus,
    LocalSandbox,
    SandboxLimits,
    SandboxTierError,
)
from maskgym.envs.sandbox.local_sandbox import warm_up_for

T2 = LocalSandbox("T0", at_most="T2")


@pytest.fixture(params=["T3", "T2", "T0"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox("T0", at_most=request.param)
    yield sandbox
    sandbox.close()


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_less_than_the_demanded_tier_is_refused_with_a_remedy() -> None:
    with pytest.raises(
        SandboxTierError, match=r"T2 is demanded.*sandbox=LocalSandbox\(require='T0'\)"
    ):
        LocalSandbox(at_most="T0")
    assert LocalSandbox("T0", at_most="T0").tier == "T0"


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="T7"):
        LocalSandbox("T7")
    with pytest.raises(ValueError, match="SubprocessSandbox"):
        LocalSandbox("T0", processes="allow")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "warm_up"),
    [
        ("import numpy as np", "sci"),
        ("    from sympy.abc import x", "sci"),
        ("import os, numpy", "sci"),
        ("import mpmath", "sci"),
        ("import math  # not numpy", "bare"),
        ("numpy = 1", "bare"),
        ("import numpydoc", "bare"),
        ("", "bare"),
    ],
)
def test_the_imports_of_a_program_choose_its_interpreter(code: str, warm_up: str) -> None:
    assert warm_up_for(code) == warm_up


def test_scientific_programs_find_their_libraries_warm() -> None:
    code = "import sys\nwarm = 'sympy' in sys.modules\nimport sympy\nprint(warm, sympy.sqrt(8))"
    assert T2.run(code).stdout == "True 2*sqrt(2)\n"
    assert T2.run("import sys\nprint('sympy' in sys.modules)").stdout == "False\n"


def test_random_numbers_of_numpy_are_not_shared() -> None:
    code = "import numpy\nprint(numpy.random.random())"
    assert T2.run(code).stdout != T2.run(code).stdout


def test_files_together_are_limited(sandbox: LocalSandbox) -> None:
    code = "for i in range(64):\n    with open(f'f{i}', 'wb') as f: f.write(bytes(1 << 20))"
    result = sandbox.run(code, limits=SandboxLimits(max_disk_mb=4))
    assert result.status is ExecStatus.DISK_LIMIT
    assert sandbox.run(code, limits=SandboxLimits(max_disk_mb=100)).status is ExecStatus.OK


def test_filling_the_disk_for_ever_is_stopped_early(sandbox: LocalSandbox) -> None:
    code = """
i = 0
while True:
    i += 1
    try:
        with open(f'f{i}', 'wb') as f: f.write(bytes(1 << 20))
    except OSError: pass
"""
    result = sandbox.run(code, limits=SandboxLimits(max_disk_mb=8, wall_s=2.0))
    on_a_disk_of_fixed_size = "fixed size" in sandbox.report()["disk"]
    expected = ExecStatus.TIMEOUT if on_a_disk_of_fixed_size else ExecStatus.DISK_LIMIT
    assert result.status is expected


def test_files_without_a_name_count_while_they_are_open() -> None:
    code = """
import os, time
files = []
for i in range(8):
    files.append(open('f', 'wb', 0))
    os.unlink('f')
    files[-1].write(bytes(1 << 20))
time.sleep(60)
"""
    result = T2.run(code, limits=SandboxLimits(max_disk_mb=4))
    assert result.status is ExecStatus.DISK_LIMIT


def test_the_input_does_not_count_as_disk(sandbox: LocalSandbox) -> None:
    code = "import time\ntime.sleep(0.3)\nprint(len(input()))"
    result = sandbox.run(code, stdin="x" * (6 << 20), limits=SandboxLimits(max_disk_mb=4))
    assert result.stdout == f"{6 << 20}\n"


def test_threads_are_limited_also_for_root() -> None:
    code = """
import threading, time
threading.stack_size(65536)
for _ in range(2000): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
time.sleep(60)
"""
    result = T2.run(code, limits=SandboxLimits(max_processes=20))
    assert result.status is ExecStatus.KILLED
    assert "more than 20 threads" in result.stderr


@pytest.mark.parametrize(
    "spawn",
    [
        "subprocess.Popen(['sleep', '62.5'], start_new_session=True)",
        "subprocess.Popen(['sh', '-c', 'setsid sleep 62.5 & setsid sleep 62.5 & sleep 62.5'], env={})",
    ],
)
def test_no_process_outlives_a_run_where_processes_cannot_be_denied(spawn: str) -> None:
    code = f"""
import os, subprocess, time
child = {spawn}
time.sleep(0.2)
for pid in filter(str.isdigit, os.listdir('/proc')):
    try: text = open(f'/proc/{{pid}}/cmdline').read()
    except OSError: continue
    if text.startswith('sleep') and '62.5' in text: print(pid, flush=True)
"""
    result = LocalSandbox("T0", at_most="T0").run(code)
    pids = [int(word) for word in result.stdout.split()]
    assert pids, result
    assert not any(_is_running(pid) for pid in pids)


def test_a_lost_server_is_replaced_and_the_run_repeated() -> None:
    pid = T2.server().pid
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(T2.run, "import time\ntime.sleep(0.5)\nprint('done')")
        time.sleep(0.2)
        os.kill(pid, signal.SIGKILL)
        assert running.result(timeout=60).stdout == "done\n"
    assert T2.server().pid != pid


def test_a_session_whose_server_is_lost_says_so_and_is_nobodys_fault() -> None:
    session = T2.session()
    session.run_cell("x = 1")
    os.kill(T2.server("import numpy").pid, signal.SIGKILL)
    result = session.run_cell("import time\ntime.sleep(4)")
    assert result.status is ExecStatus.SANDBOX_ERROR
    assert session.run_cell("x").status is ExecStatus.SANDBOX_ERROR
    session.close()


def test_what_is_started_while_a_server_dies_is_started_elsewhere() -> None:
    for _ in range(3):
        session = T2.session()
        assert session.run_cell("1").status is ExecStatus.OK
        os.kill(T2.server("import numpy").pid, signal.SIGKILL)
        session.run_cell("import time\ntime.sleep(4)")
        session.close()
    candidate = T2.candidate("import numpy\ndef f(): return 1")
    assert candidate.call("f", [], wall_s=5.0).value == 1
    candidate.close()


def test_a_server_that_cannot_start_is_a_sandbox_error(monkeypatch: pytest.MonkeyPatch) -> None:
    os.kill(T2.server().pid, signal.SIGKILL)
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    result = T2.run("print(1)")
    assert result.status is ExecStatus.SANDBOX_ERROR
    assert "nonexistent" in result.stderr


def test_a_forked_process_starts_servers_of_its_own() -> None:
    session = T2.session()
    session.run_cell("x = 1")
    reader, writer = multiprocessing.get_context("fork").Pipe()

    def work() -> None:
        result = T2.run("print('forked')"), session.run_cell("x")
        session.close()
        T2.close()
        writer.send((result[0].stdout, result[1].status, T2.server().pid))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    assert reader.poll(60)
    stdout, status, pid = reader.recv()
    process.join(30)
    assert (stdout, status, process.exitcode) == ("forked\n", ExecStatus.SANDBOX_ERROR, 0)
    kept = session.run_cell("x")
    session.close()
    assert kept.stdout == "1\n", kept
    assert pid != T2.server().pid
    assert T2.run("print('parent')").stdout == "parent\n"


@pytest.mark.parametrize(
    ("at_most", "ending"),
    [("T2", "pass"), ("T2", "os.kill(os.getpid(), 9)"), ("T3", "os.kill(os.getpid(), 9)")],
)
def test_nothing_outlives_the_process_that_used_it(ending: str, at_most: str) -> None:
    code = f"""
import os
from maskgym.envs.sandbox import LocalSandbox
sandbox = LocalSandbox("T0", at_most={at_most!r})
session = sandbox.session()
session.run_cell("open('f', 'w').write('x')")
print(sandbox.server("import numpy").pid, session.run_cell("import os\\nos.getcwd()").stdout, flush=True)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    pid, folder = done.stdout.split()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and (_is_running(int(pid)) or os.path.exists(folder[1:-1])):
        time.sleep(0.02)
    assert not _is_running(int(pid))
    assert not os.path.exists(folder[1:-1])


def test_runs_are_safe_beside_an_event_loop() -> None:
    async def run_all() -> list[str]:
        runs = (asyncio.to_thread(T2.run, f"print({number})") for number in range(16))
        return [result.stdout for result in await asyncio.gather(*runs)]

    assert asyncio.run(run_all()) == [f"{number}\n" for number in range(16)]


def test_a_candidate_is_loaded_once_and_called_often(sandbox: LocalSandbox) -> None:
    candidate = sandbox.candidate(
        "calls = 0\ndef f(x):\n    global calls\n    calls += 1\n    return x, calls"
    )
    assert isinstance(candidate, Candidate)
    assert candidate.load.status is ExecStatus.OK
    assert candidate.call("f", [{1}], wall_s=5.0).value == ({1}, 1)
    assert candidate.call("f", ["a"], wall_s=5.0).value == ("a", 2)
    candidate.close()
    assert candidate.call("f", ["a"], wall_s=5.0).status is ExecStatus.ENDED


def test_threads_that_run_programs_wait_for_their_turn_and_not_for_each_other() -> None:
    with ThreadPoolExecutor(64) as pool:
        code = "sum(range(3_000_000))\nprint('done')"
        results = list(
            pool.map(lambda _: T2.run(code, limits=SandboxLimits(wall_s=3.0)), range(64))
        )
    assert {result.status for result in results} == {ExecStatus.OK}
