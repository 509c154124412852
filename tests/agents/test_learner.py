"""The optimiser step: parity of micro-batches, masks, temperature, tied heads, finite weights."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.batch import micro_batches
from maskgym.agents.learner import Learner, LearnerConfig, load_model
from maskgym.agents.trajectory import TokenSequence


def sequences(num_sequences: int = 6) -> list[TokenSequence]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for i in range(num_sequences):
        length = 8 + 3 * i
        ids = torch.randint(10, 400, (length,), generator=generator).tolist()
        mask = [0, 0, 0] + [int(t % 3 > 0) for t in range(length - 3)]
        logprobs = [-2.0 * m for m in mask]
        made.append(TokenSequence(ids=tuple(ids), loss_mask=tuple(mask), logprobs=tuple(logprobs)))
    return made


ADVANTAGES = [1.0, -0.5, 0.25, -1.0, 0.75, 0.5]


def learner(folder: Path, **config: Any) -> Learner:
    return Learner(load_model(folder, device="cpu"), LearnerConfig(lr=1e-3, **config))


def weights(one: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in one.model.parameters()])


def test_many_micro_batches_give_the_step_of_one(tiny_model_dir: Path) -> None:
    whole = learner(tiny_model_dir, micro_batch_tokens=100_000)
    cut = learner(tiny_model_dir, micro_batch_tokens=25, head_chunk_tokens=3)
    one = whole.policy_step(sequences(), ADVANTAGES)
    many = cut.policy_step(sequences(), ADVANTAGES)
    assert many.loss == pytest.approx(one.loss, abs=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)
    # Adam divides by the gradient's own size, so compare weights loosely and the gradient above.
    assert torch.allclose(weights(whole), weights(cut), atol=2e-4)


def test_logprobs_equal_the_full_softmax_at_the_sampling_temperature(tiny_model_dir: Path) -> None:
    one = Learner(load_model(tiny_model_dir, device="cpu"), LearnerConfig(), temperature=0.7)
    (batch,) = micro_batches(sequences(3), [1.0] * 3, max_tokens=10_000)
    with torch.no_grad():
        logprobs, entropy = one.logprobs(batch)
        logits = one.model(input_ids=batch.ids_NT, attention_mask=batch.attention_NT).logits
        full = torch.log_softmax(logits[:, :-1] / 0.7, dim=-1)
    rows, columns = batch.rows_M, batch.columns_M
    wanted = full[rows, columns - 1, batch.ids_NT[rows, columns]]
    assert torch.allclose(logprobs, wanted, atol=1e-5)
    picked = full[rows, columns - 1]
    assert torch.allclose(entropy, -(picked.exp() * picked).sum(-1), atol=1e-5)


def test_padding_changes_nothing(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    together = micro_batches(sequences(4), [1.0] * 4, max_tokens=10_000)
    alone = [b for s in sequences(4) for b in micro_batches([s], [1.0], max_tokens=10_000)]
    with torch.no_grad():
        a = torch.cat([one.logprobs(batch)[0] for batch in together])
        b = torch.cat([one.logprobs(batch)[0] for batch in alone])
    assert torch.allclose(a, b, atol=1e-5)


def test_masked_tokens_get_no_gradient(tiny_model_dir: Path) -> None:
    """What stands in the observation changes the loss, but its own prediction is never trained."""
    one = learner(tiny_model_dir)
    sequence = TokenSequence(
        ids=(11, 12, 13, 14, 15), loss_mask=(0, 0, 0, 0, 1), logprobs=(0, 0, 0, 0, -1.0)
    )
    (batch,) = micro_batches([sequence], [1.0], max_tokens=100)
    assert batch.columns_M.tolist() == [4]
    logprobs, _ = one.logprobs(batch)
    assert logprobs.shape == (1,)


def test_a_token_trained_on_another_prompt_has_ratio_one(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    off = [
        TokenSequence(
            ids=s.ids, loss_mask=s.loss_mask, logprobs=(-50.0,) * len(s.ids), is_on_policy=False
        )
        for s in sequences()
    ]
    stats = one.policy_step(off, ADVANTAGES)
    assert stats.clipped_share == 0.0
    assert stats.logprob_gap == 0.0
    assert stats.grad_norm > 0


def test_trajectories_without_advantage_count_in_the_denominator_only(tiny_model_dir: Path) -> None:
    one, two = learner(tiny_model_dir), learner(tiny_model_dir)
    full = one.policy_step(sequences(), [1.0, 0, 0, 0, 0, 0])
    alone = two.policy_step(sequences(1), [1.0])
    share = sum(sequences(1)[0].loss_mask) / sum(sum(s.loss_mask) for s in sequences())
    assert full.loss == pytest.approx(alone.loss * share, rel=1e-4)


def test_a_step_without_any_advantage_leaves_the_weights_alone(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    before = weights(one).clone()
    stats = one.policy_step(sequences(), [0.0] * 6)
    assert stats.grad_norm == 0.0
    assert torch.equal(before, weights(one))


def test_a_loss_that_is_not_finite_is_named_and_changes_nothing(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    before = weights(one).clone()
    with pytest.raises(FloatingPointError, match="weights are unchanged"):
        one.policy_step(sequences(), [float("inf"), *ADVANTAGES[1:]])
    assert torch.equal(before, weights(one))
    one.policy_step(sequences(), ADVANTAGES)


def test_a_tied_head_is_pushed_once(tiny_model_dir: Path) -> None:
    names = [name for name, _ in learner(tiny_model_dir).named_weights()]
    assert "lm_head.weight" not in names
    assert "model.embed_tokens.weight" in names
    assert len(names) == len(set(names))


def test_imitation_raises_the_likelihood_of_the_lesson(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir)
    losses = [one.supervised_step(sequences()).loss for _ in range(15)]
    assert losses[-1] < losses[0] - 0.5


def test_the_learning_rate_warms_up_and_falls_along_a_cosine(tiny_model_dir: Path) -> None:
    one = learner(tiny_model_dir, warmup_steps=4, decay_steps=100)
    rates = []
    for step in range(101):
        one.step = step
        rates.append(one.lr())
    assert rates[:4] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert rates[100] == pytest.approx(1e-4)


def test_a_folder_without_a_model_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="maskgym demo"):
        load_model(tmp_path)
