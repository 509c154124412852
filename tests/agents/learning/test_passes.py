"""Micro-batches that do not fit are cut until they do; what is summed is what was finished."""

from pathlib import Path

import pytest
import torch

from maskgym.agents.distributed import World
from maskgym.agents.learning.packing import MicroBatch
from maskgym.agents.learning.passes import Passes
from maskgym.agents.learning.sample import Sample
from maskgym.agents.learning.scorer import TokenScorer
from maskgym.agents.learning.step_stats import Sums
from maskgym.agents.rollouts.trajectory import TokenSequence

PASSES = Passes(World(device="cpu"), max_tokens=100, packing="packed", share_prompts=True)
SCORER = TokenScorer.__new__(TokenScorer)  # with one rank there is no empty pass to run it


def make_samples(num_samples: int) -> list[Sample]:
    return [
        Sample(
            sequence=TokenSequence(
                ids=(7, 8, *range(20 + i, 24 + i)),
                loss_mask=(0, 0, 1, 1, 1, 1),
                logprobs=(0.0,) * 6,
            ),
            group=str(i),
        )
        for i in range(num_samples)
    ]


@pytest.mark.parametrize("with_gradient", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 8])
def test_every_sequence_is_finished_once_whatever_fits(limit: int, with_gradient: bool) -> None:
    samples = make_samples(8)
    finished: list[int] = []

    def each(batch: MicroBatch) -> Sums:
        if batch.num_sequences > limit:
            raise torch.OutOfMemoryError("full")
        finished.extend(batch.sample_N)
        first = [int(i) for i in batch.targets_M[:: samples[0].num_tokens]]
        assert first == [20 + place for place in batch.sample_N]  # places are those of the samples
        return {"tokens": float(batch.num_tokens)}

    sums = PASSES.run(
        SCORER,
        samples,
        PASSES.pack(samples),
        each,
        on_restart=finished.clear if with_gradient else None,
    )
    assert sorted(finished) == list(range(8))
    assert sums["tokens"] == 32
    assert (sums["out_of_memory"] > 0) == (limit < 8)


def test_an_error_of_another_kind_is_not_taken_for_lack_of_memory() -> None:
    def each(batch: MicroBatch) -> Sums:
        raise RuntimeError("shape mismatch")

    samples = make_samples(4)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        PASSES.run(SCORER, samples, PASSES.pack(samples), each)


def test_an_empty_pass_leaves_gradients_of_zero(tiny_model_dir: Path) -> None:
    from maskgym.agents.learning.model_folder import load_model

    model = load_model(tiny_model_dir, device="cpu")
    PASSES._empty_pass(TokenScorer(model), with_gradient=True)
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and not g.any() for g in gradients)
