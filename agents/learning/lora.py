"""Low-rank adapters through peft: what is trained is small, what the engine gets is the merged model.

Source: Hu et al. 2021, arXiv:2106.09685. A weight becomes ``W + (alpha / rank) B A``; B starts at 0, so
the adapted model starts as the model itself, which stays there as the reference of a KL term.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ADAPTER = "default"  # peft's own name for the adapter of get_peft_model


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Which layers get adapters, and how large."""

    rank: int = 16
    """Rows of A and columns of B."""

    alpha: float = 32.0
    """The adapter is scaled by `alpha / rank`."""

    targets: tuple[str, ...] = ("all-linear",)
    """Ends of the names of the linear layers, such as "q_proj"; ("all-linear",) for all but the head."""

    seed: int = 0
    """Seed of A, the same on every rank; the global random state is left alone."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}; it must be at least 1.")
        if not self.targets or isinstance(self.targets, str):
            raise ValueError(
                f'lora.targets is {self.targets!r}; give a list such as ["q_proj", "v_proj"].'
            )


def add_lora(model: Any, config: LoRAConfig) -> Any:
    """The peft model around a Transformers model whose own weights no longer learn.

    There is no dropout: the engine has none, and log-probabilities would differ from its own.

    Raises:
        ValueError: If no layer has such a name, or a target is the embedding or a tied head.
    """
    from peft import LoraConfig, get_peft_model

    refused = {"embed_tokens", "lm_head"} & set(config.targets)
    if refused:
        raise ValueError(
            f"lora.targets names {sorted(refused)[0]!r}: adapters go on linear layers inside the "
            "decoder, such as q_proj or down_proj; embedding and head stay as they are."
        )
    targets: Any = list(config.targets)
    if config.targets == ("all-linear",):
        targets = "all-linear"
    settings = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=targets,
        lora_dropout=0.0,
        bias="none",
    )
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(config.seed)
        return get_peft_model(model, settings)


@contextmanager
def without_adapters(model: Any) -> Iterator[None]:
    """Inside the block the model computes as if it had no adapters.

    peft's own `disable_adapter` also switches `requires_grad` off and on; FSDP2 reads it when a layer
    is first gathered, and adapters that are frozen at that moment would never learn.
    """
    layers = [module for module in model.modules() if hasattr(module, "_disable_adapters")]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def merged_weights(
    model: Any, whole: Callable[[Tensor], Tensor] = lambda tensor: tensor
) -> Iterator[tuple[str, Tensor]]:
    """Weights of the adapted model by the names of the plain one, adapters added in.

    The model itself is not touched: merging in place and taking the adapters out again would leave
    rounding behind after each step. In bfloat16 the sum is rounded, so what the engine samples from
    differs from the adapted model by half a unit in the last place.

    Args:
        model: From `add_lora`.
        whole: Gives the full tensor of one that may be sharded; called once per tensor, in order.
    """
    base = model.get_base_model()
    layers = {
        name: module for name, module in base.named_modules() if hasattr(module, "base_layer")
    }
    for name, parameter in base.named_parameters():
        path, _, leaf = name.rpartition(".")
        if ".lora_" in name:
            continue
        if not path.endswith(".base_layer"):
            yield name, whole(parameter.detach())
            continue
        path = path.removesuffix(".base_layer")
        weight = whole(parameter.detach())
        if leaf == "weight":
            layer = layers[path]
            a_RI = whole(layer.lora_A[ADAPTER].weight.detach()).float()
            b_OR = whole(layer.lora_B[ADAPTER].weight.detach()).float()
            delta_OI = (b_OR @ a_RI) * layer.scaling[ADAPTER]
            weight = (weight.float() + delta_OI).to(weight.dtype)
        yield f"{path}.{leaf}", weight


def save_adapter(model: Any, folder: str | Path) -> None:
    """Writes the adapter alone, as peft does: `PeftModel.from_pretrained(base, folder)` reads it."""
    model.save_pretrained(str(folder), selected_adapters=[ADAPTER])
