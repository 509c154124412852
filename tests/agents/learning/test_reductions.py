"""Reductions against numbers worked by hand; sums over any cut into micro-batches and ranks are the same."""

from dataclasses import astuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.agents.learning.losses import LossConfig, policy_loss
from maskgym.agents.learning.reductions import (
    REDUCTIONS,
    StepTotals,
    reduction_weights,
    step_totals,
)

LENGTHS, GROUPS = [2, 4, 6], ["a", "a", "b"]


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("token", [1 / 12, 1 / 12, 1 / 12]),
        ("sequence", [1 / 6, 1 / 12, 1 / 18]),
        ("prompt", [1 / 12, 1 / 12, 1 / 12]),  # (2 + 4) tokens and 6 tokens, each half
        ("constant", [1 / 30, 1 / 30, 1 / 30]),
    ],
)
def test_weights_by_hand(reduction: str, expected: list[float]) -> None:
    totals = step_totals(LENGTHS, GROUPS)
    assert totals == StepTotals(12.0, 3.0, 2.0)
    weights = reduction_weights(
        reduction, lengths_N=LENGTHS, groups_N=GROUPS, totals=totals, constant_tokens=10
    )
    assert weights.tolist() == pytest.approx(expected)


def test_prompts_count_the_same_whatever_their_tokens() -> None:
    weights = reduction_weights(
        "prompt",
        lengths_N=[1, 1, 6],
        groups_N=["a", "a", "b"],
        totals=step_totals([1, 1, 6], ["a", "a", "b"]),
    )
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 12])


def test_a_sequence_without_trained_tokens_counts_nowhere() -> None:
    lengths, groups = [0, 3], ["a", "b"]
    totals = step_totals(lengths, groups)
    assert totals == StepTotals(3.0, 1.0, 1.0)
    for reduction in REDUCTIONS:
        weights = reduction_weights(
            reduction, lengths_N=lengths, groups_N=groups, totals=totals, constant_tokens=3
        )
        assert weights.tolist() == pytest.approx([0.0, 1 / 3])


def test_what_cannot_be_reduced_is_refused() -> None:
    totals = step_totals([1], ["a"])
    with pytest.raises(ValueError, match="choose one of token, sequence"):
        reduction_weights("mean", lengths_N=[1], groups_N=["a"], totals=totals)
    with pytest.raises(ValueError, match="needs constant_tokens"):
        reduction_weights("constant", lengths_N=[1], groups_N=["a"], totals=totals)
    with pytest.raises(ValueError, match="no token to learn from"):
        reduction_weights("token", lengths_N=[], groups_N=[], totals=StepTotals(0, 0, 0))
    with pytest.raises(ValueError, match="give one each"):
        reduction_weights("token", lengths_N=[1, 2], groups_N=["a"], totals=totals)


Cut = list[tuple[int, int, int]]


@settings(max_examples=25, deadline=None)
@given(
    reduction=st.sampled_from(REDUCTIONS),
    kind=st.sampled_from(["clip", "gspo", "cispo", "reinforce"]),
    # Each sequence: its length, its rank (which also names its groups), its micro-batch there.
    cut=st.lists(
        st.tuples(st.integers(1, 6), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8
    ),
    seed=st.integers(0, 1000),
)
def test_micro_batches_and_ranks_add_up_to_the_undivided_loss_and_gradient(
    reduction: str, kind: str, cut: Cut, seed: int
) -> None:
    lengths = [length for length, _, _ in cut]
    groups = [f"rank {rank}, task {i % 2}" for i, (_, rank, _) in enumerate(cut)]
    rng = np.random.default_rng(seed)
    new = [torch.tensor(rng.normal(-1, 0.5, n), requires_grad=True) for n in lengths]
    old = [torch.tensor(rng.normal(-1, 0.5, n)) for n in lengths]
    advantages = rng.normal(size=len(cut))
    config = LossConfig(
        kind=kind,
        reduction=reduction,
        constant_tokens=7 if reduction == "constant" else None,
    )

    def loss_of(members: list[int], weight_of: dict[int, float]) -> torch.Tensor:
        numbers = torch.repeat_interleave(torch.tensor([lengths[i] for i in members]))
        loss = policy_loss(
            config,
            logprobs_M=torch.cat([new[i] for i in members]),
            old_logprobs_M=torch.cat([old[i] for i in members]),
            advantages_M=torch.tensor(advantages[members])[numbers],
            sequence_M=numbers,
            num_sequences=len(members),
            on_policy_M=torch.ones(len(numbers), dtype=torch.bool),
        )
        weights = torch.tensor([weight_of[i] for i in members], dtype=torch.float64)
        return (weights[numbers] * loss.loss_M).sum()

    def weights_of(members: list[int], totals: StepTotals) -> dict[int, float]:
        weights = reduction_weights(
            reduction,
            lengths_N=[lengths[i] for i in members],
            groups_N=[groups[i] for i in members],
            totals=totals,
            constant_tokens=config.constant_tokens,
        )
        return dict(zip(members, weights.tolist(), strict=True))

    everything = list(range(len(cut)))
    whole = loss_of(everything, weights_of(everything, step_totals(lengths, groups)))
    gradients = torch.autograd.grad(whole, new)

    ranks = [[i for i in everything if cut[i][1] == rank] for rank in range(3)]
    parts = [step_totals([lengths[i] for i in r], [groups[i] for i in r]) for r in ranks]
    totals = StepTotals(*(sum(column) for column in zip(*map(astuple, parts), strict=True)))
    total = torch.zeros((), dtype=torch.float64)
    for members in ranks:
        weight_of = weights_of(members, totals)
        for batch in range(3):
            micro = [i for i in members if cut[i][2] == batch]
            if micro:
                total = total + loss_of(micro, weight_of)
    assert float(total.detach()) == pytest.approx(float(whole.detach()), rel=1e-9, abs=1e-12)
    for part, undivided in zip(torch.autograd.grad(total, new), gradients, strict=True):
        torch.testing.assert_close(part, undivided, rtol=1e-9, atol=1e-12)


def test_a_group_split_over_ranks_needs_its_tokens_of_the_whole_step() -> None:
    totals = StepTotals(8.0, 3.0, 2.0)
    weights = reduction_weights(
        "prompt",
        lengths_N=[1, 6],
        groups_N=["a", "b"],
        totals=totals,
        group_tokens={"a": 2.0, "b": 6.0},
    )
    assert weights.tolist() == pytest.approx([1 / 4, 1 / 12])
