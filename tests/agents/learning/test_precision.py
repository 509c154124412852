"""Master weights: updates too small for bfloat16 are not lost, gradients add up in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import Parameter

from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.precision import MasterWeights, cast_weights
from maskgym.agents.rollouts.trajectory import TokenSequence

LESSON = TokenSequence(ids=tuple(range(9, 39)), loss_mask=(0, *[1] * 29), logprobs=(0.0,) * 30)


def test_gradients_of_many_passes_add_up_in_float32() -> None:
    """1 + 400 * 2^-9: in bfloat16 each term is below half a unit in the last place of 1."""
    weight = Parameter(torch.ones(3))
    masters = MasterWeights([weight])
    assert weight.dtype is torch.bfloat16
    plain = torch.ones(3, dtype=torch.bfloat16)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    for _ in range(400):
        (weight.float() * 2.0**-9).sum().backward()  # type: ignore[no-untyped-call]
        plain += torch.tensor(2.0**-9, dtype=torch.bfloat16)
    assert weight.grad is None
    masters.hand_over()
    assert masters.copies[0].grad is not None
    assert masters.copies[0].grad.tolist() == [1 + 400 * 2.0**-9] * 3
    assert plain.tolist() == [1.0] * 3


def test_copies_keep_what_the_cast_rounds_away_and_write_back_rounds_once() -> None:
    weight = Parameter(torch.tensor([1.001, -2.003]))
    masters = MasterWeights([weight])
    assert masters.copies[0].tolist() == pytest.approx([1.001, -2.003], abs=1e-7)
    assert weight.tolist() == [1.0, -2.0]
    with torch.no_grad():
        for _ in range(10):
            masters.copies[0].add_(0.001)
    masters.write_back()
    assert weight.tolist() == torch.tensor([1.011, -1.993]).bfloat16().tolist()


def test_forgotten_gradients_are_not_applied() -> None:
    weight = Parameter(torch.ones(2))
    masters = MasterWeights([weight])
    (3 * weight).sum().backward()  # type: ignore[no-untyped-call]
    masters.forget_gradients()
    weight.sum().backward()  # type: ignore[no-untyped-call]
    masters.hand_over()
    assert masters.copies[0].grad is not None
    assert masters.copies[0].grad.tolist() == [1.0, 1.0]


def test_a_cast_leaves_buffers_as_they_are(tiny_model_dir: Path) -> None:
    """Rotary frequencies in bfloat16 would turn queries at far positions by radians."""
    model: Any = load_model(tiny_model_dir, device="cpu")
    cast_weights(model.parameters(), "bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.buffers()} == {torch.float32}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_small_updates_follow_the_float32_run_and_are_lost_in_plain_bfloat16(
    tiny_model_dir: Path,
) -> None:
    """At 3e-5 most steps are below half a unit in the last place of a weight of 0.15 (2.4e-4)."""
    num_steps, lr = 25, 3e-5
    runs = {}
    for precision in ("float32", "bfloat16"):
        model = load_model(tiny_model_dir, device="cpu")
        cast_weights(model.parameters(), "bfloat16")  # all start from the same weights
        one = Learner(model, LearnerConfig(lr=lr, precision=precision))
        for _ in range(num_steps):
            one.supervised_step([LESSON])
        copies = model.parameters() if one._masters is None else one._masters.copies
        runs[precision] = torch.cat([p.detach().flatten() for p in copies])

    plain: Any = load_model(tiny_model_dir, device="cpu")
    cast_weights(plain.parameters(), "bfloat16")
    start = torch.cat([p.detach().flatten().float() for p in plain.parameters()])
    optimiser = torch.optim.AdamW(plain.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    ids = torch.tensor([LESSON.ids])
    for _ in range(num_steps):
        plain(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    runs["plain"] = torch.cat([p.detach().flatten().float() for p in plain.parameters()])

    way = runs["float32"] - start
    errors = {
        name: float((run - runs["float32"]).norm() / way.norm()) for name, run in runs.items()
    }
    assert errors["bfloat16"] < 0.2, errors
    assert errors["plain"] > 0.9, errors
    alike = torch.cosine_similarity(way, runs["bfloat16"] - start, dim=0)
    assert float(alike) > 0.95


def test_offloaded_copies_take_the_same_steps(tiny_model_dir: Path) -> None:
    def trained(is_offloaded: bool) -> list[torch.Tensor]:
        model = load_model(tiny_model_dir, device="cpu")
        config = LearnerConfig(lr=1e-3, precision="bfloat16", offload_optimiser=is_offloaded)
        one = Learner(model, config)
        for _ in range(3):
            one.supervised_step([LESSON])
        assert one._masters is not None
        assert all(copy.device.type == "cpu" for copy in one._masters.copies)
        return list(model.parameters())

    pairs = zip(trained(True), trained(False), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
