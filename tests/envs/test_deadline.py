"""within(): results, failures and limits; threads are kept, and no late one is used again."""

import os
import threading
import time

import pytest

from maskgym.envs.deadline import within


def thread_id() -> int:
    return threading.get_ident()


def test_what_the_work_returns_or_raises_comes_back() -> None:
    assert within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    assert within(None, thread_id) == threading.get_ident()


def test_the_thread_is_kept_also_after_a_failure() -> None:
    first = within(5, thread_id)
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 // 0)
    assert within(5, thread_id) == first != threading.get_ident()


def test_late_work_is_left_and_its_thread_ends_with_it() -> None:
    go_on = threading.Event()
    late: list[threading.Thread] = []

    def wait() -> str:
        late.append(threading.current_thread())
        go_on.wait()
        return "late"

    with pytest.raises(TimeoutError, match=r"no result within 0\.05 s"):
        within(0.05, wait)
    assert within(5, lambda: "prompt") == "prompt"
    go_on.set()
    late[0].join(5)
    assert not late[0].is_alive()


def test_callers_in_several_threads_do_not_wait_for_each_other() -> None:
    barrier = threading.Barrier(4)
    results: list[int] = []

    def call() -> None:
        results.append(within(5, barrier.wait))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(results) == [0, 1, 2, 3]


def test_a_forked_child_makes_threads_of_its_own() -> None:
    within(5, thread_id)
    child = os.fork()
    if child == 0:
        os._exit(within(5, lambda: 3))
    for _ in range(100):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert pid == child and os.waitstatus_to_exitcode(status) == 3
