"""Load on a search service: bodies of requests and a plan in, statuses and latencies out.

Closed loop: each connection asks again as soon as it is answered. Timetable (``rate``): requests are
due at fixed times whatever the server does, and a latency counts from when it was due, so that a server
that stalls cannot hide it. The load comes from a process of its own, which takes one CPU at about 8,000
requests a second:

    python -m maskgym.scripts.benchmarks.retrieval_load PORT BODIES.json PLAN_AS_JSON
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import cast

_LOST = 0  # in the place of a status: the connection ended before an answer
_AT_ONCE = 32  # requests that are sent before answers are looked at again


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """What is asked, how fast and for how long."""

    seconds: float
    """How long requests are sent."""
    num_connections: int = 64
    """Connections; with a rate those at the beginning."""
    rate: float | None = None
    """Requests due in a second; None is the closed loop."""
    max_connections: int = 8000
    """With a rate: beyond them requests wait for a free one."""
    first: int = 0
    """The place among the bodies at which to begin; behind the last comes the first again."""
    timeout_s: float = 30.0
    """Seconds after the last request until those without an answer are given up."""


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """What came of it."""

    seconds: float
    """Until the last answer."""
    num_sent: int
    num_answered: int
    """With status 200."""
    num_refused: int
    """With status 503."""
    num_failed: int
    """With another status, or on a connection that was lost."""
    num_hung: int
    """Without any answer in time."""
    p50_ms: float
    """Of those with status 200, as the next two."""
    p99_ms: float
    max_ms: float
    refused_p99_ms: float
    """Of those with status 503."""
    lag_p99_ms: float
    """How late the generator itself was; it is a part of the latencies."""
    num_connections: int
    """Open at the end."""

    @property
    def qps(self) -> float:
        """Answers a second."""
        return self.num_answered / self.seconds


def run_load(port: int, bodies: Path, plan: LoadPlan) -> LoadResult:
    """Puts the load on a server of this machine, from another process.

    Args:
        port: Of the server.
        bodies: A JSON list of the bodies of requests.
        plan: How they are sent.

    Raises:
        ValueError: If the generator fails; the end of what it said is in the message.
    """
    command = [sys.executable, "-m", __name__, str(port), str(bodies), json.dumps(asdict(plan))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"The load generator failed: {done.stderr[-600:]}")
    return LoadResult(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """One request at a time; reads no more of a reply than its status and its length."""

    def __init__(self, on_answer: Callable[[_Connection, int, float], object]) -> None:
        self._on_answer = on_answer
        self._received = bytearray()
        self._since_s: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it

    def ask(self, request: bytes, since_s: float) -> None:
        self._received.clear()
        self._since_s = since_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0 or self._since_s is None:
            return
        head = bytes(self._received[:end]).lower()
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(self._received) >= end + 4 + int(length):
            since_s, self._since_s = self._since_s, None
            self._on_answer(self, int(head[9:12]), since_s)

    def connection_lost(self, error: Exception | None) -> None:
        if self._since_s is not None:
            since_s, self._since_s = self._since_s, None
            self._on_answer(self, _LOST, since_s)


class _Generator:
    """Sends the requests of a plan."""

    def __init__(self, port: int, bodies: Sequence[str], plan: LoadPlan) -> None:
        head = "POST /retrieve HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        requests = [
            f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode() for body in bodies
        ]
        self._requests = islice(cycle(requests), plan.first % len(requests), None)
        self._port, self._plan = port, plan
        self._latencies_s: dict[int, list[float]] = {}
        self._lags_s: list[float] = []
        self._statuses: Counter[int] = Counter()
        self._num_sent = 0
        self._num_open = 0
        self._idle: list[_Connection] = []
        self._due_s: deque[float] = deque()
        self._ends_s = 0.0
        self._all_answered = asyncio.Event()
        self._connecting: set[asyncio.Task[None]] = set()

    async def run(self) -> LoadResult:
        for _ in range(self._plan.num_connections):
            self._idle.append(await self._connect())
        started_s = time.perf_counter()
        self._ends_s = started_s + self._plan.seconds
        if self._plan.rate is None:
            for connection in self._idle[:]:
                self._ask(connection, time.perf_counter())
            await asyncio.sleep(self._plan.seconds)
        else:
            await self._follow_timetable(started_s, self._plan.rate)
        num_hung = await self._wait()
        return self._result(time.perf_counter() - started_s, num_hung)

    async def _follow_timetable(self, started_s: float, rate: float) -> None:
        for number in range(round(rate * self._plan.seconds)):
            due_s = started_s + number / rate
            while (left_s := due_s - time.perf_counter()) > 0:
                await asyncio.sleep(left_s if left_s > 1e-3 else 0)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
            if self._idle:
                self._ask(self._idle.pop(), due_s)
            else:
                self._due_s.append(due_s)
                if self._num_open < self._plan.max_connections:
                    task = asyncio.ensure_future(self._open_another())
                    self._connecting.add(task)
                    task.add_done_callback(self._connecting.discard)

    async def _open_another(self) -> None:
        try:
            self._go_on(await self._connect())
        except OSError:
            self._num_open -= 1
            if self._due_s:  # it asks in vain for the one who waited longest
                self._num_sent += 1
                self._count(_LOST, self._due_s.popleft())

    async def _connect(self) -> _Connection:
        self._num_open += 1
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self._on_answer), "127.0.0.1", self._port
        )
        return connection

    def _ask(self, connection: _Connection, since_s: float) -> None:
        self._num_sent += 1
        self._lags_s.append(time.perf_counter() - since_s)
        connection.ask(next(self._requests), since_s)

    def _on_answer(self, connection: _Connection, status: int, since_s: float) -> None:
        self._count(status, since_s)
        if status == _LOST:
            self._num_open -= 1
        else:
            self._go_on(connection)

    def _go_on(self, connection: _Connection) -> None:
        if self._due_s:
            self._ask(connection, self._due_s.popleft())
        elif self._plan.rate is None and time.perf_counter() < self._ends_s:
            self._ask(connection, time.perf_counter())
        else:
            self._idle.append(connection)

    def _count(self, status: int, since_s: float) -> None:
        self._statuses[status] += 1
        self._latencies_s.setdefault(status, []).append(time.perf_counter() - since_s)
        if self._statuses.total() == self._num_sent:
            self._all_answered.set()

    async def _wait(self) -> int:
        """The number of requests that nobody answered in time."""
        ends_s = time.perf_counter() + self._plan.timeout_s
        while self._due_s or self._statuses.total() < self._num_sent:
            left_s = ends_s - time.perf_counter()
            if left_s <= 0:
                break
            self._all_answered.clear()
            try:
                await asyncio.wait_for(self._all_answered.wait(), min(left_s, 0.2))
            except TimeoutError:
                continue
        return len(self._due_s) + self._num_sent - self._statuses.total()

    def _result(self, seconds: float, num_hung: int) -> LoadResult:
        answered_s = self._latencies_s.get(200, [])
        num_answered, num_refused = self._statuses[200], self._statuses[503]
        return LoadResult(
            seconds=seconds,
            num_sent=self._num_sent,
            num_answered=num_answered,
            num_refused=num_refused,
            num_failed=self._statuses.total() - num_answered - num_refused,
            num_hung=num_hung,
            p50_ms=percentile_ms(answered_s, 0.5),
            p99_ms=percentile_ms(answered_s, 0.99),
            max_ms=percentile_ms(answered_s, 1),
            refused_p99_ms=percentile_ms(self._latencies_s.get(503, []), 0.99),
            lag_p99_ms=percentile_ms(self._lags_s, 0.99),
            num_connections=self._num_open,
        )


def percentile_ms(values_s: Sequence[float], share: float) -> float:
    """The value, in milliseconds, that this share of them do not exceed; 0 of none."""
    if not values_s:
        return 0.0
    ordered = sorted(values_s)
    return 1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def generate(port: int, bodies: Sequence[str], plan: LoadPlan) -> LoadResult:
    """Puts the load on a server of this machine, from this process."""
    return await _Generator(port, bodies, plan).run()


def main(arguments: Sequence[str]) -> int:
    """Prints what it found as JSON."""
    port, bodies, plan = arguments
    generated = generate(
        int(port), json.loads(Path(bodies).read_text()), LoadPlan(**json.loads(plan))
    )
    try:
        import uvloop

        found = uvloop.run(generated)
    except ImportError:
        found = asyncio.run(generated)
    print(json.dumps(asdict(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
