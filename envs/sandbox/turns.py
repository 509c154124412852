"""In: threads that each want a program to run. Out: no more of them at once than processors.

A limit on wall time means little for a program that shares its processor with fifty others: a right
answer would be scored as too slow because of what else the trainer does. So threads wait for a turn
before the clock starts. Programs of other processes of the trainer are not counted.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def num_processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Turns:
    def __init__(self) -> None:
        self.free = threading.Semaphore(max(2, num_processors()))
        self.of_thread = threading.local()


_turns = _Turns()


@contextmanager
def turn() -> Iterator[None]:
    """Waits until a program may run; a thread that has a turn needs no second one."""
    turns = _turns
    if getattr(turns.of_thread, "is_taken", False):
        yield
        return
    with turns.free:
        turns.of_thread.is_taken = True
        try:
            yield
        finally:
            turns.of_thread.is_taken = False


def _after_fork() -> None:
    """In a forked process nobody else is running; the thread that forked may hold a turn."""
    global _turns
    _turns = _Turns()


os.register_at_fork(after_in_child=_after_fork)
