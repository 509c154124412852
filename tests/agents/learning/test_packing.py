from dataclasses import fields

import pytest
import torch
from torch import Tensor

from maskgym.agents.learning.packing import MicroBatch, micro_batches
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence


def sample(prompt: list[int], rest: list[int], mask: list[int], **options: object) -> Sample:
    """A sequence whose log-probability at place i is -i."""
    ids = (*prompt, *rest)
    sequence = TokenSequence(
        ids=ids,
        loss_mask=(*([0] * len(prompt)), *mask),
        logprobs=tuple(-float(i) for i in range(len(ids))),
        is_on_policy=bool(options.pop("is_on_policy", True)),
    )
    return Sample(sequence=sequence, **options)  # type: ignore[arg-type]


def family(num: int, *, prompt: int = 5, length: int = 4, base: int = 100) -> list[Sample]:
    """Samples with one prompt and different ends."""
    ends = [[base + 10 * i + j for j in range(length + i)] for i in range(num)]
    return [sample([base + 1000 + i for i in range(prompt)], e, [1] * len(e)) for e in ends]


def described(batch: MicroBatch, samples: list[Sample]) -> None:
    """Asserts that each trained token is predicted from all that comes before it, in order."""
    ids = batch.ids_RT.flatten()
    row_tokens = batch.ids_RT.shape[1]
    for n, index in enumerate(batch.sample_N):
        sequence = samples[index].sequence
        trained = [i for i, one in enumerate(sequence.loss_mask) if one]
        mine = batch.sequence_M == n
        assert batch.targets_M[mine].tolist() == [sequence.ids[i] for i in trained]
        assert batch.engine_logprobs_M[mine].tolist() == [sequence.logprobs[i] for i in trained]
        assert batch.on_policy_M[mine].tolist() == [sequence.is_on_policy] * len(trained)
        assert batch.advantages_M[mine].tolist() == pytest.approx(
            [samples[index].advantage] * len(trained)
        )
        for place, flat in zip(trained, batch.predictors_M[mine].tolist(), strict=True):
            assert seen(batch, ids, row_tokens, flat) == list(sequence.ids[:place])


def seen(batch: MicroBatch, ids: Tensor, row_tokens: int, flat: int) -> list[int]:
    """The tokens that one place sees, ordered by their positions, which must be 0, 1, 2, ..."""
    row, column = divmod(flat, row_tokens)
    if batch.layout is None:
        visible = torch.arange(row_tokens) <= column
    else:
        visible = batch.layout.dense_mask()[column]
    positions = batch.positions_RT[row][visible]
    order = positions.argsort()
    assert positions[order].tolist() == list(range(len(order)))
    return [int(i) for i in batch.ids_RT[row][visible][order]]


@pytest.mark.parametrize("options", [{}, {"share_prompts": False}, {"packing": "padded"}])
@pytest.mark.parametrize("max_tokens", [1, 24, 40, 1000])
def test_each_trained_token_is_predicted_from_exactly_what_comes_before_it(
    options: dict[str, object], max_tokens: int
) -> None:
    samples = [
        *family(3),
        sample([1, 2, 3], [4, 5, 6, 7], [1, 0, 0, 1], advantage=-2.0),
        *family(2, prompt=1, base=300),
        sample([7], [8], [1], is_on_policy=False),
        sample([1, 2, 3], [9], [1]),
    ]
    batches = micro_batches(samples, max_tokens=max_tokens, **options)  # type: ignore[arg-type]
    for batch in batches:
        described(batch, samples)
        assert batch.sequence_M.tolist() == sorted(batch.sequence_M.tolist())
        assert batch.num_sequences == len(batch.sample_N)
    assert sorted(i for batch in batches for i in batch.sample_N) == list(range(len(samples)))


def test_a_prompt_of_a_group_stands_in_the_row_once() -> None:
    samples = family(8, prompt=50, length=4)
    (batch,) = micro_batches(samples, max_tokens=1000)
    # Eight ends of 4 to 11 tokens, of which the last one predicts nothing.
    assert batch.num_computed == 50 + sum(range(3, 11))
    assert batch.num_saved == 7 * 50
    assert batch.num_padding == 0
    assert batch.num_tokens == sum(range(4, 12))
    (apart,) = micro_batches(samples, max_tokens=1000, share_prompts=False)
    assert apart.num_computed == batch.num_computed + batch.num_saved
    assert apart.num_saved == 0


