"""In: an assert-style test. Out: the calls it makes of the candidate, one at a time, and its end.

This file is loaded as a program of its own, in a sandboxed process that the candidate's code never
enters; the product reads its text and never imports it. The test calls the candidate through
stand-ins. Each call travels to the host, which asks the candidate's process and brings the answer,
so the test compares plain values that were made here.

`begin` and `resume` both give the next event: ``["ask", name, arguments, keywords]``, ``["passed"]``
or ``["failed", why]``. The test runs in a thread, which waits while the host is asked.
"""

import _thread  # `threading` and `queue` would take half of this program's time
import builtins
from typing import Any


class _Box:
    """Hands one value at a time from one thread to the other."""

    def __init__(self) -> None:
        self._value: Any = None
        self._is_full = _thread.allocate_lock()
        self._is_full.acquire()

    def put(self, value: Any) -> None:
        self._value = value
        self._is_full.release()

    def get(self) -> Any:
        self._is_full.acquire()
        return self._value


_events, _answers = _Box(), _Box()
_namespace: dict[str, Any] = {"__name__": "test"}


class _StandIn:
    """Calls a function of the candidate through the host."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        _events.put(["ask", self.__name__, list(arguments), keywords])
        is_value, value, message = _answers.get()
        if is_value:
            return value
        kind: Any = getattr(builtins, value, None)
        if kind is StopIteration:  # it would end a `map` over the candidate without a word
            kind = RuntimeError
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = type(value, (Exception,), {})
        try:
            error = kind(message)
        except TypeError:  # one that takes more, as `UnicodeDecodeError` does
            error = kind.__new__(kind)
        raise error


def prepare(modules: list[str], setup: str, names: list[str]) -> None:
    """Makes what tests use: modules, the task's own definitions, and the candidate's functions."""
    for name in modules:
        _namespace[name] = __import__(name)
    exec(compile(setup, "prompt.py", "exec", dont_inherit=True), _namespace)
    for name in names:
        _namespace[name] = _StandIn(name)


def begin(source: str) -> list[Any]:
    """Starts a test; gives its first event."""
    _thread.start_new_thread(_run, (source,))
    event: list[Any] = _events.get()
    return event


def resume(is_value: bool, value: Any, message: str) -> list[Any]:
    """Answers the call that was asked for; gives the next event.

    Args:
        is_value: Whether the candidate returned.
        value: What it returned, or the name of the exception that it raised.
        message: What the exception said.
    """
    _answers.put((is_value, value, message))
    event: list[Any] = _events.get()
    return event


def _run(source: str) -> None:
    try:
        exec(compile(source, "test.py", "exec", dont_inherit=True), _namespace)
    except BaseException as error:
        _events.put(["failed", f"{type(error).__name__}: {error}".removesuffix(": ")[:500]])
    else:
        _events.put(["passed"])
