"""Shapes of models without weights, how many FLOPs they take, and the work of the GPU benchmark for each."""

# N: weights in matrix products, T: tokens of a sequence, L: layers, A: heads times head width

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .training_env import Workload, make_model


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A Qwen3 without its weights."""

    hidden_size: int
    num_layers: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int

    @property
    def num_matrix_weights(self) -> int:
        """Weights that a token is multiplied with, the (tied) head once, the look-up of its embedding not."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)
        layer = attention + 3 * self.hidden_size * self.intermediate_size
        return self.num_layers * layer + self.hidden_size * self.vocab_size

    def step_flops(self, lengths: Sequence[int]) -> float:
        """FLOPs of a forward and a backward pass over sequences that do not see each other.

        ``6 N`` per token, and ``6 L A T^2`` per sequence for causal attention: two products of
        ``2 T^2 A / 2`` forward, twice that backward. What is computed twice (gradient checkpointing, chunks
        of the head) is not counted. Source: Kaplan et al. 2020, arXiv:2001.08361, appendix B; attention
        halved for causality (PaLM, arXiv:2204.02311, appendix B, counts it whole: 12 instead of 6).
        """
        width = self.num_heads * self.head_dim
        squares = sum(length**2 for length in lengths)
        return (
            6.0 * self.num_matrix_weights * sum(lengths) + 6.0 * self.num_layers * width * squares
        )


@dataclass(frozen=True, kw_only=True)
class GPUSize:
    """A shape with the work to give it."""

    shape: Shape
    batch_tokens: int
    """Tokens of a micro-batch of the trainer alone; two make a step."""
    sequence_lengths: tuple[int, ...]
    """Lengths of the sequences that fill them, one measurement for each."""
    num_steps: int
    workload: Workload
    trl_batch: int
    """Sequences of TRL's micro-batch; ours has as many tokens."""


SIZES = {
    "0.6b": GPUSize(
        shape=Shape(
            hidden_size=1024,
            num_layers=28,
            intermediate_size=3072,
            num_heads=16,
            num_kv_heads=8,
            head_dim=128,
            vocab_size=151_936,
        ),
        batch_tokens=16_384,
        sequence_lengths=(2048, 16_384),
        num_steps=8,
        workload=Workload(
            num_tasks=16, group_size=16, min_tokens=32, max_tokens=256, prompt_words=200
        ),
        trl_batch=8,
    ),
    "tiny": GPUSize(
        shape=Shape(
            hidden_size=128,
            num_layers=2,
            intermediate_size=256,
            num_heads=4,
            num_kv_heads=2,
            head_dim=32,
            vocab_size=2048,
        ),
        batch_tokens=1024,
        sequence_lengths=(256, 1024),
        num_steps=2,
        workload=Workload(num_tasks=2, group_size=4, max_tokens=8, prompt_words=20),
        trl_batch=4,
    ),
}


def make_shape(shape: Shape, *, max_len: int = 32_768) -> Any:
    """A random Qwen3 of the shape, in float32 on the CPU."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=shape.hidden_size,
            num_hidden_layers=shape.num_layers,
            intermediate_size=shape.intermediate_size,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            vocab_size=shape.vocab_size,
            max_position_embeddings=max_len,
            tie_word_embeddings=True,
            initializer_range=0.02,
            rope_theta=1_000_000.0,
        )
    )


def make_shape_folder(folder: Path, size: GPUSize, *, dtype: str) -> Path:
    """A model folder of the shape, with the tokenizer of the workload (ids beyond it decode to nothing)."""
    from maskgym.agents.tiny_model import save_model

    make_model(folder, size.workload)
    model = make_shape(size.shape, max_len=4096).to(getattr(torch, dtype))
    model.config.eos_token_id = model.generation_config.eos_token_id = 2
    model.config.pad_token_id = model.generation_config.pad_token_id = 0
    save_model(model, folder)
    return folder
