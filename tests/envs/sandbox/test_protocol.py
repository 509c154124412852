"""What every sandbox of this machine keeps: how runs end, what they see, what they leave behind."""

import multiprocessing
import operator
import os
import pickle
import resource
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.envs.sandbox import (
    ExecStatus,
    LocalSandbox,
    Sandbox,
    SandboxLimits,
    SubprocessSandbox,
)

Make = Callable[[SandboxLimits | None], Sandbox]
MAKERS: dict[str, Make] = {
    "subprocess": SubprocessSandbox,
    "local": lambda limits: LocalSandbox("T0", limits),
    "local-T2": lambda limits: LocalSandbox("T0", limits, at_most="T2"),
}


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Make:
    return MAKERS[request.param]


@pytest.fixture
def sandbox(make: Make) -> Sandbox:
    return make(None)


def test_it_is_a_sandbox_that_names_its_tier(sandbox: Sandbox) -> None:
    assert isinstance(sandbox, Sandbox)
    assert sandbox.tier == sandbox.report()["tier"]
    assert (sandbox.report()["files"] == "none") == (sandbox.tier in ("T0", "T1"))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("print(1)", ExecStatus.OK),
        ("exit()", ExecStatus.OK),
        ("raise SystemExit", ExecStatus.OK),
        ("", ExecStatus.OK),
        ("1/0", ExecStatus.ERROR),
        ("def f(:", ExecStatus.ERROR),
        ("raise SystemExit(3)", ExecStatus.ERROR),
        ("raise SystemExit('no')", ExecStatus.ERROR),
        ("import os; os._exit(1)", ExecStatus.ERROR),
        ("x = 'a' * (8 << 30)", ExecStatus.OOM),
        ("import os; os.abort()", ExecStatus.KILLED),
        ("\ud800", ExecStatus.ERROR),
        ("print(1)\0", ExecStatus.ERROR),
    ],
)
def test_every_ending_has_its_own_status(sandbox: Sandbox, code: str, status: ExecStatus) -> None:
    assert sandbox.run(code).status is status


def test_the_program_runs_as_a_script_with_stdin_globals_and_recursion(sandbox: Sandbox) -> None:
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
    result = sandbox.run(code, stdin="zażółć 😀")
    assert result.stdout == "51 zażółć 😀 ['main.py']\n"


def test_a_program_of_a_megabyte_reads_two_megabytes_of_input(sandbox: Sandbox) -> None:
    code = "import sys\n" + "# a comment that fills the file\n" * 32_000 + "print(len(input()))"
    assert sandbox.run(code, stdin="x" * 2_000_000).stdout == "2000000\n"


def test_input_after_the_end_is_an_end_of_file(sandbox: Sandbox) -> None:
    assert "EOFError" in sandbox.run("input()").stderr


def test_the_end_waits_for_threads_and_exit_functions(sandbox: Sandbox) -> None:
    code = """
import atexit, threading, time
atexit.register(print, 'last')
threading.Thread(target=lambda: (time.sleep(0.05), print('thread'))).start()
print('main')
"""
    assert sandbox.run(code).stdout == "main\nthread\nlast\n"


def test_a_traceback_shows_the_program_and_nothing_of_ours(sandbox: Sandbox) -> None:
    result = sandbox.run("def f():\n    raise ValueError('fail')\nf()")
    lines = result.stderr.splitlines()
    assert lines[-1] == "ValueError: fail"
    assert "    raise ValueError('fail')" in lines
    assert [line for line in lines if "File" in line] == [
        '  File "main.py", line 3, in <module>',
        '  File "main.py", line 2, in f',
    ]


def test_a_warning_on_stderr_keeps_stdout(sandbox: Sandbox) -> None:
    result = sandbox.run("import warnings; warnings.warn('careful'); print('kept')")
    assert (result.status, result.stdout) == (ExecStatus.OK, "kept\n")
    assert "careful" in result.stderr


def test_numpy_is_importable_and_this_package_is_not(sandbox: Sandbox) -> None:
    assert sandbox.run("import numpy; print(numpy.arange(3).sum())").stdout == "3\n"
    assert "ModuleNotFoundError" in sandbox.run("import maskgym").stderr
    assert "ModuleNotFoundError" in sandbox.run("import inside.jail").stderr


