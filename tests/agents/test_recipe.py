"""Recipes: TOML files that every setting of a run can stand in."""

from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.experiment import ExperimentConfig, load_experiment
from maskgym.agents.recipe import read_recipe, recipe_names, write_recipe


@pytest.mark.parametrize("name", recipe_names())
def test_each_recipe_that_comes_with_maskgym_is_a_whole_configuration(name: str) -> None:
    config = load_experiment(read_recipe(name))
    assert config.trainer.num_steps > 0
    if "qwen3" in name:
        assert config.num_ranks == int(name[-4])
        assert config.trainer.tasks_per_step % config.num_ranks == 0


@pytest.mark.parametrize("size", ["0.6b", "4b", "8b"])
@pytest.mark.parametrize("gpus", [1, 8])
def test_the_published_hyper_parameters_of_smepo(size: str, gpus: int) -> None:
    config = load_experiment(read_recipe(f"qwen3-{size}-{gpus}gpu"))
    trainer, learner = config.trainer, config.learner
    assert (trainer.tasks_per_step, trainer.guidance.group_size, trainer.num_steps) == (32, 8, 500)
    assert (trainer.guidance.planner, trainer.guidance.policy) == ("always", "all")
    assert trainer.guidance.train_on == "guided"
    assert trainer.rollout.temperature == 0.8
    assert trainer.rollout.max_action_tokens == 12288
    assert config.max_model_len == 4096 + 12288
    assert (learner.lr, learner.weight_decay, learner.max_grad_norm) == (1e-6, 0.1, 1.0)
    assert (learner.updates_per_batch, learner.warmup_share) == (4, 0.1)
    assert learner.over(trainer.num_steps).decay_steps == 500 * 4
    loss = learner.loss
    assert (loss.clip_low, loss.clip_high, loss.dual_clip) == (0.0, 5.0, 3.0)
    assert (loss.reduction, loss.kl_coef, loss.entropy_coef) == ("sequence", 0.0, 0.0)


def test_a_recipe_lies_over_the_settings_of_its_method(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('method = "dapo"\n[learner]\nlr = 3e-6\n[learner.loss]\nclip_high = 0.3\n')
    values = read_recipe(str(path))
    assert values["learner"]["lr"] == 3e-6
    assert values["learner"]["loss"]["clip_high"] == 0.3
    assert values["learner"]["loss"]["clip_low"] == 0.2
    assert values["trainer"]["dynamic_sampling"] is True
    other = read_recipe(str(path), method="gspo")
    assert other["learner"]["loss"]["kind"] == "gspo"
    assert other["learner"]["loss"]["clip_high"] == 0.3


def test_what_is_no_recipe_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Did you mean 'qwen3-4b-1gpu'"):
        read_recipe("qwen3-4b-1gpus")
    (tmp_path / "bad.toml").write_text("lr = = 3")
    with pytest.raises(ValueError, match=r"bad\.toml' is no TOML"):
        read_recipe(str(tmp_path / "bad.toml"))
    (tmp_path / "odd.toml").write_text('method = "grop"')
    with pytest.raises(ValueError, match="Did you mean 'grpo'"):
        read_recipe(str(tmp_path / "odd.toml"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_eval_tasks": None, "json_protocol": {}, "search": {"top_k": 2}},
        {"learner": {"lora": {"rank": 4}}, "trainer": {"rollout": {"deadline_s": None}}},
        {"engine_options": {"seed": 3}, "env_kwargs": {"tools": ["python"]}},
    ],
)
def test_a_configuration_survives_as_a_recipe(tmp_path: Path, changes: dict[str, Any]) -> None:
    values = {"env_id": "maskgym/Math-v0", "model": "m", "train_tasks": "t", "eval_tasks": "e"}
    config: ExperimentConfig = load_experiment(values | changes)
    write_recipe(config, tmp_path / "recipe.toml")
    assert load_experiment(read_recipe(str(tmp_path / "recipe.toml"))) == config
