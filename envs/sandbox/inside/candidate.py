"""In: a program, and calls of its functions over a socket. Out: their results, one by one.

Runs in the program's own process, so nothing here is trusted by the host: whatever the program
does to this module, it can only change what it answers. The host sends one call at a time, and
never what it expects.

A message is a frame that holds a value of `codec`. The first request is empty and has the program
loaded; the others are ``[number, function, arguments, keywords]``. Reply: ``[number, "value"
| "raised", what, printed]``, where what was raised is ``[type, message, traceback]``; loading is
number 0.
"""

from __future__ import annotations
import __future__

import io
import os
import socket
import sys
import traceback
from types import ModuleType
from typing import Any, cast

from . import codec, program
from .frames import read_frame, write_frame

MAX_PRINTED_BYTES = 16_000
_MAX_MESSAGE_CHARS = 500
_MAX_TRACE_CHARS = 2_000


def serve(code: str, channel: socket.socket) -> None:
    """Loads `code` as the module `candidate` and answers calls until the channel closes."""
    fd = channel.fileno()
    if read_frame(fd) is None:
        return
    _silence()
    program.fresh_main("candidate.py")
    module = ModuleType("candidate")
    sys.modules["candidate"] = module
    write_frame(fd, _answer(0, _load, code, module))
    while (request := read_frame(fd)) is not None:
        number, function, arguments, keywords = codec.decode(request, max_bytes=None)
        write_frame(fd, _answer(number, _call, module, function, arguments, keywords))


def _answer(number: int, work: Any, *arguments: Any) -> bytes:
    """The reply to one request: what `work` gives, or what it raises."""
    try:
        value = work(*arguments)
        return codec.encode([number, "value", value, _PRINTED.take()])
    except (codec.NotPlain, codec.TooLarge) as error:
        raised = ["TypeError", f"the result cannot be passed on: {error}", ""]
    except BaseException as error:  # also SystemExit: leaving early is failing
        raised = _description(error)
    try:
        return codec.encode([number, "raised", raised, _PRINTED.take()])
    except BaseException:
        return codec.encode([number, "raised", ["Exception", "", ""], ""])


def _load(code: str, module: ModuleType) -> None:
    # Annotations stay text: LeetCode's starter code says `List[int]` and leaves the import out.
    flags = __future__.annotations.compiler_flag
    exec(compile(code, "candidate.py", "exec", flags, dont_inherit=True), module.__dict__)


def _call(module: ModuleType, function: str, arguments: Any, keywords: Any) -> Any:
    if not hasattr(module, function) and hasattr(module, "Solution"):  # LeetCode's form
        return getattr(module.Solution(), function)(*arguments, **keywords)
    return getattr(module, function)(*arguments, **keywords)


def _description(error: BaseException) -> list[str]:
    """Type, message and the program's own part of the traceback."""
    name = type(error).__name__
    try:
        message = str(error)[:_MAX_MESSAGE_CHARS]
    except BaseException:
        message = ""
    try:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        lines = traceback.format_exception(type(error), error, trace, limit=-4)
        text = "".join(lines)[-_MAX_TRACE_CHARS:]
    except BaseException:
        text = f"{name}: {message}"
    return [name, message, text]


class _Printed(io.RawIOBase):
    """Keeps the beginning of what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        size = len(data)
        room = MAX_PRINTED_BYTES - len(self._kept)
        if room > 0:
            self._kept += bytes(data[:room])
        return size

    def take(self) -> str:
        """What was written since the last time."""
        text = self._kept.decode("utf-8", "replace")
        self._kept.clear()
        return text


# Made before the fork: making it in every child would cost as much as the fork itself.
_PRINTED = _Printed()
_STREAM = io.TextIOWrapper(
    cast("Any", _PRINTED), encoding="utf-8", errors="replace", write_through=True
)


def _silence() -> None:
    """Nothing to read; what is printed is kept up to a limit, the rest goes nowhere."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.close(quiet)
    sys.stdout = sys.stderr = _STREAM
