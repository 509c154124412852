"""Service: two servers in, queries a second and latencies under the same load out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from .retrieval_load import LoadPlan, LoadResult, run_load
from .retrieval_servers import (
    OURS,
    RIVAL,
    TOP_K,
    Bench,
    Server,
    allow_many_connections,
    body_of,
    prepare,
    running,
    write_bodies,
)
from .tables import Table

NUM_CONNECTIONS = 64
_MOST_CONNECTIONS = 6000  # more than may wait for a search
_REPEATS = 8
_WARM_UP_S = 3.0


def measure_service(
    work: Path, num_passages: int, *, num_queries: int, seconds: float, num_rounds: int = 3
) -> list[Table]:
    """One worker of ours and the rival in turns, then ours at half and at twice what it can do."""
    closed = Table(
        title=f"Service, {num_passages:,} passages, {NUM_CONNECTIONS} connections",
        columns=(
            "server",
            "load",
            "queries/s",
            "of rounds",
            "p50 ms",
            "p99 ms",
            "failed",
            "CPU ms/query",
            "from cache",
        ),
        notes=[
            f"Medians of {num_rounds} rounds in which the servers take turns, {seconds:g} s each; one "
            f"query a request, top {TOP_K} with scores, from this machine ({os.cpu_count()} CPUs, "
            f"load {os.getloadavg()[0]:.1f}). `each {_REPEATS} times`: as the rollouts of a group ask.",
            "Targets: 4x the rival's queries/s, 8x where each query comes 8 times.",
        ],
    )
    timed = Table(
        title=f"Service, {num_passages:,} passages, requests on a timetable",
        columns=(
            "load",
            "due/s",
            "sent/s",
            "200/s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "503",
            "p99 of 503, ms",
            "failed",
            "hung",
            "connections",
            "generator late, p99 ms",
        ),
        notes=[
            "Ours, distinct queries; a latency counts from when the request was due, so the "
            "generator's own delay is in it. Failed: neither 200 nor 503, or a lost connection.",
            "Targets: p99 below 50 ms at half load; 503s and no hangs at twice the capacity.",
        ],
    )
    bench = prepare(work, num_passages, num_queries)
    closed.notes += bench.notes
    if not bench.commands:
        return [closed]
    with ExitStack() as stack:
        allow_many_connections()
        servers = {
            name: stack.enter_context(running(command)) for name, command in bench.commands.items()
        }
        rounds = _Rounds(bench, servers, seconds)
        for number in range(num_rounds):
            rounds.play(reverse=bool(number % 2))
        rounds.fill(closed)
        capacity = median(result.qps for result in rounds.results[OURS, "distinct"])
        most = min(_MOST_CONNECTIONS, allow_many_connections() - 100)
        for label, share, num in (
            ("half load", 0.5, NUM_CONNECTIONS),
            ("twice the capacity", 2.0, most),
        ):
            rate = share * capacity
            found = rounds.load(OURS, "distinct", rate=rate, num_connections=num)
            timed.add(label, round(share * capacity), *_timed_cells(found, seconds))
    return [closed, timed]


def _timed_cells(found: LoadResult, seconds: float) -> tuple[float | int, ...]:
    return (
        round(found.num_sent / max(seconds, found.seconds)),
        round(found.qps),
        found.p50_ms,
        found.p99_ms,
        found.max_ms,
        found.num_refused,
        found.refused_p99_ms,
        found.num_failed,
        found.num_hung,
        found.num_connections,
        found.lag_p99_ms,
    )


class _Rounds:
    """Loads that go on where they ended, so that no query comes again before all others did."""

    def __init__(self, bench: Bench, servers: Mapping[str, Server], seconds: float) -> None:
        asked = bench.queries
        queries = {
            "distinct": [query for n, query in enumerate(asked) if n % 16 > 2],
            f"each {_REPEATS} times": [
                query for n, query in enumerate(asked) if n % 16 in (1, 2) for _ in range(_REPEATS)
            ],
        }
        self._servers, self._seconds = servers, seconds
        self._bodies = {
            name: write_bodies(
                bench.folder / f"load-{place}.json", [body_of([query]) for query in load]
            )
            for place, (name, load) in enumerate(queries.items())
        }
        self._firsts = {(server, name): 0 for server in servers for name in queries}
        self.results: dict[tuple[str, str], list[LoadResult]] = {key: [] for key in self._firsts}
        self._cpu_ms: dict[tuple[str, str], list[float]] = {key: [] for key in self._firsts}
        self._cached: dict[tuple[str, str], list[float]] = {key: [] for key in self._firsts}
        warm = write_bodies(bench.folder / "load-warm.json", [body_of([q]) for q in asked[::16]])
        for server in servers.values():  # Java compiles what runs often
            run_load(server.port, warm, LoadPlan(seconds=_WARM_UP_S))

    def play(self, *, reverse: bool) -> None:
        """Every load on every server once."""
        for name in self._bodies:
            for server in sorted(self._servers, reverse=reverse):
                key, running_one = (server, name), self._servers[server]
                cpu_s, hits = running_one.cpu_s(), self._num_cached(server)
                found = self.load(server, name)
                num = max(1, found.num_sent)
                self._cpu_ms[key].append(1e3 * (running_one.cpu_s() - cpu_s) / num)
                self._cached[key].append((self._num_cached(server) - hits) / num)
                self.results[key].append(found)

    def load(
        self,
        server: str,
        name: str,
        *,
        rate: float | None = None,
        num_connections: int = NUM_CONNECTIONS,
    ) -> LoadResult:
        """One load on one server."""
        plan = LoadPlan(
            seconds=self._seconds,
            num_connections=num_connections,
            max_connections=max(num_connections, _MOST_CONNECTIONS // 4),
            rate=rate,
            first=self._firsts[server, name],
        )
        found = run_load(self._servers[server].port, self._bodies[name], plan)
        self._firsts[server, name] += found.num_sent
        return found

    def fill(self, table: Table) -> None:
        """The medians, and how they compare."""
        for (server, name), results in self.results.items():
            rates = [result.qps for result in results]
            table.add(
                server,
                name,
                round(median(rates)),
                f"{min(rates):.0f} to {max(rates):.0f}",
                median(result.p50_ms for result in results),
                median(result.p99_ms for result in results),
                sum(r.num_failed + r.num_refused + r.num_hung for r in results),
                median(self._cpu_ms[server, name]),
                f"{median(self._cached[server, name]):.0%}" if server == OURS else None,
            )
        for name in self._bodies if RIVAL in self._servers else ():
            pairs = zip(self.results[OURS, name], self.results[RIVAL, name], strict=True)
            ratios = [ours.qps / rival.qps for ours, rival in pairs]
            cpu = median(self._cpu_ms[RIVAL, name]) / median(self._cpu_ms[OURS, name])
            table.notes.append(
                f"{name}: {median(ratios):.1f}x the rival's queries/s (rounds: {min(ratios):.1f} to "
                f"{max(ratios):.1f}), {cpu:.1f}x less CPU a query."
            )

    def _num_cached(self, server: str) -> float:
        if server != OURS:
            return 0.0
        one = self._servers[server]
        return one.metric("maskgym_cache_hits_total") + one.metric("maskgym_cache_waits_total")
