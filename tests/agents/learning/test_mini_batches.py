"""The split of a batch into optimiser steps."""

from collections import Counter
from typing import Any

import pytest

from maskgym.agents.distributed import World
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.mini_batches import mini_batches, updates_of_groups
from maskgym.agents.learning.packing import micro_batches
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence


def sample(group: str, num_tokens: int, advantage: float = 1.0) -> Sample:
    sequence = TokenSequence(
        ids=(5,) * (2 + num_tokens),
        loss_mask=(0, 0) + (1,) * num_tokens,
        logprobs=(0.0,) * (2 + num_tokens),
    )
    return Sample(sequence=sequence, advantage=advantage, group=group)


def split(samples: list[Sample], *, num_updates: int = 1, **loss: Any) -> list[Any]:
    return mini_batches(
        samples,
        LossConfig(**loss),
        num_updates=num_updates,
        seed=0,
        world=World(device="cpu"),
        pack=lambda chosen: micro_batches(chosen, max_tokens=100),
    )


def test_every_group_is_in_one_update_and_updates_are_equally_large() -> None:
    for seed in range(5):
        chosen = updates_of_groups(32, 4, seed=seed)
        assert Counter(chosen) == {0: 8, 1: 8, 2: 8, 3: 8}
        # Ranks that hold eight neighbours each have two in every update.
        assert all(Counter(chosen[i : i + 8]) == Counter(chosen[:8]) for i in range(0, 32, 8))
    assert updates_of_groups(32, 4, seed=1) != updates_of_groups(32, 4, seed=2)


def test_a_regular_pattern_of_groups_does_not_fall_into_one_update() -> None:
    """Bare and guided groups in turn: two updates by turns would be all bare, and all guided."""
    bare = Counter(updates_of_groups(64, 2, seed=0)[::2])
    assert min(bare[0], bare[1]) >= 10


def test_flat_samples_are_not_computed_but_counted() -> None:
    samples = [sample("a", 3), sample("a", 5, advantage=0.0), sample("b", 2, advantage=0.0)]
    (part,) = split(samples)
    assert [s.num_tokens for s in part.samples] == [3]
    assert list(part.weights) == pytest.approx([1 / 10])
    (part,) = split(samples, kl_coef=0.1)
    assert [s.num_tokens for s in part.samples] == [3, 5, 2]
    (part,) = split(samples, reduction="prompt")
    assert list(part.weights) == pytest.approx([1 / (2 * 8)])


def test_totals_are_those_of_each_update() -> None:
    samples = [sample("a", 3), sample("a", 5), sample("b", 2)]
    parts = split(samples, num_updates=2)
    weights = {
        s.group: w for part in parts for s, w in zip(part.samples, part.weights, strict=True)
    }
    assert weights == {"a": pytest.approx(1 / 8), "b": pytest.approx(1 / 2)}


def test_there_are_no_more_updates_than_groups() -> None:
    assert len(split([sample("a", 3), sample("b", 3)], num_updates=8)) == 2
    assert [part.batches for part in split([], num_updates=8)] == [[]]
