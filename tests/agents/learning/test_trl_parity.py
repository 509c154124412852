"""Losses and advantages against TRL's own code, run by a real GRPOTrainer on the tiny model.

Both sides see the same batch (two groups of four, completions of different lengths with a tool's tokens
in between) and the same old log-probabilities, which differ from the current ones. The loss and the
gradient of every weight agree to 1e-5 in float32, the temperature and the head included.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskgym.agents.learning.advantages import AdvantageConfig, advantages_of
from maskgym.agents.learning.corrections import importance_weights
from maskgym.agents.learning.losses import (
    LossConfig,
    kl_estimate,
    policy_loss,
    token_entropy,
    token_logprobs,
)
from maskgym.agents.learning.reductions import reduction_weights, step_totals

pytest.importorskip("trl")

TEMPERATURE = 0.8
REWARDS = [[1.0, 0.0, 0.0, 0.5], [0.0, 1.0, 1.0, 0.2]]
GROUPS = ["a"] * 4 + ["b"] * 4
LENGTHS = [5, 9, 3, 12, 7, 4, 8, 6]  # of the completions
MAX_TOKENS = 16


@pytest.fixture(scope="module")
def trainers(
    tiny_model_dir: Path, tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """A GRPOTrainer and an RLOOTrainer whose completions are scripted; what follows is TRL's."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM

    with pytest.MonkeyPatch.context() as patch:
        # TRL imports vLLM where it is installed: four seconds for what is not used here.
        imports = importlib.import_module("trl.import_utils")
        patch.setattr(imports, "is_vllm_available", lambda *_, **__: False)
        import trl

        kinds: dict[str, Any] = {
            "grpo": (trl.GRPOTrainer, trl.GRPOConfig),
            "rloo": (trl.RLOOTrainer, trl.RLOOConfig),
        }
    rng = np.random.default_rng(0)
    prompts = [rng.integers(1, 500, 3).tolist() for _ in GROUPS]
    completions = [rng.integers(1, 500, n).tolist() for n in LENGTHS]
    # Of every four tokens the third is a tool's; never trained on.
    tool_mask = [[int(t % 4 != 2) for t in range(n)] for n in LENGTHS]
    played: dict[str, tuple[Any, ...]] = {
        "grpo": (prompts, completions, tool_mask, GROUPS, None, {}, None, []),
        "rloo": (prompts, completions, GROUPS),
    }
    made = {}
    for name, (kind, config) in kinds.items():
        made[name] = kind(
            model=AutoModelForCausalLM.from_pretrained(str(tiny_model_dir), dtype=torch.float32),
            processing_class=tiny_tokenizer,
            reward_funcs=lambda completions, **_: [reward for group in REWARDS for reward in group],
            args=config(
                output_dir=str(tmp_path_factory.mktemp(name)),
                use_cpu=True,
                bf16=False,
                report_to="none",
                num_generations=4,
                per_device_train_batch_size=8,
                max_completion_length=MAX_TOKENS,
                temperature=TEMPERATURE,
                gradient_checkpointing=False,
            ),
            train_dataset=Dataset.from_list([{"prompt": group} for group in GROUPS]),
        )
        made[name]._generate = lambda _, played=played[name]: played
        made[name].current_gradient_accumulation_steps = 1
        made[name].model.train()
    yield made


def scored(trainer: Any) -> dict[str, Tensor]:
    """The batch as TRL prepares it: padded ids, masks and advantages."""
    batch: dict[str, Tensor] = trainer._generate_and_score_completions(
        [{"prompt": group} for group in GROUPS]
    )
    return batch


