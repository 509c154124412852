"""A learner and the trainer's state in, `checkpoints/step-<n>` out; and back, on any number of ranks.

    step-000020/
      checkpoint.json   what it is: step, ranks, shapes, configuration
      model/            weights, configuration and tokenizer in Hugging Face form, adapters merged
      adapter/          adapters alone, as peft reads them (a world of one)
      trainer.pt        the trainer's state, and the learner's in a world of one
      learner/          the learner's tensors, each rank its shards (torch.distributed.checkpoint)

A folder appears by renaming, after its files are on disk: it is whole or not there.
"""

import json
import os
import random
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from .distributed import World
from .model_export import export_model
from .run_folder import plain_values, whole_checkpoints
from .sharded_state import save_shards, sharded, with_shards, without_shards

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; those before it are untouched."""


class Checkpointed(Protocol):
    """What a checkpoint asks of a learner.

    In the state a tensor of one dimension or more belongs to a parameter and is sharded like it; a
    number or a tensor without dimensions is the same on all ranks.
    """

    @property
    def model(self) -> torch.nn.Module:
        """The Transformers model, or a peft model around one."""

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Whole weights by their Hugging Face names; every rank goes through all of them."""

    def state_dict(self) -> dict[str, Any]:
        """All that training needs to continue, nested dicts, lists and tuples."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""


def save_checkpoint(
    folder: str | Path,
    step: int,
    *,
    learner: Checkpointed,
    tokenizer: Any,
    state: Mapping[str, Any],
    world: World | None = None,
    keep: int = 2,
    is_best: bool = False,
    config: Any = None,
) -> Path:
    """Writes `folder/step-<n>` and removes older ones; all ranks call it.

    Args:
        folder: The run's folder of checkpoints; every rank sees the same one.
        step: Optimiser steps done.
        learner: Weights and optimiser.
        tokenizer: Saved beside the weights.
        state: The trainer's own: cursors, planner, best evaluation, `world.gather(rng_state())`.
            That of rank 0 is saved.
        world: The ranks of the run.
        keep: Newest checkpoints that stay; the newest best one stays besides.
        is_best: Whether the last evaluation was the best so far.
        config: Values that must be the same at resumption; a dataclass or a mapping.

    Raises:
        CheckpointError: On every rank, if one could not write (a full disk); nothing half-written
            stays, older checkpoints do.
    """
    world = world or World()
    folder = Path(folder)
    target, partial = folder / f"step-{step:06d}", folder / f".partial-{step:06d}"
    writing = _Attempt(world, folder)

    def prepare() -> None:
        _tidy(folder)
        partial.mkdir(parents=True)

    def finish() -> None:
        description = {
            "format": FORMAT,
            "step": step,
            "num_ranks": world.size,
            "is_best": is_best,
            "shapes": _shapes(learner),
            "config": plain_values(config),
        }
        with open(partial / "trainer.pt", "wb") as file:  # a path would hide why a write failed
            torch.save({"state": dict(state), "learner": tree}, file)
        (partial / "checkpoint.json").write_text(json.dumps(description, indent=1) + "\n")
        _flush(partial)
        _replace(partial, target)

    try:
        writing.do(prepare, only_main=True)
        writing.agree()
        tree, shards = without_shards(learner.state_dict())
        if shards:
            writing.do(lambda: save_shards(partial / "learner", shards))
            writing.agree()
        export = export_model(partial / "model", learner, tokenizer, is_writer=world.is_main)
        for part in export:  # every rank: a whole weight is gathered from all
            writing.do(part)
        writing.agree()
        writing.do(finish, only_main=True)
        writing.agree()
    except CheckpointError:
        if world.is_main:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if world.is_main:
        _remove_old(folder, keep)
    return target


def load_checkpoint(
    path: str | Path, *, learner: Checkpointed, world: World | None = None, config: Any = None
) -> dict[str, Any]:
    """Puts a checkpoint into the learner; the trainer's state comes back. All ranks call it.

    The number of ranks may differ from the one that saved.

    Raises:
        ValueError: If it is none, or of another model or configuration; the learner is untouched.
        CheckpointError: If a file is damaged.
    """
    world = world or World()
    path = Path(path)
    description = _description(path)
    _check_same(path, description, learner, config)
    try:
        saved = torch.load(path / "trainer.pt", weights_only=False, map_location="cpu")
        tree = with_shards(saved["learner"], path / "learner", world)
        if description["num_ranks"] == 1:
            tree = sharded(tree, world)
    except (CheckpointException, Exception) as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged ({_cause(error, world.rank)}). Move it away; "
            "the run then resumes from the checkpoint before it."
        ) from error
    learner.load_state_dict(tree)
    state: dict[str, Any] = saved["state"]
    return state


def has_finite_weights(model: torch.nn.Module) -> bool:
    """Whether this rank's part of the trained weights holds no NaN and no infinity."""
    parts = (p.detach() for p in model.parameters() if p.requires_grad)
    return all(
        bool(torch.isfinite(p.to_local() if isinstance(p, DTensor) else p).all()) for p in parts
    )


