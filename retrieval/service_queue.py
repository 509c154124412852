"""In: search requests of many clients. Out: encoded hits, each query searched once, or no for an answer.

Waiting queries are handed to the index together, and equal ones once. Where a search is shorter than
the switch to a thread it runs on the event loop, in slices, so that requests are still read and
those too many still refused in between.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median
from typing import TypeAlias

from .retriever import Retriever
from .service_config import ServiceConfig
from .service_metrics import ServiceMetrics
from .service_wire import SearchRequest, encode_hits

_Key: TypeAlias = tuple[str, int, bool]

_SLICE_S, _LONGEST_SLICE_S = 0.002, 0.25
_INLINE_BATCH = 8
_ENTRY_BYTES = 300  # of a kept answer, beside its text
_MEMORY = 0.05  # weight of the last search in the running mean
_PACE_S, _PACE_QUERIES = 0.5, 128  # for how long the queue's pace is measured at a time, at least
_PACE_MEMORY = 0.3
_WARM_UP = (
    "who won the first nobel prize in physics",
    "capital of the largest country in south america",
    "year in which the war ended",
    "history of the university and its founder",
    "film directed by the author of the book",
    "population of the city on the river",
)


class OverloadedError(Exception):
    """There is no room for a request now."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many queries wait; the last of them for about {wait_s:.1f} s")
        self.retry_after_s = max(1, min(10, math.ceil(wait_s)))


@dataclass(slots=True, eq=False)
class _Ticket:
    """What one request waits for."""

    done: asyncio.Future[None]
    answers: list[bytes]
    num_missing: int = 0


@dataclass(slots=True, eq=False)
class _Search:
    """One query under way, and where its answer goes."""

    key: _Key
    since: float
    waiting: list[tuple[_Ticket, int]] = field(default_factory=list)


_Outcome: TypeAlias = bytes | Exception


