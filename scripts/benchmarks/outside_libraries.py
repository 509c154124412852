"""Outside libraries: text2num and math-verify, asked with a time bound, or said to be missing."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import signal
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import Any


def _import(module: str) -> Any:
    """A module of the extra `dev`, which has no types; None where it is not installed."""
    return importlib.import_module(module) if importlib.util.find_spec(module) else None


_text2num, _math_verify = _import("text_to_num"), _import("math_verify")

_TIMEOUT_S = 5.0
_MAX_CHARS = 300  # longer than any final answer; math-verify needs seconds for long formulas


def missing_libraries() -> list[str]:
    """What is not installed, and what the tables lack without it."""
    missing = []
    if _text2num is None:
        missing.append("text2num is not installed: number words above three are not probed")
    if _math_verify is None:
        missing.append("math-verify is not installed: formulas are compared literally only")
    return missing


def with_digits_for_words(text: str) -> str | None:
    """English number words as digits ("twenty-one" -> "21"); None without text2num."""
    if _text2num is None:
        return None
    converted: str = _text2num.alpha2digit(text, "en", threshold=0)
    return converted


@lru_cache(maxsize=65536)
def are_equal_mathematics(left: str, right: str) -> bool:
    """Whether math-verify takes two formulas for equal; not in time, or not at all, is no."""
    if _math_verify is None or max(len(left), len(right)) > _MAX_CHARS:
        return False
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    try:
        with time_limit(_TIMEOUT_S):
            golds = _math_verify.parse(f"${right}$", parsing_timeout=None)
            said = _math_verify.parse(f"${left}$", parsing_timeout=None)
            return bool(_math_verify.verify(golds, said, timeout_seconds=None))
    except Exception:  # sympy raises anything on odd input; that is "not equal" here
        return False


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError inside the block when it takes too long; no limit outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