def ours(model: Any, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies [M] of the trained tokens by the dense reference, and the mask."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    mask = (batch["completion_mask"] * batch["tool_mask"]).bool()
    first = batch["prompt_ids"].shape[1]
    logits = model(input_ids=ids, attention_mask=attention).logits[:, first - 1 : -1][mask]
    return (
        token_logprobs(logits, batch["completion_ids"][mask], temperature=TEMPERATURE),
        token_entropy(logits, temperature=TEMPERATURE),
        mask,
    )


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # TRL's "grpo" is a mean over sequences of token means.
    "GRPO": ({"loss_type": "grpo"}, {"reduction": "sequence"}),
    # TRL's "dapo" divides by the tokens of the whole accumulated batch: our "token". (Its formula in the
    # paper is our "prompt", which TRL does not have.) Within one batch its "bnpo" is the same.
    "DAPO": (
        {"loss_type": "dapo", "epsilon_high": 0.28},
        {"reduction": "token", "clip_high": 0.28},
    ),
    "BNPO": ({"loss_type": "bnpo"}, {"reduction": "token"}),
    # TRL's constant is always max_completion_length.
    "Dr. GRPO": (
        {"loss_type": "dr_grpo"},
        {"reduction": "constant", "constant_tokens": MAX_TOKENS},
    ),
    # TRL's epsilon_high is the greatest weight itself, and there is no least one.
    "CISPO": (
        {"loss_type": "cispo", "epsilon_high": 1.1},
        {"kind": "cispo", "clip_low": 1.0, "clip_high": 0.1, "reduction": "token"},
    ),
    "GSPO": (
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.03,
            "epsilon_high": 0.04,
        },
        {"kind": "gspo", "clip_low": 0.03, "clip_high": 0.04, "reduction": "sequence"},
    ),
    "LUSPO": (
        {
            "loss_type": "luspo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.03,
            "epsilon_high": 0.04,
        },
        {"kind": "luspo", "clip_low": 0.03, "clip_high": 0.04, "reduction": "sequence"},
    ),
    # TRL's delta bounds the ratio of all actions; beyond 1 + epsilon_high only bad ones feel it.
    "dual clip": (
        {"loss_type": "dapo", "delta": 1.25},
        {"reduction": "token", "dual_clip": 1.25},
    ),
    # TRL multiplies k3 by the ratio unless told not to (DeepSeek-V3.2); ours is the plain estimate.
    "KL": (
        {"loss_type": "grpo", "beta": 0.04, "use_bias_correction_kl": False},
        {"reduction": "sequence", "kl_coef": 0.04},
    ),
    # TRL's bonus is a token mean whatever the loss's reduction: ours where that is "token".
    "entropy": (
        {"loss_type": "dapo", "entropy_coef": 0.03},
        {"reduction": "token", "entropy_coef": 0.03},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_and_gradient_equal_those_of_trl(
    name: str, trainers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, settings = CASES[name]
    trainer, config = trainers["grpo"], LossConfig(**settings)
    for key, value in {"epsilon_low": 0.2, "epsilon_high": 0.2, **theirs}.items():
        monkeypatch.setattr(trainer if hasattr(trainer, key) else trainer.args, key, value)
    monkeypatch.setattr(trainer, "_entropy_bonus_enabled", "entropy_coef" in theirs)
    with monkeypatch.context() as without_reference:
        without_reference.setattr(trainer, "beta", 0.0)
        batch = scored(trainer)
    parameters = list(trainer.model.parameters())

    logprobs_M, entropy_M, mask = ours(trainer.model, batch)
    generator = torch.Generator().manual_seed(1)
    old_M, reference_M = (
        logprobs_M.detach() + 0.2 * torch.randn(len(logprobs_M), generator=generator)
        for _ in range(2)
    )
    for key, values in (("old_per_token_logps", old_M), ("ref_per_token_logps", reference_M)):
        # What is masked holds nonsense, which must not matter to either side.
        batch[key] = torch.full(mask.shape, -7.0).masked_scatter(mask, values)
    their_loss = trainer._compute_loss(trainer.model, batch)
    their_gradients = torch.autograd.grad(their_loss, parameters)

    sequence_M = mask.nonzero()[:, 0]
    lengths = mask.sum(1).tolist()
    advantages_N = np.concatenate(
        advantages_of([np.array(group) for group in REWARDS], AdvantageConfig(epsilon=1e-4))
    )
    result = policy_loss(
        config,
        logprobs_M=logprobs_M,
        old_logprobs_M=old_M,
        advantages_M=torch.tensor(advantages_N, dtype=torch.float32)[sequence_M],
        sequence_M=sequence_M,
        num_sequences=len(lengths),
        on_policy_M=torch.ones(len(logprobs_M), dtype=torch.bool),
    )
    weights_N = reduction_weights(
        config.reduction,
        lengths_N=lengths,
        groups_N=GROUPS,
        totals=step_totals(lengths, GROUPS),
        constant_tokens=config.constant_tokens,
    )
    loss_M = result.loss_M - config.entropy_coef * entropy_M
    if config.kl_coef:
        loss_M = loss_M + config.kl_coef * kl_estimate(logprobs_M, reference_M, "k3")
    weights_M = torch.tensor(weights_N, dtype=torch.float32)[sequence_M]
    our_loss = (weights_M * loss_M).sum()
    our_gradients = torch.autograd.grad(our_loss, parameters)

    assert result.clipped_M.any() and not result.clipped_M.all()
    assert our_loss.item() == pytest.approx(their_loss.item(), rel=1e-5, abs=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in their_gradients)
    assert largest > 1e-2
    for our, their in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(our, their, rtol=0, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_equal_those_of_trl(
    scale: str, trainers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scale "none" is Dr. GRPO. TRL adds 1e-4 to the standard deviation where verl adds 1e-6."""
    monkeypatch.setattr(trainers["grpo"], "scale_rewards", scale)
    our = advantages_of(
        [np.array(group) for group in REWARDS], AdvantageConfig(scale=scale, epsilon=1e-4)
    )
    their = scored(trainers["grpo"])["advantages"].tolist()
    assert np.concatenate(our).tolist() == pytest.approx(their, rel=1e-5)


def test_leave_one_out_advantages_equal_those_of_trl(trainers: dict[str, Any]) -> None:
    config = AdvantageConfig(baseline="leave_one_out", scale="none")
    our = advantages_of([np.array(group) for group in REWARDS], config)
    their = scored(trainers["rloo"])["advantages"].tolist()
    assert np.concatenate(our).tolist() == pytest.approx(their, rel=1e-5)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_truncated_importance_weights_equal_those_of_trl(
    level: str, trainers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL's modes "token_truncate" and "sequence_truncate"; the engine is off by 0.3 nats a token."""
    trainer = trainers["grpo"]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        logprobs_M, _, mask = ours(trainer.model, scored(trainer))
    off_M = logprobs_M + 0.3 * torch.randn(len(logprobs_M), generator=generator)
    rows = torch.zeros(mask.shape).masked_scatter(mask, off_M)
    engine = [row[:length].tolist() for row, length in zip(rows, LENGTHS, strict=True)]
    played = trainer._generate(None)
    monkeypatch.setattr(trainer, "_generate", lambda _: (*played[:4], engine, *played[5:]))
    for key, value in (
        ("use_vllm", True),
        ("vllm_importance_sampling_correction", True),
        ("vllm_importance_sampling_mode", f"{level}_truncate"),
        ("vllm_importance_sampling_clip_min", None),
        ("vllm_importance_sampling_clip_max", 1.2),
    ):
        monkeypatch.setattr(trainer, key, value)
    batch = scored(trainer)
    their_M = batch["importance_sampling_ratio"].expand(mask.shape)[mask]
    our_M = importance_weights(
        batch["old_per_token_logps"][mask],
        batch["sampling_per_token_logps"][mask],
        level=level,
        cap=1.2,
        sequence_M=mask.nonzero()[:, 0],
        num_sequences=len(LENGTHS),
    )
    is_truncated = our_M > 1.2 - 1e-6
    assert is_truncated.any() and not is_truncated.all()
    torch.testing.assert_close(our_M, their_M, rtol=1e-5, atol=1e-5)
