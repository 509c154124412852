"""Which server gets a request, and what happens when it breaks off; an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import warnings
from dataclasses import dataclass, field
from typing import Any

from .engine import Completion, FinishReason, Request
from .event_stream import HttpStatusError, stream_events
from .vllm_server import EngineServerError, ServerHandle

_FIRST_PAUSE_S = 0.25
_MAX_CONVERSATIONS = 100_000


@dataclass(kw_only=True, eq=False)
class PooledServer:
    """One server and how it does."""

    handle: ServerHandle
    model: str
    """The model's name there."""
    held: str
    """Version of its weights, as it says."""
    lost: str = ""
    """Why it is not asked any more."""
    num_running: int = 0
    probe: asyncio.Task[None] | None = None
    """Under way since a request failed there."""


@dataclass(kw_only=True)
class _Partial:
    """What has come of one completion."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class ServerPool:
    """Completions from several servers; all methods are for the thread that made it."""

    def __init__(
        self,
        servers: list[PooledServer],
        *,
        max_requests: int,
        max_retries: int,
        stall_timeout_s: float,
    ) -> None:
        """Starts the thread.

        Args:
            servers: In use until they are lost.
            max_requests: Asked at once, of all servers together; others wait here.
            max_retries: Times that a server is asked for its health after a failure.
            stall_timeout_s: Longest wait for the next tokens of a completion.
        """
        self.servers = servers
        self.done: queue.SimpleQueue[Completion | EngineServerError] = queue.SimpleQueue()
        """What has come, in order; an error where no server can give a completion."""
        self.weight_version = 0
        """Stamped on each completion."""
        self._max_retries = max_retries
        self._stall_timeout_s = stall_timeout_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._homes: dict[str, PooledServer] = {}  # of conversations
        self._room = asyncio.Semaphore(max_requests)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="maskgym-server-pool", daemon=True
        )
        self._thread.start()

    def start(self, request: Request, max_tokens: int) -> None:
        """Asks for a completion."""
        self._loop.call_soon_threadsafe(self._start, request, max_tokens)

    def cancel(self, request_ids: set[str]) -> None:
        """Ends these requests; what has come of them is in `done` when this returns."""
        asyncio.run_coroutine_threadsafe(self._cancel(request_ids), self._loop).result()

    def clear(self) -> None:
        """Ends all requests, and forgets what has come of them and where conversations were."""
        self.cancel(set(self._tasks))
        self.done = queue.SimpleQueue()
        self._homes.clear()

    def close(self) -> None:
        """Ends all requests and the thread."""
        self.clear()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for server in self.servers:
            server.handle.close()

    def lose(self, server: PooledServer, problem: str) -> None:
        """Takes a server out of use."""
        if not server.lost:
            server.lost = problem
            warnings.warn(f"A server is lost: {problem}", stacklevel=2)

    # What follows runs in the loop's thread.

    def _start(self, request: Request, max_tokens: int) -> None:
        task = self._loop.create_task(self._complete(request, max_tokens))
        self._tasks[request.request_id] = task
        task.add_done_callback(lambda _: self._tasks.pop(request.request_id, None))

    async def _cancel(self, request_ids: set[str]) -> None:
        await asyncio.sleep(0)  # a task cancelled before its first step would leave no completion
        tasks = [self._tasks[name] for name in request_ids & self._tasks.keys()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _complete(self, request: Request, max_tokens: int) -> None:
        """Puts the request's completion into `done`, from whichever server gives it."""
        partial = _Partial()
        try:
            async with self._room:
                while partial.finish_reason is None:
                    server = self._choose(request.request_id)
                    server.num_running += 1
                    partial = _Partial()
                    try:
                        await self._ask(server, request, max_tokens, partial)
                    except (OSError, HttpStatusError, ValueError, LookupError) as error:
                        partial.finish_reason = None
                        if isinstance(error, HttpStatusError) and 400 <= error.status < 500:
                            raise EngineServerError(
                                f"{server.handle.name} refuses a request: {error}"
                            ) from error
                        await self._probe(server, error)
                    finally:
                        server.num_running -= 1
        except asyncio.CancelledError:
            partial.finish_reason, partial.stop_reason = FinishReason.ABORT, None
        except EngineServerError as error:
            self.done.put(error)
            return
        reason = partial.stop_reason
        # The second end-of-sequence token of a model comes back as a stop token: not ours.
        if isinstance(reason, int) and reason not in request.params.stop_token_ids:
            reason = None
        assert partial.finish_reason is not None
        self.done.put(
            Completion(
                request_id=request.request_id,
                token_ids=tuple(partial.token_ids),
                logprobs=tuple(partial.logprobs),
                finish_reason=FinishReason(partial.finish_reason),
                stop_reason=reason,
                weight_version=self.weight_version,
            )
        )

    def _choose(self, request_id: str) -> PooledServer:
        """The conversation's server, which has its earlier turns cached; else the least busy one."""
        conversation = request_id.rpartition(".")[0]
        server = self._homes.get(conversation)
        if server is None or server.lost:
            usable = [server for server in self.servers if not server.lost]
            if not usable:
                problems = " ".join(server.lost for server in self.servers)
                raise EngineServerError(f"No server is left. {problems}")
            server = min(usable, key=lambda server: server.num_running)
            if conversation and len(self._homes) < _MAX_CONVERSATIONS:
                self._homes[conversation] = server
        return server

    async def _ask(
        self, server: PooledServer, request: Request, max_tokens: int, partial: _Partial
    ) -> None:
        events = stream_events(
            server.handle.url,
            "/v1/completions",
            completion_body(server.model, request, max_tokens),
            headers=server.handle.headers(),
            stall_timeout_s=self._stall_timeout_s,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                if "error" in event:
                    raise ConnectionError(str(event["error"]))
                for choice in event["choices"]:
                    partial.token_ids += choice["token_ids"]
                    partial.logprobs += choice["logprobs"]["token_logprobs"]
                    partial.finish_reason = choice["finish_reason"]
                    partial.stop_reason = choice.get("stop_reason")
        if partial.finish_reason == FinishReason.ABORT:  # not by us: then this task was cancelled
            raise ConnectionError("the server aborted a request: did another program pause it?")
        if partial.finish_reason is None or len(partial.token_ids) != len(partial.logprobs):
            raise ConnectionError("the server's answer is incomplete")

    async def _probe(self, server: PooledServer, error: Exception) -> None:
        """After a failure: returns once the server answers with the right weights, or is lost."""
        if server.probe is None:
            server.probe = asyncio.create_task(self._probe_now(server, error))
        try:
            await asyncio.shield(server.probe)  # others may wait for it as well
        finally:
            if server.probe is not None and server.probe.done():
                server.probe = None

    async def _probe_now(self, server: PooledServer, error: Exception) -> None:
        problem = f"{server.handle.name}: {type(error).__name__}: {error}."
        for attempt in range(self._max_retries + 1):
            await asyncio.sleep(_FIRST_PAUSE_S * 2 ** (attempt - 1) if attempt else 0.05)
            try:
                held = await asyncio.to_thread(server.handle.weight_version)
            except EngineServerError:
                continue
            if held == server.held:
                return
            problem = (
                f"{server.handle.name} holds weights of version {held}, not {server.held}: it was "
                "restarted, or another trainer uses it."
            )
            break
        self.lose(server, problem)


def completion_body(model: str, request: Request, max_tokens: int) -> dict[str, Any]:
    """The JSON of `POST /v1/completions` of vLLM 0.26 and later: token ids in, token ids out."""
    params = request.params
    return {
        "model": model,
        "prompt": list(request.prompt_ids),
        "max_tokens": max_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": 0.0,  # what is not named here is taken from the model's generation_config.json
        "repetition_penalty": 1.0,
        "stop": list(params.stop),
        "stop_token_ids": list(params.stop_token_ids),
        # Without the sign, as the engine in this process does.
        "seed": None if params.seed is None else params.seed & (2**63 - 1),
        "ignore_eos": params.ignore_eos,
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,  # stop texts may be special tokens
        "add_special_tokens": False,
        "logprobs": 0,  # of the sampled token alone
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
        "stream": True,
    }