def test_one_differing_prompt_token_is_enough_to_share_nothing() -> None:
    a, b = sample([1, 2, 3], [4, 5], [1, 1]), sample([1, 9, 3], [4, 5], [1, 1])
    (batch,) = micro_batches([a, b], max_tokens=100)
    assert batch.num_saved == 0


def test_a_trained_token_right_after_the_shared_prompt_needs_no_place() -> None:
    a, b = sample([1, 2], [3], [1]), sample([1, 2], [4], [1])
    (batch,) = micro_batches([a, b], max_tokens=100)
    assert batch.ids_RT.tolist() == [[1, 2]]
    assert batch.predictors_M.tolist() == [1, 1]
    assert batch.targets_M.tolist() == [3, 4]


def test_what_follows_the_last_trained_token_is_not_computed() -> None:
    tail = sample([1, 2], [3, 4, 5, 6], [1, 1, 0, 0])
    for packing in ("packed", "padded"):
        (batch,) = micro_batches([tail], max_tokens=100, packing=packing)
        assert batch.ids_RT.tolist() == [[1, 2, 3]]


def test_rows_keep_to_the_budget_and_a_longer_sequence_stands_alone() -> None:
    samples = [
        sample([i], list(range(2, 2 + n)), [1] * n) for i, n in enumerate([9, 30, 5, 5, 9, 2, 2])
    ]
    for packing in ("packed", "padded"):
        batches = micro_batches(samples, max_tokens=20, packing=packing)
        over = [batch for batch in batches if batch.num_computed > 20]
        assert [batch.sample_N for batch in over] == [(1,)]
    packed = micro_batches(samples, max_tokens=20)
    assert [batch.num_computed for batch in packed] == [30, 20, 12]


def test_a_group_beyond_the_budget_is_cut_and_carries_its_prompt_again() -> None:
    samples = family(4, prompt=10, length=6)  # 5, 6, 7 and 8 tokens are read after the prompt
    batches = micro_batches(samples, max_tokens=24)
    assert [batch.sample_N for batch in batches] == [(0, 1), (3,), (2,)]
    assert [batch.num_computed for batch in batches] == [21, 18, 17]


def test_untrained_and_empty_sequences_are_left_out() -> None:
    nothing = Sample(sequence=TokenSequence(ids=(), loss_mask=(), logprobs=()))
    samples = [nothing, sample([1, 2], [3], [0]), sample([1, 2], [3], [1])]
    for packing in ("packed", "padded"):
        (batch,) = micro_batches(samples, max_tokens=100, packing=packing)
        assert batch.sample_N == (2,)
    assert micro_batches(samples[:2], max_tokens=100) == []


def test_the_same_samples_give_the_same_batches() -> None:
    samples = [*family(5), *family(5, base=400, prompt=9)]
    first, second = (micro_batches(samples, max_tokens=40) for _ in range(2))
    assert len(first) == len(second) > 1
    for a, b in zip(first, second, strict=True):
        for field in fields(a):
            left, right = getattr(a, field.name), getattr(b, field.name)
            if isinstance(left, Tensor):
                assert torch.equal(left, right)


def test_padding_is_counted_and_known_by_length_not_by_id() -> None:
    samples = [sample([0, 0], [0, 0], [1, 1]), sample([0, 0], [0, 0, 0, 0], [1, 1, 1, 1])]
    (batch,) = micro_batches(samples, max_tokens=100, packing="padded")
    assert batch.padding_RT is not None
    assert batch.padding_RT.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.num_padding == 2


def test_a_first_token_cannot_be_trained_on() -> None:
    first = Sample(sequence=TokenSequence(ids=(1, 2), loss_mask=(1, 1), logprobs=(0.0, 0.0)))
    with pytest.raises(ValueError, match=r"Sample 1.*nothing predicts it"):
        micro_batches([sample([1], [2], [1]), first], max_tokens=10)


def test_an_unknown_packing_is_refused() -> None:
    with pytest.raises(ValueError, match="packed, padded"):
        micro_batches([], max_tokens=10, packing="dense")
