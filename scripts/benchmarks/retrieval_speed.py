"""Speed: a size in, tables of building, opening and searching out, every engine in its own process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from .retrieval_anserini import why_missing
from .retrieval_corpus import SyntheticConfig, make_corpus
from .retrieval_worker import ENGINES, NUM_THREADS, TOP_K
from .tables import Cell, Table

_NAMES = {"numba": "ours, numba", "numpy": "ours, numpy", "lucene": "Lucene (Anserini)"}
_TARGETS = (
    "Targets against Lucene: 3x less CPU a query, 2x the queries/s with 16 threads; at 1M opened in "
    "0.5 s, less than 200 MB private, built in at most Lucene's CPU time."
)


def measure_speed(
    work: Path, num_passages: int, *, num_queries: int = 4000, num_rounds: int = 3
) -> list[Table]:
    """Builds and searches synthetic passages; what is in ``work`` from before is used again."""
    config = SyntheticConfig(num_passages=num_passages, num_queries=num_queries)
    corpus = make_corpus(work / f"synthetic-{num_passages}-{num_queries}", config)
    folder = corpus.queries.parent
    missing = {"lucene": why_missing(), "numba": None if find_spec("numba") else "no numba here"}
    building = Table(
        title=f"Building, {num_passages:,} passages",
        columns=("engine", "CPU s", "wall s", "peak MB", "index MB"),
        notes=[
            "Ours: one thread, texts included. Lucene: `IndexCollection -threads 2 -storeRaw "
            "-optimize`; its wall time has a wait of up to 10 s in it."
        ],
    )
    searching = Table(
        title=f"Searching, {num_passages:,} passages, top {TOP_K}",
        columns=(
            "engine",
            "open s",
            "first answer s",
            "private MB",
            "CPU ms/query",
            "p50 ms",
            "p99 ms",
            "q/s, 1 thread",
            f"q/s, {NUM_THREADS} threads",
            "same order as Lucene",
        ),
        notes=[
            "`open`: the call, Java's start included; `first answer`: imports and a query too. Ours "
            "gives passages with their texts, Lucene ids and scores only. One process an engine, warmed "
            f"up alike; medians of {num_rounds} rounds in which they take turns. {os.cpu_count()} "
            f"CPUs, load {os.getloadavg()[0]:.1f}.",
            _TARGETS,
        ],
    )
    measured: dict[str, dict[str, float]] = {}
    for backend in ("bm25", "lucene"):
        if missing.get(backend):
            building.notes.append(f"Lucene was left out: {missing[backend]}")
            continue
        index = folder / backend
        shutil.rmtree(index, ignore_errors=True)
        built = _run("build", backend, corpus.passages.parent, index)
        label = "ours" if backend == "bm25" else _NAMES["lucene"]
        building.add(label, built["cpu_s"], built["wall_s"], built["peak_mb"], built["disk_mb"])
        measured[f"build {backend}"] = built
    rankings = {engine: folder / f"rankings-{engine}.json" for engine in ENGINES}
    engines = [engine for engine in ENGINES if not missing.get(engine)]
    for engine in ENGINES:
        if missing.get(engine):
            searching.notes.append(f"{_NAMES[engine]} was left out: {missing[engine]}")
    rounds: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
    for number in range(num_rounds):
        for engine in engines[:: -1 if number % 2 else 1]:
            index = folder / ("lucene" if engine == "lucene" else "bm25")
            rounds[engine].append(_run("search", engine, index, corpus.queries, rankings[engine]))
    for engine in engines:
        measured[engine] = {
            name: median(one[name] for one in rounds[engine]) for name in rounds[engine][0]
        }
        same = None
        if "lucene" in engines:
            same = same_order(_read(rankings[engine]), _read(rankings["lucene"]))
        searching.add(_NAMES[engine], *_cells(measured[engine]), same)
    if "lucene" in measured:
        searching.notes += _ratios(measured)
    return [building, searching]


def same_order(found: list[list[str]], expected: list[list[str]]) -> str:
    """How many rankings are equal: ``998/1000``."""
    num = sum(one == other for one, other in zip(found, expected, strict=True))
    return f"{num}/{len(expected)}"


def _cells(found: Mapping[str, float]) -> list[Cell]:
    names = ("open_s", "first_s", "private_mb", "cpu_ms", "p50_ms", "p99_ms")
    return [*(found[name] for name in names), round(found["qps_1"]), round(found["qps_16"])]


def _ratios(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    rival, notes = measured["lucene"], []
    for engine in ("numba", "numpy"):
        if engine in measured:
            ours = measured[engine]
            notes.append(
                f"{_NAMES[engine]}: {rival['cpu_ms'] / ours['cpu_ms']:.1f}x less CPU a query than "
                f"Lucene ({rival['cpu_ms_16'] / ours['cpu_ms_16']:.1f}x with threads), "
                f"{ours['qps_16'] / rival['qps_16']:.1f}x its queries/s with {NUM_THREADS} threads."
            )
    return notes


def _run(*arguments: object) -> dict[str, float]:
    """One measurement in a new process.

    Raises:
        ValueError: If it fails; the end of what it said is in the message.
    """
    command = [sys.executable, "-m", "maskgym.scripts.benchmarks.retrieval_worker"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        raise ValueError(f"{' '.join(map(str, arguments))} failed: {done.stderr[-600:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _read(path: Path) -> list[list[str]]:
    rankings: list[list[str]] = json.loads(path.read_text())
    return rankings
