"""A causal language model and a micro-batch in, log-probabilities of the trained tokens out."""

# M: trained tokens, R: rows, T: tokens of a row, D: hidden size, V: vocabulary

from typing import Any

import torch
from torch import Tensor

from .attention import use_packed_attention
from .logprobs import checkpointed_logprobs, chunked_logprobs
from .packing import MicroBatch


class TokenScorer(torch.nn.Module):
    """Scores trained tokens under a Transformers causal language model, or a peft model around one.

    Embedding, layers and head all run inside `forward`, so that hooks on this module (FSDP2) see
    every use of every weight.
    """

    def __init__(
        self, model: torch.nn.Module, *, temperature: float = 1.0, head_chunk_tokens: int = 4096
    ) -> None:
        """Wraps the model.

        Args:
            model: A causal language model; its own weights are used, not copied.
            temperature: The one of the sampling.
            head_chunk_tokens: Trained tokens whose logits exist at once.

        Raises:
            ValueError: If the head changes its logits in a way that is not computed here.
        """
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"temperature is {temperature}; it must be above 0.")
        self.model = model
        self.temperature = temperature
        self.head_chunk_tokens = head_chunk_tokens
        config = self.causal_lm.config
        for name in ("logits_scaling", "logit_scale", "lm_head_multiplier"):
            if getattr(config, name, None) not in (None, 1, 1.0):
                raise ValueError(
                    f"{type(self.causal_lm).__name__} multiplies its logits by {name}, which the "
                    "trainer does not; its log-probabilities would be wrong. Choose another model."
                )
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)

    @property
    def causal_lm(self) -> Any:
        """The Transformers model, out of its peft wrapper if it has one."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    def forward(self, batch: MicroBatch, *, with_entropy: bool = False) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (nats) of each trained token, [M] each, float32.

        Args:
            batch: Packed or padded, on the model's device.
            with_entropy: Computes the entropies, with a gradient that costs nothing where it is not
                used; otherwise they are zeros.
        """
        model = self.causal_lm
        options: dict[str, Any] = {"attention_mask": batch.padding_RT}
        if batch.layout is not None:
            use_packed_attention(model)
            # A mask of four dimensions is handed on as it is: Transformers builds none of its own.
            mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=batch.ids_RT.device)
            options = {"attention_mask": mask, "packed_layout": batch.layout}
        hidden_RTD = model.base_model(
            input_ids=batch.ids_RT, position_ids=batch.positions_RT, use_cache=False, **options
        ).last_hidden_state
        hidden_MD = hidden_RTD.flatten(0, 1).index_select(0, batch.predictors_M)
        head: Any = model.get_output_embeddings()
        if type(head) is torch.nn.Linear and self._softcap is None:
            return chunked_logprobs(
                hidden_MD,
                head.weight,
                batch.targets_M,
                bias_V=head.bias,
                temperature=self.temperature,
                chunk_tokens=self.head_chunk_tokens,
                with_entropy=with_entropy,
            )
        return checkpointed_logprobs(
            hidden_MD,
            self._capped(head),
            batch.targets_M,
            temperature=self.temperature,
            chunk_tokens=self.head_chunk_tokens,
            with_entropy=with_entropy,
        )

    def _capped(self, head: Any) -> Any:
        cap = self._softcap
        if cap is None:
            return head
        return lambda hidden: torch.tanh(head(hidden) / cap) * cap
