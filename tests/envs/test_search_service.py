"""The search environment before real HTTP servers: those that work, and those that fail."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maskgym.envs import Domain, JSONProtocol, SearchConfig, SearchEnv, Task

FRANCE = Task(
    task_id="france",
    question="Who is the president of France?",
    answers=("Emmanuel Macron",),
    domain=Domain.SEARCH,
    gold_passages=("p1",),
)
TIMEOUT_S = 0.5


class Server(ThreadingHTTPServer):
    """Answers each search with what a function says: status and body, or None to hang up."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, Any]], tuple[int, Any] | None]) -> None:
        self.asked: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(404, {})

            def do_POST(self) -> None:
                fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append(fields)
                server.tokens.append(self.headers["Authorization"])
                answered = answer(fields)
                if answered is None:
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                else:
                    self.reply(*answered)

            def reply(self, status: int, content: Any) -> None:
                body = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
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


Serve = Callable[[Callable[[dict[str, Any]], tuple[int, Any] | None]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    servers: list[Server] = []

    def start(answer: Callable[[dict[str, Any]], tuple[int, Any] | None]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.closing.set()
        server.shutdown()
        server.server_close()


def search_r1(fields: dict[str, Any]) -> tuple[int, Any]:
    """What Search-R1's server answers: more passages than asked for, in its own form."""
    hits = [
        {
            "document": {"id": f"p{n}", "contents": f'"Title {n}"\nText of {query}, {"x" * 500}'},
            "score": 1 / n,
        }
        for query in fields["queries"]
        for n in range(1, 11)
    ]
    return 200, {"result": [hits]}


def play(url: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    env = SearchEnv(
        tasks=[FRANCE],
        retriever=url,
        search=SearchConfig(timeout_s=TIMEOUT_S, **settings),
    )
    env.reset()
    started_s = time.monotonic()
    observation, reward, terminated, truncated, info = env.step("<search> president </search>")
    assert time.monotonic() - started_s < TIMEOUT_S + 2
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert env.step("<answer> Emmanuel Macron </answer>")[1] == 1.0
    env.close()
    return observation["text"], info


def test_a_service_is_asked_by_its_address(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKGYM_TOKEN", "secret")
    server = serve(search_r1)
    text, info = play(server.url, top_k=2, max_passage_chars=22, passage_format="search-r1")
    assert text == (
        '<information>\nDoc 1(Title: "Title 1") Text of president, xxx\n'
        'Doc 2(Title: "Title 2") Text of president, xxx\n</information>'
    )
    assert info["passage_ids"] == ("p1", "p2") and info["tool_error"] == ""
    assert [fields["topk"] for fields in server.asked] == [2]
    assert server.tokens == ["Bearer secret"]


def test_json_tool_calls_search_the_same_service(serve: Serve) -> None:
    protocol = JSONProtocol()
    env = SearchEnv(tasks=[FRANCE], retriever=serve(search_r1).url, protocol=protocol)
    env.reset()
    observation, *_, info = env.step(protocol.format_tool_call("search", "president"))
    assert observation["text"].startswith("<tool_response>\n[1] Title 1: Text of president")
    assert info["passage_ids"] == ("p1", "p2", "p3")
    env.close()


def test_rollouts_of_a_group_ask_a_service_once(serve: Serve) -> None:
    server = serve(search_r1)
    envs = [SearchEnv(tasks=[FRANCE], retriever=server.url) for _ in range(4)]
    texts = set()
    for env in envs:
        env.reset()
        texts.add(env.step("<search> president </search>")[0]["text"])
    assert len(texts) == 1 and len(server.asked) == 1
    for env in envs:
        env.close()


@pytest.mark.parametrize(
    ("answered", "said"),
    [
        ((500, {"detail": "index broken"}), "500"),
        ((503, {"detail": "busy"}), "503"),
        ((401, {"detail": "no"}), "Pass its token"),
        ((200, b"<html>not JSON</html>"), "what is no list of hits"),
        ((200, b"\xff\xfe\x00"), "what is no list of hits"),
        ((200, b"[" * 100_000), "what is no list of hits"),
        ((200, {"hits": []}), 'no "result"'),
        ((200, {"result": "gold"}), 'no "result"'),
        ((200, {"result": []}), "0 lists of hits for 1 queries"),
        ((200, {"result": [[{"document": {"id": "1"}}]]}), "no contents"),
        ((200, {"result": [["text"]]}), "a hit is a string"),
        (None, "RemoteDisconnected|ConnectionReset"),
    ],
    ids=range(12),
)
def test_a_failing_service_is_an_error_observation_within_the_deadline(
    serve: Serve, answered: tuple[int, Any] | None, said: str
) -> None:
    text, info = play(serve(lambda fields: answered).url)
    assert text.startswith("<information>\nThe search tool failed: RetrieverError: ")
    assert info["tool_error"] and info["passage_ids"] == ()
    assert any(word in info["tool_error"] for word in said.split("|"))


def test_a_service_that_is_down_or_hangs_is_given_up_with_the_reason(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    _, info = play(f"http://127.0.0.1:{port}")
    assert "Is the service running there?" in info["tool_error"]
    server = serve(lambda fields: (server.closing.wait(30), (200, {}))[1])
    _, info = play(server.url)
    assert "within 0.45 s" in info["tool_error"]


def test_a_service_that_comes_back_is_used_again(serve: Serve) -> None:
    answers: Iterator[tuple[int, Any]] = iter([(400, {}), (400, {})])
    server = serve(lambda fields: next(answers, None) or search_r1(fields))
    env = SearchEnv(tasks=[FRANCE], retriever=server.url)
    env.reset()
    failed = env.step("<search> president </search>")[4]
    found = env.step("<search> president </search>")[4]
    assert failed["tool_error"] and failed["passage_ids"] == ()
    assert not found["tool_error"] and found["passage_ids"] == ("p1", "p2", "p3")
    env.close()


def test_an_address_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no address of a service"):
        SearchEnv(tasks=[FRANCE], retriever="http://")
