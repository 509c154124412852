"""In: searches of many threads at once. Out: their hits, the retriever asked for many together.

An index that is searched by multiplying matrices, and a model that encodes queries, do a batch in
little more time than one query.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .passages import Hit
from .retriever import Retriever, check_search


@dataclass(slots=True, eq=False)
class _Batch:
    """Queries gathered for one call; the thread that began it makes the call."""

    top_k: int
    end: float
    queries: list[str] = field(default_factory=list)
    is_full: threading.Event = field(default_factory=threading.Event)
    is_done: threading.Event = field(default_factory=threading.Event)
    num_searches: int = 0
    found: list[list[Hit]] | None = None
    """None when the call failed."""
    error: Exception | None = None
    """Why it failed, where that concerns all of them."""


class MicroBatcher:
    """Gathers concurrent searches into one call of the retriever behind it.

    A batch is closed when it is full, or when its time is over and the retriever is free: while one
    call runs, the next batch grows. When a call fails for want of a file or a connection (OSError),
    all its searches do; else each of them is repeated alone, and only those concerned get the error.
    """

    def __init__(
        self,
        inner: Retriever,
        max_batch: int = 64,
        window_s: float = 0.002,
        *,
        max_concurrent: int = 1,
    ) -> None:
        """Puts the gathering before a retriever.

        Args:
            inner: Answers the batches.
            max_batch: Queries at which a batch is full; a search with as many goes alone.
            window_s: Seconds that the first search of a batch waits for others.
            max_concurrent: Calls of ``inner`` that run at once; more where it is a service.
        """
        if max_batch < 1 or max_concurrent < 1:
            raise ValueError(
                f"max_batch is {max_batch}, max_concurrent {max_concurrent}; use 1 or more."
            )
        if not window_s >= 0:
            raise ValueError(f"window_s is {window_s}; use seconds from 0 up.")
        self.inner = inner
        self.max_batch = max_batch
        self.window_s = window_s
        self.max_concurrent = max_concurrent
        self._lock = threading.Lock()
        self._open: dict[int, _Batch] = {}  # by top_k
        self._is_free = threading.Semaphore(max_concurrent)

    @property
    def fingerprint(self) -> str:
        """That of the retriever behind it: batching changes no hit."""
        return self.inner.fingerprint

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """As the retriever's own search."""
        check_search(queries, top_k)
        if not queries:
            return []
        if len(queries) >= self.max_batch:
            with self._is_free:
                return self._ask(queries, top_k)
        with self._lock:
            batch = self._open.get(top_k)
            is_first = batch is None or len(batch.queries) + len(queries) > self.max_batch
            if batch is None or is_first:
                if batch is not None:
                    batch.is_full.set()
                batch = _Batch(top_k, time.monotonic() + self.window_s)
                self._open[top_k] = batch
            place = len(batch.queries)
            batch.queries += queries
            batch.num_searches += 1
            if len(batch.queries) >= self.max_batch:
                self._close(batch)
        if is_first:
            self._lead(batch)
        else:
            batch.is_done.wait()
        if batch.error is not None:
            raise batch.error
        if batch.found is None:
            return self._ask(queries, top_k)
        return batch.found[place : place + len(queries)]

    def close(self) -> None:
        """Closes the retriever behind it."""
        self.inner.close()

    def _lead(self, batch: _Batch) -> None:
        """Waits for others, then searches for all; whatever happens, nobody waits for ever."""
        try:
            left_s = batch.end - time.monotonic()
            if left_s > 0:
                batch.is_full.wait(left_s)
            with self._is_free:
                with self._lock:
                    self._close(batch)
                try:
                    batch.found = self._ask(batch.queries, batch.top_k)
                except Exception as error:
                    if isinstance(error, OSError) or batch.num_searches == 1:
                        batch.error = error
        finally:
            with self._lock:
                self._close(batch)
            batch.is_done.set()

    def _close(self, batch: _Batch) -> None:
        """Lets nobody join any more."""
        batch.is_full.set()
        if self._open.get(batch.top_k) is batch:
            del self._open[batch.top_k]

    def _ask(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        found = self.inner.search(queries, top_k)
        if len(found) != len(queries):
            raise RuntimeError(
                f"{type(self.inner).__name__} gave {len(found)} lists of hits for {len(queries)} "
                "queries; a retriever gives one list per query."
            )
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(
            MicroBatcher,
            max_batch=self.max_batch,
            window_s=self.window_s,
            max_concurrent=self.max_concurrent,
        )
        return make, (self.inner,)
