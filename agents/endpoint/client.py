"""In: messages and a deadline. Out: one completion of an OpenAI-compatible server, or an error.

Only the standard library is used. The API key is read from an environment variable at each request, and is
kept, printed and saved nowhere.
"""

import http.client
import json
import os
import re
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, get_args
from urllib.parse import urlsplit

from ...retrieval.http_pool import HttpPool, HttpReply
from ...retrieval.http_retry import pause_s
from ..engines.engine import SamplingParams, nearest_name
from .wire import (
    OWN_FIELDS,
    STOP_FIELD,
    Api,
    EndpointCompletion,
    Messages,
    error_of,
    is_context_overflow,
    parse_completion,
    refused_field,
    request_body,
    shown,
)

_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_MAX_REPLY_BYTES = 64 << 20
_FIRST_DELAY_S = 0.25
_MAX_DELAY_S = 15.0
_CONNECT_TIMEOUT_S = 30.0
_SITE_IS_OVERLOADED = 529  # not in the standard; some providers answer it
_RETRIED = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
    _SITE_IS_OVERLOADED,
}
_BAD_REQUEST = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}
_NO_ACCESS = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
_NO_SUCH_PATH = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """A model behind an OpenAI-compatible server, such as `vllm serve`."""

    base_url: str
    """Address up to the version: "http://127.0.0.1:8000/v1"; without a path, "/v1" is added."""

    model: str = ""
    """Model as the server calls it; empty for the only one that it serves."""

    api_key_env: str = ""
    """Environment variable that holds the API key, such as "OPENAI_API_KEY"; empty to send none."""

    api: Api = "chat"
    """"chat" (the server's chat template), or "completions" (one plain text, for base models)."""

    system: str = ""
    """System message before the first observation; empty for none."""

    timeout_s: float = 300.0
    """Seconds for one action in all, tries and pauses included."""

    max_retries: int = 10
    """Times that one request is sent again after 408, 409, 429, 5xx, a broken connection or a garbled
    reply."""

    max_concurrency: int = 32
    """Episodes that are played at once."""

    max_failures: int = 16
    """Episodes lost to the server in a row after which the play stops, for nothing answers there."""

    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request, such as {"chat_template_kwargs": {"enable_thinking": false}}."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"{self.base_url!r} is no address of a server. Write http://127.0.0.1:8000/v1."
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "base_url holds a user, a query or a fragment: write the address alone, and name the "
                "environment variable of a key in api_key_env."
            )
        if not re.fullmatch(r"[A-Za-z_]\w*|", self.api_key_env, re.ASCII):
            raise ValueError(  # which does not repeat what may be a key
                "api_key_env is no name of an environment variable. Put the key into one "
                "(`export OPENAI_API_KEY=...`) and give its name, OPENAI_API_KEY."
            )
        if self.api not in get_args(Api):
            raise ValueError(f"api is {self.api!r}; use {' or '.join(get_args(Api))}.")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; give more than 0 seconds.")
        for name, lowest in (("max_retries", 0), ("max_concurrency", 1), ("max_failures", 1)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least {lowest}.")
        taken = sorted(set(self.extra_body) & set(OWN_FIELDS))
        if taken:
            raise ValueError(
                f"extra_body sets {', '.join(taken)}, which the endpoint sets itself: use its own "
                "settings (model, temperature, stop strings, token limits)."
            )


class EndpointError(RuntimeError):
    """The server cannot be used at all: wrong address, key or model. No further request will do better."""


class RequestFailedError(RuntimeError):
    """One request got no completion, though others may."""


class ContextOverflowError(RuntimeError):
    """The conversation fills the model's context: not one token more fits."""


class Endpoint:
    """Asks a server for completions, and again where that helps. Connections are kept; safe under threads.

    What the server refuses of a request and can do without (the stop string kept in the text, a seed, a stop
    string, the name of the token limit) is left out from then on; `refused_fields` tells.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._url = _base_url(config.base_url)
        parts = urlsplit(self._url)
        self._path = parts.path
        self._pool = HttpPool(parts, max_reply_bytes=_MAX_REPLY_BYTES)
        self._lock = threading.Lock()
        self._model = config.model
        self._refused: frozenset[str] = frozenset()
        self._takes_stop_field = False

    @property
    def refused_fields(self) -> tuple[str, ...]:
        """Fields that the server refused and that are not sent any more, in order of the alphabet."""
        return tuple(sorted(self._refused))

    @property
    def model(self) -> str:
        """The model's name on the server; asked for where none is configured."""
        if not self._model:
            self.connect()
        return self._model

    def connect(self) -> None:
        """Makes sure that a server answers, and learns the model's name where none is configured.

        Raises:
            EndpointError: If the server cannot be reached, refuses the key, or serves several models.
        """
        with self._lock:
            names = self._served_models()
            if not self._model:
                if len(names) != 1:
                    found = ", ".join(names[:20]) or "no model that it names"
                    raise EndpointError(f"{self._url} serves {found}. Name one model of it.")
                self._model = names[0]

    def complete(
        self,
        messages: Messages,
        params: SamplingParams,
        *,
        deadline: float | None = None,
        is_cancelled: threading.Event | None = None,
    ) -> EndpointCompletion:
        """The model's next message.

        Where the context leaves less than `params.max_tokens`, the completion fills what it leaves.

        Args:
            messages: The conversation, the user's message last.
            params: How to sample.
            deadline: Time of `time.monotonic` at which to give up; `timeout_s` from now at the latest.
            is_cancelled: Once set, no further try is made.

        Raises:
            ContextOverflowError: If the conversation leaves no room for a token.
            RequestFailedError: If there is no completion in time, or the server refuses this conversation.
            EndpointError: If the server would refuse any other as well.
        """
        latest = time.monotonic() + self.config.timeout_s
        deadline = latest if deadline is None else min(latest, deadline)
        is_cancelled = is_cancelled or threading.Event()
        limits = _token_limits(self.config.api, params.max_tokens)
        doubtful: set[str] = set()  # what may be refused, by a server that does not say
        while True:
            body = request_body(
                self.config.api,
                self.model,
                messages,
                params,
                max_tokens=limits[0],
                refused=self._refused | doubtful,
                extra=self.config.extra_body,
            )
            reply = self._request(body, params.stop, deadline, is_cancelled)
            if isinstance(reply, EndpointCompletion):
                self._learn(doubtful)
                self._takes_stop_field |= STOP_FIELD in body
                return reply
            if is_context_overflow(reply.body):
                limits = limits[1:]
                if not limits:
                    raise ContextOverflowError(self._shown(reply))
            elif refused := refused_field(reply.body, body):
                self._learn({refused})
            elif STOP_FIELD in body and not self._takes_stop_field:
                doubtful.add(STOP_FIELD)
            else:
                raise RequestFailedError(f"{self._url} refused the request: {self._shown(reply)}")

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()

    def _learn(self, refused: set[str]) -> None:
        with self._lock:
            self._refused = self._refused | refused  # a new set: others are reading the old one

    def _request(
        self,
        body: dict[str, Any],
        stop: tuple[str, ...],
        deadline: float,
        is_cancelled: threading.Event,
    ) -> EndpointCompletion | HttpReply:
        """The completion, or the refusal of a request that could be put in another way."""
        path = _PATHS[self.config.api]
        content = json.dumps(body).encode()
        problem = "there was no time for it"
        num_tries = 0
        while num_tries <= self.config.max_retries and not is_cancelled.is_set():
            num_tries += 1
            reply: HttpReply | None = None
            try:
                reply = self._send("POST", path, content, deadline)
                if reply.status == HTTPStatus.OK:
                    return parse_completion(reply.body, self.config.api, stop)
                self._raise_if_final(reply)
                if reply.status in _BAD_REQUEST:
                    return reply
                problem = self._shown(reply)
                if reply.status not in _RETRIED:
                    break
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = self._without_key(f"{type(error).__name__}: {error}")
            delay_s = pause_s(num_tries, reply, first_s=_FIRST_DELAY_S, max_s=_MAX_DELAY_S)
            if time.monotonic() + delay_s >= deadline or num_tries > self.config.max_retries:
                break
            is_cancelled.wait(delay_s)
        tries = f"{num_tries} {'try' if num_tries == 1 else 'tries'}"
        raise RequestFailedError(f"{self._url} gave no completion in {tries}; the last: {problem}")

    def _raise_if_final(self, reply: HttpReply) -> None:
        """Raises where no request at all will get an answer."""
        if reply.status in _NO_ACCESS:
            told = self.config.api_key_env
            remedy = f"Check the key in ${told}." if told else "Name its variable in api_key_env."
            raise EndpointError(f"{self._url} refuses access: {self._shown(reply)}. {remedy}")
        if reply.status in _NO_SUCH_PATH:
            raise EndpointError(f"{self._url}: {self._shown(reply)}. {self._model_hint()}")
        if error_of(reply.body).get("code") == "insufficient_quota":
            raise EndpointError(f"{self._url} refuses to go on: {self._shown(reply)}.")

    def _model_hint(self) -> str:
        hint = "Check the address (it ends in /v1, as a rule) and the model's name."
        try:
            names = self._served_models()
        except EndpointError:
            return hint
        if names and self._model not in names:
            return f"There is no model {self._model!r}; did you mean {nearest_name(self._model, names)!r}?"
        return hint

    def _served_models(self) -> list[str]:
        """Names that `GET /models` lists; empty where the server has no such list."""
        deadline = time.monotonic() + min(_CONNECT_TIMEOUT_S, self.config.timeout_s)
        try:
            reply = self._send("GET", "/models", None, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise EndpointError(
                f"{self._url} cannot be asked for its models ({type(error).__name__}: {error}). Is the "
                "server running there? `vllm serve MODEL` starts one on port 8000."
            ) from error
        if reply.status in _NO_ACCESS:
            self._raise_if_final(reply)
        try:
            listed = json.loads(reply.body) if reply.status == HTTPStatus.OK else {}
            rows = listed.get("data") or listed.get("models") or []
            return [str(row["id"]) for row in rows]
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return []

    def _send(self, method: str, path: str, body: bytes | None, deadline: float) -> HttpReply:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        return self._pool.request(method, self._path + path, body, headers, deadline)

    def _key(self) -> str:
        name = self.config.api_key_env
        key = os.environ.get(name, "").strip() if name else ""
        if name and not key:
            raise EndpointError(
                f"The environment variable {name} should hold the API key of {self._url} and is empty: "
                f"`export {name}=...`, or name another one."
            )
        return key

    def _shown(self, reply: HttpReply) -> str:
        return self._without_key(f"{reply.status} {shown(reply.body)}".strip())

    def _without_key(self, text: str) -> str:
        """The text, safe to print and save: some servers say the key back."""
        key = os.environ.get(self.config.api_key_env, "").strip() if self.config.api_key_env else ""
        return text.replace(key, "***") if key else text


def _base_url(url: str) -> str:
    """The address up to the version, whatever part of a path was given with it."""
    base = url.rstrip("/")
    for path in _PATHS.values():
        base = base.removesuffix(path)
    return base if urlsplit(base).path else f"{base}/v1"


def _token_limits(api: str, max_tokens: int) -> list[int | None]:
    """What to ask for, one after the other, until prompt and completion fit into the context.

    Without a limit a chat completion fills the context; the older API then stops after 16 tokens.
    """
    if api == "chat":
        return [max_tokens, None]
    halves: list[int | None] = [max_tokens >> n for n in range(max_tokens.bit_length())]
    return halves
