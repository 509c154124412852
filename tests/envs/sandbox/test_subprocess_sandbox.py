"""SubprocessSandbox: how runs end, what they cannot do, what they leave behind."""

import multiprocessing
import operator
import os
import pickle
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.envs.sandbox import ExecStatus, Sandbox, SandboxLimits, SubprocessSandbox

SANDBOX = SubprocessSandbox()


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_is_a_sandbox_of_the_lowest_tier() -> None:
    assert isinstance(SANDBOX, Sandbox)
    assert SANDBOX.tier == SANDBOX.report()["tier"] == "T0"
    assert SANDBOX.report()["files"] == SANDBOX.report()["network"] == "none"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print(1)", ExecStatus.OK),
        ("exit()", ExecStatus.OK),
        ("1/0", ExecStatus.ERROR),
        ("def f(:", ExecStatus.ERROR),
        ("raise SystemExit(3)", ExecStatus.ERROR),
        ("x = 'a' * (8 << 30)", ExecStatus.OOM),
        ("import os; os.abort()", ExecStatus.KILLED),
        ("import os; os.kill(os.getppid(), 9); input()", ExecStatus.KILLED),
        ("\ud800", ExecStatus.ERROR),
        ("print(1)\0", ExecStatus.ERROR),
    ],
)
def test_every_ending_has_its_own_status(code: str, status: ExecStatus) -> None:
    assert SANDBOX.run(code).status is status


def test_the_program_runs_as_a_script_with_stdin_globals_and_recursion() -> None:
    code = """
import sys
count = 0
def fall(n):
    global count
    count += 1
    return 0 if n == 0 else fall(n - 1)
if __name__ == "__main__":
    fall(50)
    print(count, sys.stdin.buffer.read().decode(), sys.argv)
"""
    result = SANDBOX.run(code, stdin="zażółć 😀")
    assert result.stdout == "51 zażółć 😀 ['main.py']\n"


def test_a_traceback_shows_the_program_and_nothing_of_ours() -> None:
    result = SANDBOX.run("def f():\n    raise ValueError('fail')\nf()")
    assert result.stderr.splitlines()[-1] == "ValueError: fail"
    assert "launcher" not in result.stderr
    assert result.stderr == SANDBOX.run("def f():\n    raise ValueError('fail')\nf()").stderr


def test_a_warning_on_stderr_keeps_stdout() -> None:
    result = SANDBOX.run("import warnings; warnings.warn('careful'); print('kept')")
    assert (result.status, result.stdout) == (ExecStatus.OK, "kept\n")
    assert "careful" in result.stderr


def test_numpy_is_importable_and_this_package_is_not() -> None:
    assert SANDBOX.run("import numpy; print(numpy.arange(3).sum())").stdout == "3\n"
    assert "ModuleNotFoundError" in SANDBOX.run("import maskgym").stderr


def test_the_environment_is_scrubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "secret" not in SANDBOX.run("import os; print(dict(os.environ))").stdout


def test_equal_programs_print_equal_sets() -> None:
    code = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert SANDBOX.run(code).stdout == SANDBOX.run(code).stdout


def test_processes_are_limited_beside_those_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54321)  # somebody who runs nothing yet
    sandbox = SubprocessSandbox(SandboxLimits(max_processes=40))
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC))"
    assert sandbox.run(code).stdout == "(40, 40)\n"
    assert sandbox.report()["processes"] == "rlimit, per user"


def test_an_endless_loop_is_stopped_near_the_wall_limit() -> None:
    start = time.monotonic()
    result = SANDBOX.run(
        "import signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nprint('here', flush=True)\nwhile True: pass",
        limits=SandboxLimits(wall_s=1.0),
    )
    assert result.status is ExecStatus.TIMEOUT
    assert result.stdout == "here\n"
    assert 0.8 <= result.wall_s <= 1.2
    assert time.monotonic() - start < 2.0


def test_the_cpu_limit_is_a_timeout_too() -> None:
    result = SANDBOX.run("while True: pass", limits=SandboxLimits(wall_s=20, cpu_s=1))
    assert result.status is ExecStatus.TIMEOUT
    assert result.wall_s < 10


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_five_megabytes_of_output_are_cut_at_the_limit(stream: str) -> None:
    result = SANDBOX.run(f"import sys; sys.{stream}.write('x' * 5_000_000)")
    assert result.status is ExecStatus.OUTPUT_LIMIT
    assert result.is_truncated
    assert len(getattr(result, stream)) == 1_000_000


