"""In: a descriptor. Out: whole messages: four bytes of length, big-endian, then the bytes.

The blocking half that runs in sandboxed processes; the host's half never blocks (`child.py`).
"""

import os
import struct

LENGTH = struct.Struct(">I")


def read_frame(fd: int) -> bytes | None:
    """The next message; None when the other end is closed."""
    head = _read_exactly(fd, LENGTH.size)
    return None if head is None else _read_exactly(fd, LENGTH.unpack(head)[0])


def write_frame(fd: int, payload: bytes) -> None:
    """Sends a message."""
    rest = memoryview(LENGTH.pack(len(payload)) + payload)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _read_exactly(fd: int, size: int) -> bytes | None:
    parts = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
