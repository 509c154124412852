"""In: a request and a deadline. Out: a reply worth reading, asked for again where that helps."""

import http.client
import random
import time
from http import HTTPStatus

from .http_pool import HttpPool, HttpReply

_FIRST_DELAY_S = 0.1
_MAX_DELAY_S = 5.0
_RETRIED = {
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
}


class NoReplyError(OSError):
    """Every try failed; the message says how many there were and what the last one brought."""


def request_with_retries(
    pool: HttpPool,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    deadline: float,
    *,
    max_tries: int,
) -> HttpReply:
    """The first reply that is worth nothing to ask for again.

    A refused or broken connection, and the status 429, 500, 502, 503 or 504, are tried again, after
    a pause that doubles, or that the server names in `Retry-After`.

    Args:
        pool: Connections to the server.
        method: Of the request.
        path: With its query string.
        body: To send, or None.
        headers: To send.
        deadline: Of `time.monotonic`; no pause reaches beyond it.
        max_tries: Requests at most, the first one included.

    Raises:
        NoReplyError: If the tries or the time are used up.
    """
    problem, started_s = "", time.monotonic()
    for number in range(1, max_tries + 1):
        reply: HttpReply | None = None
        try:
            reply = pool.request(method, path, body, headers, deadline)
            if reply.status not in _RETRIED:
                return reply
            problem = shown(reply)
        except (OSError, http.client.HTTPException) as error:
            problem = f"{type(error).__name__}: {error}"
        delay_s = pause_s(number, reply)
        if number == max_tries or time.monotonic() + delay_s >= deadline:
            break
        time.sleep(delay_s)
    tries = "1 try" if number == 1 else f"{number} tries"
    raise NoReplyError(
        f"no answer in {tries} within {deadline - started_s:.3g} s; the last: {problem}"
    )


def shown(reply: HttpReply) -> str:
    """The status and the beginning of the body, on one line."""
    text = " ".join(reply.body[:300].decode("utf-8", "replace").split())
    return f"{reply.status} {text}".strip()


def pause_s(
    num_tries: int,
    reply: HttpReply | None,
    *,
    first_s: float = _FIRST_DELAY_S,
    max_s: float = _MAX_DELAY_S,
) -> float:
    """Seconds to wait after so many tries: doubling, or what the last reply names in `Retry-After`."""
    delay_s = min(max_s, first_s * 2.0 ** (num_tries - 1))
    delay_s *= 0.5 + random.random() / 2  # of many clients not all at the same moment
    named = reply.headers.get("retry-after", "") if reply is not None else ""
    return max(delay_s, float(named)) if named.isdecimal() else delay_s
