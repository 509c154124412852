"""Padding and micro-batches."""

import pytest

from maskgym.agents.batch import micro_batches
from maskgym.agents.trajectory import TokenSequence


def sequence(num_prompt: int, num_action: int) -> TokenSequence:
    return TokenSequence(
        ids=tuple(range(1, num_prompt + num_action + 1)),
        loss_mask=(0,) * num_prompt + (1,) * num_action,
        logprobs=(0.0,) * num_prompt + (-1.0,) * num_action,
    )


def test_trained_tokens_are_those_with_mask_one_and_carry_their_sequences_weight() -> None:
    (batch,) = micro_batches([sequence(2, 3), sequence(1, 1)], [0.5, -2.0], max_tokens=100)
    assert batch.ids_NT.tolist() == [[1, 2, 0, 0, 0], [1, 2, 3, 4, 5]]
    assert batch.attention_NT.sum(1).tolist() == [2, 5]
    assert list(zip(batch.rows_M.tolist(), batch.columns_M.tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (1, 3),
        (1, 4),
    ]
    assert batch.weights_M.tolist() == [-2.0, 0.5, 0.5, 0.5]
    assert batch.old_logprobs_M.tolist() == [-1.0] * 4


def test_no_micro_batch_passes_the_token_budget_but_a_single_long_sequence() -> None:
    sequences = [sequence(5, n) for n in (1, 30, 2, 3, 4)]
    batches = micro_batches(sequences, [1.0] * 5, max_tokens=20)
    sizes = [batch.ids_NT.numel() for batch in batches]
    assert [size for size in sizes if size > 20] == [35]
    assert sum(batch.num_tokens for batch in batches) == 40


def test_a_sequence_without_trained_tokens_is_left_out() -> None:
    assert micro_batches([sequence(4, 0)], [1.0], max_tokens=10) == []


def test_the_first_token_cannot_be_trained_on() -> None:
    with pytest.raises(ValueError, match="nothing predicts it"):
        micro_batches([sequence(0, 2)], [1.0], max_tokens=10)
