"""A batch of real trajectories for the gates, and one update of a fresh learner on it."""

# M: trained tokens

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.sample import Sample
from maskgym.agents.learning.step_stats import StepStats

from .training_env import Workload
from .training_ours import OurSetting, OurTrainer

SMALL = Workload(num_tasks=3, group_size=4, max_tokens=16)
"""Twelve episodes: enough for several micro-batches, done in a second."""

_LEARNING_RATE = 1e-3
_NOISE = 0.3
"""Spread of old minus current log-probability, so that ratios differ from 1 and some are clipped."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one optimiser step came to."""

    stats: StepStats
    gradients: dict[str, Tensor]
    weights: dict[str, Tensor]


def make_samples(model_dir: Path, workload: Workload = SMALL) -> list[Sample]:
    """Samples of real rollouts, their log-probabilities moved as if older weights had sampled them."""
    from .training_ours import samples_of

    trainer = OurTrainer(model_dir, OurSetting(engine="transformers", workload=fields_of(workload)))
    groups = trainer.play(seed=1)
    trainer.close()
    rng = random.Random(0)

    def moved(sample: Sample) -> Sample:
        sequence = sample.sequence
        logprobs = tuple(
            value + rng.gauss(0.0, _NOISE) if is_trained else 0.0
            for value, is_trained in zip(sequence.logprobs, sequence.loss_mask, strict=True)
        )
        return replace(sample, sequence=replace(sequence, logprobs=logprobs))

    return [moved(sample) for sample in samples_of(groups)]


def fields_of(workload: Workload) -> dict[str, Any]:
    """The workload as plain values for an arm's setting."""
    return {name: getattr(workload, name) for name in Workload.__dataclass_fields__}


def update(
    model_dir: Path,
    samples: Sequence[Sample],
    loss: LossConfig | None = None,
    **settings: Any,
) -> Update:
    """One optimiser step of a fresh learner, without clipping of the gradient's norm."""
    config = LearnerConfig(
        lr=_LEARNING_RATE, max_grad_norm=1e9, loss=loss or LossConfig(), **settings
    )
    learner = Learner(load_model(model_dir, device="cpu"), config)
    stats = learner.policy_update(samples)
    (beta, _) = config.betas
    # AdamW's first moment after one step is (1 - beta) times the gradient, and public.
    gradients = {
        name: learner.optimiser.state[parameter]["exp_avg"] / (1 - beta)
        for name, parameter in learner.model.named_parameters()
    }
    weights = {name: weight.clone() for name, weight in learner.named_weights()}
    return Update(stats=stats, gradients=gradients, weights=weights)


def worst_difference(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """Largest difference of two sets of tensors, relative to the largest value of the first."""
    assert first.keys() == second.keys()
    largest = max(float(tensor.abs().max()) for tensor in first.values())
    return max(float((first[n] - second[n]).abs().max()) for n in first) / largest


def relative(first: float, second: float) -> float:
    """Difference of two numbers relative to the first."""
    return abs(first - second) / max(abs(first), 1e-12)
