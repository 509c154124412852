"""The pool of environments, and the threads that step them."""

import threading
import time
from typing import Any

import pytest

from maskgym.agents.rollouts.env_pool import Answer, EnvPool, EnvWorkers
from maskgym.envs import ArithmeticChains, MathEnv


class Counted(MathEnv):
    num_closed = 0

    def close(self) -> None:
        Counted.num_closed += 1
        super().close()


@pytest.fixture
def pool() -> EnvPool:
    Counted.num_closed = 0
    return EnvPool(lambda: Counted(tasks=ArithmeticChains(level=1, size=1)))


def collected(workers: EnvWorkers, count: int, timeout_s: float = 5.0) -> list[Answer]:
    answers: list[Answer] = []
    end_s = time.monotonic() + timeout_s
    while len(answers) < count and time.monotonic() < end_s:
        answers += workers.collect(timeout_s=0.02)
    return answers


def test_an_environment_is_used_by_one_episode_at_a_time_and_then_again(pool: EnvPool) -> None:
    first, second = pool.acquire(), pool.acquire()
    assert first is not second
    pool.release(first)
    assert pool.acquire() is first
    pool.close()
    assert Counted.num_closed == 2


def test_an_environment_that_raised_is_closed_and_replaced(pool: EnvPool) -> None:
    broken = pool.acquire()
    pool.discard(broken)
    pool.discard(broken)  # by two who noticed
    assert Counted.num_closed == 1
    assert pool.acquire() is not broken


def test_an_environment_that_cannot_be_closed_does_not_keep_the_others_open() -> None:
    closed: list[int] = []

    class Stuck:
        def __init__(self, number: int) -> None:
            self.number = number

        def close(self) -> None:
            if self.number == 0:
                raise OSError("busy")
            closed.append(self.number)

    made = iter(range(3))
    pool = EnvPool(lambda: Stuck(next(made)))
    for _ in range(3):
        pool.acquire()
    with pytest.warns(UserWarning, match="OSError: busy"):
        pool.close()
    assert closed == [1, 2]


def test_environments_are_made_one_at_a_time() -> None:
    inside, most = 0, 0

    def make() -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return MathEnv(tasks=ArithmeticChains(level=1, size=1))

    pool = EnvPool(make)
    threads = [threading.Thread(target=pool.acquire) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_without_workers_a_call_runs_where_it_is_submitted() -> None:
    workers = EnvWorkers(0)
    ran: list[str] = []
    workers.submit("a", lambda: ran.append(threading.current_thread().name))
    assert ran == [threading.current_thread().name]
    assert workers.collect() == [Answer("a")]


def test_answers_come_in_the_order_of_their_coming_with_what_was_raised() -> None:
    workers = EnvWorkers(2)
    error = OSError("no")

    def fail() -> None:
        time.sleep(0.05)
        raise error

    workers.submit("late", fail)
    workers.submit("early", lambda: 7)
    assert collected(workers, 2) == [Answer("early", value=7), Answer("late", error=error)]
    workers.close()


def test_a_call_that_hangs_has_its_thread_replaced_once_and_answers_when_it_returns() -> None:
    workers, gate = EnvWorkers(1), threading.Event()
    workers.submit("hangs", gate.wait)
    workers.submit("waits", lambda: "done")
    assert collected(workers, 1, timeout_s=0.05) == []
    assert workers.give_up("hangs")
    assert collected(workers, 1) == [Answer("waits", value="done")]
    assert (workers.num_replaced, workers.num_hung) == (1, 1)
    gate.set()
    assert collected(workers, 1) == [Answer("hangs", value=True)]
    assert workers.num_hung == 0
    workers.submit("after", lambda: "done")  # the replacement works on, the other thread ended
    assert collected(workers, 1) == [Answer("after", value="done")]
    workers.close()


def test_no_more_threads_are_replaced_than_allowed() -> None:
    workers, gate = EnvWorkers(2, max_hung=1), threading.Event()
    for key in ("first", "second"):
        workers.submit(key, gate.wait)
    assert collected(workers, 1, timeout_s=0.05) == []
    assert workers.give_up("first")
    assert workers.give_up("second")
    assert workers.num_replaced == 1
    gate.set()
    assert len(collected(workers, 2)) == 2
    workers.close()


def test_a_call_that_was_given_up_before_it_began_never_runs() -> None:
    workers, gate = EnvWorkers(1), threading.Event()
    workers.submit("first", gate.wait)
    workers.submit("unwanted", lambda: pytest.fail("ran"))
    assert not workers.give_up("unwanted")
    gate.set()
    workers.submit("last", lambda: 1)
    assert [answer.key for answer in collected(workers, 2)] == ["first", "last"]
    workers.close()
