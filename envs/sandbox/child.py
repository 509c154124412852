"""In: the host's ends of a child's pipes and sockets. Out: `Child`: what it says, how it ends.

The host's half of `inside/fork_server.py`. Nothing here blocks on what untrusted code does: every
descriptor is non-blocking, output is read up to its limit, a message up to its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from dataclasses import dataclass

from .inside.fork_server import ENDING, WAITED
from .inside.frames import LENGTH
from .output import Output

MAX_MESSAGE_BYTES = 16 << 20
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a child's process ended, as the fork server saw it."""

    exit_code: int
    """The exit code, or minus the number of the signal that ended it."""
    cpu_s: float
    max_rss_kb: int
    passed: bytes
    """Which limit watched by the fork server it passed: `NOTHING`, `DISK` or `THREADS`."""


class ChildGoneError(Exception):
    """The child ended, or was lost, while the host waited for its answer."""


class Child:
    """One sandboxed process. Used by one thread at a time; `kill` may come from any."""

    def __init__(
        self,
        *,
        leash: socket.socket,
        stdout_fd: int,
        stderr_fd: int,
        channel: socket.socket | None,
        max_output_bytes: int,
    ) -> None:
        self.channel = channel
        """The socket to the mode's loop in the child; None for a script."""
        self.stdout = Output(stdout_fd, max_output_bytes)
        self.stderr = Output(stderr_fd, max_output_bytes)
        self.started_at: float | None = None
        """When the program began, on the clock of `time.monotonic`."""
        self.ended_at: float | None = None
        self.ending: Ending | None = None
        """How it ended; None while it runs, and for ever if the fork server was lost."""
        self.is_lost = False
        """Whether the fork server let go of it without a word, which it does when it dies."""
        self.failure = ""
        """What the sandbox itself failed at."""
        self._leash = leash
        self._num_acknowledged = 0
        self._waited_s: float | None = None
        self._unsent = bytearray()
        self._received = bytearray()
        self._is_channel_open = channel is not None
        self._has_sent = False  # until then the channel is left to whoever wants to read it
        self._poll = select.poll()
        self._open_outputs = {stdout_fd: self.stdout, stderr_fd: self.stderr}
        leash.setblocking(False)
        self._poll.register(leash.fileno(), _READABLE)
        for fd in self._open_outputs:
            os.set_blocking(fd, False)
            self._poll.register(fd, _READABLE)
        if channel is not None:
            channel.setblocking(False)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come."""
        return self.ended_at is not None

    @property
    def is_output_over(self) -> bool:
        """Whether there was more output than allowed."""
        return self.stdout.is_over or self.stderr.is_over

    def kill(self) -> None:
        """Has the process killed; harmless when it has ended."""
        with contextlib.suppress(OSError):
            self._leash.send(b"K")

    def interrupt(self, timeout_s: float = 5.0) -> bool:
        """Sends SIGINT; gives whether it is certain to arrive before anything sent afterwards."""
        wanted = self._num_acknowledged + 1
        with contextlib.suppress(OSError):
            self._leash.send(b"I")
        deadline = time.monotonic() + timeout_s
        while self._num_acknowledged < wanted and not self.has_ended:
            if not self.poll(deadline - time.monotonic()) and time.monotonic() >= deadline:
                return False
        return self._num_acknowledged >= wanted

    def waited_s(self, timeout_s: float = 1.0) -> float:
        """Seconds that it has waited for a processor so far; 0.0 if the fork server does not say."""
        self._waited_s = None
        with contextlib.suppress(OSError):
            self._leash.send(b"W")
        deadline = time.monotonic() + timeout_s
        while self._waited_s is None and not self.has_ended:
            if not self.poll(deadline - time.monotonic()) and time.monotonic() >= deadline:
                break
        return self._waited_s or 0.0

    def poll(self, timeout_s: float) -> bool:
        """Waits for news and takes in all of it; False if there were none in time."""
        events = self._poll.poll(max(0.0, timeout_s) * 1000)
        leash_fd = self._leash.fileno()
        has_leash_news = False
        for fd, event in events:
            if fd == leash_fd:
                has_leash_news = True
            elif (output := self._open_outputs.get(fd)) is not None:
                if output.read() is False:
                    self._poll.unregister(fd)
                    del self._open_outputs[fd]
            else:
                self._move_messages(event)
        if has_leash_news:  # last, so that output is not taken for the next one's
            self._listen()
        return bool(events)

    def wait(self, timeout_s: float) -> Ending | None:
        """Waits for the end; None if it has not come in time, or the fork server was lost."""
        deadline = time.monotonic() + timeout_s
        while not self.has_ended and (remaining := deadline - time.monotonic()) > 0:
            self.poll(remaining)
        return self.ending

    def send(self, message: bytes) -> None:
        """Queues a message for the child's loop; `poll` sends it.

        Raises:
            ChildGoneError: If the child has ended, or said something that nobody asked for.
        """
        assert self.channel is not None
        if not self._has_sent:
            self._has_sent = True
            self._poll.register(self.channel.fileno(), _READABLE)
        self._move_messages(select.POLLIN)
        if self._received or not self._is_channel_open:
            raise ChildGoneError("the process has ended, or spoke unasked")
        self._unsent += LENGTH.pack(len(message)) + message
        self._move_messages(select.POLLOUT)

    def message(self) -> bytes | None:
        """The next whole message from the child's loop, if it has arrived.

        Raises:
            ChildGoneError: If none will come: it has ended, or says what is no message.
        """
        if len(self._received) >= LENGTH.size:
            size = LENGTH.unpack_from(self._received)[0]
            if size > MAX_MESSAGE_BYTES:
                raise ChildGoneError(f"a message of {size} bytes; at most {MAX_MESSAGE_BYTES}")
            end = LENGTH.size + size
            if len(self._received) >= end:
                message = bytes(self._received[LENGTH.size : end])
                del self._received[:end]
                return message
        if self.has_ended or not self._is_channel_open:
            raise ChildGoneError("the process has ended, or closed its channel")
        return None

    def exchange(self, message: bytes, deadline: float) -> bytes | None:
        """Sends a message and waits for one; None if it has not come by `deadline` (monotonic).

        Raises:
            ChildGoneError: If none will come.
        """
        self.send(message)
        return self.await_message(deadline)

    def await_message(self, deadline: float) -> bytes | None:
        """Waits for a message, reading output meanwhile; None at the deadline or too much output."""
        while (message := self.message()) is None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or self.is_output_over:
                return None
            self.poll(remaining)
        return message

    def drain(self) -> None:
        """Takes the output that has been written so far, up to the limit."""
        self.stdout.drain()
        self.stderr.drain()

    def close(self) -> None:
        """Kills what still runs and closes every descriptor; calling it twice is harmless."""
        if self._leash.fileno() < 0:
            return
        self.kill()
        self._leash.close()
        if self.channel is not None:
            self.channel.close()
        self._is_channel_open = False
        os.close(self.stdout.fd)
        os.close(self.stderr.fd)
        self.ended_at = self.ended_at or time.monotonic()

    def _listen(self) -> None:
        while not self.has_ended:
            try:
                word = self._leash.recv(8192)
            except BlockingIOError:
                return
            except ConnectionResetError:  # our word came too late; its last one is still there
                continue
            kind, rest = word[:1], word[1:]
            if kind == b"S":
                self.started_at = time.monotonic()
            elif kind == b"I":
                self._num_acknowledged += 1
            elif kind == b"W":
                self._waited_s = WAITED.unpack(rest)[0]
            elif kind == b"X":
                self.failure = rest.decode("utf-8", "replace")
            else:
                self.ended_at = time.monotonic()
                if kind == b"E":
                    self.ending = _ending(rest)
                elif not self.failure:
                    self.is_lost = True
                    self.failure = "the fork server was lost"

    def _move_messages(self, event: int) -> None:
        assert self.channel is not None
        try:
            if event & select.POLLOUT and self._unsent:
                del self._unsent[: self.channel.send(self._unsent)]
            if event & _READABLE and self._is_channel_open:
                self._receive()
        except BlockingIOError:
            pass
        except OSError:  # the child's end is closed
            self._is_channel_open = False
        if not self._is_channel_open:
            with contextlib.suppress(KeyError):
                self._poll.unregister(self.channel.fileno())
            return
        wants = _READABLE | select.POLLOUT if self._unsent else _READABLE
        self._poll.modify(self.channel.fileno(), wants)

    def _receive(self) -> None:
        assert self.channel is not None
        room = MAX_MESSAGE_BYTES + LENGTH.size - len(self._received)
        part = self.channel.recv(min(1 << 16, max(room, 1)))
        self._received += part
        self._is_channel_open = bool(part)


def _ending(word: bytes) -> Ending:
    status, user_s, system_s, max_rss_kb, passed = ENDING.unpack(word)
    return Ending(
        exit_code=os.waitstatus_to_exitcode(status),
        cpu_s=user_s + system_s,
        max_rss_kb=max_rss_kb,
        passed=passed,
    )
