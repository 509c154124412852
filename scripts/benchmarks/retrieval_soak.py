"""Soak: minutes in; out, minute by minute, what a service under a mixed load answered and took."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from maskgym.retrieval import BM25Index, RemoteRetriever

from .retrieval_load import LoadPlan, run_load
from .retrieval_servers import OURS, TOP_K, body_of, prepare, running, write_bodies
from .tables import Table

_SHARE = 0.5
_NUM_TRIES, _TRY_S = 4, 3.0
_NUM_CHECKED = 200
_NUM_IN_BATCH = 16
_REPEATS = 8


def measure_soak(work: Path, num_passages: int, *, num_queries: int, minutes: float) -> list[Table]:
    """Our service at half of what it can do, for long."""
    table = Table(
        title=f"Soak, {num_passages:,} passages, {minutes:g} minutes at half the capacity",
        columns=(
            "minute",
            "requests",
            "200",
            "503",
            "failed or hung",
            "wrong hits",
            "p50 ms",
            "p99 ms",
            "max ms",
            "private MB",
            "open files",
        ),
        notes=[
            f"Of 16 requests 6 have a query of their own, 8 the same one, 1 has {_NUM_IN_BATCH} "
            f"queries, 1 is SkyRL's. After each minute {_NUM_CHECKED} queries are compared with the "
            f"index itself. {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}.",
            "Target: no error in 10 minutes.",
        ],
    )
    bench = prepare(work, num_passages, num_queries)
    if OURS not in bench.commands:
        table.notes += bench.notes
        return [table]
    bodies = write_bodies(bench.folder / "load-soak.json", _mixed(bench.queries))
    checked = bench.queries[:: max(1, len(bench.queries) // _NUM_CHECKED)][:_NUM_CHECKED]
    expected = BM25Index.load(bench.folder / "bm25").search(checked, TOP_K)
    totals = [0, 0, 0, 0]
    with running(bench.commands[OURS]) as server:
        capacity, first = 0.0, 0
        for _ in range(_NUM_TRIES):
            tried = run_load(server.port, bodies, LoadPlan(seconds=_TRY_S, first=first))
            capacity, first = max(capacity, tried.qps), first + tried.num_sent
        rate = _SHARE * capacity
        table.notes.append(
            f"{rate:.0f} requests/s: half of what 64 connections got in the best of {_NUM_TRIES} "
            f"times {_TRY_S:g} s."
        )
        client = RemoteRetriever(f"http://127.0.0.1:{server.port}")
        left_s, minute = 60 * minutes, 0
        while left_s > 0.01:
            minute += 1
            plan = LoadPlan(seconds=min(60.0, left_s), rate=rate, first=first)
            found = run_load(server.port, bodies, plan)
            first, left_s = first + found.num_sent, left_s - plan.seconds
            hits = client.search(checked, TOP_K)
            counts = (
                found.num_answered,
                found.num_refused,
                found.num_failed + found.num_hung,
                sum(one != other for one, other in zip(hits, expected, strict=True)),
            )
            totals = [total + count for total, count in zip(totals, counts, strict=True)]
            times = (found.p50_ms, found.p99_ms, found.max_ms)
            memory = round(server.memory_mb())
            table.add(minute, found.num_sent, *counts, *times, memory, server.num_files())
        client.close()
    table.notes.append(
        f"In all {totals[0]:,} answers, {totals[1]} refusals, {totals[2]} failures, {totals[3]} "
        "wrong hits."
    )
    return [table]


def _mixed(queries: Sequence[str]) -> list[str]:
    bodies = []
    size = 7 + _NUM_IN_BATCH + 1
    for first in range(0, len(queries) - size + 1, size):
        own, batch = queries[first : first + 6], queries[first + 8 : first + size]
        bodies += [body_of([query]) for query in own]
        bodies += [body_of([queries[first + 6]])] * _REPEATS
        bodies.append(body_of(batch))
        bodies.append(
            json.dumps({"query": queries[first + 7], "topk": TOP_K, "return_scores": True})
        )
    return bodies
