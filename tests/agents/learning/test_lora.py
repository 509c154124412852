"""Adapters: what learns, what the engine gets, what is saved."""

from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.lora import (
    LoRAConfig,
    add_lora,
    merged_weights,
    save_adapter,
    without_adapters,
)
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence

IDS = torch.arange(20, 44)[None]
LESSON = TokenSequence(ids=tuple(range(9, 39)), loss_mask=(0, *[1] * 29), logprobs=(0.0,) * 30)


def adapted(folder: Path, **config: Any) -> Learner:
    config = {"lr": 1e-2, "lora": LoRAConfig(rank=4, alpha=8.0), **config}
    return Learner(load_model(folder, device="cpu"), LearnerConfig(**config))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def test_only_adapters_learn_and_they_start_as_the_model_itself(tiny_model_dir: Path) -> None:
    plain = load_model(tiny_model_dir, device="cpu")
    one = adapted(tiny_model_dir)
    assert torch.equal(logits(one.model), logits(plain))
    base = {n: p.clone() for n, p in one.model.named_parameters() if not p.requires_grad}
    num_learning = sum(p.numel() for p in one.model.parameters() if p.requires_grad)
    shapes = [p.shape for name, p in plain.named_parameters() if name.endswith("_proj.weight")]
    assert num_learning == sum(4 * sum(shape) for shape in shapes)
    losses = [one.supervised_step([LESSON]).loss for _ in range(20)]
    assert losses[-1] < losses[0] - 0.5
    assert all(
        torch.equal(p, base[n]) for n, p in one.model.named_parameters() if not p.requires_grad
    )


def test_the_engine_gets_the_merged_model_and_training_goes_on_untouched(
    tiny_model_dir: Path,
) -> None:
    one, other = adapted(tiny_model_dir), adapted(tiny_model_dir)
    for _ in range(3):
        one.supervised_step([LESSON])
        other.supervised_step([LESSON])
    pushed = dict(one.named_weights())
    fresh: Any = load_model(tiny_model_dir, device="cpu")
    plain_names = {name for name, _ in fresh.named_parameters()}
    assert set(pushed) == plain_names
    fresh.load_state_dict(pushed, strict=False)
    assert torch.allclose(logits(fresh), logits(one.model), atol=1e-5)
    assert not torch.allclose(logits(fresh), logits(load_model(tiny_model_dir)), atol=1e-2)
    assert one.supervised_step([LESSON]) == other.supervised_step([LESSON])  # bit for bit


def test_merged_weights_equal_those_that_peft_merges(tiny_model_dir: Path) -> None:
    one = adapted(tiny_model_dir, lora=LoRAConfig(rank=3, alpha=5.0, targets=("q_proj", "up_proj")))
    one.supervised_step([LESSON])
    ours = {name: weight.clone() for name, weight in merged_weights(one.model)}
    peft_model: Any = one.model
    theirs = peft_model.merge_and_unload()
    for name, weight in theirs.named_parameters():
        assert torch.allclose(ours[name], weight, atol=1e-6), name


def test_a_saved_adapter_is_read_by_peft(tmp_path: Path, tiny_model_dir: Path) -> None:
    from peft import PeftModel

    one = adapted(tiny_model_dir)
    one.supervised_step([LESSON])
    save_adapter(one.model, tmp_path / "adapter")
    read = PeftModel.from_pretrained(
        load_model(tiny_model_dir, device="cpu"),
        str(tmp_path / "adapter"),
    )
    assert torch.equal(logits(read), logits(one.model))


def test_the_reference_of_a_kl_term_is_the_model_without_adapters(tiny_model_dir: Path) -> None:
    one = adapted(tiny_model_dir, loss=LossConfig(kl_coef=0.5), precision="bfloat16")
    samples = [Sample(sequence=LESSON, advantage=1.0)]
    start = one.score(samples)
    first, second = one.policy_update(samples), one.policy_update(samples)
    assert first.reference_kl == 0.0
    assert second.reference_kl > 0.0
    with without_adapters(one.model):
        assert one.score(samples) == start
    assert one.score(samples) != start
    assert all(p.requires_grad for n, p in one.model.named_parameters() if "lora_" in n)


def test_equal_seeds_give_equal_adapters_and_leave_the_random_state_alone(
    tiny_model_dir: Path,
) -> None:
    def drawn(seed: int) -> torch.Tensor:
        model = add_lora(load_model(tiny_model_dir, device="cpu"), LoRAConfig(seed=seed))
        return torch.cat(
            [p.detach().flatten() for n, p in model.named_parameters() if "lora_A" in n]
        )

    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "at least 1"),
        ({"targets": "q_proj"}, "give a list"),
        ({"targets": ()}, "give a list"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**settings)


def test_embedding_and_unknown_layers_are_no_targets(tiny_model_dir: Path) -> None:
    model = load_model(tiny_model_dir, device="cpu")
    with pytest.raises(ValueError, match="stay as they are"):
        add_lora(model, LoRAConfig(targets=("lm_head",)))
    with pytest.raises(ValueError, match="qq_proj"):
        add_lora(model, LoRAConfig(targets=("qq_proj",)))
