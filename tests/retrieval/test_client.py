import gzip
import json
import pickle
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maskgym.retrieval import BM25Index, CachedRetriever, Passage, Retriever
from maskgym.retrieval.client import RemoteRetriever, RetrieverError
from maskgym.retrieval.service_config import ServiceConfig

Serve = Callable[..., str]
Answer = Callable[[dict[str, Any]], tuple[int, Any]]


@pytest.fixture
def index() -> BM25Index:
    return BM25Index.build(Passage(id=str(n), title=f"T{n}", text=f"all w{n}") for n in range(60))


class Peer(ThreadingHTTPServer):
    """A server of someone else: HTTP/1.1, one thread a connection, the body from a function."""

    daemon_threads = True

    def __init__(self, answer: Answer, *, delay_s: float = 0.0) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(404, {"detail": "Not Found"})

            def do_POST(self) -> None:
                fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                peer.requests.append((self.path, fields))
                time.sleep(delay_s)
                self.reply(*answer(fields))

            def reply(self, status: int, content: Any) -> None:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/retrieve"


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    with ExitStack() as stack:

        def start(answer: Answer, **settings: Any) -> Peer:
            server = Peer(answer, **settings)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start


def shown(index: BM25Index, queries: Sequence[str], top_k: int) -> dict[str, Any]:
    """The reply of Search-R1's BM25 server, which repeats title and text."""
    return {
        "result": [
            [
                {
                    "document": {
                        "id": hit.passage.id,
                        "contents": hit.passage.contents,
                        "title": hit.passage.title,
                        "text": hit.passage.text,
                    },
                    "score": hit.score,
                }
                for hit in hits
            ]
            for hits in index.search(queries, top_k)
        ]
    }


def like_search_r1(index: BM25Index) -> Answer:
    """Takes a list of queries, and refuses anything else as pydantic does."""

    def answer(fields: dict[str, Any]) -> tuple[int, Any]:
        if not isinstance(fields.get("queries"), list):
            missing = {"type": "missing", "loc": ["body", "queries"], "msg": "Field required"}
            return 422, {"detail": [missing]}
        return 200, shown(index, fields["queries"], fields["topk"])

    return answer


def like_skyrl(index: BM25Index) -> Answer:
    """Takes one query."""

    def answer(fields: dict[str, Any]) -> tuple[int, Any]:
        if not isinstance(fields.get("query"), str):
            missing = {"type": "missing", "loc": ["body", "query"], "msg": "Field required"}
            return 422, {"detail": [missing]}
        return 200, shown(index, [fields["query"]], fields["topk"])

    return answer


def test_our_service_answers_as_the_index_does(serve: Serve) -> None:
    odd = Passage(id="odd", title='a "title"\nof two lines', text="lone \ud800\n w1")
    index = BM25Index.build([odd, *(Passage(id=str(n), text=f"all w{n}") for n in range(40))])
    client = RemoteRetriever(serve(index))
    assert isinstance(client, Retriever)
    assert client.fingerprint == index.fingerprint
    queries = ["w1", "unheard", "", "all w7", "\ud800"]
    for top_k in (1, 3, 40):
        assert client.search(queries, top_k) == index.search(queries, top_k)
    assert client.search([], 1) == []
    with pytest.raises(ValueError, match="top_k is 0"):
        client.search(["w1"], 0)


def test_more_hits_than_the_service_gives_are_not_given_up_silently(
    index: BM25Index, serve: Serve
) -> None:
    client = RemoteRetriever(serve(index, ServiceConfig(max_top_k=10)))
    assert len(client.search(["all"], 10)[0]) == 10
    with pytest.raises(ValueError, match="gives 10 hits at most"):
        client.search(["all"], 11)


def test_many_threads_share_connections_and_get_their_own_answers(
    index: BM25Index, serve: Serve
) -> None:
    client = RemoteRetriever(serve(index))
    with ThreadPoolExecutor(32) as threads:
        found = threads.map(lambda n: client.search([f"w{n % 60}"], 1)[0][0].passage.id, range(600))
        assert list(found) == [str(n % 60) for n in range(600)]
    copy = pickle.loads(pickle.dumps(client))
    client.close()
    assert copy.search(["w1"], 1) == index.search(["w1"], 1)
    with pytest.raises(ValueError, match="is closed"):
        client.search(["w1"], 1)


