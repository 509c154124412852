"""Sequences and advantages in, new weights out: the model, its optimiser and one optimiser step."""

# N: sequences, T: tokens, M: trained tokens, D: hidden size, V: vocabulary

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .batch import MicroBatch, micro_batches
from .losses import clipped_policy_loss, supervised_loss, token_entropy, token_logprobs
from .trajectory import TokenSequence


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """How weights move."""

    lr: float = 1e-6
    """Learning rate of AdamW after warm-up."""

    warmup_steps: int = 0
    """Steps over which the learning rate rises linearly from 0."""

    decay_steps: int = 0
    """Steps over which it falls along a cosine to a tenth; 0 keeps it constant."""

    weight_decay: float = 0.0
    """AdamW's decoupled weight decay."""

    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay of the two moments."""

    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm."""

    clip_low: float = 0.2
    """How far a token's ratio may fall below 1."""

    clip_high: float = 0.2
    """How far a token's ratio may rise above 1."""

    micro_batch_tokens: int = 16384
    """Tokens of a forward pass, padding included."""

    head_chunk_tokens: int = 4096
    """Trained tokens whose logits exist at once; memory grows with this, not with the batch."""

    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr is {self.lr}; it must be above 0.")
        for name in ("micro_batch_tokens", "head_chunk_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; give at least 1 token.")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStats:
    """What one optimiser step did."""

    loss: float
    grad_norm: float
    entropy: float
    """Mean over the trained tokens, nats; 0 in steps of imitation, which do not compute it."""

    logprob_gap: float
    """Mean |trainer - engine| log-probability of the tokens sampled under the trained prompt."""

    max_logprob_gap: float
    clipped_share: float
    """Share of trained tokens whose ratio left the clip range."""

    num_tokens: int
    lr: float


