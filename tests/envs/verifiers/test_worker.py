"""The worker pool: what hangs or dies is ended, is told apart, and leaves its neighbours alone."""

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.envs.verifiers.worker import Status, WorkerPool

MODULE = """
import os, signal, sys, time

def answer(request, say):
    say("started")
    match request["do"]:
        case "echo": return {"said": request["text"], "pid": os.getpid()}
        case "spin":
            while True: pass
        case "stuck in C": return {"length": len(str(9 ** 9 ** 8))}
        case "sleep": time.sleep(60)
        case "memory": return {"length": len(bytearray(2 * 1024 ** 3))}
        case "exit": os._exit(3)
        case "crash": os.kill(os.getpid(), signal.SIGSEGV)
        case "raise": raise RuntimeError("odd")
        case "flood": return {"said": "x" * 1_000_000}
        case "environment": return {"names": sorted(os.environ)}
        case "write":
            with open(request["path"], "w") as file: file.write("x")
            return {}
        case "fork": return {"pid": os.fork()}
"""


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPool]:
    path = tmp_path_factory.mktemp("worker") / "answers.py"
    path.write_text(MODULE)
    made = WorkerPool(path, max_processes=3, memory_mb=256)
    yield made
    made.close()


def _echo(pool: WorkerPool, text: str = "hello") -> dict[str, object]:
    reply = pool.ask({"do": "echo", "text": text}, timeout_s=20)
    assert reply.status is Status.ANSWERED
    return reply.content


def test_an_answer_comes_back_and_the_process_is_used_again(pool: WorkerPool) -> None:
    first, second = _echo(pool, "日本 \n\0"), _echo(pool)
    assert first["said"] == "日本 \n\0" and second["said"] == "hello"
    assert first["pid"] == second["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("spin", Status.LATE),
        ("stuck in C", Status.LATE),
        ("exit", Status.DIED),
        ("crash", Status.DIED),
        ("flood", Status.DIED),
    ],
)
def test_what_hangs_or_dies_is_told_apart_and_the_next_is_answered(
    pool: WorkerPool, request_: str, expected: Status
) -> None:
    reply = pool.ask({"do": request_}, timeout_s=0.5)
    assert (reply.status, reply.phase, reply.content) == (expected, "started", {})
    assert _echo(pool)["said"] == "hello"


def test_an_exception_is_an_answer_and_too_much_memory_is_one(pool: WorkerPool) -> None:
    assert pool.ask({"do": "raise"}, timeout_s=20).content == {"error": "RuntimeError"}
    assert pool.ask({"do": "memory"}, timeout_s=20).content == {"error": "MemoryError"}


def test_one_that_gets_no_processor_time_is_not_called_late(pool: WorkerPool) -> None:
    assert pool.ask({"do": "sleep"}, timeout_s=0.2).status is Status.UNAVAILABLE


def test_a_worker_writes_no_file_starts_no_process_and_knows_no_secret(
    pool: WorkerPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    path = tmp_path / "written"
    pool.ask({"do": "write", "path": str(path)}, timeout_s=20)
    assert not path.exists() or not path.read_text()
    names = pool.ask({"do": "environment"}, timeout_s=20).content["names"]
    assert "SECRET_TOKEN" not in names
    if os.getuid() != 0:  # the system does not count the processes of root
        assert pool.ask({"do": "fork"}, timeout_s=20).content == {"error": "BlockingIOError"}


def test_neighbours_are_answered_while_others_hang(pool: WorkerPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        hanging = [threads.submit(pool.ask, {"do": "spin"}, timeout_s=0.5) for _ in range(2)]
        said = list(threads.map(lambda i: _echo(pool, str(i))["said"], range(20)))
        assert said == [str(i) for i in range(20)]
        assert all(each.result().status is not Status.ANSWERED for each in hanging)


def test_a_pool_whose_processes_were_ended_from_outside_starts_new_ones(pool: WorkerPool) -> None:
    pid = _echo(pool)["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    assert _echo(pool)["said"] == "hello"
    assert pool._template is not None
    pool._template._process.kill()
    pool._template._process.wait()
    assert _echo(pool)["said"] == "hello"
    pool.close()
    assert _echo(pool)["said"] == "hello"


def test_a_process_is_replaced_after_its_number_of_uses(pool: WorkerPool) -> None:
    single = WorkerPool(pool._module, max_uses=1)
    try:
        assert _echo(single)["pid"] != _echo(single)["pid"]
    finally:
        single.close()


def test_nothing_is_left_behind(pool: WorkerPool) -> None:
    own = WorkerPool(pool._module, max_processes=2)
    gc.collect()
    num_open = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    pids = [_echo(own)["pid"]]
    own.ask({"do": "spin"}, timeout_s=0.3)
    pids.append(_echo(own)["pid"])
    own.close()
    if num_open:
        assert len(os.listdir("/proc/self/fd")) == num_open
    deadline_s = time.monotonic() + 10
    while any(_is_alive(pid) for pid in pids) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not any(_is_alive(pid) for pid in pids)


def _is_alive(pid: object) -> bool:
    assert isinstance(pid, int)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_module_that_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package_anywhere")
    with pytest.raises(ModuleNotFoundError, match="no_such_package_anywhere"):
        WorkerPool(path).ask({}, timeout_s=5)
    path.write_text("1 / 0")
    assert WorkerPool(path).ask({}, timeout_s=5).status is Status.UNAVAILABLE


def test_many_threads_share_a_few_processes(pool: WorkerPool) -> None:
    seen: set[object] = set()
    lock = threading.Lock()

    def ask(number: int) -> None:
        content = _echo(pool, str(number))
        assert content["said"] == str(number)
        with lock:
            seen.add(content["pid"])

    with ThreadPoolExecutor(32) as threads:
        list(threads.map(ask, range(300)))
    assert 1 <= len(seen) <= 3 + 3  # some may have been replaced after their uses
