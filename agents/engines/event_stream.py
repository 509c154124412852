"""In: one request to a server. Out: the events of its answer as they come, without blocking a thread.

`asyncio` and the standard library only. Each request has a connection of its own: closing it is how a
server learns that nobody wants the rest.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import SplitResult

_MAX_EVENT_BYTES = 16 << 20


class HttpStatusError(RuntimeError):
    """The server answered, and not with 200."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status} {body[:500]}".strip())
        self.status = status


async def stream_events(
    url: SplitResult,
    path: str,
    content: dict[str, Any],
    *,
    headers: dict[str, str],
    stall_timeout_s: float,
) -> AsyncGenerator[dict[str, Any], None]:
    """Posts `content` as JSON; yields each event's JSON until the server says `[DONE]`.

    Args:
        url: The server's address; its path is not used.
        path: Path of the request.
        content: Body of the request.
        headers: Beside those that HTTP itself needs.
        stall_timeout_s: Longest time without a byte from the server.

    Raises:
        HttpStatusError: If the status is not 200.
        OSError: If the server cannot be reached, breaks off, or stalls (`TimeoutError`).
    """
    body = json.dumps(content).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {url.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Accept: text/event-stream",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    context = ssl.create_default_context() if url.scheme == "https" else None
    port = url.port or (443 if context else 80)
    async with asyncio.timeout(stall_timeout_s):
        reader, writer = await asyncio.open_connection(
            url.hostname, port, ssl=context, limit=_MAX_EVENT_BYTES
        )
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(stall_timeout_s):
            await writer.drain()
            status, is_chunked = await _head(reader)
        pieces = _chunks(reader, stall_timeout_s) if is_chunked else _rest(reader, stall_timeout_s)
        if status != 200:
            raise HttpStatusError(status, b"".join([piece async for piece in pieces]).decode())
        pending = b""
        async for piece in pieces:
            *events, pending = (pending + piece).split(b"\n\n")
            for event in events:
                data = event.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    return
                if data and not data.startswith(b":"):  # a comment keeps the connection alive
                    yield json.loads(data)
        raise ConnectionError("the server broke off in the middle of a completion")
    except asyncio.IncompleteReadError as error:
        raise ConnectionError("the server closed the connection in the middle") from error
    finally:
        writer.transport.abort()  # at once: what is still to come is not wanted


async def _head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the body comes in chunks."""
    version, _, rest = (await reader.readuntil(b"\r\n")).partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ConnectionError("this is no HTTP server")
    is_chunked = False
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        if name.strip().lower() == "transfer-encoding":
            is_chunked = "chunked" in value.lower()
    return int(rest[:3]), is_chunked


async def _chunks(reader: asyncio.StreamReader, stall_timeout_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout_s):
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = await reader.readexactly(size + 2)
        if not size:
            return
        yield piece[:-2]


async def _rest(reader: asyncio.StreamReader, stall_timeout_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(stall_timeout_s):
            piece = await reader.read(1 << 16)
        if not piece:
            return
        yield piece