def rng_state() -> dict[str, Any]:
    """States of the random number generators of Python, numpy and torch in this process."""
    has_cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if has_cuda else None,
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Puts back what `rng_state` gave."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


class _Attempt:
    """Work that each rank does its part of; an error of one ends it on all, and none waits for ever."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._error: BaseException | None = None

    def do(self, part: Callable[[], Any], *, only_main: bool = False) -> None:
        """Runs a part, unless one before it failed on this rank."""
        if self._error is not None or (only_main and not self._world.is_main):
            return
        try:
            part()
        except (CheckpointException, Exception) as error:
            for part_of_it in (error, error.__context__):
                if part_of_it is not None:
                    # Its frames keep the half-written file open, and the full disk full.
                    traceback.clear_frames(part_of_it.__traceback__)
            self._error = error

    def agree(self) -> None:
        """Returns if no rank has failed."""
        error, text = self._error, None
        if error is not None:
            there = next(p for p in (self._folder, *self._folder.absolute().parents) if p.exists())
            free = shutil.disk_usage(there).free / 2**20
            text = f"{_cause(error, self._world.rank)}; its disk has {free:,.1f} MiB free"
        failed = [text for text in self._world.gather(text) if text]
        if failed:
            raise CheckpointError(
                f"No checkpoint was written to {str(self._folder)!r} ({failed[0]}). Older ones are "
                "untouched. Make room, or check the folder's rights."
            ) from error


def _description(path: Path) -> dict[str, Any]:
    if not (path / "checkpoint.json").is_file():
        what = "is of an older version" if (path / "trainer.pt").is_file() else "is no checkpoint"
        raise ValueError(
            f"{str(path)!r} {what} (no checkpoint.json). Start the run again in another folder; the "
            "old weights serve as its model."
        )
    try:
        description: dict[str, Any] = json.loads((path / "checkpoint.json").read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{str(path)!r} is damaged (checkpoint.json: {error}). Move it away; the run then resumes "
            "from the checkpoint before it."
        ) from error
    if description["format"] != FORMAT:
        raise ValueError(
            f"{str(path)!r} has format {description['format']}; this version reads {FORMAT}."
        )
    return description


def _check_same(path: Path, saved: dict[str, Any], learner: Checkpointed, config: Any) -> None:
    """Refuses a checkpoint of another model or configuration, with what differs."""
    pairs = [("weight", saved["shapes"], _shapes(learner))]
    if config is not None:
        pairs.append(("setting", _flat(saved["config"]), _flat(plain_values(config))))
    for kind, old, new in pairs:
        odd = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
        if odd:
            shown = "; ".join(f"{k}: {old.get(k)} there, {new.get(k)} here" for k in odd[:3])
            raise ValueError(
                f"{str(path)!r} belongs to another run: {len(odd)} {kind}s differ ({shown}). Resume "
                "with the configuration that it was saved under, or start in another folder."
            )


def _shapes(learner: Checkpointed) -> dict[str, list[int]]:
    return {n: list(p.shape) for n, p in learner.model.named_parameters() if p.requires_grad}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        # As JSON holds it: a tuple is a list there.
        return {prefix or "configuration": json.loads(json.dumps(value))}
    return {
        k: v for key, inner in value.items() for k, v in _flat(inner, _dotted(prefix, key)).items()
    }


def _dotted(prefix: str, key: str) -> str:
    return f"{prefix}.{key}" if prefix else key


def _cause(error: BaseException, rank: int) -> str:
    """One line: where it happened and what."""
    if isinstance(error, CheckpointException) and error.failures:
        rank, (inner, _) = next(iter(error.failures.items()))
        return _cause(inner, rank)
    if isinstance(error.__context__, OSError):
        error = error.__context__
    return f"rank {rank}, {type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _replace(partial: Path, target: Path) -> None:
    """Renames into place; at each moment a whole folder of this step is there if one was."""
    old = target.with_name(target.name.replace("step-", ".replaced-"))
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    _flush_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _tidy(folder: Path) -> None:
    """Removes what killed processes left behind."""
    for path in folder.glob(".replaced-*"):
        target = folder / path.name.replace(".replaced-", "step-")
        if target.exists():
            shutil.rmtree(path)
        else:
            os.replace(path, target)
    for path in folder.glob(".partial-*"):
        shutil.rmtree(path)


def _remove_old(folder: Path, keep: int) -> None:
    found = whole_checkpoints(folder)
    best = [path for path in found if _description(path)["is_best"]]
    for path in found[:-keep]:
        if path not in best[-1:]:
            # A folder that is half removed must not look like a checkpoint.
            gone = path.with_name(path.name.replace("step-", ".partial-"))
            os.replace(path, gone)
            shutil.rmtree(gone, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Waits until every file and folder in it is on disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            with open(Path(root) / name, "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(root))


def _flush_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
