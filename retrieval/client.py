"""In: queries. Out: hits of a search service: ours, Search-R1's, verl's or SkyRL's."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from .http_pool import HttpPool, HttpReply
from .http_retry import NoReplyError, request_with_retries, shown
from .passages import Hit
from .retriever import check_search
from .service_wire import FINGERPRINT_HEADER, MAX_TOP_K_HEADER, SEARCH_PATHS, parse_reply

Dialect: TypeAlias = Literal["auto", "queries", "query"]

_MAX_REPLY_BYTES = 1 << 30
_AT_ONCE = 16
_UNKNOWN_DIALECT = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}


class RetrieverError(OSError):
    """A search service that is down, too slow, or answers what is no answer."""


class RemoteRetriever:
    """Asks a search service, and asks again where that helps, until a deadline.

    Connections are kept. Safe under threads; a pickled copy makes connections of its own.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 30.0,
        max_tries: int = 10,
        dialect: Dialect = "auto",
        token: str | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: ``http://host:port``, with or without the path that is asked (``/retrieve``).
            timeout_s: Seconds for a search in all, tries and pauses included.
            max_tries: Requests at most, the first one included. A refused or broken connection, and
                the status 429, 500, 502, 503 or 504, are tried again, after a pause that grows or
                that the service names.
            dialect: Whether all queries go in one request (``queries``: ours, Search-R1, verl) or
                each in its own (``query``: SkyRL's server). ``auto`` finds out.
            token: Sent as ``Authorization: Bearer``.

        Raises:
            ValueError: If the URL is none, or a setting is bad.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a service. Write http://127.0.0.1:8000.")
        if not timeout_s > 0 or max_tries < 1:
            raise ValueError(f"timeout_s is {timeout_s}, max_tries {max_tries}; use more than 0.")
        if dialect not in get_args(Dialect):
            raise ValueError(f"dialect is {dialect!r}; use {', '.join(get_args(Dialect))}.")
        path = parts.path.rstrip("/") or SEARCH_PATHS[0]
        self.url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"
        self.timeout_s = timeout_s
        self._path = path
        self._health_path = f"{path.rpartition('/')[0]}/health"
        self._query_string = f"?{parts.query}" if parts.query else ""
        self._max_tries = max_tries
        self._asked_dialect: Dialect = dialect
        self._dialect: Dialect = dialect
        self._token = token
        self._pool = HttpPool(parts, max_reply_bytes=_MAX_REPLY_BYTES)
        self._fingerprint = ""
        self._is_closed = False

    @property
    def fingerprint(self) -> str:
        """That of the index where the service is ours, else one made of the URL.

        Asked once, then taken from every answer: it changes when another index is served.

        Raises:
            RetrieverError: If the service cannot be asked.
        """
        if not self._fingerprint:
            self._ask_health(time.monotonic() + self.timeout_s)
        return self._fingerprint

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """As any retriever; the score is 0.0 where the service gives none.

        Raises:
            RetrieverError: If there is no answer within ``timeout_s``, or none that can be read.
        """
        check_search(queries, top_k)
        if self._is_closed:
            raise ValueError(f"The client of {self.url} is closed. Make another one.")
        if not queries:
            return []
        deadline = time.monotonic() + self.timeout_s
        if self._dialect != "query":
            reply = self._try({"queries": list(queries)}, top_k, deadline)
            if self._dialect == "auto" and reply.status in _UNKNOWN_DIALECT:
                single = self._try({"query": queries[0]}, top_k, deadline)
                if single.status == HTTPStatus.OK:
                    self._dialect = "query"
                    rest = self._search_each(queries[1:], top_k, deadline)
                    return [*self._hits(single, 1, top_k), *rest]
            hits = self._hits(reply, len(queries), top_k)
            self._dialect = "queries"
            return hits
        return self._search_each(queries, top_k, deadline)

    def close(self) -> None:
        """Closes the connections; it answers no more searches."""
        self._is_closed = True
        self._pool.close()

    def _search_each(self, queries: Sequence[str], top_k: int, deadline: float) -> list[list[Hit]]:
        def ask(query: str) -> list[Hit]:
            [hits] = self._hits(self._try({"query": query}, top_k, deadline), 1, top_k)
            return hits

        if len(queries) < 2:
            return [ask(query) for query in queries]
        with ThreadPoolExecutor(min(len(queries), _AT_ONCE)) as threads:
            return list(threads.map(ask, queries))

    def _hits(self, reply: HttpReply, num_queries: int, top_k: int) -> list[list[Hit]]:
        if reply.status != HTTPStatus.OK:
            raise RetrieverError(f"{self.url} answered {shown(reply)}. {_remedy(reply.status)}")
        try:
            found = parse_reply(reply.body, num_queries)
        except (ValueError, RecursionError) as error:
            raise RetrieverError(
                f"{self.url} answered what is no list of hits ({error}): {shown(reply)}. "
                "Is it a search service?"
            ) from error
        most = reply.headers.get(MAX_TOP_K_HEADER, "")
        if most.isdecimal() and top_k > int(most):
            raise ValueError(
                f"top_k is {top_k}, but {self.url} gives {most} hits at most. Ask for fewer, or "
                "start it with a larger --max-top-k."
            )
        name = reply.headers.get(FINGERPRINT_HEADER)
        if name:
            self._fingerprint = name
        return [hits[:top_k] for hits in found]

    def _try(self, asked: dict[str, Any], top_k: int, deadline: float) -> HttpReply:
        """The first reply that is worth nothing to ask for again, or the last one."""
        body = json.dumps({**asked, "topk": top_k, "return_scores": True}).encode()
        return self._request("POST", self._path + self._query_string, body, deadline)

    def _request(self, method: str, path: str, body: bytes | None, deadline: float) -> HttpReply:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            return request_with_retries(
                self._pool, method, path, body, headers, deadline, max_tries=self._max_tries
            )
        except NoReplyError as error:
            raise RetrieverError(
                f"{self.url} gave {error}. Is the service running there?"
            ) from None

    def _ask_health(self, deadline: float) -> None:
        reply = self._request("GET", self._health_path, None, deadline)
        try:
            health = json.loads(reply.body) if reply.status == HTTPStatus.OK else None
        except (ValueError, RecursionError):
            health = None
        name = health.get("fingerprint") if isinstance(health, dict) else None
        self._fingerprint = name if isinstance(name, str) and name else f"remote:{self.url}"

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            RemoteRetriever,
            timeout_s=self.timeout_s,
            max_tries=self._max_tries,
            dialect=self._asked_dialect,
            token=self._token,
        )
        return make, (self.url + self._query_string,)


def _remedy(status: int) -> str:
    match status:
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return "Pass its token: token=."
        case HTTPStatus.NOT_FOUND | HTTPStatus.METHOD_NOT_ALLOWED:
            return "Check the path of the URL."
        case _:
            return "Check the request and the service."
