"""Ctrl-C or SIGTERM in, a polite request to stop out: long work ends with everything saved."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_interrupt(message: str) -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed; a second Ctrl-C interrupts at once.

    SIGTERM, which `kill` and batch systems send, counts as Ctrl-C. An empty message is not printed: of
    several ranks one speaks.
    """
    is_asked = False

    def ask(signum: int, frame: FrameType | None) -> None:
        nonlocal is_asked
        if is_asked:
            raise KeyboardInterrupt
        is_asked = True
        if message:
            print(f"\n{message}", file=sys.stderr, flush=True)

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: is_asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
