"""What a batch of optimiser steps measured: sums over micro-batches and ranks in, one record out."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

Sums = dict[str, float]
"""Numbers that add up; those whose name begins with "max_" combine by the larger."""


def combined(parts: Iterable[Mapping[str, float]]) -> Sums:
    """The sums of the parts, added in the order given; names may be missing from some."""
    total: Sums = {}
    for part in parts:
        for name, value in part.items():
            if name not in total:
                total[name] = value
            elif name.startswith("max_"):
                total[name] = max(total[name], value)
            else:
                total[name] += value
    return total


@dataclass(kw_only=True, slots=True)
class StepTimes:
    """Where the time of one batch went on this rank, in seconds."""

    total_s: float = 0.0
    packing_s: float = 0.0
    """Micro-batches are made."""

    scoring_s: float = 0.0
    """Forward passes for old and reference log-probabilities, and for the probe of flat batches."""

    gradients_s: float = 0.0
    """Forward and backward passes of the updates."""

    optimiser_s: float = 0.0
    """Clipping, AdamW, and master weights written back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStats:
    """What the optimiser steps on one batch did; means are over all updates that were made, all ranks."""

    loss: float
    """Mean over the updates; 0 when none was made."""

    grad_norm: float
    """Mean over the updates, before clipping."""

    entropy: float
    """Mean over the trained tokens, nats; 0 in steps of imitation, which do not compute it."""

    kl: float
    """Estimate (k3) of KL(old policy || new policy) per token; 0 in imitation."""

    reference_kl: float
    """Estimate (k3) of KL(policy || reference) per token; 0 without a KL term."""

    clipped_share: float
    """Share of trained tokens whose gradient the clip stopped."""

    logprob_gap: float
    """Mean |trainer - engine| log-probability of tokens sampled under the trained prompt, before the
    first update: engine and trainer have the same weights there."""

    max_logprob_gap: float
    mean_ratio: float
    """Mean of new over old probability; 1 where there is nothing to compare."""

    max_ratio: float
    num_tokens: int
    """Trained tokens of the batch, those of flat groups included."""

    num_row_tokens: int
    """Tokens that the updates' forward passes computed, prompts included, padding not."""

    num_padding: int
    """Padding that they computed besides."""

    num_saved: int
    """Prompt tokens that they did not compute, because a group shares its prompt."""

    num_updates: int
    """Optimiser steps made."""

    num_skipped: int
    """Optimiser steps not made, because loss or gradient were not finite."""

    num_out_of_memory: int
    """Micro-batches that did not fit and were split. Above 0 again and again: lower
    `micro_batch_tokens`."""

    lr: float
    """Of the last update."""

    times: StepTimes = field(default_factory=StepTimes, compare=False)
    """This rank's; the one thing that a resumed run does not repeat."""

    def metrics(self) -> dict[str, Any]:
        """Everything but the times, which a resumed run repeats bit for bit."""
        row = asdict(self)
        del row["times"]
        return row


@contextmanager
def timed(times: StepTimes, name: str) -> Iterator[None]:
    """Adds the seconds that the block takes to one of the times."""
    started_s = time.perf_counter()
    try:
        yield
    finally:
        setattr(times, name, getattr(times, name) + time.perf_counter() - started_s)


def step_stats(
    sums: Mapping[str, float], *, num_tokens: int, lr: float, times: StepTimes
) -> StepStats:
    """The record of a batch.

    Args:
        sums: Combined over updates, micro-batches and ranks.
        num_tokens: Trained tokens of the batch.
        lr: Learning rate of the last update.
        times: Of this rank.
    """

    def mean(name: str, count: str, default: float = 0.0) -> float:
        number = sums.get(count, 0.0)
        return sums.get(name, 0.0) / number if number else default

    return StepStats(
        loss=mean("loss", "updates"),
        grad_norm=mean("grad_norm", "updates"),
        entropy=mean("entropy", "entropy_tokens"),
        kl=mean("kl", "ratio_tokens"),
        reference_kl=mean("reference_kl", "tokens"),
        clipped_share=mean("clipped", "tokens"),
        logprob_gap=mean("gap", "gap_tokens"),
        max_logprob_gap=sums.get("max_gap", 0.0),
        mean_ratio=mean("ratio", "ratio_tokens", 1.0),
        max_ratio=sums.get("max_ratio", 1.0),
        num_tokens=num_tokens,
        num_row_tokens=int(sums.get("row_tokens", 0)),
        num_padding=int(sums.get("padding", 0)),
        num_saved=int(sums.get("saved", 0)),
        num_updates=int(sums.get("updates", 0)),
        num_skipped=int(sums.get("skipped", 0)),
        num_out_of_memory=int(sums.get("out_of_memory", 0)),
        lr=lr,
        times=times,
    )
