"""A learner's weights in, a folder that Transformers and vLLM load out; never two models in memory."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from .learning.lora import save_adapter

MAX_FILE_BYTES = 4 << 30


class Exportable(Protocol):
    """A model, and its whole weights by their Hugging Face names, one at a time."""

    @property
    def model(self) -> torch.nn.Module:
        """The Transformers model, or a peft model around one."""

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """A tied head once; adapters merged; gathered from all ranks."""


def export_model(
    folder: Path, learner: Exportable, tokenizer: Any, *, is_writer: bool = True
) -> Iterator[Callable[[], None]]:
    """Parts that together write configuration, tokenizer and weights; the caller runs each.

    Parts, because gathering a weight takes all ranks while writing it may fail on one: a rank whose
    part failed goes on through the weights and runs no further part.

    Args:
        folder: Made here.
        learner: Whose weights are written, in the type that `named_weights` gives them.
        tokenizer: Saved beside them.
        is_writer: False on ranks that only take part in the gathering; they get no parts.
    """
    writer = _WeightWriter(folder)
    if is_writer:
        yield lambda: folder.mkdir(parents=True, exist_ok=True)
    dtype: torch.dtype | None = None
    for name, tensor in learner.named_weights():
        if is_writer:
            dtype = dtype or tensor.dtype
            whole = tensor.detach().cpu().contiguous()
            yield lambda name=name, whole=whole: writer.add(name, whole)  # type: ignore[misc]
    if is_writer:
        yield writer.close
        yield lambda: _write_configuration(folder, learner.model, dtype)
        yield lambda: tokenizer.save_pretrained(folder)
        weights = [p for p in learner.model.parameters() if p.requires_grad]
        if hasattr(learner.model, "peft_config") and not isinstance(weights[0], DTensor):
            yield lambda: save_adapter(learner.model, folder.with_name("adapter"))


def _write_configuration(folder: Path, model: Any, dtype: torch.dtype | None) -> None:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    config = copy.deepcopy(base.config)
    config.architectures = [type(base).__name__]
    config.dtype = dtype or config.dtype
    config.save_pretrained(folder)
    if getattr(base, "generation_config", None) is not None:
        base.generation_config.save_pretrained(folder)


class _WeightWriter:
    """Collects tensors up to a size, writes each file as it is full, and an index of several."""

    def __init__(self, folder: Path, max_file_bytes: int | None = None) -> None:
        self._folder = folder
        self._max_bytes = max_file_bytes or MAX_FILE_BYTES
        self._open: dict[str, Tensor] = {}
        self._num_bytes = self._total = 0
        self._files: dict[str, str] = {}  # weight -> file
        self._num_files = 0

    def add(self, name: str, tensor: Tensor) -> None:
        """Takes one weight."""
        if self._open and self._num_bytes + tensor.nbytes > self._max_bytes:
            self._write()
        self._open[name] = tensor
        self._num_bytes += tensor.nbytes
        self._total += tensor.nbytes

    def close(self) -> None:
        """Writes what is left, and the index if there is more than one file."""
        self._write()
        if self._num_files == 1:
            (self._folder / "model-00001.safetensors").rename(self._folder / "model.safetensors")
            return
        index = {"metadata": {"total_size": self._total}, "weight_map": self._files}
        path = self._folder / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=1) + "\n")

    def _write(self) -> None:
        self._num_files += 1
        file = f"model-{self._num_files:05d}.safetensors"
        save_file(self._open, self._folder / file, metadata={"format": "pt"})
        self._files |= dict.fromkeys(self._open, file)
        self._open, self._num_bytes = {}, 0
