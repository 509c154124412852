"""The same batch through TRL's loss and through our learner: loss and gradient of every weight.

Ours is the whole path: packed rows with shared prompts, chunked head, reductions over the step. TRL's is its
`_compute_loss` on the padded batch, by a real GRPOTrainer. Both start from the same float32 weights.
"""

# N: sequences

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.sample import Sample

from .tables import Table
from .training_cases import Update, update, worst_difference
from .training_ranks import add_gate

MAX_TOKENS = 512
LIMIT = 1e-5

CASES: dict[str, tuple[dict[str, Any], LossConfig]] = {
    "GRPO": ({"loss_type": "grpo"}, LossConfig(reduction="sequence")),
    "DAPO": ({"loss_type": "dapo", "epsilon_high": 0.28}, LossConfig(clip_high=0.28)),
    "Dr. GRPO": (
        {"loss_type": "dr_grpo"},
        LossConfig(reduction="constant", constant_tokens=MAX_TOKENS),
    ),
    # TRL's epsilon_high is the largest weight itself, and there is no smallest.
    "CISPO": (
        {"loss_type": "cispo", "epsilon_high": 1.2},
        LossConfig(kind="cispo", clip_low=1.0, clip_high=0.2),
    ),
    "GSPO": (
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.03,
            "epsilon_high": 0.04,
        },
        LossConfig(kind="gspo", clip_low=0.03, clip_high=0.04, reduction="sequence"),
    ),
}
"""Name of a loss -> TRL's settings and ours; within one batch TRL's "dapo" is a mean over tokens."""


def add_parity(table: Table, model_dir: Path, samples: Sequence[Sample]) -> None:
    """Two gates for each loss: its value, and the gradients."""
    for name, (theirs, loss) in CASES.items():
        mine = update(model_dir, samples, loss, micro_batch_tokens=700)
        their_loss, gradients = trl_update(model_dir, samples, theirs)
        add_parity_gates(table, name, mine, their_loss, gradients)


def add_parity_gates(
    table: Table, name: str, mine: Update, their_loss: float, gradients: dict[str, Tensor]
) -> None:
    """The rows of one loss."""
    # Not relative: with advantages that sum to zero the loss itself may be all but zero.
    difference = abs(their_loss - mine.stats.loss)
    add_gate(table, f"{name}: loss, ours against TRL's, difference", difference, LIMIT)
    worst = worst_difference(gradients, mine.gradients)
    add_gate(table, f"{name}: gradients, ours against TRL's, relative difference", worst, LIMIT)


def trl_update(
    model_dir: Path, samples: Sequence[Sample], settings: dict[str, Any]
) -> tuple[float, dict[str, Tensor]]:
    """TRL's loss of a batch, and the gradient of every weight."""
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    with tempfile.TemporaryDirectory(prefix="maskgym-trl-") as folder:
        trainer: Any = trl.GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32),
            processing_class=tokenizer,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=trl.GRPOConfig(
                output_dir=folder,
                use_cpu=True,
                bf16=False,
                report_to=[],
                num_generations=2,
                per_device_train_batch_size=len(samples),
                max_completion_length=MAX_TOKENS,
                gradient_checkpointing=False,
                beta=0.0,
                **settings,
            ),
            train_dataset=Dataset.from_list([{"prompt": "a"}] * 2),
        )
        trainer.current_gradient_accumulation_steps = 1
        trainer.model.train()
        loss = trainer._compute_loss(trainer.model, trl_batch(samples, tokenizer.pad_token_id))
        loss.backward()
        return float(loss.detach()), {
            name: parameter.grad for name, parameter in trainer.model.named_parameters()
        }


def trl_batch(samples: Sequence[Sample], pad: int) -> dict[str, Tensor]:
    """The samples as TRL pads them: prompts on the left, completions with a mask of actions on the right."""
    prompts = [sample.sequence.loss_mask.index(1) for sample in samples]
    rests = [len(s.sequence.ids) - p for s, p in zip(samples, prompts, strict=True)]
    shape_P, shape_C = (len(samples), max(prompts)), (len(samples), max(rests))
    batch = {
        "prompt_ids": torch.full(shape_P, pad),
        "prompt_mask": torch.zeros(shape_P, dtype=torch.long),
        "completion_ids": torch.full(shape_C, pad),
        "completion_mask": torch.zeros(shape_C, dtype=torch.long),
        "tool_mask": torch.zeros(shape_C, dtype=torch.long),
        "old_per_token_logps": torch.zeros(shape_C),
        "advantages": torch.tensor([sample.advantage for sample in samples]),
    }
    for row, (sample, first, rest) in enumerate(zip(samples, prompts, rests, strict=True)):
        sequence = sample.sequence
        ids = torch.tensor(sequence.ids)
        batch["prompt_ids"][row, shape_P[1] - first :] = ids[:first]
        batch["prompt_mask"][row, shape_P[1] - first :] = 1
        batch["completion_ids"][row, :rest] = ids[first:]
        batch["completion_mask"][row, :rest] = 1
        batch["tool_mask"][row, :rest] = torch.tensor(sequence.loss_mask[first:])
        batch["old_per_token_logps"][row, :rest] = torch.tensor(sequence.logprobs[first:])
    batch["num_items_in_batch"] = (batch["completion_mask"] * batch["tool_mask"]).sum()
    return batch
