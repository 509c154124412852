"""A vLLM server that samples for a trainer: the command that starts it, and a handle that speaks to it.

A server takes weights and commands from whoever reaches its port: bind it to the loopback or to a
private network.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ...retrieval.http_pool import HttpPool

EXTENSION = "maskgym.agents.engines.vllm_extension.WeightExtension"
ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}  # or the server has no routes for weights
_MAX_REPLY_BYTES = 64 << 20


class EngineServerError(RuntimeError):
    """A server of a `RemoteEngine` is gone, refuses, or was started in another way than it needs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunningServer:
    """A server that `serve_for_training` has started."""

    address: str
    """What goes into `RemoteEngineConfig.servers`."""
    process_id: int
    """Its process, and the group of all that it started."""


def serve_command(
    model_dir: str | Path,
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    transfer: str = "file",
    options: Sequence[str] = (),
) -> list[str]:
    """The command line of a server for `RemoteEngine`; set `ENVIRONMENT` for it.

    Args:
        model_dir: The model that training starts from.
        port: Where it listens.
        host: The address that it binds; an address of a private network for a trainer elsewhere.
        transfer: How weights will come: "file" or "nccl".
        options: Further options of `vllm serve`, such as `("--max-num-seqs", "256")`.
    """
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model_dir),
    ]
    command += ["--host", host, "--port", str(port)]
    command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    command += ["--worker-extension-cls", EXTENSION, "--stream-interval", "16"]
    if not torch.cuda.is_available():
        # On a CPU a prompt split over two steps rewinds the generator of a seeded request, which ends
        # the server: "CPU Generator does not use offset" (vLLM 0.32).
        command += ["--no-enable-chunked-prefill"]
    if transfer == "nccl":
        command += ["--weight-transfer-config", '{"backend": "nccl"}']
    return [*command, *options]


def serve_hint(model_dir: str | Path, transfer: str) -> str:
    """What to type to start a server, for error messages."""
    command = serve_command(model_dir, transfer=transfer)
    command[0] = "python"
    return f"Start it with `VLLM_SERVER_DEV_MODE=1 {shlex.join(command)}`."


@contextlib.contextmanager
def serve_for_training(
    model_dir: str | Path,
    log: str | Path,
    *,
    port: int = 0,
    transfer: str = "file",
    options: Sequence[str] = (),
    environment: dict[str, str] | None = None,
    start_timeout_s: float = 600.0,
) -> Iterator[RunningServer]:
    """Runs a server on this machine for as long as the block lasts.

    Args:
        model_dir: The model that training starts from.
        log: File that takes what the server prints.
        port: Where it listens; 0 takes a free one.
        transfer: How weights will come: "file" or "nccl".
        options: Further options of `vllm serve`.
        environment: Variables beside this process's, such as `{"CUDA_VISIBLE_DEVICES": "1"}`.
        start_timeout_s: Longest time until it answers.

    Raises:
        EngineServerError: If it ends or does not answer in time; shows the end of its log.
    """
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
    command = serve_command(model_dir, port=port, transfer=transfer, options=options)
    variables = {**os.environ, **ENVIRONMENT, "VLLM_NO_USAGE_STATS": "1", **(environment or {})}
    with Path(log).open("wb") as output:
        process = subprocess.Popen(
            command, env=variables, stdout=output, stderr=output, start_new_session=True
        )
    try:
        server = ServerHandle(f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + start_timeout_s
        while not server.is_alive():
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineServerError(
                    f"The server did not start ({shlex.join(command)}); its log ends with:\n"
                    f"{Path(log).read_text(errors='replace')[-3000:]}"
                )
            time.sleep(0.2)
        server.close()
        yield RunningServer(address=server.name, process_id=process.pid)
    finally:
        for sign, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 30)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
                break


class ServerHandle:
    """The routes of one server that are not sampling; safe under threads."""

    def __init__(self, address: str, *, api_key_env: str = "", timeout_s: float = 600.0) -> None:
        """Takes the address; nothing is sent.

        Raises:
            ValueError: If it is none.
        """
        self.url = urlsplit(address.rstrip("/").removesuffix("/v1"))
        if self.url.scheme not in ("http", "https") or not self.url.hostname or self.url.path:
            raise ValueError(f"{address!r} is no address of a server; write http://127.0.0.1:8000.")
        self._api_key_env = api_key_env
        self._timeout_s = timeout_s
        self._pool = HttpPool(self.url, max_reply_bytes=_MAX_REPLY_BYTES)

    @property
    def name(self) -> str:
        """Its address, for messages."""
        return self.url.geturl()

    def headers(self) -> dict[str, str]:
        """The API key, read from its variable each time and kept nowhere."""
        key = os.environ.get(self._api_key_env, "").strip() if self._api_key_env else ""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(
        self, method: str, path: str, content: Any = None, *, timeout_s: float | None = None
    ) -> Any:
        """The JSON of the reply; None where there is none.

        Raises:
            EngineServerError: If the server cannot be reached in time, or the status is not 200.
        """
        body = None if content is None else json.dumps(content).encode()
        headers = {"Content-Type": "application/json", **self.headers()}
        deadline = time.monotonic() + (timeout_s or self._timeout_s)
        try:
            reply = self._pool.request(method, path, body, headers, deadline)
        except (OSError, http.client.HTTPException) as error:
            raise EngineServerError(
                f"{self.name} does not answer ({type(error).__name__}: {error})."
            ) from error
        if reply.status != 200:
            text = reply.body[:500].decode(errors="replace")
            raise EngineServerError(f"{self.name}{path} answered {reply.status} {text}.")
        return json.loads(reply.body) if reply.body.strip() else None

    def is_alive(self) -> bool:
        """Whether it answers."""
        try:
            self.call("GET", "/health", timeout_s=5.0)
        except EngineServerError:
            return False
        return True

    def rpc(self, method: str, *args: str, timeout_s: float | None = None) -> list[Any]:
        """Calls a method of `WeightExtension` on each worker; what they gave."""
        content = {"method": method, "args": list(args)}
        results = self.call("POST", "/collective_rpc", content, timeout_s=timeout_s)
        return list(results["results"]) if results else []

    def state(self) -> dict[str, str]:
        """What `WeightExtension.maskgym_state` says; where workers disagree, what all say."""
        states: list[dict[str, str]] = self.rpc("maskgym_state", timeout_s=30.0)
        alike = {name: {state[name] for state in states} for name in states[0]}
        return {name: " and ".join(sorted(values)) for name, values in alike.items()}

    def weight_version(self) -> str:
        """Version of the weights it holds; "0" where none came since it started."""
        return self.state()["version"]

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()
