"""A piece of work and a time limit in; what it returns or raises, or a `TimeoutError`, out."""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_Outcome = queue.SimpleQueue[tuple[Any, Exception | None]]


class _Worker:
    """A daemon thread that does one piece of work at a time. It is kept: a new one costs 100 us."""

    def __init__(self) -> None:
        self.work: queue.SimpleQueue[tuple[Callable[[], Any], _Outcome] | None]
        self.work = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True, name="maskgym-deadline").start()

    def _run(self) -> None:
        while (task := self.work.get()) is not None:
            work, outcome = task
            try:
                outcome.put((work(), None))
            except Exception as error:
                outcome.put((None, error))
            del task, work, outcome  # an idle worker keeps nothing alive


_idle: list[_Worker] = []  # append and pop are atomic
os.register_at_fork(after_in_child=_idle.clear)  # a child has none of the threads


def within(timeout_s: float | None, work: Callable[[], T]) -> T:
    """What `work` returns or raises.

    Args:
        timeout_s: Longest that it may take, in seconds; None for no limit, and no thread.
        work: Runs in another thread. One that is late is left running; its result is dropped.

    Raises:
        TimeoutError: If it takes longer.
    """
    if timeout_s is None:
        return work()
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    outcome: _Outcome = queue.SimpleQueue()
    worker.work.put((work, outcome))
    try:
        value, error = outcome.get(timeout=timeout_s)
    except queue.Empty:
        worker.work.put(None)  # it ends when the late work does
        raise TimeoutError(f"no result within {timeout_s:g} s") from None
    except BaseException:  # Ctrl-C: the work goes on, the thread ends after it
        worker.work.put(None)
        raise
    _idle.append(worker)
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]
