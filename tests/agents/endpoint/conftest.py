"""A server that speaks the OpenAI API and does what a test tells it."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from maskgym.agents.endpoint.player import Endpoint, EndpointConfig

Reply = tuple[int, dict[str, Any] | bytes] | None


class FakeServer:
    """A server on the loopback whose `answer` gives status and body; None breaks the connection."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any]], Reply] = lambda body: self.says(
            "<answer> x </answer>"
        )
        self.models: Reply = (200, {"data": [{"id": "tiny", "owned_by": "vllm"}]})
        self.reply_headers: dict[str, str] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.headers.append(dict(self.headers))
                self.send(outer.models)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append(body)
                outer.headers.append(dict(self.headers))
                self.send(outer.answer({**body, "path": self.path}))

            def send(self, reply: Reply) -> None:
                if reply is None:
                    linger = struct.pack("ii", 1, 0)  # closing now sends a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.connection.close()
                    self.close_connection = True
                    return
                status, body = reply
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in outer.reply_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # one of the two broke off
                    super().handle()

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        thread.start()

    def endpoint(self, **config: Any) -> Endpoint:
        return Endpoint(EndpointConfig(base_url=self.url, **{"timeout_s": 10.0, **config}))

    def says(self, text: str | None, *, finish_reason: str = "stop", **message: Any) -> Reply:
        """A completion."""
        choice = {"message": {"role": "assistant", "content": text, **message}}
        usage = {"completion_tokens": 5}
        return 200, {"choices": [{**choice, "finish_reason": finish_reason}], "usage": usage}

    def refuses(self, status: int, message: str, **more: Any) -> Reply:
        """A refusal."""
        return status, {"error": {"message": message, **more}}

    def echo_then_answer(self, body: dict[str, Any]) -> Reply:
        """What a good model does: one call of the tool, then the first word of the question."""
        word = body["messages"][0]["content"].split()[0]
        tag = "echo" if len(body["messages"]) == 1 else "answer"
        return self.says(f"<{tag}> {word} </{tag}>")

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """The server; pauses between tries are short."""
    monkeypatch.setattr("maskgym.agents.endpoint.client._FIRST_DELAY_S", 0.01)
    server = FakeServer()
    yield server
    server.close()
