"""Servers to measure: a number of passages in, our service and the rival as processes out."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

from maskgym.retrieval import BM25Index, read_passages

from .retrieval_anserini import build_anserini, why_missing
from .retrieval_corpus import SyntheticConfig, make_corpus

OURS, RIVAL = "ours", "FastAPI + Lucene"
TOP_K = 3
_START_S = 60.0
_SERVE = (
    "import sys; from maskgym.retrieval.service_process import run_service; "
    "run_service(sys.argv[1], port=int(sys.argv[2]))"
)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the servers are started with, and what they are asked."""

    folder: Path
    """Of the indexes; loads are written there."""
    commands: dict[str, list[str]]
    """By name; ``{port}`` stands for the port."""
    queries: list[str]
    """Distinct ones, many."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and why."""


def prepare(work: Path, num_passages: int, num_queries: int) -> Bench:
    """Makes corpus and indexes, unless they are there."""
    config = SyntheticConfig(num_passages=num_passages, num_queries=num_queries)
    corpus = make_corpus(work / f"synthetic-{num_passages}-{num_queries}", config)
    folder = corpus.queries.parent
    bench = Bench(
        folder=folder, commands={}, queries=_variants(json.loads(corpus.queries.read_text()))
    )
    lacking = [name for name in ("uvicorn", "fastapi") if find_spec(name) is None]
    if "uvicorn" in lacking:
        bench.notes.append("uvicorn is not installed: nothing was served.")
        return bench
    if not (folder / "bm25").is_dir():
        BM25Index.build(read_passages(corpus.passages), folder=folder / "bm25").close()
    bench.commands[OURS] = [sys.executable, "-c", _SERVE, str(folder / "bm25"), "{port}"]
    missing = why_missing() or (f"no {lacking[0]}" if lacking else None)
    if missing:
        bench.notes.append(f"The rival was left out: {missing}")
        return bench
    if not (folder / "lucene").is_dir():
        build_anserini(corpus.passages.parent, folder / "lucene")
    rival = [sys.executable, "-m", f"{__package__}.retrieval_rival"]
    bench.commands[RIVAL] = [*rival, str(folder / "lucene"), "{port}"]
    return bench


def _variants(queries: Sequence[str]) -> list[str]:
    """More queries of the same words: each without one or two of them."""
    found = dict.fromkeys(queries)
    for query in queries:
        words = query.split()
        for size in (len(words) - 1, len(words) - 2):
            found |= dict.fromkeys(map(" ".join, combinations(words, max(1, size))))
    return list(found)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    port: int
    process_id: int

    def cpu_s(self) -> float:
        """CPU seconds so far; Linux alone has the file."""
        text = Path(f"/proc/{self.process_id}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Private resident memory."""
        lines = Path(f"/proc/{self.process_id}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line[:8] == "RssAnon:") * 1024 / 1e6

    def num_files(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self.process_id}/fd"))

    def metric(self, name: str) -> float:
        """One of the sums that our service tells."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=20) as reply:
            lines = reply.read().decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(f"{name} ")))


@contextmanager
def running(command: Sequence[str]) -> Iterator[Server]:
    """A server on a free port until the block ends.

    Raises:
        ValueError: If it does not start.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([word.format(port=port) for word in command], start_new_session=True)
    try:
        ends_s = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > ends_s:
                raise ValueError(f"{command[:3]} did not start; see its message above.")
            time.sleep(0.1)
        yield Server(port=port, process_id=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(port: int) -> bool:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/retrieve",
        data=body_of(["ready"]).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def allow_many_connections() -> int:
    """Raises the limit of open files for the processes started from now on; gives it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1 << 16 if hard == resource.RLIM_INFINITY else hard
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def body_of(queries: Sequence[str]) -> str:
    """A request as Search-R1 and verl send it."""
    return json.dumps({"queries": list(queries), "topk": TOP_K, "return_scores": True})


def write_bodies(path: Path, bodies: Sequence[str]) -> Path:
    """Writes a load where its generator finds it."""
    path.write_text(json.dumps(list(bodies)))
    return path
