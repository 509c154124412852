"""Any engine, with the length of each completion prescribed: benchmarks must not depend on the model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from .engine import Completion, Engine, Request

if TYPE_CHECKING:
    from torch import Tensor


class ScriptedLengths:
    """An `Engine` that generates as many tokens as it is told to, past every stop.

    A model with random weights never says a stop text, and says the end of a sequence at random:
    lengths from one table make two programs do the same work.

    Example::

        lengths = {"0.0": 12, "0.1": 30}
        engine = ScriptedLengths(engine, lambda request: lengths[request.request_id])
    """

    def __init__(self, engine: Engine, num_tokens: Callable[[Request], int]) -> None:
        """Wraps an engine; closing this one closes it.

        Args:
            engine: What generates.
            num_tokens: Length of a request's completion, at least 1; clipped by `max_tokens` and by
                the context.
        """
        self._engine = engine
        self._num_tokens = num_tokens

    @property
    def weight_version(self) -> int:
        """See `Engine.weight_version`."""
        return self._engine.weight_version

    @property
    def num_unfinished(self) -> int:
        """See `Engine.num_unfinished`."""
        return self._engine.num_unfinished

    @property
    def max_model_len(self) -> int:
        """See `Engine.max_model_len`."""
        return self._engine.max_model_len

    def submit(self, request: Request) -> None:
        """Queues a request with the length prescribed; see `Engine.submit`."""
        params = replace(
            request.params,
            max_tokens=min(request.params.max_tokens, self._num_tokens(request)),
            ignore_eos=True,
            stop=(),
            stop_token_ids=(),
        )
        self._engine.submit(replace(request, params=params))

    def poll(self) -> list[Completion]:
        """See `Engine.poll`."""
        return self._engine.poll()

    def abort(self, request_ids: Iterable[str]) -> None:
        """See `Engine.abort`."""
        self._engine.abort(request_ids)

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """See `Engine.update_weights`."""
        self._engine.update_weights(named_parameters, version=version)

    def close(self) -> None:
        """Closes the engine."""
        self._engine.close()
