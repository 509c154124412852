"""Every call ends. Functions of installed modules only: a worker cannot import this file."""

import math
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from maskgym.masking.bounded import BoundedPredicate

ROOT = Path(__file__).resolve().parents[2]
equal = BoundedPredicate(operator.eq, 5.0)


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    if not listed.exists():
        pytest.skip("this kernel does not list the children of a process")
    return [int(child) for child in listed.read_text().split()]


def test_a_predicate_says_what_its_function_says() -> None:
    assert equal("a", "a") is True
    assert equal("a", "b") is False
    assert BoundedPredicate(lambda a, b: a == b, 5.0)("a", "a") is True
    assert BoundedPredicate(operator.eq, None)("a", "b") is False


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (time.sleep, 60),  # waits
        (partial(pow, 10), 10**10),  # computes in C, without giving the interpreter back
        (partial(sum), range(10**12)),  # computes in C for ever
    ],
)
def test_a_call_that_hangs_is_ended_and_the_next_one_works(
    function: partial[object], argument: object
) -> None:
    start = time.monotonic()
    assert BoundedPredicate(function, 0.2)(argument) is None  # type: ignore[arg-type]
    assert time.monotonic() - start < 20
    assert equal("a", "a") is True


@pytest.mark.parametrize("timeout_s", [5.0, None])
def test_a_call_that_raises_or_leaves_says_nothing(timeout_s: float | None) -> None:
    assert BoundedPredicate(math.sqrt, timeout_s)("no number") is None
    assert BoundedPredicate(sys.exit, timeout_s)("leaving") is None
    assert BoundedPredicate(lambda text: sys.exit(text), timeout_s)("leaving") is None


def test_a_call_that_ends_its_process_says_nothing() -> None:
    assert BoundedPredicate(os._exit, 5.0)(3) is None  # type: ignore[arg-type]
    assert BoundedPredicate(signal.raise_signal, 5.0)(signal.SIGKILL) is None  # type: ignore[arg-type]
    assert equal("b", "b") is True


def test_a_closure_that_hangs_is_left_behind_and_not_called_for_ever() -> None:
    calls = []
    is_over = threading.Event()

    def hang(text: str) -> bool:
        calls.append(text)
        is_over.wait(30)
        return True

    predicate = BoundedPredicate(hang, 0.05)
    assert [predicate(str(i)) for i in range(10)] == [None] * 10
    is_over.set()
    assert len(calls) == 4


def test_threads_get_their_own_answers() -> None:
    pairs = [(str(i % 7), str(i % 5)) for i in range(200)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda pair: equal(*pair), pairs))
    assert answers == [a == b for a, b in pairs]


def test_a_worker_killed_while_idle_is_replaced() -> None:
    assert equal("a", "a") is True
    for child in children_of(os.getpid()):
        if b"bounded_worker" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(child, signal.SIGKILL)
            while Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                time.sleep(0.01)
    assert equal("a", "a") is True


def test_a_forked_child_has_workers_of_its_own() -> None:
    program = """
import operator, os
from maskgym.masking.bounded import BoundedPredicate
equal = BoundedPredicate(operator.eq, 5.0)
assert equal("a", "a")
child = os.fork()
for i in range(50):
    assert equal(str(i), str(i)) and not equal(str(i), "x")
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert equal("b", "b")
print("done")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


@pytest.mark.slow
def test_no_worker_outlives_its_process_even_one_that_hangs() -> None:
    program = """
import operator, threading, time
from maskgym.masking.bounded import BoundedPredicate
assert BoundedPredicate(operator.eq, 5.0)("a", "a")
print("ready", flush=True)
BoundedPredicate(pow, 3.0)(10, 10**10)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    workers = children_of(process.pid)
    process.kill()
    process.wait()
    process.stdout.close()
    assert workers
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.1)


def test_the_main_script_is_not_run_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"  # without a guard, as users write them
    script.write_text(
        "import operator\n"
        "from maskgym.masking.bounded import BoundedPredicate\n"
        "print('started')\n"
        "def same(a, b): return a == b\n"
        "print(BoundedPredicate(operator.eq, 5.0)('a', 'a'))\n"
        "print(BoundedPredicate(same, 5.0)('a', 'b'))\n"
    )
    result = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert result.stdout == "started\nTrue\nFalse\n", result.stderr
