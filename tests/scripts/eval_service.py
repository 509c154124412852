"""What tests of `maskgym eval` share: loopback services, questions, and the command itself."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from maskgym.scripts.cli import main


class Service(ThreadingHTTPServer):
    """A loopback server that answers each POST with what `reply` makes of its JSON."""

    daemon_threads = True

    def __init__(self, reply: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self._send({"object": "list", "data": [{"id": "toy", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.add(self.headers.get("Authorization"))
        self._send(self.server.reply(body))

    def _send(self, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Any]) -> Iterator[Service]:
    server = Service(reply)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def passages(body: dict[str, Any]) -> dict[str, Any]:
    """What a search service in Search-R1's dialect answers."""
    hits = [
        {"document": {"id": f"p{n}", "contents": f'"Title {n}"\nHenri Becquerel {n}'}, "score": 1.0}
        for n in range(2)
    ]
    return {"result": [hits for _ in body["queries"]]}


def chat(text: str) -> dict[str, Any]:
    """What a chat endpoint answers."""
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5},
    }


def questions(path: Path, count: int, *, name: str = "q") -> Path:
    rows = [
        {"id": f"{name}{i}", "question": f"Who found ray {i}?", "golden_answers": ["Becquerel"]}
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def maskgym(words: str, *more: str) -> int:
    return main(["eval", *words.split(), *more])


def table(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return value


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch, run: Path) -> None:
    """Presses Ctrl-C, as far as the command can tell, once so many records are there."""

    @contextmanager
    def stopping(message: str) -> Iterator[Callable[[], bool]]:
        yield lambda: len((run / "records.jsonl").read_bytes().splitlines()) >= count

    monkeypatch.setattr("maskgym.scripts.eval.stop_on_interrupt", stopping)
