"""In: HTTP requests of rollouts, as an ASGI server hands them over. Out: hits, health, metrics.

``POST /retrieve`` (also ``/search``) speaks the dialects of `service_wire`; ``GET /health`` says what
is served and ``GET /metrics`` how it goes. Any ASGI server runs it; `service_process` starts uvicorn.
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeAlias

from .retriever import Retriever
from .service_config import ServiceConfig
from .service_metrics import ServiceMetrics
from .service_queue import OverloadedError, SearchQueue
from .service_wire import (
    FINGERPRINT_HEADER,
    MAX_TOP_K_HEADER,
    SEARCH_PATHS,
    BadRequestError,
    encode_reply,
    parse_request,
)

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Headers: TypeAlias = list[tuple[bytes, bytes]]

_JSON = b"application/json"
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
# Read and thrown away after a body's limit: a client that is cut off while it sends hears no reason.
_UNHEARD_BYTES = 1 << 20
_log = logging.getLogger("uvicorn.error")


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RetrievalApp:
    """One worker of a search service, as an ASGI application.

    It can be pickled until it runs, so that each worker opens the index itself, after it has started:
    memory-mapped files are shared all the same, and no JVM or OpenMP pool is ever forked.
    """

    def __init__(
        self,
        open_retriever: Callable[[], Retriever],
        config: ServiceConfig | None = None,
        *,
        metrics_file: Path | None = None,
    ) -> None:
        """Makes an application that opens nothing yet.

        Args:
            open_retriever: Opens the index; called when the server starts.
            config: Limits; the default is `ServiceConfig()`.
            metrics_file: Made by `ServiceMetrics.create`, where several workers share one port.
        """
        self.config = config or ServiceConfig()
        self._open_retriever = open_retriever
        self._metrics_file = metrics_file
        self._authorization = f"Bearer {self.config.token or ''}".encode()
        self._health = b""
        self._own_headers: _Headers = []
        # Made when the server starts:
        self._retriever: Retriever
        self._metrics: ServiceMetrics
        self._queue: SearchQueue

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answers one request, or follows the server's life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            start = time.perf_counter()
            reply = await self._reply(scope, receive)
            if reply is None:  # the client has gone
                return
            self._metrics.answered(reply.status, time.perf_counter() - start)
            headers = [
                (b"content-type", reply.content_type),
                (b"content-length", str(len(reply.body)).encode()),
                *reply.headers,
                *self._own_headers,
            ]
            await send({"type": "http.response.start", "status": reply.status, "headers": headers})
            body = b"" if scope["method"] == "HEAD" else reply.body
            await send({"type": "http.response.body", "body": body})

    async def _live(self, receive: _Receive, send: _Send) -> None:
        await receive()
        try:
            await self._start()
        except Exception as error:
            _log.debug("The index cannot be served.", exc_info=True)
            message = f"The index cannot be served: {type(error).__name__}: {error}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._metrics.set("ready_workers", 0)
        self._metrics.set("pending_queries", 0)
        self._queue.close()
        self._retriever.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _start(self) -> None:
        self._metrics = ServiceMetrics(self._metrics_file)
        self._retriever = await asyncio.to_thread(self._open_retriever)
        fingerprint = self._retriever.fingerprint
        self._own_headers = [
            (FINGERPRINT_HEADER.encode(), fingerprint.encode()),
            (MAX_TOP_K_HEADER.encode(), str(self.config.max_top_k).encode()),
        ]
        self._health = _json(
            {
                "status": "ok",
                "service": "maskgym",
                "fingerprint": fingerprint,
                "default_top_k": self.config.default_top_k,
                "max_top_k": self.config.max_top_k,
                "max_queries": self.config.max_queries,
            }
        )
        self._queue = SearchQueue(self._retriever, self.config, self._metrics)
        await self._queue.warm_up()
        self._metrics.set("ready_workers", 1)

    async def _reply(self, scope: _Message, receive: _Receive) -> _Reply | None:
        path = scope["path"].rstrip("/")
        is_search = path in SEARCH_PATHS
        if not is_search and path not in ("/health", "/metrics"):
            return _error(
                HTTPStatus.NOT_FOUND,
                f"Nothing at {path or '/'}. POST to /retrieve; GET /health and /metrics.",
            )
        if scope["method"] not in (("POST",) if is_search else ("GET", "HEAD")):
            allowed = "POST" if is_search else "GET"
            return _error(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"{path} takes {allowed}, not {scope['method']}.",
                (b"allow", allowed.encode()),
            )
        if path == "/health":
            return _Reply(HTTPStatus.OK, self._health)
        if self.config.token is not None and not self._is_known(scope["headers"]):
            return _error(
                HTTPStatus.UNAUTHORIZED,
                "This service asks for its token. Send it as Authorization: Bearer TOKEN.",
                (b"www-authenticate", b"Bearer"),
            )
        if path == "/metrics":
            return _Reply(HTTPStatus.OK, self._metrics.render().encode(), _TEXT)
        return await self._search(scope["headers"], receive)

    async def _search(self, headers: _Headers, receive: _Receive) -> _Reply | None:
        try:
            body = await self._body(headers, receive)
            if body is None:
                return None
            request = parse_request(body, self.config)
            answers = await self._queue.answer(request)
        except BadRequestError as error:
            # What is left of a body that is too large is not read: the connection ends.
            is_unread = error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            return _error(error.status, str(error), *([(b"connection", b"close")] * is_unread))
        except OverloadedError as error:
            after = str(error.retry_after_s)
            return _error(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"Busy: {error}. Try again in {after} s.",
                (b"retry-after", after.encode()),
            )
        except TimeoutError as error:
            return _error(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"No answer within {self.config.timeout_s:g} s: {error}.",
            )
        except Exception as error:
            _log.exception("A search failed.")
            return _error(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f"The search failed: {type(error).__name__}: {error}",
            )
        self._metrics.add("queries", len(request.queries))
        self._metrics.add("cut_queries", request.num_cut)
        return _Reply(HTTPStatus.OK, encode_reply(answers))

    async def _body(self, headers: _Headers, receive: _Receive) -> bytes | None:
        """The whole body; None if the client goes away first."""
        limit = self.config.max_body_bytes
        announced = next((value for name, value in headers if name == b"content-length"), b"")
        if announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size_bytes, is_whole = 0, False
        while not is_whole:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part = message.get("body", b"")
            size_bytes += len(part)
            if size_bytes <= limit:
                parts.append(part)
            elif size_bytes > limit + _UNHEARD_BYTES:
                break
            is_whole = not message.get("more_body", False)
        if size_bytes > limit:
            raise _too_large(limit)
        return b"".join(parts)

    def _is_known(self, headers: _Headers) -> bool:
        given = next((value for name, value in headers if name == b"authorization"), b"")
        return hmac.compare_digest(given, self._authorization)


def _too_large(max_bytes: int) -> BadRequestError:
    return BadRequestError(
        f"The body has more than {max_bytes} bytes. Send the queries in parts.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def _error(status: HTTPStatus, message: str, *headers: tuple[bytes, bytes]) -> _Reply:
    return _Reply(status, _json({"error": message}), _JSON, headers)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