def test_900_megabytes_of_output_do_not_grow_the_host() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = SANDBOX.run("import os\nfor _ in range(900): os.write(1, b'x' * (1 << 20))")
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.status is ExecStatus.OUTPUT_LIMIT
    assert grown_mb < 50


def test_files_end_at_the_file_limit_and_the_folder_is_removed() -> None:
    result = SANDBOX.run(
        "import os\nprint(os.getcwd(), flush=True)\nos.mkdir('d'); open('d/f', 'w').write('x')\n"
        "os.chmod('d', 0)\nopen('big', 'wb').write(b'x' * (3 << 20))",
        limits=SandboxLimits(max_file_mb=1),
    )
    assert "File too large" in result.stderr
    assert not Path(result.stdout.strip()).exists()


@pytest.mark.parametrize(
    "spawn",
    [
        "subprocess.Popen(['sleep', '61.5'])",
        "subprocess.Popen(['sleep', '61.5'], start_new_session=True, stdout=-3, stderr=-3)",
        "subprocess.Popen(['sh', '-c', 'setsid sleep 61.5 & setsid sleep 61.5 & sleep 61.5'], env={})",
    ],
)
@pytest.mark.parametrize("ending", ["pass", "while True: pass", "os._exit(1)"])
def test_no_process_outlives_a_run(spawn: str, ending: str) -> None:
    code = f"""
import os, subprocess, time
child = {spawn}
time.sleep(0.1)
pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]
mine = []
for pid in pids:
    try: text = open(f'/proc/{{pid}}/cmdline').read()
    except OSError: continue
    if text.startswith('sleep') and '61.5' in text: mine.append(pid)
print(*mine, flush=True)
{ending}
"""
    result = SANDBOX.run(code, limits=SandboxLimits(wall_s=1.0))
    pids = [int(word) for word in result.stdout.split()]
    assert pids, result
    assert not any(_is_running(pid) for pid in pids)


def test_descriptors_and_threads_of_the_host_do_not_grow() -> None:
    SANDBOX.run("print(1)")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for code in (
        "print(1)",
        "1/0",
        "print('x' * 2_000_000)",
        "import os; os.kill(os.getppid(), 9)",
    ):
        SANDBOX.run(code)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_the_program_sees_no_descriptor_of_the_host() -> None:
    secret = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        result = SANDBOX.run("import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])")
    finally:
        os.close(secret)
    assert result.stdout == "[0, 1, 2]\n"


def test_runs_from_many_threads_do_not_mix() -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: SANDBOX.run(f"print({i})"), range(24)))
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(24)]


def test_it_pickles_into_a_spawned_worker() -> None:
    limits = SandboxLimits(wall_s=3)
    sandbox = SubprocessSandbox(limits)
    assert pickle.loads(pickle.dumps(sandbox)).limits == limits
    # Not a function of this file: a spawned worker may be unable to import the tests, and a pool that
    # cannot unpickle its work waits for ever.
    run = operator.methodcaller("run", "print('from a spawned worker')")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply_async(run, (sandbox,)).get(timeout=60)
    assert result.stdout == "from a spawned worker\n"


def test_closing_ends_what_runs_and_is_no_fault_of_the_program() -> None:
    sandbox = SubprocessSandbox()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sandbox.run, "import time; time.sleep(30)")
        time.sleep(0.3)
        sandbox.close()
        assert running.result(timeout=10).status is ExecStatus.SANDBOX_ERROR
    sandbox.close()
    assert sandbox.run("print(1)").status is ExecStatus.SANDBOX_ERROR


def test_a_launcher_that_cannot_start_is_a_sandbox_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    result = SANDBOX.run("print(1)")
    assert result.status is ExecStatus.SANDBOX_ERROR
    assert "nonexistent" in result.stderr


@pytest.mark.parametrize(
    "bad", [{"wall_s": 0}, {"memory_mb": 0}, {"max_open_files": 3}, {"cpu_s": 0}]
)
def test_impossible_limits_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SandboxLimits(**bad)
