"""In: a program as text. Out: `HTTPSandbox`, which has a SandboxFusion-compatible service run it.

The service decides what a program can reach; this end cannot probe it, so the tier is "T0" unless
whoever runs the service vouches for another one. Wire format: `POST /run_code`,
https://github.com/bytedance/SandboxFusion (sandbox/server/sandbox_api.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from ...retrieval.http_pool import HttpPool, HttpReply
from ...retrieval.http_retry import NoReplyError, request_with_retries, shown
from .protocol import ExecResult, ExecStatus, SandboxLimits, ScriptsOnly

_MAX_REPLY_BYTES = 1 << 28
_TIERS = ("T0", "T1", "T2", "T3")
_QUEUE_S = 60.0  # a busy service lets a request wait before it runs


class HTTPSandbox(ScriptsOnly):
    """Has a service run each program. Safe from any thread; connections are kept."""

    def __init__(
        self,
        url: str,
        *,
        limits: SandboxLimits | None = None,
        max_tries: int = 3,
        queue_s: float = _QUEUE_S,
        vouched_tier: str = "T0",
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: ``http://host:port`` of the service, with or without ``/run_code``.
            limits: Where a run names none of its own. Wall time and memory are sent; output is cut
                here; the other limits are the service's own.
            max_tries: Requests at most, where the connection breaks or the service is busy; and
                answers at most, where it answers that it failed. A program's own failure is never
                tried again.
            queue_s: Seconds that a run may wait for the service, beside its own time.
            vouched_tier: What the operator of the service says it protects from, "T0" to "T3".

        Raises:
            ValueError: If the URL is none, or a setting is bad.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a service. Write http://127.0.0.1:8080.")
        if max_tries < 1 or not queue_s > 0:
            raise ValueError(f"max_tries is {max_tries}, queue_s {queue_s}; use more than 0.")
        if vouched_tier not in _TIERS:
            raise ValueError(f"vouched_tier is {vouched_tier!r}; use one of {', '.join(_TIERS)}.")
        self.url = url
        self.limits = limits or SandboxLimits()
        path = parts.path.rstrip("/")
        self._path = path if path.endswith("/run_code") else f"{path}/run_code"
        self._max_tries = max_tries
        self._queue_s = queue_s
        self._tier = vouched_tier
        self._pool = HttpPool(parts, max_reply_bytes=_MAX_REPLY_BYTES)
        self._is_closed = False

    def __reduce__(self) -> tuple[Callable[..., HTTPSandbox], tuple[str]]:
        make = partial(
            HTTPSandbox,
            limits=self.limits,
            max_tries=self._max_tries,
            queue_s=self._queue_s,
            vouched_tier=self._tier,
        )
        return make, (self.url,)

    @property
    def tier(self) -> str:
        """What the operator vouches for; it is not probed."""
        return self._tier

    def report(self) -> dict[str, str]:
        """Each kind of protection and what provides it."""
        kinds = ("files", "network", "signals", "memory", "processes", "disk")
        return {
            "tier": f"{self._tier} (vouched for by the operator, not probed)",
            **dict.fromkeys(kinds, "the service's own"),
            "output": "cut after it has arrived",
            "wall clock": "asked of the service, bounded here",
        }

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        """Has `code` run as a script of its own; a service that fails gives a sandbox error."""
        limits = limits or self.limits
        if self._is_closed:
            return _failure("it was closed")
        deadline = time.monotonic() + limits.wall_s + self._queue_s
        body = json.dumps(
            {
                "code": code,
                "stdin": stdin,
                "language": "python",
                "run_timeout": limits.wall_s,
                "memory_limit_MB": limits.memory_mb,
            }
        ).encode()
        for _ in range(self._max_tries):
            try:
                reply = self._post(body, deadline)
            except NoReplyError as error:
                return _failure(f"{self.url} gave {error}")
            if reply.status != HTTPStatus.OK:
                return _failure(f"{self.url} answered {shown(reply)}")
            try:
                return _read(json.loads(reply.body), limits)
            except _NoResultError as error:
                problem = f"{self.url} failed: {error}"
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                problem = f"{self.url} answered what is no result ({error!r}): {shown(reply)}"
        return _failure(problem)

    def close(self) -> None:
        """Closes the connections; later runs give a sandbox error."""
        self._is_closed = True
        self._pool.close()

    def _post(self, body: bytes, deadline: float) -> HttpReply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return request_with_retries(
            self._pool, "POST", self._path, body, headers, deadline, max_tries=self._max_tries
        )


class _NoResultError(Exception):
    """The service says itself that it could not run the program."""


def _read(reply: Any, limits: SandboxLimits) -> ExecResult:
    run = reply["run_result"]
    if reply["status"] == "SandboxError" or run is None or run["status"] == "Error":
        raise _NoResultError(str(reply.get("message") or run)[:300])
    stdout, stderr = str(run["stdout"] or ""), str(run["stderr"] or "")
    cut_stdout, cut_stderr = (_cut(text, limits.max_output_bytes) for text in (stdout, stderr))
    is_truncated = (cut_stdout, cut_stderr) != (stdout, stderr)
    wall_s = float(run.get("execution_time") or 0.0)
    return ExecResult(
        status=_status(run, stderr, is_truncated),
        stdout=cut_stdout,
        stderr=cut_stderr,
        is_truncated=is_truncated,
        wall_s=wall_s if math.isfinite(wall_s) else 0.0,
    )


def _status(run: Any, stderr: str, is_truncated: bool) -> ExecStatus:
    if run["status"] == "TimeLimitExceeded":
        return ExecStatus.TIMEOUT
    if run["status"] != "Finished":
        raise ValueError(f"run_result.status is {run['status']!r}")
    code = int(run["return_code"])
    if is_truncated:
        return ExecStatus.OUTPUT_LIMIT
    if code == 0:
        return ExecStatus.OK
    if code < 0 or code > 128:  # a signal, as subprocess or as a shell reports it
        return ExecStatus.KILLED
    is_memory_error = stderr.rstrip().rpartition("\n")[2].startswith("MemoryError")
    return ExecStatus.OOM if is_memory_error else ExecStatus.ERROR


def _cut(text: str, max_bytes: int) -> str:
    return text.encode("utf-8", "replace")[:max_bytes].decode("utf-8", "ignore")


def _failure(why: str) -> ExecResult:
    return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr=f"sandbox: {why}")
