"""In: a process that serves a loaded program. Out: `ChannelCandidate`, its functions to be called.

The host's half of `inside.candidate`, and the trusted one. Whatever comes back is bounded in size,
time and memory before it is looked at, and read by `inside.codec`; an answer out of turn, of the
wrong number or of the wrong form ends the candidate. Nothing here ever waits for the program beyond
the deadline of a call, neither to read nor to write.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .inside import codec
from .inside.frames import LENGTH
from .protocol import CallResult, ExecResult, ExecStatus

_MAX_REPLY_BYTES = codec.MAX_BYTES + 65_536  # a value and what was printed
_MAX_REQUEST_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 16
_MAX_SENT_BYTES = 1 << 18


class CandidateProcess(Protocol):
    """What `ChannelCandidate` needs of the process that runs `inside.candidate.serve`."""

    @property
    def channel(self) -> socket.socket:
        """The host's end of the stream on which calls and results travel."""
        ...

    def kill(self) -> None:
        """Ends the process at once."""
        ...

    def grant(self, wall_s: float) -> float:
        """Seconds to add to a limit that has passed; 0.0 if it is to be kept."""
        ...

    def ending(self) -> ExecStatus:
        """How the process ended, called once its channel has closed."""
        ...

    def close(self) -> None:
        """Ends the process and gives back what it held; calling it twice is harmless."""
        ...


class _Ended(Exception):
    """No reply will come; `status` says why."""

    def __init__(self, status: ExecStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ChannelCandidate:
    """A program that was loaded once and whose functions can be called; one call at a time."""

    def __init__(self, process: CandidateProcess, *, load_s: float) -> None:
        """Waits for the program to load, at most `load_s` seconds; `load` says how that went."""
        self._process = process
        self._channel = process.channel
        self._channel.setblocking(False)
        self._received = bytearray()
        self._number = 0
        self._is_alive = True
        started_s = time.monotonic()
        loaded = self._exchange(LENGTH.pack(0), load_s)
        self.load = ExecResult(
            status=loaded.status,
            stdout=loaded.stdout,
            stderr=loaded.error,
            wall_s=time.monotonic() - started_s,
        )
        if loaded.status is not ExecStatus.OK:
            self._end()

    def call(
        self,
        function: str,
        arguments: Sequence[Any],
        *,
        wall_s: float,
        keywords: Mapping[str, Any] | None = None,
    ) -> CallResult:
        """Calls one function; never raises on the candidate's account.

        A function that raises leaves the candidate usable. One that runs out of time, ends the
        process or answers out of turn does not: later calls give `ExecStatus.ENDED`.

        Raises:
            ValueError: If an argument is no plain value.
        """
        if not self._is_alive:
            return CallResult(status=ExecStatus.ENDED, error="the candidate has ended")
        self._number += 1
        try:
            request = codec.encode(
                [self._number, function, list(arguments), dict(keywords or {})],
                max_bytes=_MAX_REQUEST_BYTES,
                max_items=_MAX_REQUEST_BYTES,
            )
        except (codec.NotPlain, codec.TooLarge) as error:
            raise ValueError(f"The arguments of {function} cannot be passed: {error}.") from None
        return self._exchange(LENGTH.pack(len(request)) + request, wall_s)

    def close(self) -> None:
        """Ends the process; calling it twice is harmless."""
        self._end()
        self._process.close()

    def _end(self) -> None:
        if self._is_alive:
            self._is_alive = False
            self._process.kill()

    def _exchange(self, request: bytes, wall_s: float) -> CallResult:
        """Sends a request and reads its reply; both within the deadline."""
        try:
            reply = self._reply(memoryview(request), wall_s)
            return self._result(codec.decode(reply, max_bytes=_MAX_REPLY_BYTES))
        except _Ended as ended:
            self._end()
            return CallResult(status=ended.status, error=str(ended))
        except (codec.Unreadable, codec.TooLarge) as error:
            self._end()
            return CallResult(status=ExecStatus.ERROR, error=f"unreadable result: {error}")

    def _reply(self, request: memoryview, wall_s: float) -> bytes:
        """One whole message, after sending `request`."""
        deadline_s = time.monotonic() + wall_s
        poll = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if request else 0)
        poll.register(self._channel, wanted)
        while True:
            if len(self._received) >= LENGTH.size and not request:
                size = LENGTH.unpack_from(self._received)[0]
                if size > _MAX_REPLY_BYTES:
                    raise _Ended(ExecStatus.ERROR, f"a result of {size} bytes")
                if len(self._received) >= LENGTH.size + size:
                    message = bytes(self._received[LENGTH.size : LENGTH.size + size])
                    del self._received[: LENGTH.size + size]
                    return message
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not poll.poll(left_s * 1000):
                if (extra_s := self._process.grant(wall_s)) > 0:
                    deadline_s += extra_s
                    continue
                raise _Ended(ExecStatus.TIMEOUT, "out of time")
            try:
                if request:
                    request = request[self._channel.send(request[:_MAX_SENT_BYTES]) :]
                    if not request:
                        poll.modify(self._channel, select.POLLIN)
            except BlockingIOError:
                pass
            except OSError:  # it is gone; what it said last may still be read
                request = request[:0]
                poll.modify(self._channel, select.POLLIN)
            self._receive()

    def _receive(self) -> None:
        """Takes what has come, at most one chunk more than a whole reply."""
        try:
            data = self._channel.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            status = self._process.ending()  # leaving early is failing, whatever the exit code
            status = ExecStatus.ERROR if status is ExecStatus.OK else status
            raise _Ended(status, "the program ended")
        self._received += data
        if len(self._received) > LENGTH.size + _MAX_REPLY_BYTES + _CHUNK_BYTES:
            raise _Ended(ExecStatus.ERROR, "more than one result was written")

    def _result(self, reply: Any) -> CallResult:
        """The record of a reply; ends the candidate if it is none, or another was begun."""
        match reply:
            case [int() as number, "value", value, str() as printed] if number == self._number:
                return CallResult(status=ExecStatus.OK, value=value, stdout=printed)
            case [
                int() as number,
                "raised",
                [str() as name, str() as message, str() as trace],
                str() as printed,
            ] if number == self._number:
                status = ExecStatus.OOM if name == "MemoryError" else ExecStatus.ERROR
                error = trace.strip() or f"{name}: {message}"
                return CallResult(status=status, error=error, stdout=printed)
        raise _Ended(ExecStatus.ERROR, "a result was written that nobody asked for")
