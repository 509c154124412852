"""Named tensors in; checked against a model, or copied into it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .engine import nearest_name


def meta_model(folder: Path) -> Any:
    """The model of a folder on the meta device: its names and shapes, without its weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.tie_weights()
    return model


def checked_parameters(
    named_parameters: Iterable[tuple[str, Tensor]], model: Any
) -> Iterator[tuple[str, Tensor]]:
    """Passes on each tensor whose name and shape the model knows; lazily, one at a time.

    Of the two names of a tied weight (embedding and head) either will do; when both come, the
    second is checked and left out: pushed twice it would be loaded twice, and vLLM may untie it.

    Args:
        named_parameters: Hugging Face checkpoint names with their tensors.
        model: A Transformers model, on the meta device if only its names are known.

    Raises:
        ValueError: If a name is unknown, one is missing, a shape differs, or the two names of a
            tied weight bring different values.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(id(parameter), []).append(name)
    seen: dict[int, tuple[str, Tensor | None]] = {}
    for name, tensor in named_parameters:
        parameter = parameters.get(name)
        if parameter is None:
            nearest = nearest_name(name, parameters)
            raise ValueError(f"No parameter {name!r} in the model. Did you mean {nearest!r}?")
        if parameter.shape != tensor.shape:
            raise ValueError(
                f"Parameter {name!r} has shape {tuple(parameter.shape)}; the new one has "
                f"{tuple(tensor.shape)}."
            )
        key = id(parameter)
        if key not in seen:
            seen[key] = name, tensor if len(names[key]) > 1 else None
            yield name, tensor
            continue
        twin, first = seen[key]
        if first is None or not torch.equal(first, tensor.to(first)):
            raise ValueError(
                f"{twin!r} and {name!r} are one weight here, and they bring different values: "
                "leave one out, or untie the embeddings in the model's config."
            )
    missing = [name for name, parameter in model.named_parameters() if id(parameter) not in seen]
    if missing:
        raise ValueError(
            f"{len(missing)} parameters are missing from the update, first {missing[0]!r}: give "
            "every parameter of the model."
        )


def load_parameters(model: Any, named_parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Copies each tensor to the parameter of that name; errors as `checked_parameters`."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, tensor in checked_parameters(named_parameters, model):
            parameters[name].copy_(tensor.detach())


@contextmanager
def drained(
    named_parameters: Iterable[tuple[str, Tensor]],
) -> Iterator[Iterator[tuple[str, Tensor]]]:
    """An iterator that is read to its end even where the block raises.

    The tensors of a sharded model are gathered one by one, by all ranks together: a rank that stops
    reading leaves the others waiting.
    """
    iterator = iter(named_parameters)
    try:
        yield iterator
    except Exception:
        for _ in iterator:
            pass
        raise
