"""In: a pipe that a program writes to. Out: the beginning of what it wrote, up to a limit."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass
class Output:
    """One pipe read without blocking, of which at most `limit` bytes are kept."""

    fd: int
    limit: int
    data: bytearray = field(default_factory=bytearray)
    is_over: bool = False
    """Whether there was more than the limit."""

    def read(self) -> bool | None:
        """Takes what is there; None if nothing is yet, False at the end of the stream."""
        try:
            chunk = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return None
        room = self.limit - len(self.data)
        self.is_over = self.is_over or len(chunk) > room
        self.data += chunk[:room]
        return bool(chunk)

    def drain(self) -> None:
        """Takes what a program that has ended left in the pipe; stops at the limit."""
        while not self.is_over and self.read():
            pass

    def take(self) -> str:
        """What was kept, as text; begins anew."""
        text = self.data.decode("utf-8", "replace")
        self.data.clear()
        self.is_over = False
        return text
