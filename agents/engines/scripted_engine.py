"""Requests in, prescribed completions out: an engine without a model, for tests of its users."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .completion_end import CompletionEnd
from .engine import Completion, EngineConfig, FinishReason, Request, check_request

if TYPE_CHECKING:
    from torch import Tensor

Script = Callable[[tuple[int, ...]], Sequence[int]]


@dataclass(frozen=True, kw_only=True)
class ScriptedEngineConfig(EngineConfig):
    """How long completions take and what limits them."""

    max_model_len: int | None = 4096
    """Most tokens of prompt and completion together."""
    num_polls: int | tuple[int, ...] = 1
    """Polls until a completion comes back; a tuple is taken in turn, request by request."""
    logprob: float = 0.0
    """Log-probability of every token."""
    eos_ids: tuple[int, ...] = ()
    """Tokens that end a completion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        polls = (self.num_polls,) if isinstance(self.num_polls, int) else self.num_polls
        if self.max_model_len is None or not polls or min(polls) < 1:
            raise ValueError(
                f"max_model_len is {self.max_model_len}, num_polls is {self.num_polls}: give a "
                "number of tokens, and numbers of polls of at least 1."
            )


@dataclass(kw_only=True, slots=True)
class _Pending:
    completion: Completion
    num_polls: int


class ScriptedEngine:
    """An `Engine` that says what it is told to, with the stops and limits of a real one.

    A script that ends before anything stops it ends there, as if at the end of a sequence.

    Example:
        >>> engine = ScriptedEngine(lambda prompt_ids: [7, 8, 9])
        >>> engine.num_unfinished
        0
    """

    def __init__(
        self,
        script: Script | Iterable[str],
        *,
        tokenizer: Any = None,
        config: ScriptedEngineConfig | None = None,
    ) -> None:
        """Takes the script.

        Args:
            script: Gives the tokens after a prompt; or texts, one a request in order of `submit`.
            tokenizer: Encodes the texts, and decodes where a request has stop texts.
            config: Latency and limits.

        Raises:
            ValueError: If texts are given without a tokenizer.
        """
        self._config = config or ScriptedEngineConfig()
        self._script = script if callable(script) else None
        self._texts = deque(() if callable(script) else script)
        if self._script is None and tokenizer is None:
            raise ValueError("A script of texts needs `tokenizer=` to make token ids of them.")
        self._tokenizer = tokenizer
        self._pending: dict[str, _Pending] = {}
        self._num_submitted = 0
        self._weight_version = 0
        self._is_closed = False
        self.requests: list[Request] = []
        """Every request, in order of `submit`."""
        self.updates: list[tuple[int, tuple[str, ...]]] = []
        """Version and parameter names of every weight update."""

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""
        return self._weight_version

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""
        return len(self._pending)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""
        assert self._config.max_model_len is not None
        return self._config.max_model_len

    def submit(self, request: Request) -> None:
        """Queues a request; see `Engine.submit`.

        Raises:
            LookupError: If the script has no text left, or gives no token.
        """
        self._check_open()
        max_tokens = check_request(
            request, max_model_len=self.max_model_len, in_flight=self._pending
        )
        end = CompletionEnd(
            request,
            max_tokens=max_tokens,
            eos_ids=self._config.eos_ids,
            tokenizer=self._tokenizer,
        )
        token_ids: list[int] = []
        reason: tuple[FinishReason, str | int | None] | None = None
        for token in self._scripted(request):
            token_ids.append(token)
            if (reason := end.add(token)) is not None:
                break
        if not token_ids:
            raise LookupError(f"The script gives no token for request {request.request_id!r}.")
        finish_reason, stop_reason = reason or (FinishReason.STOP, None)
        polls = self._config.num_polls
        self._pending[request.request_id] = _Pending(
            completion=Completion(
                request_id=request.request_id,
                token_ids=tuple(token_ids),
                logprobs=(self._config.logprob,) * len(token_ids),
                finish_reason=finish_reason,
                stop_reason=stop_reason,
                weight_version=self._weight_version,
            ),
            num_polls=polls if isinstance(polls, int) else polls[self._num_submitted % len(polls)],
        )
        self._num_submitted += 1
        self.requests.append(request)

    def poll(self) -> list[Completion]:
        """Counts down every request; gives those whose time has come."""
        self._check_open()
        finished: list[Completion] = []
        for request_id, pending in list(self._pending.items()):
            pending.num_polls -= 1
            if pending.num_polls <= 0:
                finished.append(self._pending.pop(request_id).completion)
        return finished

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns them without tokens."""
        for request_id in self._pending.keys() & set(request_ids):
            self._pending[request_id] = _Pending(
                completion=Completion(
                    request_id=request_id,
                    token_ids=(),
                    logprobs=(),
                    finish_reason=FinishReason.ABORT,
                    stop_reason=None,
                    weight_version=self._weight_version,
                ),
                num_polls=0,
            )

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Takes the version and remembers the names.

        Raises:
            RuntimeError: If requests are in flight.
        """
        self._check_open()
        if self._pending:
            raise RuntimeError(
                f"{len(self._pending)} requests are in flight; poll until num_unfinished is 0, "
                "then update the weights."
            )
        self.updates.append((version, tuple(name for name, _ in named_parameters)))
        self._weight_version = version

    def close(self) -> None:
        """Drops what is in flight."""
        self._is_closed = True
        self._pending.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("The engine is closed; open another.")

    def _scripted(self, request: Request) -> Sequence[int]:
        if self._script is not None:
            return self._script(request.prompt_ids)
        if not self._texts:
            raise LookupError(
                f"The script has no text left for request {request.request_id!r} "
                f"(number {self._num_submitted + 1}); give it more."
            )
        ids: list[int] = self._tokenizer.encode(self._texts.popleft(), add_special_tokens=False)
        return ids
