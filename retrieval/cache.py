"""In: queries to any retriever, many of them alike. Out: its hits, each query asked once.

The rollouts of a group ask the same things at the same time: equal queries in flight are searched
once (single flight), finished ones are kept. Both keep the observations of a group identical.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from .passages import Hit
from .retriever import Retriever, check_search

_Key: TypeAlias = tuple[str, str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheStats:
    """What the cache saved so far; the three add up to the queries answered or under way."""

    num_hits: int = 0
    """Answered from memory."""
    num_waits: int = 0
    """Answered by a search that another caller, or the same batch, had under way."""
    num_misses: int = 0
    """Handed on to the retriever."""


class CachedRetriever:
    """Keeps the hits of the last queries, by exact query, ``top_k`` and index fingerprint.

    Failures are not kept: those who wait for a search that fails get its exception, and the next
    to ask tries again. Closing it closes the retriever behind it.
    """

    def __init__(self, inner: Retriever, max_entries: int = 16_384) -> None:
        """Puts a cache before a retriever.

        Args:
            inner: Answers what is not in memory; must be safe under threads.
            max_entries: Queries kept; the longest unused goes first. 0 shares searches in
                flight and keeps nothing.
        """
        if max_entries < 0:
            raise ValueError(f"max_entries is {max_entries}; it is 0 (keep nothing) or more.")
        self.inner = inner
        self.max_entries = max_entries
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, tuple[Hit, ...]] = OrderedDict()
        self._in_flight: dict[_Key, Future[tuple[Hit, ...]]] = {}
        self._stats = CacheStats()

    @property
    def fingerprint(self) -> str:
        """That of the retriever behind it: a cache changes no hit."""
        return self.inner.fingerprint

    @property
    def stats(self) -> CacheStats:
        """Counts since it was made."""
        with self._lock:
            return self._stats

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """As the retriever's own search; what is not known is handed on in one batch."""
        check_search(queries, top_k)
        fingerprint = self.inner.fingerprint
        answers: list[Future[tuple[Hit, ...]]] = []
        mine: dict[_Key, Future[tuple[Hit, ...]]] = {}
        num_hits = 0
        with self._lock:  # all keys of the batch at once: two batches never wait for each other
            for query in queries:
                key = (fingerprint, query, top_k)
                kept = self._kept.get(key)
                answer = self._in_flight.get(key)
                if kept is not None:
                    self._kept.move_to_end(key)
                    answer = Future()
                    answer.set_result(kept)
                    num_hits += 1
                elif answer is None:
                    answer = mine[key] = self._in_flight[key] = Future()
                answers.append(answer)
            self._stats = CacheStats(
                num_hits=self._stats.num_hits + num_hits,
                num_waits=self._stats.num_waits + len(queries) - num_hits - len(mine),
                num_misses=self._stats.num_misses + len(mine),
            )
        if mine:
            self._ask(mine, top_k)
        return [list(answer.result()) for answer in answers]

    def close(self) -> None:
        """Forgets everything and closes the retriever behind it."""
        with self._lock:
            self._kept.clear()
        self.inner.close()

    def _ask(self, asked: dict[_Key, Future[tuple[Hit, ...]]], top_k: int) -> None:
        try:
            found = self.inner.search([query for _, query, _ in asked], top_k)
            if len(found) != len(asked):
                raise RuntimeError(
                    f"{type(self.inner).__name__} gave {len(found)} lists of hits for {len(asked)} "
                    "queries; a retriever gives one list per query."
                )
        except BaseException as error:
            with self._lock:
                for key in asked:
                    del self._in_flight[key]
            # Whoever waits must not be interrupted by a signal that was meant for this thread.
            told = (
                error if isinstance(error, Exception) else RuntimeError("The search was stopped.")
            )
            for answer in asked.values():
                answer.set_exception(told)
            raise
        with self._lock:
            for key, hits in zip(asked, found, strict=True):
                del self._in_flight[key]
                self._kept[key] = tuple(hits)
            while len(self._kept) > self.max_entries:
                self._kept.popitem(last=False)
        for answer, hits in zip(asked.values(), found, strict=True):
            answer.set_result(tuple(hits))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(CachedRetriever, max_entries=self.max_entries), (self.inner,)
