"""In: a request and a deadline. Out: the whole reply before the deadline, or an error; connections are kept.

The standard library limits the time of each read, so that a server that sends a byte a second is
waited for without end; here what is left until the deadline is the limit of every step.
"""

import http.client
import io
import os
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult

_MAX_IDLE = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpReply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpPool:
    """Connections to one server; safe under threads, and in a process forked from this one."""

    def __init__(self, url: SplitResult, *, max_reply_bytes: int) -> None:
        self._host = url.hostname or ""
        self._port = url.port
        self._context = ssl.create_default_context() if url.scheme == "https" else None
        self._max_reply_bytes = max_reply_bytes
        self._lock = threading.Lock()
        self._idle: deque[_Connection] = deque()
        self._process = os.getpid()

    def request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], deadline: float
    ) -> HttpReply:
        """Sends a request and reads the reply; again, once, where a kept connection was closed.

        Raises:
            TimeoutError: If the deadline (of `time.monotonic`) passes first.
            OSError: If the server cannot be reached or breaks off.
            http.client.HTTPException: If what it says is not HTTP.
        """
        connection = self._take()
        if connection is not None:
            try:
                return self._exchange(connection, method, path, body, headers, deadline)
            except (ConnectionError, http.client.BadStatusLine):
                pass  # the server had closed it while it was idle
        fresh = _Connection(self._host, self._port, self._context)
        return self._exchange(fresh, method, path, body, headers, deadline)

    def close(self) -> None:
        """Closes all connections that are idle."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    def _take(self) -> "_Connection | None":
        with self._lock:
            if self._process != os.getpid():
                # Forked: these sockets are the parent's, and answers would go to whoever reads.
                self._idle, self._process = deque(), os.getpid()
            return self._idle.pop() if self._idle else None

    def _exchange(
        self,
        connection: "_Connection",
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        deadline: float,
    ) -> HttpReply:
        try:
            connection.deadline = deadline
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            content = response.read(self._max_reply_bytes + 1)
            if len(content) > self._max_reply_bytes:
                raise http.client.HTTPException(
                    f"the reply has more than {self._max_reply_bytes} bytes"
                )
            reply = HttpReply(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=content,
            )
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                if len(self._idle) < _MAX_IDLE and self._process == os.getpid():
                    self._idle.append(connection)
                else:
                    connection.close()
        return reply


class _Connection(http.client.HTTPConnection):
    """A connection whose every step ends at the deadline."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext | None) -> None:
        default_port = http.client.HTTP_PORT if context is None else http.client.HTTPS_PORT
        super().__init__(host, port or default_port)
        self.deadline = 0.0
        self._context = context

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), seconds_left(self.deadline))
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.settimeout(seconds_left(self.deadline))
            if self._context is not None:
                plain = self._context.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise
        self.sock = _DeadlineSocket(plain, self)


class _DeadlineSocket:
    """As much of a socket as `http.client` uses."""

    def __init__(self, inner: socket.socket, connection: _Connection) -> None:
        self._inner = inner
        self._connection = connection

    def sendall(self, data: Any) -> None:
        """Sends everything, by the deadline: `socket.sendall` counts its time limit as a whole."""
        self._inner.settimeout(seconds_left(self._connection.deadline))
        self._inner.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """What the reply is read from; it stays open when the socket is closed, as a socket's does."""
        assert mode == "rb"
        raw = self._inner.makefile("rb", buffering=0)
        return io.BufferedReader(_DeadlineReader(raw, self._inner, self._connection))

    def close(self) -> None:
        """Closes it when its readers are closed too."""
        self._inner.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, raw: Any, sock: socket.socket, connection: _Connection) -> None:
        self._raw = raw
        self._sock = sock
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(seconds_left(self._connection.deadline))
        return self._raw.readinto(buffer)  # type: ignore[no-any-return]

    def close(self) -> None:
        self._raw.close()
        super().close()


def seconds_left(deadline: float) -> float:
    """What is left until a time of `time.monotonic`.

    Raises:
        TimeoutError: If nothing is.
    """
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("the time is over")
    return left_s
