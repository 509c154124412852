"""Requests in, completions out, with vLLM servers elsewhere: other GPUs, other machines."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .engine import Completion, EngineConfig, Request, check_model_dir, check_request
from .server_pool import PooledServer, ServerPool
from .vllm_server import EngineServerError, ServerHandle, serve_hint
from .weight_transfer import FileTransfer, NCCLTransfer, WeightTransfer, update_servers
from .weights import checked_parameters, drained, meta_model

TRANSFERS = ("file", "nccl")


@dataclass(frozen=True, kw_only=True)
class RemoteEngineConfig(EngineConfig):
    """Where the servers are and how weights get there.

    `max_num_seqs` is the number of requests that each server is asked at once; `dtype` is the servers'.
    """

    servers: tuple[str, ...] = ()
    """Addresses, such as "http://127.0.0.1:8000"; requests are shared out among them."""
    transfer: str = "file"
    """How weights get there: "file" (a folder that both sides see) or "nccl" (between GPUs)."""
    shared_dir: str = "/dev/shm"
    """Folder for "file": in memory on one machine, else on a shared disk."""
    master_address: str = ""
    """For "nccl": the trainer's address as the servers see it; empty for this host's."""
    api_key_env: str = ""
    """Environment variable that holds the servers' API key; empty for none."""
    is_sender: bool = True
    """Whether this process sends the weights: with several trainer processes on the same servers one
    does, and the others wait until the servers have them."""
    max_retries: int = 5
    """Times that a server is asked again after a failure, each after twice the pause (5 times: 8
    seconds), before it counts as lost."""
    stall_timeout_s: float = 600.0
    """Longest wait for the next tokens of a completion, and for a server to load weights."""
    poll_wait_s: float = 0.003
    """Time that `poll` waits for a completion when there is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.servers, str):
            raise ValueError(f"servers is the text {self.servers!r}; give a list of addresses.")
        if self.transfer not in TRANSFERS:
            raise ValueError(f"transfer is {self.transfer!r}; it is one of {', '.join(TRANSFERS)}.")
        if self.max_retries < 0 or not self.stall_timeout_s > 0 or not self.poll_wait_s >= 0:
            raise ValueError(
                f"max_retries is {self.max_retries}, stall_timeout_s is {self.stall_timeout_s}, "
                f"poll_wait_s is {self.poll_wait_s}; give at least 0, more than 0, at least 0."
            )


class RemoteEngine:
    """An `Engine` on vLLM servers, each request a stream of its own: no barrier.

    A server that breaks off is asked again and, if it is gone, its requests go to the others; with
    seeds they say the same there. One that comes back gets the weights of the next update. A server
    that was restarted holds old weights: it is not asked before that.

    Example::

        with serve_for_training("model", "server.log") as server:
            config = RemoteEngineConfig(servers=(server.address,))
            engine = RemoteEngine("model", config=config)
    """

    def __init__(self, model_dir: str | Path, *, config: RemoteEngineConfig) -> None:
        """Meets the servers, which have started with the same model.

        Args:
            model_dir: The model, here: for the names and shapes of its weights.
            config: Servers and limits.

        Raises:
            FileNotFoundError: If there is no model in the folder, or no `shared_dir`.
            ValueError: If no servers are named.
            EngineServerError: If a server does not answer, or was started in another way than
                `vllm_server.serve_command` says.
        """
        folder = check_model_dir(model_dir)
        self._config = config
        self._hint = serve_hint(model_dir, config.transfer)
        if not config.servers:
            raise ValueError(f"No servers are named: give their addresses. {self._hint}")
        self._names = meta_model(folder)
        self._limits: list[int] = [config.max_model_len] if config.max_model_len else []
        self._dtype = torch.float32
        handles = [
            ServerHandle(url, api_key_env=config.api_key_env, timeout_s=config.stall_timeout_s)
            for url in config.servers
        ]
        servers = [self._meet(handle) for handle in handles]
        self._transfer: WeightTransfer | None = None
        if config.is_sender and config.transfer == "file":
            self._transfer = FileTransfer(config.shared_dir)
        elif config.is_sender:
            self._transfer = NCCLTransfer(master_address=config.master_address)
        self._in_flight: set[str] = set()
        self._weight_version = 0
        self._broken = ""  # why the engine cannot be used
        self._pool: ServerPool | None = ServerPool(
            servers,
            max_requests=config.max_num_seqs * len(servers),
            max_retries=config.max_retries,
            stall_timeout_s=config.stall_timeout_s,
        )

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""
        return self._weight_version

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""
        return len(self._in_flight)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""
        return min(self._limits)

    def submit(self, request: Request) -> None:
        """Sends a request; see `Engine.submit`."""
        pool = self._usable_pool()
        max_tokens = check_request(
            request,
            max_model_len=self.max_model_len,
            in_flight=self._in_flight,
            vocab_size=self._names.get_input_embeddings().num_embeddings,
        )
        self._in_flight.add(request.request_id)
        pool.start(request, max_tokens)

    def poll(self) -> list[Completion]:
        """Gives what finished; waits a moment where nothing has.

        Raises:
            EngineServerError: If the last server is lost, or one refuses a request; the requests in
                flight are gone, and the engine works again after an update of the weights.
        """
        pool = self._usable_pool()
        finished: list[Completion] = []
        wait_s = self._config.poll_wait_s if self._in_flight else 0.0
        try:
            while True:
                done = pool.done.get(timeout=wait_s) if wait_s else pool.done.get_nowait()
                wait_s = 0.0
                if isinstance(done, EngineServerError):
                    self._broken = f"{done} {self._hint}"
                    pool.clear()
                    self._in_flight.clear()
                    raise EngineServerError(self._broken)
                finished.append(done)
        except queue.Empty:
            pass
        self._in_flight.difference_update(completion.request_id for completion in finished)
        return finished

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns what has come of them."""
        self._usable_pool().cancel(self._in_flight & set(request_ids))

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Replaces the weights of all servers, and drops their caches.

        After an error the servers are paused, and the engine refuses to work until an update with a
        full set succeeds.

        Raises:
            RuntimeError: If requests are in flight.
            ValueError: If a name is unknown, one is missing, a shape differs, or the two names of
                a tied weight bring different values.
            EngineServerError: If no server is left, or one does not take the weights.
        """
        if self._pool is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._in_flight:
            raise RuntimeError(
                f"{len(self._in_flight)} requests are in flight; poll until num_unfinished is 0, "
                "then update the weights."
            )
        self._broken = (
            f"The weight update to version {version} failed half-way: update again with every "
            "parameter, or open another engine."
        )
        self._pool.clear()
        with drained(named_parameters) as source:
            tensors = self._cast(checked_parameters(source, self._names))
            if self._transfer is None:
                for _ in tensors:  # each is gathered by all trainer processes together
                    pass
                self._await_version(str(version))
            else:
                servers = self._reachable(self._pool)
                update_servers(self._transfer, servers, tensors, str(version))
        for server in self._pool.servers:
            server.held = str(version)
        self._broken = ""
        self._weight_version = self._pool.weight_version = version

    def close(self) -> None:
        """Ends what is in flight; the servers go on."""
        if self._pool is None:
            return
        self._pool.close()
        self._pool = None
        self._in_flight.clear()
        if self._transfer is not None:
            self._transfer.close()

    def _usable_pool(self) -> ServerPool:
        if self._pool is None:
            raise RuntimeError("The engine is closed; open another.")
        if self._broken:
            raise EngineServerError(self._broken)
        return self._pool

    def _meet(self, handle: ServerHandle) -> PooledServer:
        """Refuses a server that samples or takes weights in another way than is needed."""
        try:
            model = handle.call("GET", "/v1/models")["data"][0]
            state = handle.state()
        except EngineServerError as error:
            raise EngineServerError(f"{error} {self._hint}") from error
        if state["logprobs_mode"] != "processed_logprobs":
            raise EngineServerError(
                f"{handle.name} gives {state['logprobs_mode']}, which ignore the temperature. "
                f"{self._hint}"
            )
        if state["seeds"] != "work":
            raise EngineServerError(
                f"{handle.name} runs on a CPU and splits long prompts, which ends it at the first seeded "
                f"one (vLLM 0.32): add --no-enable-chunked-prefill. {self._hint}"
            )
        self._dtype = getattr(torch, state["dtype"])
        self._limits.append(int(model["max_model_len"]))
        return PooledServer(handle=handle, model=str(model["id"]), held=state["version"])

    def _cast(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """In the servers' type: half the bytes, where the trainer holds float32."""
        for name, tensor in tensors:
            yield name, tensor.detach().to(self._dtype)

    def _reachable(self, pool: ServerPool) -> list[ServerHandle]:
        """The servers to update: those in use, and those that have come back."""
        assert self._transfer is not None
        for server in pool.servers:
            if not server.lost and not server.handle.is_alive():
                pool.lose(server, f"{server.handle.name} does not answer.")
            elif server.lost and self._transfer.can_add_servers and server.handle.is_alive():
                server.lost = ""
        alive = [server.handle for server in pool.servers if not server.lost]
        if not alive:
            problems = " ".join(server.lost for server in pool.servers)
            raise EngineServerError(f"No server is left to update. {problems} {self._hint}")
        return alive

    def _await_version(self, version: str) -> None:
        """Waits until the sender has updated every server that is in use.

        Raises:
            EngineServerError: If that takes longer than `stall_timeout_s`.
        """
        assert self._pool is not None
        deadline = time.monotonic() + self._config.stall_timeout_s
        for server in self._pool.servers:
            while not server.lost and server.handle.weight_version() != version:
                if time.monotonic() > deadline:
                    raise EngineServerError(
                        f"{server.handle.name} has no weights of version {version} yet: does the "
                        "process with is_sender = true update as often as this one?"
                    )
                time.sleep(0.02)