class SearchQueue:
    """Searches for the requests of one event loop; every method is called on that loop."""

    def __init__(
        self, retriever: Retriever, config: ServiceConfig, metrics: ServiceMetrics
    ) -> None:
        self._retriever = retriever
        self._config = config
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(config.num_threads, thread_name_prefix="maskgym-search")
        self._kept: OrderedDict[_Key, bytes] = OrderedDict()
        self._kept_bytes = 0
        self._in_flight: dict[_Key, _Search] = {}
        self._pending: deque[_Search] = deque()
        self._num_running = 0
        self._is_draining = False
        self._drained = 0.0
        self._is_inline = False
        self._cost_s = 0.0
        self._pace_s = 0.0
        self._pace_since = 0.0
        self._num_done = 0

    async def warm_up(self) -> None:
        """Searches a few times, so that the first client does not wait for what happens but once."""
        costs = await self._loop.run_in_executor(self._threads, self._measure)
        self._cost_s = median(costs)
        self._set_inline(self._cost_s < self._config.inline_below_s)

    async def answer(self, request: SearchRequest) -> list[bytes]:
        """The encoded hits of each query.

        Raises:
            OverloadedError: If too much is waiting already.
            TimeoutError: If it takes longer than ``timeout_s``.
            Exception: What the search raised.
        """
        keys = [(query, request.top_k, request.has_scores) for query in request.queries]
        ticket = _Ticket(done=self._loop.create_future(), answers=[b""] * len(keys))
        new = {key for key in keys if key not in self._kept and key not in self._in_flight}
        self._admit(len(new))
        num_hits = 0
        now = self._loop.time()
        if not self._pending:
            self._pace_since, self._num_done = now, 0
        for place, key in enumerate(keys):
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                ticket.answers[place] = kept
                num_hits += 1
                continue
            search = self._in_flight.get(key)
            if search is None:
                search = self._in_flight[key] = _Search(key, now)
                self._pending.append(search)
            search.waiting.append((ticket, place))
            ticket.num_missing += 1
        self._metrics.add("cache_hits", num_hits)
        self._metrics.add("cache_misses", len(new))
        self._metrics.add("cache_waits", len(keys) - num_hits - len(new))
        if ticket.num_missing:
            self._metrics.set("pending_queries", len(self._pending))
            self._start_searches()
            expiry = self._loop.call_later(self._config.timeout_s, _expire, ticket)
            try:
                await ticket.done
            finally:
                expiry.cancel()
        return ticket.answers

    def close(self) -> None:
        """Lets go of the threads; a search that is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _admit(self, num_new: int) -> None:
        num_waiting = len(self._pending)
        if not num_new or not num_waiting:
            return
        num_lanes = 1 if self._is_inline else self._config.num_threads
        # Reading, answering and refusing requests takes time as well: the queue's own pace knows, and
        # the first who waits.
        has_waited_s = self._loop.time() - self._pending[0].since
        wait_s = max(num_waiting * max(self._cost_s / num_lanes, self._pace_s), has_waited_s)
        if num_waiting + num_new > self._config.max_pending or wait_s > self._config.max_wait_s:
            raise OverloadedError(wait_s)

    def _start_searches(self) -> None:
        if self._is_inline:
            if self._pending and not self._is_draining:
                self._is_draining = True
                self._drained = time.perf_counter()
                self._loop.call_soon(self._drain)
            return
        while self._pending and self._num_running < self._config.num_threads:
            num_free = self._config.num_threads - self._num_running
            batch = self._take(math.ceil(len(self._pending) / num_free))
            if batch:
                self._num_running += 1
                self._threads.submit(self._search_and_report, batch)

    def _drain(self) -> None:
        # As long as all else has taken since: thousands of requests to read must not stop the searches.
        start = time.perf_counter()
        end = start + min(max(start - self._drained, _SLICE_S), _LONGEST_SLICE_S)
        while self._pending and self._is_inline:
            batch = self._take(_INLINE_BATCH)
            if batch:
                self._finish(batch, *self._search(batch))
            if time.perf_counter() > end:
                break
        if self._pending and self._is_inline:
            self._drained = time.perf_counter()
            self._loop.call_soon(self._drain)
            return
        self._is_draining = False
        self._start_searches()

    def _take(self, at_most: int) -> list[_Search]:
        """The next searches that can share one call; those that nobody waits for any more go."""
        batch: list[_Search] = []
        at_most = min(at_most, self._config.max_batch)
        while self._pending and len(batch) < at_most:
            search = self._pending[0]
            if batch and search.key[1] != batch[0].key[1]:
                break
            self._pending.popleft()
            if all(ticket.done.done() for ticket, _ in search.waiting):
                del self._in_flight[search.key]
            else:
                batch.append(search)
        self._metrics.set("pending_queries", len(self._pending))
        return batch

    def _search(self, batch: list[_Search]) -> tuple[list[_Outcome], float]:
        start = time.perf_counter()
        try:
            outcomes = self._ask(batch)
        except Exception as error:
            if len(batch) == 1 or isinstance(error, OSError):
                outcomes = [error] * len(batch)
            else:  # whichever query is to blame fails alone
                outcomes = [outcome for search in batch for outcome in self._search([search])[0]]
        return outcomes, time.perf_counter() - start

    def _ask(self, batch: list[_Search]) -> list[_Outcome]:
        found = self._retriever.search([search.key[0] for search in batch], batch[0].key[1])
        if len(found) != len(batch):
            raise RuntimeError(
                f"{type(self._retriever).__name__} gave {len(found)} lists of hits for "
                f"{len(batch)} queries"
            )
        return [
            encode_hits(hits, has_scores=search.key[2])
            for search, hits in zip(batch, found, strict=True)
        ]

    def _search_and_report(self, batch: list[_Search]) -> None:
        outcomes, seconds = self._search(batch)
        self._loop.call_soon_threadsafe(self._finish_thread, batch, outcomes, seconds)

    def _finish_thread(
        self, batch: list[_Search], outcomes: list[_Outcome], seconds: float
    ) -> None:
        self._num_running -= 1
        self._finish(batch, outcomes, seconds)
        self._start_searches()

    def _finish(self, batch: list[_Search], outcomes: list[_Outcome], seconds: float) -> None:
        self._metrics.add("search_seconds", seconds)
        self._learn_cost(seconds / len(batch), len(batch))
        self._learn_pace(len(batch))
        for search, outcome in zip(batch, outcomes, strict=True):
            del self._in_flight[search.key]
            if isinstance(outcome, bytes):
                self._keep(search.key, outcome)
            else:
                self._metrics.add("failed_searches")
            for ticket, place in search.waiting:
                _deliver(ticket, place, outcome)

    def _learn_cost(self, cost_s: float, num: int) -> None:
        """Takes in what queries cost; goes to threads, or back, when that has changed for long."""
        limit_s = self._config.inline_below_s
        # One search that compiles or reads from disk says little about the next. A long batch says
        # much: a model does many queries in little more time than one.
        at_most_s = 10 * max(limit_s, self._cost_s, 1e-4)
        weight = _MEMORY if self._is_inline else 1 - (1 - _MEMORY) ** num
        self._cost_s += weight * (min(cost_s, at_most_s) - self._cost_s)
        if self._is_inline and self._cost_s > 2 * limit_s:
            self._set_inline(False)
        elif not self._is_inline and self._cost_s < limit_s / 2:
            self._set_inline(True)

    def _learn_pace(self, num_done: int) -> None:
        """Takes in how fast the queue moves while it is long; a few batches of it say little."""
        self._num_done += num_done
        now = self._loop.time()
        took_s = now - self._pace_since
        if not self._pending:  # it has run dry: were any refused, then too many
            self._pace_s /= 2
        elif took_s >= _PACE_S and self._num_done >= _PACE_QUERIES:
            pace_s = took_s / self._num_done
            self._pace_s += (_PACE_MEMORY if self._pace_s else 1) * (pace_s - self._pace_s)
            self._pace_since, self._num_done = now, 0

    def _keep(self, key: _Key, answer: bytes) -> None:
        size_bytes = len(answer) + 4 * len(key[0]) + _ENTRY_BYTES
        if size_bytes > self._config.cache_bytes:
            return
        self._kept[key] = answer
        self._kept_bytes += size_bytes
        while self._kept_bytes > self._config.cache_bytes:
            old_key, old = self._kept.popitem(last=False)
            self._kept_bytes -= len(old) + 4 * len(old_key[0]) + _ENTRY_BYTES

    def _measure(self) -> list[float]:
        own_warm_up = getattr(self._retriever, "warm_up", None)
        if own_warm_up is not None:
            own_warm_up()
        costs = []
        for query in (_WARM_UP[0], *_WARM_UP):  # the first one compiles and reads files
            start = time.perf_counter()
            self._retriever.search([query], self._config.default_top_k)
            costs.append(time.perf_counter() - start)
        return costs[1:]

    def _set_inline(self, is_inline: bool) -> None:
        self._is_inline = is_inline
        self._metrics.set("inline_workers", is_inline)


def _deliver(ticket: _Ticket, place: int, outcome: _Outcome) -> None:
    if ticket.done.done():
        return
    if isinstance(outcome, Exception):
        ticket.done.set_exception(outcome)
        return
    ticket.answers[place] = outcome
    ticket.num_missing -= 1
    if not ticket.num_missing:
        ticket.done.set_result(None)


def _expire(ticket: _Ticket) -> None:
    if not ticket.done.done():
        ticket.done.set_exception(TimeoutError("the search takes too long"))
