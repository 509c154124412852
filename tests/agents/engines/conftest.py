"""A server that speaks as much of vLLM's HTTP as a `RemoteEngine` uses, and fails on command."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file


class StandInServer:
    """Says the tokens after the prompt's last one, counting up; four tokens an event."""

    def __init__(self) -> None:
        self.version = "0"
        self.logprobs_mode = "processed_logprobs"
        self.seeds = "work"
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.weights: dict[str, Any] = {}
        self.num_to_break = 0
        """Completions that are broken off after their first event."""
        self.refusal = 0
        """Status of every completion, where it is not 0."""
        self.pause_s = 0.0
        """Time between events."""
        self.is_paused = False
        self.num_failed_resets = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def num_calls(self) -> Counter[str]:
        return Counter(self.calls)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def rpc(self, method: str, args: list[str]) -> Any:
        self.calls.append(method)
        if method == "maskgym_load_weights":
            files = sorted(Path(args[0]).glob("*.safetensors"))
            self.weights = {k: v for file in files for k, v in load_file(file).items()}
            self.version = args[1]
        return {
            "version": self.version,
            "logprobs_mode": self.logprobs_mode,
            "dtype": "float32",
            "seeds": self.seeds,
        }

    def _handler(stand_in) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def reply(self, content: Any, status: int = 200) -> None:
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                models = {"data": [{"id": "tiny", "max_model_len": 64}]}
                self.reply(models if self.path == "/v1/models" else {})

            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                content = json.loads(self.rfile.read(length) or b"{}")
                if self.path == "/v1/completions":
                    stand_in.bodies.append(content)
                    self.complete(content)
                elif self.path == "/collective_rpc":
                    self.reply({"results": [stand_in.rpc(content["method"], content["args"])]})
                else:
                    stand_in.calls.append(self.path.partition("?")[0])
                    stand_in.is_paused = self.path.startswith("/pause") or (
                        stand_in.is_paused and self.path != "/resume"
                    )
                    is_reset = stand_in.num_failed_resets == 0
                    stand_in.num_failed_resets -= not is_reset
                    self.reply({"success": is_reset})

            def complete(self, content: dict[str, Any]) -> None:
                if stand_in.refusal:
                    self.reply({"error": {"message": "no such model"}}, stand_in.refusal)
                    return
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                first, number = content["prompt"][-1] + 1, content["max_tokens"]
                for start in range(0, number, 4):
                    ids = list(range(first + start, first + min(start + 4, number)))
                    is_last = start + 4 >= number
                    choice = {
                        "token_ids": ids,
                        "logprobs": {"token_logprobs": [-0.5] * len(ids)},
                        "finish_reason": "length" if is_last else None,
                        "stop_reason": None,
                    }
                    self.event(json.dumps({"choices": [choice]}))
                    if stand_in.num_to_break > 0:
                        stand_in.num_to_break -= 1
                        self.close_connection = True
                        return
                    time.sleep(stand_in.pause_s)
                self.event("[DONE]")
                self.wfile.write(b"0\r\n\r\n")

            def event(self, data: str) -> None:
                piece = f"data: {data}\n\n".encode()
                for half in (piece[:7], piece[7:]):  # chunks end where they like
                    self.wfile.write(f"{len(half):x}\r\n".encode() + half + b"\r\n")
                self.wfile.flush()

        return Handler


@pytest.fixture
def stand_ins() -> Iterator[list[StandInServer]]:
    """Two servers."""
    servers = [StandInServer(), StandInServer()]
    yield servers
    for server in servers:
        server.close()
