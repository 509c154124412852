"""Service: two servers in, queries a second and latencies under the same load out.

The load comes from a process of its own, which takes one CPU at about 8,000 requests a second:

    python -m maskgym.scripts.benchmarks.retrieval_service PORT BODIES.json CONNECTIONS SECONDS
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import combinations, cycle
from pathlib import Path
from typing import cast

from maskgym.retrieval import BM25Index, read_passages

from .retrieval_anserini import build_anserini, why_missing
from .retrieval_corpus import SyntheticConfig, make_corpus
from .tables import Table

NUM_CONNECTIONS = 64
_TOP_K = 3
_REPEATS = 8
_START_S = 60.0


def measure_service(
    work: Path, num_passages: int, *, num_queries: int, seconds: float
) -> list[Table]:
    """One worker of ours and the rival, one after the other, under a closed loop of connections."""
    table = Table(
        title=f"Service, {num_passages:,} passages, {NUM_CONNECTIONS} connections",
        columns=("server", "load", "queries/s", "p50 ms", "p99 ms", "failed", "CPU ms/query"),
        notes=[
            f"{seconds:g} s of one query a request, top {_TOP_K} with scores, from this machine "
            f"({os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}). `each {_REPEATS} times`: as "
            "the rollouts of a group ask; ours keeps answers, so every load has queries of its own.",
            "Targets: 4x the rival's queries/s, 8x where each query comes 8 times.",
        ],
    )
    config = SyntheticConfig(num_passages=num_passages, num_queries=num_queries)
    corpus = make_corpus(work / f"synthetic-{num_passages}-{num_queries}", config)
    folder = corpus.queries.parent
    queries: list[str] = json.loads(corpus.queries.read_text())
    servers = {"ours": [sys.executable, "-c", _SERVE, str(folder / "bm25"), "{port}"]}
    lacking = [name for name in ("uvicorn", "fastapi") if find_spec(name) is None]
    if "uvicorn" in lacking:
        table.notes.append("uvicorn is not installed: nothing was served.")
        return [table]
    missing = why_missing() or (f"no {lacking[0]}" if lacking else None)
    if missing:
        table.notes.append(f"The rival was left out: {missing}")
    else:
        module = f"{__package__}.retrieval_rival"
        servers["FastAPI + Lucene"] = [
            sys.executable, "-m", module, str(folder / "lucene"), "{port}"
        ]  # fmt: skip
    if not (folder / "bm25").is_dir():
        BM25Index.build(read_passages(corpus.passages), folder=folder / "bm25").close()
    if "FastAPI + Lucene" in servers and not (folder / "lucene").is_dir():
        build_anserini(corpus.passages.parent, folder / "lucene")
    asked = _variants(queries)
    warm_up = asked[::16]
    loads = {
        "distinct": [query for n, query in enumerate(asked) if n % 16 > 2],
        f"each {_REPEATS} times": [
            query for n, query in enumerate(asked) if n % 16 in (1, 2) for _ in range(_REPEATS)
        ],
    }
    rates: dict[tuple[str, str], float] = {}
    for server, command in servers.items():
        with _running(command) as (port, process_id):
            _load(port, folder, warm_up, 3.0)  # Java compiles what runs often
            for name, load in loads.items():
                cpu_s = _cpu_s(process_id)
                found = _load(port, folder, load, seconds)
                cpu_s = _cpu_s(process_id) - cpu_s
                rates[server, name] = found["qps"]
                num = max(1, round(found["qps"] * seconds))
                row = (found["qps"], found["p50_ms"], found["p99_ms"], round(found["failed"]))
                table.add(server, name, *row, 1e3 * cpu_s / num)
                if num > len(load):
                    table.notes.append(f"{server}, {name}: all {len(load):,} queries came again.")
    for name in loads if not missing else ():
        ratio = rates["ours", name] / rates["FastAPI + Lucene", name]
        table.notes.append(f"{name}: {ratio:.1f}x the rival's queries/s.")
    return [table]


_SERVE = (
    "import sys; from maskgym.retrieval.service_process import run_service; "
    "run_service(sys.argv[1], port=int(sys.argv[2]))"
)


def _variants(queries: Sequence[str]) -> list[str]:
    """More queries of the same words: each without one or two of them."""
    found = dict.fromkeys(queries)
    for query in queries:
        words = query.split()
        for size in (len(words) - 1, len(words) - 2):
            found |= dict.fromkeys(map(" ".join, combinations(words, max(1, size))))
    return list(found)


@contextmanager
def _running(command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server on a free port until the block ends; gives the port and the process's id."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([word.format(port=port) for word in command], start_new_session=True)
    try:
        ends_s = time.monotonic() + _START_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > ends_s:
                raise ValueError(f"{command[:3]} did not start; see its message above.")
            time.sleep(0.1)
        yield port, process.pid
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
        data=_body("ready").encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _body(query: str) -> str:
    return json.dumps({"queries": [query], "topk": _TOP_K, "return_scores": True})


def _cpu_s(process_id: int) -> float:
    """CPU seconds of a process so far; Linux alone has the file."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(port: int, folder: Path, queries: Sequence[str], seconds: float) -> dict[str, float]:
    """What a load generator in another process found."""
    bodies = folder / "bodies.json"
    bodies.write_text(json.dumps([_body(query) for query in queries]))
    command = [sys.executable, "-m", f"{__package__}.retrieval_service"]
    arguments = [str(port), str(bodies), str(NUM_CONNECTIONS), str(seconds)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(f"The load generator failed: {done.stderr[-600:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


class _Connection(asyncio.Protocol):
    """Asks as soon as it is answered; reads no more of a reply than its status and its length."""

    def __init__(self, requests: Iterator[bytes], ends_s: float) -> None:
        self.requests, self.ends_s = requests, ends_s
        self.latencies_s: list[float] = []
        self.num_failed = 0
        self.is_over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._ask()

    def _ask(self) -> None:
        self.received = bytearray()
        self.asked_s = time.perf_counter()
        self.transport.write(next(self.requests))

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.received[:end]).lower()
        length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(self.received) < end + 4 + int(length):
            return
        now_s = time.perf_counter()
        self.latencies_s.append(now_s - self.asked_s)
        self.num_failed += b" 200 " not in head.split(b"\r\n", 1)[0] + b" "
        if now_s < self.ends_s:
            self._ask()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.num_failed += time.perf_counter() < self.ends_s
        if not self.is_over.done():
            self.is_over.set_result(None)


async def _generate(
    port: int, bodies: Sequence[str], num_connections: int, seconds: float
) -> dict[str, float]:
    head = "POST /retrieve HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    requests = cycle(
        f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode() for body in bodies
    )
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    connections = []
    for _ in range(num_connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(requests, started_s + seconds), "127.0.0.1", port
        )
        connections.append(connection)
    await asyncio.gather(*(connection.is_over for connection in connections))
    took_s = time.perf_counter() - started_s
    latencies_s = sorted(one for connection in connections for one in connection.latencies_s)
    num_failed = sum(connection.num_failed for connection in connections)
    return {
        "qps": (len(latencies_s) - num_failed) / took_s,
        "p50_ms": 1e3 * latencies_s[len(latencies_s) // 2],
        "p99_ms": 1e3 * latencies_s[int(0.99 * len(latencies_s))],
        "failed": num_failed,
    }


def main(arguments: Sequence[str]) -> int:
    """The load generator: prints what it found as JSON."""
    port, bodies, num_connections, seconds = arguments
    generated = _generate(
        int(port), json.loads(Path(bodies).read_text()), int(num_connections), float(seconds)
    )
    try:
        import uvloop

        found = uvloop.run(generated)
    except ImportError:
        found = asyncio.run(generated)
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
