"""A state of nested values with sharded tensors in, plain values and shards on disk out; and back."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, empty

from .distributed import World


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardedEntry:
    """Stands in a state for a tensor whose shards are saved elsewhere."""

    key: str
    shape: tuple[int, ...]
    dtype: torch.dtype


def without_shards(tree: Any) -> tuple[Any, dict[str, Tensor]]:
    """The state with an entry for each sharded tensor, and these tensors by their keys."""
    shards: dict[str, Tensor] = {}

    def take_out(tensor: Any) -> Any:
        if not isinstance(tensor, DTensor):
            return tensor
        key = f"{len(shards):06d}"
        shards[key] = tensor
        return ShardedEntry(key=key, shape=tuple(tensor.shape), dtype=tensor.dtype)

    return _mapped(tree, take_out), shards


def save_shards(folder: Path, shards: dict[str, Tensor]) -> None:
    """Writes them, each rank its own part; all ranks call it."""
    save(shards, checkpoint_id=folder)


def with_shards(tree: Any, folder: Path, world: World) -> Any:
    """The state with its tensors again, sharded over the ranks of now; whole on a single one."""
    shards: dict[str, Tensor] = {}

    def make_room(entry: Any) -> Any:
        if not isinstance(entry, ShardedEntry):
            return entry
        if world.size == 1:
            room = torch.empty(entry.shape, dtype=entry.dtype)
        else:
            room = empty(
                *entry.shape, dtype=entry.dtype, device_mesh=world.mesh, placements=[Shard(0)]
            )
        shards[entry.key] = room
        return room

    tree = _mapped(tree, make_room)
    if shards:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(shards, checkpoint_id=folder, no_dist=world.size == 1)
    return tree


def sharded(tree: Any, world: World) -> Any:
    """The state with each tensor of one dimension or more cut over the ranks, as FSDP2 cuts it.

    Nothing travels: every rank has the whole, and keeps its part.
    """

    def cut(tensor: Any) -> Any:
        if world.size == 1 or not isinstance(tensor, Tensor) or not tensor.ndim:
            return tensor
        whole = tensor.to(world.device)
        return distribute_tensor(whole, world.mesh, [Shard(0)], src_data_rank=None)

    return _mapped(tree, cut)


def _mapped(tree: Any, change: Callable[[Any], Any]) -> Any:
    """The tree with its tensors, and what stands for one, changed."""
    if isinstance(tree, Tensor | ShardedEntry):
        return change(tree)
    if isinstance(tree, dict):
        return {key: _mapped(value, change) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_mapped(value, change) for value in tree)
    return tree
