"""Sampled tokens in, one at a time; why the completion ends with one of them out."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .engine import FinishReason, Request


class CompletionEnd:
    """Watches one growing completion for all that can end it.

    In this order, which is vLLM's: end of sequence, stop token, stop text, length.
    """

    def __init__(
        self, request: Request, *, max_tokens: int, eos_ids: Collection[int], tokenizer: Any
    ) -> None:
        """Sets the limits.

        Raises:
            ValueError: If the request has stop texts and there is no tokenizer.
        """
        self._params = request.params
        self._max_tokens = max_tokens
        self._eos_ids = eos_ids
        self._num_tokens = 0
        self._tail = ""
        self._stream: Any = None
        if not request.params.stop:
            return
        if tokenizer is None:
            raise ValueError(
                f"Request {request.request_id!r} has stop texts, and the engine no tokenizer: "
                "give the engine one, or use stop_token_ids."
            )
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer.backend_tokenizer
        self._longest = max(map(len, request.params.stop))
        # The end of the prompt primes it: some tokenizers strip a space from the first token.
        self._stream = DecodeStream(ids=list(request.prompt_ids[-8:]), skip_special_tokens=False)

    def add(self, token: int) -> tuple[FinishReason, str | int | None] | None:
        """Finish reason and stop reason, if this token is the last; None where it goes on."""
        self._num_tokens += 1
        if token in self._eos_ids and not self._params.ignore_eos:
            return FinishReason.STOP, None
        if token in self._params.stop_token_ids:
            return FinishReason.STOP, token
        if self._stream is not None and (stop := self._stop_text(token)) is not None:
            return FinishReason.STOP, stop
        if self._num_tokens >= self._max_tokens:
            return FinishReason.LENGTH, None
        return None

    def _stop_text(self, token: int) -> str | None:
        """The stop text that this token completes, the first in the request's order."""
        new = self._stream.step(self._tokenizer, token) or ""  # None inside a character
        text = self._tail + new
        self._tail = text[max(0, len(text) - self._longest + 1) :]
        return next((stop for stop in self._params.stop if stop in text), None)