def test_the_token_is_sent_and_its_absence_explained(index: BM25Index, serve: Serve) -> None:
    url = serve(index, ServiceConfig(token="secret"))
    assert len(RemoteRetriever(url, token="secret").search(["w1"], 1)[0]) == 1
    with pytest.raises(RetrieverError, match=r"401 .*Pass its token"):
        RemoteRetriever(url, token="secreT").search(["w1"], 1)


@pytest.mark.parametrize("num", [1, 2, 3, 40])
@pytest.mark.parametrize("make", [like_search_r1, like_skyrl])
def test_the_servers_of_others_answer_as_the_index_does(
    index: BM25Index, peer: Callable[..., Peer], make: Callable[[BM25Index], Answer], num: int
) -> None:
    server = peer(make(index))
    client = RemoteRetriever(server.url)
    queries = [f"w{n}" for n in range(num)]
    for _ in range(2):
        assert client.search(queries, 3) == index.search(queries, 3)
    assert client.fingerprint == f"remote:{server.url}"
    is_single = make is like_skyrl
    assert len(server.requests) == (1 + 2 * num if is_single else 2)  # found out once
    assert all(path == "/retrieve" for path, _ in server.requests)


def test_a_named_dialect_is_not_tried_out(index: BM25Index, peer: Callable[..., Peer]) -> None:
    server = peer(like_skyrl(index))
    assert RemoteRetriever(server.url, dialect="query").search(["w1"], 1)[0]
    assert len(server.requests) == 1
    with pytest.raises(RetrieverError, match="422"):
        RemoteRetriever(server.url, dialect="queries").search(["w1"], 1)


def test_a_busy_service_is_asked_again(index: BM25Index, peer: Callable[..., Peer]) -> None:
    statuses = [503, 500, 429, 504]
    answer = like_search_r1(index)
    server = peer(lambda fields: (statuses.pop(0), b"busy") if statuses else answer(fields))
    assert RemoteRetriever(server.url).search(["w1"], 1) == index.search(["w1"], 1)
    assert len(server.requests) == 5


def test_a_service_that_stays_busy_is_given_up_in_time(peer: Callable[..., Peer]) -> None:
    server = peer(lambda fields: (503, {"error": "Busy"}))
    start = time.monotonic()
    with pytest.raises(RetrieverError, match=r"no answer in \d+ tries within 1 s.*503.*Busy"):
        RemoteRetriever(server.url, timeout_s=1).search(["w1"], 1)
    assert time.monotonic() - start < 1.5
    with pytest.raises(RetrieverError, match="in 2 tries"):
        RemoteRetriever(server.url, max_tries=2).search(["w1"], 1)


def test_nobody_there_is_an_error_in_time_also_behind_a_cache() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = RemoteRetriever(f"http://127.0.0.1:{port}", timeout_s=0.5)
    start = time.monotonic()
    with pytest.raises(RetrieverError, match=r"Connection refused. Is the service running"):
        client.search(["w1"], 1)
    with pytest.raises(OSError, match="Connection refused"):
        CachedRetriever(client).search(["w1"], 1)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize("drips", [False, True])
def test_a_service_that_is_too_slow_is_left_at_the_deadline(drips: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        is_over = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" if drips else b""
                )
                while not is_over.wait(0.05):
                    if drips:
                        connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(RetrieverError, match=r"within 0.5 s"):
            RemoteRetriever(url, timeout_s=0.5, max_tries=1).search(["w1"], 1)
        took_s = time.monotonic() - start
        is_over.set()
        thread.join(10)
    assert 0.4 < took_s < 1.5


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"{}",
        b'{"result": [[{"document": 1}]]}',
        b"\xff",
        gzip.compress(b"{}"),
    ],
)
def test_garbage_is_said_to_be_garbage(peer: Callable[..., Peer], body: bytes) -> None:
    server = peer(lambda fields: (200, body))
    with pytest.raises(RetrieverError, match=r"no list of hits.*Is it a search service"):
        RemoteRetriever(server.url).search(["w1"], 1)
    assert len(server.requests) == 1


