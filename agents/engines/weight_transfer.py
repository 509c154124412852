"""Ways for the trainer's weights to reach vLLM servers: files in a shared folder, or NCCL between GPUs.

Around either: the servers are paused, take the weights, drop their prefix caches and go on.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .vllm_server import EngineServerError, ServerHandle

CHUNK_BYTES = 512 << 20  # what is gathered at once; a larger tensor goes alone
RESET_TRIES = 20
T = TypeVar("T")


class WeightTransfer(Protocol):
    """One way."""

    can_add_servers: bool
    """Whether a server that comes back later can take weights."""

    def send(
        self, servers: Sequence[ServerHandle], tensors: Iterable[tuple[str, Tensor]], version: str
    ) -> None:
        """Gives all servers these weights; they are paused meanwhile.

        Raises:
            EngineServerError: If a server does not take them.
        """

    def close(self) -> None:
        """Frees what the transfers need."""


def update_servers(
    transfer: WeightTransfer,
    servers: Sequence[ServerHandle],
    tensors: Iterable[tuple[str, Tensor]],
    version: str,
) -> None:
    """Pauses the servers, sends the weights, drops what old weights had computed, lets them go on.

    After an error they stay paused: half of their weights may be new.

    Raises:
        EngineServerError: If a server does not answer, or keeps old keys and values.
    """
    _on_each(servers, lambda server: server.call("POST", "/pause?mode=abort&clear_cache=true"))
    transfer.send(servers, tensors, version)
    _on_each(servers, _reset_prefix_cache)
    _on_each(servers, lambda server: server.call("POST", "/resume"))


class FileTransfer:
    """Weights through safetensors files in a folder that trainer and servers both see.

    In memory (`/dev/shm`) where they run on one machine; the files of a version are gone once all
    servers have read them.
    """

    can_add_servers = True

    def __init__(self, shared_dir: str | Path) -> None:
        """Makes a folder of its own inside.

        Raises:
            FileNotFoundError: If there is no such folder.
        """
        if not Path(shared_dir).is_dir():
            raise FileNotFoundError(
                f"There is no folder {str(shared_dir)!r} to pass weights through: name one that "
                "trainer and servers both see in shared_dir."
            )
        self._folder = Path(tempfile.mkdtemp(prefix="maskgym-weights-", dir=shared_dir))

    def send(
        self, servers: Sequence[ServerHandle], tensors: Iterable[tuple[str, Tensor]], version: str
    ) -> None:
        """See `WeightTransfer.send`."""
        from safetensors.torch import save_file

        folder = self._folder / f"version-{version}"
        folder.mkdir()
        try:
            for number, chunk in enumerate(chunks(tensors)):
                # Copied: safetensors refuses tensors that are views of one memory.
                on_cpu = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in chunk}
                save_file(on_cpu, folder / f"{number:05}.safetensors")
            _on_each(
                servers, lambda server: server.rpc("maskgym_load_weights", str(folder), version)
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


class NCCLTransfer:
    """Weights from the trainer's GPU to those of the servers, by NCCL broadcasts.

    The trainer is rank 0 of a group of its own, the workers of all servers follow; vLLM's half is the
    weight-transfer API of 0.26 and later (`--weight-transfer-config '{"backend": "nccl"}'`). Tensors
    go unpacked: packing is agreed on in another message in 0.26 than in 0.28.
    """

    can_add_servers = False

    def __init__(self, *, master_address: str = "") -> None:
        """Takes the address at which the servers reach the trainer.

        Raises:
            RuntimeError: If there is no GPU here.
            ImportError: If vLLM is not installed beside the trainer, whose half it brings.
        """
        if not torch.cuda.is_available():
            raise RuntimeError(
                "Weights go by NCCL from a GPU, and there is none here; use transfer = 'file'."
            )
        from vllm.distributed.weight_transfer import nccl_common

        self._open: Callable[[dict[str, Any]], Any] = nccl_common.trainer_init
        self._address = master_address or socket.gethostbyname(socket.gethostname())
        self._group: Any = None
        self._device = torch.device("cuda", torch.cuda.current_device())

    def send(
        self, servers: Sequence[ServerHandle], tensors: Iterable[tuple[str, Tensor]], version: str
    ) -> None:
        """See `WeightTransfer.send`."""
        if self._group is None:
            self._group = self._connect(servers)
        _on_each(servers, lambda server: server.call("POST", "/start_weight_update"))
        for chunk in chunks(tensors):
            self._broadcast(servers, chunk)
        _on_each(servers, lambda server: server.call("POST", "/finish_weight_update"))
        _on_each(servers, lambda server: server.rpc("maskgym_set_version", version))

    def close(self) -> None:
        """Leaves the group."""
        self._group = None

    def _connect(self, servers: Sequence[ServerHandle]) -> Any:
        sizes = _on_each(servers, lambda server: server.call("GET", "/get_world_size"))
        offsets: dict[ServerHandle, int] = {}
        world_size = 1  # the trainer
        for server, size in zip(servers, sizes, strict=True):
            offsets[server] = world_size
            world_size += int(size["world_size"])
        with socket.create_server(("", 0)) as free:
            port = int(free.getsockname()[1])
        group = {
            "master_address": self._address,
            "master_port": port,
            "world_size": world_size,
        }
        # Both sides wait for each other: the servers are told from other threads.
        return _meanwhile(
            servers,
            lambda server: server.call(
                "POST",
                "/init_weight_transfer_engine",
                {"init_info": {**group, "rank_offset": offsets[server]}},
            ),
            lambda: self._open(group),
        )

    def _broadcast(self, servers: Sequence[ServerHandle], chunk: list[tuple[str, Tensor]]) -> None:
        sent = [tensor.detach().to(self._device).contiguous() for _, tensor in chunk]
        update = {
            "names": [name for name, _ in chunk],
            "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in sent],
            "shapes": [list(tensor.shape) for tensor in sent],
        }

        def broadcast() -> None:
            stream = torch.cuda.current_stream()
            for tensor in sent:
                self._group.broadcast(tensor, src=0, stream=stream)
            stream.synchronize()

        _meanwhile(
            servers,
            lambda server: server.call("POST", "/update_weights", {"update_info": update}),
            broadcast,
        )


def chunks(
    tensors: Iterable[tuple[str, Tensor]], *, max_bytes: int = CHUNK_BYTES
) -> Iterator[list[tuple[str, Tensor]]]:
    """The tensors in order, in lists of at most `max_bytes`; one that is larger has its own."""
    chunk: list[tuple[str, Tensor]] = []
    size = 0
    for name, tensor in tensors:
        if chunk and size + tensor.nbytes > max_bytes:
            yield chunk
            chunk, size = [], 0
        chunk.append((name, tensor))
        size += tensor.nbytes
    if chunk:
        yield chunk


def _reset_prefix_cache(server: ServerHandle) -> None:
    for _ in range(RESET_TRIES):  # blocks of requests that were just aborted may be held a moment
        if (server.call("POST", "/reset_prefix_cache") or {}).get("success", True):
            return
        time.sleep(0.1)
    raise EngineServerError(
        f"{server.name} could not drop its prefix cache, blocks are still in use: the keys and values "
        "of the old weights would be reused. Restart the server."
    )


def _on_each(servers: Sequence[ServerHandle], call: Callable[[ServerHandle], T]) -> list[T]:
    """What each server gave, all asked at once; the first error after all have answered."""
    with ThreadPoolExecutor(max(1, len(servers))) as pool:
        return [future.result() for future in [pool.submit(call, server) for server in servers]]


def _meanwhile(
    servers: Sequence[ServerHandle], call: Callable[[ServerHandle], Any], work: Callable[[], T]
) -> T:
    """What `work` gives, done here while the servers are at `call`, which needs it."""
    pool = ThreadPoolExecutor(len(servers))
    try:
        futures: list[Future[Any]] = [pool.submit(call, server) for server in servers]
        time.sleep(0.01)
        for future in futures:  # one that refused at once would leave `work` waiting for ever
            if future.done():
                future.result()
        result = work()
        for future in futures:
            future.result()
        return result
    finally:
        pool.shutdown(wait=False)  # a server that hangs shall not keep the error from being seen
