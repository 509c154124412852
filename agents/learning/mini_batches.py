"""A batch of samples in, what each optimiser step learns from out: split by group, weighted, packed."""

# N: sequences of a micro-batch, M: its trained tokens

import random
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from ..distributed import World
from .losses import LossConfig
from .packing import MicroBatch
from .reductions import StepTotals, reduction_weights, step_totals
from .sample import Sample


@dataclass(kw_only=True, slots=True)
class MiniBatch:
    """What one optimiser step learns from, on this rank."""

    samples: Sequence[Sample]
    """Those that are computed."""

    weights: Sequence[float]
    """The reduction: weight of each token of each sample in the loss of the whole step."""

    batches: list[MicroBatch]
    """Where `MicroBatch.sample_N` are places in `samples`."""

    old: list[Tensor] | None = None
    """Per sample, [trained tokens]: the trainer's log-probabilities before the first step."""

    reference: list[Tensor] | None = None
    """Per sample, [trained tokens]: log-probabilities under the reference."""

    def weights_of(self, batch: MicroBatch) -> Tensor:
        """[N], the weights of a micro-batch's sequences."""
        weights = [self.weights[place] for place in batch.sample_N]
        return torch.tensor(weights, dtype=torch.float32, device=batch.targets_M.device)


def tokens_of(values: Sequence[Tensor] | None, batch: MicroBatch) -> Tensor | None:
    """[M], the values of a micro-batch's tokens out of those per sample; None for None."""
    return None if values is None else torch.cat([values[place] for place in batch.sample_N])


def mini_batches(
    samples: Sequence[Sample],
    config: LossConfig,
    *,
    num_updates: int,
    seed: int,
    world: World,
    pack: Callable[[Sequence[Sample]], list[MicroBatch]],
) -> list[MiniBatch]:
    """Splits a batch into optimiser steps; a common call of all ranks.

    Samples of advantage 0 are left out of the computation, unless a KL or entropy term moves them, but
    they count in the totals of the reduction.

    Args:
        samples: Of this rank, whole groups.
        config: The loss.
        num_updates: Optimiser steps; fewer where there are fewer groups.
        seed: Of the split, the same on every rank.
        world: The ranks.
        pack: Makes micro-batches.
    """
    groups = list(dict.fromkeys(sample.group for sample in samples))
    counts: list[int] = world.gather(len(groups))
    num_updates = max(1, min(num_updates, sum(counts)))
    update_of = updates_of_groups(sum(counts), num_updates, seed=seed)
    first = sum(counts[: world.rank])
    update_of_group = dict(zip(groups, update_of[first : first + len(groups)], strict=True))
    parts = [[s for s in samples if update_of_group[s.group] == u] for u in range(num_updates)]
    local = [step_totals([s.num_tokens for s in p], [s.group for s in p]) for p in parts]
    flat = world.sum([float(value) for totals in local for value in astuple(totals)])
    made = []
    for i, part in enumerate(parts):
        totals = StepTotals(*flat[3 * i : 3 * i + 3])
        weights: Sequence[float] = [0.0] * len(part)
        if totals.num_tokens:
            weights = reduction_weights(
                config.reduction,
                lengths_N=[s.num_tokens for s in part],
                groups_N=[s.group for s in part],
                totals=totals,
                constant_tokens=config.constant_tokens,
            ).tolist()
        is_all = bool(config.kl_coef or config.entropy_coef)
        used = [j for j, s in enumerate(part) if is_all or s.advantage != 0.0]
        chosen = [part[j] for j in used]
        made.append(
            MiniBatch(samples=chosen, weights=[weights[j] for j in used], batches=pack(chosen))
        )
    return made


def updates_of_groups(num_groups: int, num_updates: int, *, seed: int) -> list[int]:
    """Which optimiser step each group is in: every run of `num_updates` groups has one in each.

    The order inside a run is drawn. So ranks that hold neighbouring groups have equal work in each
    step, the steps are the same whatever the number of ranks, and no regular pattern of the groups
    (bare and guided in turn) lands in one step.
    """
    rng = random.Random(seed)
    chosen: list[int] = []
    while len(chosen) < num_groups:
        chosen += rng.sample(range(num_updates), num_updates)
    return chosen[:num_groups]