def test_what_is_not_http_is_an_error_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RetrieverError, match=r"SSH-2.0"):
            RemoteRetriever(url, timeout_s=5, max_tries=1).search(["w1"], 1)
        thread.join(10)


def test_a_wrong_path_is_named(index: BM25Index, serve: Serve) -> None:
    with pytest.raises(RetrieverError, match=r"404 .*Check the path"):
        RemoteRetriever(f"{serve(index)}/v1/find").search(["w1"], 1)


def test_connections_that_the_server_closed_meanwhile_do_no_harm(
    index: BM25Index, peer: Callable[..., Peer]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        body = json.dumps(shown(index, ["w1"], 1)).encode()
        num_connections = 0

        def answer_once_each() -> None:
            nonlocal num_connections
            for _ in range(3):
                connection, _ = listener.accept()
                num_connections += 1
                with connection:
                    connection.recv(65536)
                    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
                    connection.sendall(head.encode() + body)

        thread = threading.Thread(target=answer_once_each)
        thread.start()
        client = RemoteRetriever(f"http://127.0.0.1:{listener.getsockname()[1]}", max_tries=1)
        for _ in range(3):
            assert client.search(["w1"], 1) == index.search(["w1"], 1)
        thread.join(10)
    assert num_connections == 3


def test_a_restart_with_another_index_changes_the_fingerprint(
    index: BM25Index, serving: Callable[..., AbstractContextManager[str]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = RemoteRetriever(f"http://127.0.0.1:{port}", timeout_s=20)
    other = BM25Index.build([Passage(id="other", text="w1")])
    for served in (index, other):
        with serving(served, port=port):
            assert client.search(["w1"], 1) == served.search(["w1"], 1)
            assert client.fingerprint == served.fingerprint


@pytest.mark.parametrize(
    ("url", "settings", "complaint"),
    [
        ("localhost:8000", {}, "no address of a service"),
        ("indexes/wiki", {}, "no address of a service"),
        ("http://x", {"timeout_s": 0}, "timeout_s is 0"),
        ("http://x", {"max_tries": 0}, "max_tries 0"),
        ("http://x", {"dialect": "skyrl"}, "dialect is 'skyrl'"),
    ],
)
def test_bad_settings_are_refused(url: str, settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RemoteRetriever(url, **settings)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_search_tool_of_skyrl_gym_finds_what_the_index_finds(
    index: BM25Index, serve: Serve
) -> None:
    search = pytest.importorskip(
        "skyrl_gym.tools.search", reason="needs pip install 'maskgym[skyrl]'"
    )
    url = f"{serve(index)}/retrieve"
    tool = search.SearchToolGroup(search_url=url, topk=2, timeout=10, log_requests=False)
    shown_text = json.loads(tool.search("w5 all"))["result"]
    best, second = index.search(["w5 all"], 2)[0]
    assert shown_text == f"Doc 1: {best.passage.contents}\nDoc 2: {second.passage.contents}\n"
    assert json.loads(tool.search("unheard"))["result"] == ""
    reply, error = search.call_search_api(url, "w5", topk=1, return_scores=True)
    assert error is None
    assert reply["result"][0][0]["score"] == index.search(["w5"], 1)[0][0].score


def test_the_request_of_verl_brings_scores_for_each_query(index: BM25Index, serve: Serve) -> None:
    requests = pytest.importorskip("requests", reason="verl's client is made of it")
    payload = {"queries": ["w1", "w2"], "topk": 3, "return_scores": True}
    response = requests.post(f"{serve(index)}/retrieve", json=payload, timeout=10)
    titles = [
        item["document"]["contents"].split("\n")[0]
        for items in response.json()["result"]
        for item in items
    ]
    assert titles == ['"T1"', '"T2"']
