"""One backend in a process of its own: an index or queries in, what it took as JSON out.

    python -m maskgym.scripts.benchmarks.retrieval_worker build bm25 PASSAGES_FOLDER INDEX
    python -m maskgym.scripts.benchmarks.retrieval_worker search numba INDEX QUERIES.json RANKINGS.json

Nothing is imported at the top that a backend would not need: memory and time to open are its own.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ENGINES = ("numba", "numpy", "lucene")
TOP_K = 10
NUM_SINGLE = 1000
NUM_THREADED = 2000
NUM_THREADS = 16

Search = Callable[[str], list[str]]


def build(backend: str, passages: Path, index: Path) -> dict[str, float]:
    """CPU seconds, wall seconds, the highest resident memory and the index's size, in MB."""
    started_s, cpu_s = time.perf_counter(), time.process_time()
    if backend == "lucene":
        from .retrieval_anserini import build_anserini

        built = build_anserini(passages, index)
        cpu_s, peak_mb = built.cpu_s, built.peak_mb
    else:
        from itertools import chain

        from maskgym.retrieval import BM25Index, read_passages

        files = sorted(passages.glob("*.jsonl"))
        BM25Index.build(chain.from_iterable(map(read_passages, files)), folder=index).close()
        cpu_s, peak_mb = time.process_time() - cpu_s, _status_mb("VmHWM")
    wall_s = time.perf_counter() - started_s
    size = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    return {"cpu_s": cpu_s, "wall_s": wall_s, "peak_mb": peak_mb, "disk_mb": size / 1e6}


def search(engine: str, index: Path, queries: Sequence[str], rankings: Path) -> dict[str, float]:
    """Times of opening and searching; the first rankings go to a file, so that they are compared."""
    started_s = time.perf_counter()
    find, open_s = _open(engine, index)
    find(queries[0])
    first_s = time.perf_counter() - started_s
    num = min(NUM_SINGLE, len(queries))
    for _ in range(2):  # Java compiles what runs often: everyone may warm up on other queries
        for query in queries[-num:]:
            find(query)
    found, walls_s = [], []
    cpu_s = time.process_time()
    for query in queries[:num]:
        asked_s = time.perf_counter()
        found.append(find(query))
        walls_s.append(time.perf_counter() - asked_s)
    cpu_s = time.process_time() - cpu_s
    threaded = (list(queries[num:]) or list(queries))[:NUM_THREADED]
    with ThreadPoolExecutor(NUM_THREADS) as threads:
        list(threads.map(find, queries[: 4 * NUM_THREADS]))
        threads_s, threads_cpu_s = time.perf_counter(), time.process_time()
        list(threads.map(find, threaded))
        threads_s = time.perf_counter() - threads_s
        threads_cpu_s = time.process_time() - threads_cpu_s
    rankings.write_text(json.dumps(found))
    walls_s.sort()
    return {
        "open_s": open_s,
        "first_s": first_s,
        "private_mb": _status_mb("RssAnon"),
        "cpu_ms": 1e3 * cpu_s / num,
        "p50_ms": 1e3 * walls_s[num // 2],
        "p99_ms": 1e3 * walls_s[int(0.99 * num)],
        "qps_1": num / sum(walls_s),
        "qps_16": len(threaded) / threads_s,
        "cpu_ms_16": 1e3 * threads_cpu_s / len(threaded),
    }


def _open(engine: str, index: Path) -> tuple[Search, float]:
    """What searches, and the seconds of opening, Java's start included and imports left out."""
    if engine == "lucene":
        from .retrieval_anserini import AnseriniSearcher

        started_s = time.perf_counter()
        searcher = AnseriniSearcher(index)
        open_s = time.perf_counter() - started_s
        return lambda query: [name for name, _ in searcher.search(query, TOP_K)], open_s
    from maskgym.retrieval import BM25Index

    started_s = time.perf_counter()
    ours = BM25Index.load(index, kernel="numba" if engine == "numba" else "numpy")
    open_s = time.perf_counter() - started_s
    return lambda query: [hit.passage.id for hit in ours.search([query], TOP_K)[0]], open_s


def _status_mb(name: str) -> float:
    """A line of this process's status, in MB; Linux alone has it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return float("nan")


def main(arguments: Sequence[str]) -> int:
    """Prints the measurements as one line of JSON."""
    task, backend, *paths = arguments
    folder, other = Path(paths[0]), Path(paths[1])
    if task == "build":
        measured = build(backend, folder, other)
    else:
        measured = search(backend, folder, json.loads(other.read_text()), Path(paths[2]))
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
