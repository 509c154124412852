"""Weights in chunks; the messages of an NCCL transfer, whose broadcasts need GPUs and do not run here."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from maskgym.agents.engines.vllm_server import EngineServerError, ServerHandle
from maskgym.agents.engines.weight_transfer import (
    FileTransfer,
    NCCLTransfer,
    chunks,
    update_servers,
)


def test_chunks_keep_order_and_stay_within_their_size() -> None:
    tensors = [(f"{i}", torch.zeros(n)) for i, n in enumerate([3, 3, 3, 10, 1, 1])]
    found = [[name for name, _ in chunk] for chunk in chunks(tensors, max_bytes=4 * 7)]
    assert found == [["0", "1"], ["2"], ["3"], ["4", "5"]]
    assert list(chunks([])) == []


def test_files_need_a_folder_and_leave_nothing_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="trainer and servers both see"):
        FileTransfer(tmp_path / "nowhere")
    transfer = FileTransfer(tmp_path)
    nowhere = ServerHandle("http://127.0.0.1:9")
    whole = torch.arange(6.0)
    views = [("a", whole[:3]), ("b", whole[3:])]  # of one memory, which safetensors refuses
    with pytest.raises(EngineServerError, match="does not answer"):
        transfer.send([nowhere], views, "1")
    assert list(tmp_path.glob("*/*")) == []
    transfer.close()
    assert list(tmp_path.iterdir()) == []


def test_nccl_needs_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="use transfer = 'file'"):
        NCCLTransfer()


@dataclass
class RecordingServer:
    """Stands in for a server's handle."""

    world_size: int
    calls: list[tuple[str, Any]] = field(default_factory=list)
    name: str = "http://server"

    def call(self, method: str, path: str, content: Any = None) -> Any:
        self.calls.append((path, content))
        return {"world_size": self.world_size, "success": True}

    def rpc(self, method: str, *args: str) -> list[Any]:
        self.calls.append((method, args))
        return []

    __hash__ = object.__hash__


@dataclass
class RecordingGroup:
    """Stands in for vLLM's NCCL communicator."""

    sent: list[Tensor] = field(default_factory=list)

    def broadcast(self, tensor: Tensor, src: int, stream: Any) -> None:
        assert src == 0
        self.sent.append(tensor)


def test_nccl_tells_servers_what_comes_and_vllm_takes_these_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nccl_engine = pytest.importorskip("vllm.distributed.weight_transfer.nccl_engine")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    stream = SimpleNamespace(synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    transfer = NCCLTransfer(master_address="10.0.0.1")
    group = RecordingGroup()
    opened: list[dict[str, Any]] = []

    def open_group(info: dict[str, Any]) -> RecordingGroup:
        opened.append(info)
        return group

    transfer._device = torch.device("cpu")
    transfer._open = open_group
    servers: Any = [RecordingServer(2), RecordingServer(1)]
    tensors = [("a", torch.ones(2, 3, dtype=torch.bfloat16)), ("b", torch.zeros(8)[::2])]
    for version in ("1", "2"):
        update_servers(transfer, servers, tensors, version)
    assert len(opened) == 1  # one group for the whole run
    assert opened[0]["world_size"] == 4
    assert [(t.shape, t.dtype) for t in group.sent] == 2 * [
        (torch.Size([2, 3]), torch.bfloat16),
        (torch.Size([4]), torch.float32),
    ]
    paths = [path for path, _ in servers[0].calls]
    assert paths[1:3] == ["/get_world_size", "/init_weight_transfer_engine"]
    assert paths[9:] == [
        "/pause?mode=abort&clear_cache=true",
        "/start_weight_update",
        "/update_weights",
        "/finish_weight_update",
        "maskgym_set_version",
        "/reset_prefix_cache",
        "/resume",
    ]
    inits = [dict(server.calls)["/init_weight_transfer_engine"]["init_info"] for server in servers]
    assert [info["rank_offset"] for info in inits] == [1, 3]
    for info in inits:
        taken = nccl_engine.NCCLWeightTransferInitInfo(**info)
        assert (taken.world_size, taken.master_address, taken.packed) == (4, "10.0.0.1", False)
    update = dict(servers[1].calls)["/update_weights"]["update_info"]
    announced = nccl_engine.NCCLWeightTransferUpdateInfo(**update)
    assert announced.dtype_names == ["bfloat16", "float32"]
    assert announced.shapes == [[2, 3], [4]]