class Learner:
    """A causal language model and its optimiser."""

    def __init__(
        self, model: torch.nn.Module, config: LearnerConfig, *, temperature: float = 1.0
    ) -> None:
        self.model = model
        self.config = config
        self.temperature = temperature
        self.step = 0
        self.optimiser = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=config.lr,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable()  # type: ignore[operator]
        model.train()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def lr(self) -> float:
        """Learning rate of the next step: linear warm-up, then constant or a cosine to a tenth."""
        config = self.config
        rate = config.lr
        if self.step < config.warmup_steps:
            return rate * (self.step + 1) / config.warmup_steps
        if config.decay_steps:
            share = min(1.0, self.step / config.decay_steps)
            rate *= 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * share))
        return rate

    def policy_step(
        self, sequences: Sequence[TokenSequence], advantages: Sequence[float]
    ) -> StepStats:
        """One optimiser step on sampled trajectories.

        Sequences with advantage 0 carry no gradient and are not computed, but their tokens count in
        the denominator: dropping a group does not raise the step size of the others.

        Raises:
            FloatingPointError: If the loss or the gradient is not finite; weights are as before.
        """
        num_tokens = sum(sum(sequence.loss_mask) for sequence in sequences)
        used = [i for i, advantage in enumerate(advantages) if advantage != 0.0]
        batches = micro_batches(
            [sequences[i] for i in used],
            [advantages[i] for i in used],
            max_tokens=self.config.micro_batch_tokens,
            device=self.device,
        )
        stats = self._optimise(batches, num_tokens, is_policy=True)
        if batches or not sequences:
            return stats
        # No group had variance; engine and trainer are compared all the same.
        with torch.no_grad():
            probe = micro_batches(
                sequences[:8],
                [0.0] * len(sequences[:8]),
                max_tokens=self.config.micro_batch_tokens,
                device=self.device,
            )
            gaps = [
                (self.logprobs(batch)[0] - batch.old_logprobs_M).abs()[batch.on_policy_M]
                for batch in probe
            ]
        gap = torch.cat(gaps) if gaps else torch.zeros(0)
        if not len(gap):
            return stats
        return replace(stats, logprob_gap=float(gap.mean()), max_logprob_gap=float(gap.max()))

    def supervised_step(self, sequences: Sequence[TokenSequence]) -> StepStats:
        """One optimiser step of imitation: likelihood of the tokens with loss mask 1."""
        num_tokens = sum(sum(sequence.loss_mask) for sequence in sequences)
        batches = micro_batches(
            sequences,
            [1.0] * len(sequences),
            max_tokens=self.config.micro_batch_tokens,
            device=self.device,
        )
        return self._optimise(batches, num_tokens, is_policy=False)

    def logprobs(self, batch: MicroBatch, *, with_entropy: bool = True) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy of the trained tokens, [M] each, under the temperature.

        Only positions that predict a trained token reach the head, in chunks whose logits are
        recomputed in the backward pass: no [N, T, V] tensor ever exists. Without `with_entropy` the
        entropies are zeros, and the time for them is saved.
        """
        decoder: Any = self.model.model
        head: Any = self.model.get_output_embeddings()  # type: ignore[operator]
        hidden_NTD = decoder(
            input_ids=batch.ids_NT, attention_mask=batch.attention_NT, use_cache=False
        ).last_hidden_state
        hidden_MD = hidden_NTD[batch.rows_M, batch.columns_M - 1]
        ids_M = batch.ids_NT[batch.rows_M, batch.columns_M]

        def chunk(hidden: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
            logits = head(hidden)
            logprobs = token_logprobs(logits, ids, temperature=self.temperature)
            if not with_entropy:
                return logprobs, torch.zeros_like(logprobs)
            with torch.no_grad():
                return logprobs, token_entropy(logits, temperature=self.temperature)

        size = self.config.head_chunk_tokens
        if len(ids_M) <= size:
            return chunk(hidden_MD, ids_M)
        parts = [
            checkpoint(chunk, hidden_MD[i : i + size], ids_M[i : i + size], use_reentrant=False)
            for i in range(0, len(ids_M), size)
        ]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Weights by the names of the checkpoint, a tied head once, for `Engine.update_weights`."""
        tied = bool(getattr(self.model.config, "tie_word_embeddings", False))
        for name, parameter in self.model.named_parameters():
            if not (tied and name == "lm_head.weight"):
                yield name, parameter.detach()

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and step count; the model's own weights are saved beside it."""
        return {"step": self.step, "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave."""
        self.step = int(state["step"])
        self.optimiser.load_state_dict(state["optimiser"])

    def _optimise(
        self, batches: Sequence[MicroBatch], num_tokens: int, *, is_policy: bool
    ) -> StepStats:
        self.optimiser.zero_grad(set_to_none=True)
        sums = {"loss": 0.0, "entropy": 0.0, "gap": 0.0, "clipped": 0.0}
        max_gap, num_trained, num_on_policy = 0.0, 0, 0
        for batch in batches:
            logprobs_M, entropy_M = self.logprobs(batch, with_entropy=is_policy)
            if is_policy:
                # Off the sampled prompt there is no ratio: the trainer's own value makes it 1.
                old_M = torch.where(batch.on_policy_M, batch.old_logprobs_M, logprobs_M.detach())
                loss = clipped_policy_loss(
                    logprobs_M,
                    old_M,
                    batch.weights_M,
                    num_tokens=num_tokens,
                    clip_low=self.config.clip_low,
                    clip_high=self.config.clip_high,
                )
                gap_M = (logprobs_M.detach() - old_M).abs()
                ratio_M = (logprobs_M.detach() - old_M).exp()
                outside = (ratio_M < 1 - self.config.clip_low) | (
                    ratio_M > 1 + self.config.clip_high
                )
                sums["gap"] += float(gap_M.sum())
                sums["clipped"] += float(outside.sum())
                max_gap = max(max_gap, float(gap_M.max()))
                num_on_policy += int(batch.on_policy_M.sum())
            else:
                loss = supervised_loss(logprobs_M, num_tokens=num_tokens)
            loss.backward()  # type: ignore[no-untyped-call]
            sums["loss"] += float(loss.detach())
            sums["entropy"] += float(entropy_M.sum())
            num_trained += batch.num_tokens
        rate = self.lr()
        norm = 0.0
        if batches:
            norm = float(
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            )
            if not (math.isfinite(norm) and math.isfinite(sums["loss"])):
                self.optimiser.zero_grad(set_to_none=True)
                raise FloatingPointError(
                    f"Step {self.step + 1}: loss {sums['loss']}, gradient norm {norm}. The weights are "
                    "unchanged; lower the learning rate, or look at the last trajectories."
                )
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return StepStats(
            loss=sums["loss"],
            grad_norm=norm,
            entropy=sums["entropy"] / max(num_trained, 1),
            logprob_gap=sums["gap"] / max(num_on_policy, 1),
            max_logprob_gap=max_gap,
            clipped_share=sums["clipped"] / max(num_trained, 1),
            num_tokens=num_tokens,
            lr=rate,
        )


def load_model(
    folder: str | Path, *, dtype: str = "float32", device: str | None = None
) -> torch.nn.Module:
    """The causal language model of a folder, ready to train.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no `config.json`.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"No model in {str(path)!r}: a model folder holds config.json, weights and a tokenizer. "
            "`maskgym demo` makes a small one; otherwise give the folder of a downloaded model."
        )
    logging.disable_progress_bar()  # it outlasts the loading of a small model and hides ours
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        str(path), dtype=getattr(torch, dtype)
    )
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device)