def test_the_environment_is_scrubbed(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "secret" not in sandbox.run("import os; print(dict(os.environ))").stdout


def test_equal_programs_print_equal_sets(sandbox: Sandbox) -> None:
    code = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert sandbox.run(code).stdout == sandbox.run(code).stdout


@pytest.mark.parametrize(
    "draw", ["import random; print(random.random())", "import uuid; print(uuid.uuid4())"]
)
def test_programs_do_not_share_their_random_numbers(sandbox: Sandbox, draw: str) -> None:
    assert sandbox.run(draw).stdout != sandbox.run(draw).stdout


def test_an_endless_loop_is_stopped_near_the_wall_limit(sandbox: Sandbox) -> None:
    start = time.monotonic()
    result = sandbox.run(
        "import signal\nfor s in range(1, 32):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nprint('here', flush=True)\nwhile True: pass",
        limits=SandboxLimits(wall_s=0.5),
    )
    assert result.status is ExecStatus.TIMEOUT
    assert result.stdout == "here\n"
    assert 0.5 <= result.wall_s < 5
    assert time.monotonic() - start < 10


def test_the_cpu_limit_has_a_name_of_its_own(sandbox: Sandbox) -> None:
    result = sandbox.run("while True: pass", limits=SandboxLimits(wall_s=30, cpu_s=1))
    assert result.status is ExecStatus.CPU_LIMIT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_five_megabytes_of_output_are_cut_at_the_limit(sandbox: Sandbox, stream: str) -> None:
    result = sandbox.run(f"import sys; sys.{stream}.write('x' * 5_000_000)")
    assert result.status is ExecStatus.OUTPUT_LIMIT
    assert result.is_truncated
    assert len(getattr(result, stream)) == 1_000_000


def test_a_program_that_ends_with_too_much_output_is_cut_too(make: Make) -> None:
    sandbox = make(SandboxLimits(max_output_bytes=1000))
    for num, status in ((1000, ExecStatus.OK), (1001, ExecStatus.OUTPUT_LIMIT)):
        for _ in range(5):
            result = sandbox.run(f"print('x' * {num}, end='')")
            assert (result.status, result.is_truncated) == (status, num > 1000)
            assert len(result.stdout) == 1000


def test_900_megabytes_of_output_do_not_grow_the_host(sandbox: Sandbox) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = sandbox.run("import os\nfor _ in range(900): os.write(1, b'x' * (1 << 20))")
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.status is ExecStatus.OUTPUT_LIMIT
    assert grown_mb < 50


def test_the_file_limit_is_named_and_nothing_stays_in_the_folder(sandbox: Sandbox) -> None:
    result = sandbox.run(
        "import os\nprint(os.getcwd(), flush=True)\nopen('f', 'w').write('x')\n"
        "os.mkdir('d'); open('d/f', 'w').write('x')\nos.mkdir('e', 0)\n"
        "open('big', 'wb').write(b'x' * (3 << 20))",
        limits=SandboxLimits(max_file_mb=1),
    )
    assert "File too large" in result.stderr
    assert result.status is ExecStatus.FILE_LIMIT
    assert not Path(result.stdout.strip(), "f").exists()
    assert not Path(result.stdout.strip(), "d").exists()


def test_descriptors_and_threads_of_the_host_do_not_grow(sandbox: Sandbox) -> None:
    sandbox.run("print(1)")
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for code in ("print(1)", "1/0", "print('x' * 2_000_000)", "import os; os.abort()"):
        sandbox.run(code)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_the_program_sees_no_descriptor_of_the_host(sandbox: Sandbox) -> None:
    secret = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(secret, True)
    code = """
import os
def is_open(fd):
    try: os.fstat(fd)
    except OSError: return False
    return True
print([fd for fd in range(4096) if is_open(fd)])
"""
    try:
        assert sandbox.run(code).stdout == "[0, 1, 2]\n"
    finally:
        os.close(secret)


def test_runs_from_many_threads_do_not_mix(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: sandbox.run(f"print({i})"), range(24)))
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(24)]


def test_closing_ends_what_runs_and_is_no_fault_of_the_program(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(sandbox.run, "import time; time.sleep(30)")
        time.sleep(0.3)
        sandbox.close()
        assert running.result(timeout=10).status is ExecStatus.SANDBOX_ERROR
    sandbox.close()
    assert sandbox.run("print(1)").status is ExecStatus.SANDBOX_ERROR


@pytest.mark.parametrize("kind", [SubprocessSandbox, LocalSandbox])
def test_it_pickles_into_a_spawned_worker(kind: type[SubprocessSandbox | LocalSandbox]) -> None:
    limits = SandboxLimits(wall_s=3)
    sandbox = LocalSandbox("T0", limits) if kind is LocalSandbox else SubprocessSandbox(limits)
    assert pickle.loads(pickle.dumps(sandbox)).limits == limits
    # Not a function of this file: a spawned worker may be unable to import the tests, and a pool that
    # cannot unpickle its work waits for ever.
    run = operator.methodcaller("run", "print('from a spawned worker')")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply_async(run, (sandbox,)).get(timeout=60)
    assert result.stdout == "from a spawned worker\n"


@pytest.mark.parametrize(
    "bad",
    [
        {"wall_s": 0},
        {"memory_mb": 0},
        {"max_open_files": 3},
        {"cpu_s": 0},
        {"max_disk_mb": 0},
        {"wall_s": float("nan")},
    ],
)
def test_impossible_limits_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        SandboxLimits(**bad)
