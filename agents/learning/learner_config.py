"""How weights move: the settings of the learner."""

import math
from dataclasses import dataclass, field, replace

from .lora import LoRAConfig
from .losses import LossConfig
from .packing import PACKINGS
from .precision import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How weights move."""

    lr: float = 1e-6
    """Learning rate of AdamW after warm-up."""

    warmup_steps: int = 0
    """Optimiser steps over which the learning rate rises linearly from 0."""

    warmup_share: float = 0.0
    """The same as a share of `decay_steps`, 0 to 1; the longer of the two holds."""

    decay_steps: int | None = 0
    """Optimiser steps after which the cosine has fallen to a tenth; 0 keeps the rate constant, None takes
    those of the whole run."""

    weight_decay: float = 0.0
    """AdamW's decoupled weight decay; norms and biases have none."""

    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the two moments."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    updates_per_batch: int = 1
    """Optimiser steps on one batch, each on a part of its groups (SMEPO: 4)."""

    loss: LossConfig = field(default_factory=LossConfig)

    lora: LoRAConfig | None = None
    """Low-rank adapters instead of all weights; None trains all."""

    micro_batch_tokens: int = 16384
    """Positions of a forward pass, padding included."""

    packing: str = "packed"
    """"packed", or "padded" for models whose attention cannot be replaced."""

    share_prompts: bool = True
    """Whether a packed group computes its prompt once."""

    head_chunk_tokens: int = 4096
    """Trained tokens whose logits exist at once; memory grows with this, not with the batch."""

    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""

    precision: str = "float32"
    """"float32", or "bfloat16": weights in bfloat16, master copies, gradients and moments in float32."""

    offload_optimiser: bool = False
    """Keeps master copies and moments in the computer's memory, not the GPU's: slower steps."""

    max_skipped: int = 5
    """Updates in a row that may be skipped because loss or gradient are not finite; one more raises."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it must be above 0.")
        for name in ("micro_batch_tokens", "head_chunk_tokens", "updates_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1.")
        for name, allowed in (("packing", PACKINGS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                )
        for name in ("warmup_steps", "decay_steps", "max_skipped"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is not below 0.")
        if self.decay_steps is not None and 0 < self.decay_steps <= self.warmup_steps:
            raise ValueError(
                f"warmup_steps is {self.warmup_steps} and decay_steps {self.decay_steps}, which counts "
                "from the first step: the rate would fall before it has risen. Give more decay_steps."
            )
        if not 0 <= self.warmup_share <= 1:
            raise ValueError(f"warmup_share is {self.warmup_share}; it lies between 0 and 1.")
        if self.warmup_share and self.decay_steps == 0:
            raise ValueError("warmup_share is a share of decay_steps; give decay_steps too.")

    def lr_at(self, step: int) -> float:
        """Learning rate of the update after `step` ones."""
        decay_steps = self.decay_steps or 0
        warmup = max(self.warmup_steps, round(self.warmup_share * decay_steps))
        return learning_rate(self.lr, step, warmup_steps=warmup, decay_steps=decay_steps)

    def over(self, num_steps: int) -> "LearnerConfig":
        """These settings for a run of so many steps: a fall over the whole run gets its length."""
        if self.decay_steps is not None:
            return self
        return replace(self, decay_steps=max(1, num_steps * self.updates_per_batch))


def learning_rate(lr: float, step: int, *, warmup_steps: int = 0, decay_steps: int = 0) -> float:
    """The rate after `step` updates: linear warm-up, then constant, or a cosine that ends at a tenth.

    Args:
        lr: The rate after warm-up.
        step: Updates made.
        warmup_steps: Updates over which it rises from 0.
        decay_steps: Updates after which it has fallen to a tenth; 0 for no fall.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if not decay_steps:
        return lr
    share = min(1.0, step / decay_steps)
    return lr * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share)))
