"""What a run is made of: model, tokenizer and context that go together, and parts of the right kind."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.engines.transformers_engine import TransformersEngine
from maskgym.agents.experiment import ExperimentConfig, check_model_fits, open_trainer
from maskgym.agents.guidance.config import GuidanceConfig
from maskgym.agents.guidance.supervised import SupervisedConfig
from maskgym.agents.learning.learner_config import LearnerConfig
from maskgym.agents.learning.lora import LoRAConfig
from maskgym.agents.learning.losses import LossConfig
from maskgym.agents.rollouts.chat import load_tokenizer
from maskgym.agents.rollouts.rollout_config import RolloutConfig
from maskgym.agents.run_folder import RunFolder
from maskgym.agents.trainer_config import TrainerConfig
from maskgym.envs import EpisodeConfig


def config(
    model: Path, *, learner: LearnerConfig | None = None, **trainer: Any
) -> ExperimentConfig:
    return ExperimentConfig(
        env_id="maskgym/Math-v0",
        model=str(model),
        train_tasks="testbed:level=1",
        eval_tasks="testbed:level=1,split=test",
        num_eval_tasks=2,
        engine="transformers",
        max_model_len=256,
        episode=EpisodeConfig(instructions="", max_turns=1),
        learner=learner or LearnerConfig(lr=1e-3),
        trainer=TrainerConfig(
            tasks_per_step=2,
            checkpoint_every=1,
            eval_every=0,
            trackers=(),
            guidance=GuidanceConfig(planner="bare", group_size=2),
            rollout=RolloutConfig(max_tokens_per_turn=6, num_env_workers=0),
            **({"num_steps": 2} | trainer),
        ),
    )


def silent(line: str) -> None:
    del line


def run(config: ExperimentConfig, path: Path, *, num_steps: int | None = None) -> RunFolder:
    """A run; with `num_steps`, one that stops there and is resumed."""
    folder = RunFolder.create(path, config)
    if num_steps is not None:
        with open_trainer(
            config,
            folder,
            report=silent,
            should_stop=lambda: (
                bool(folder.metrics()) and folder.metrics()[-1]["step"] >= num_steps
            ),
        ) as trainer:
            assert not trainer.run()
    with open_trainer(config, folder, is_resumed=num_steps is not None, report=silent) as trainer:
        assert trainer.run()
    return folder


def numbers(folder: RunFolder) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "time"} for row in folder.metrics()]


@pytest.mark.parametrize(
    "learner",
    [
        LearnerConfig(lr=1e-2, loss=LossConfig(kl_coef=0.1, entropy_coef=0.1), updates_per_batch=2),
        LearnerConfig(
            lr=1e-2, lora=LoRAConfig(rank=2), loss=LossConfig(entropy_coef=0.1, kl_coef=0.1)
        ),
        LearnerConfig(lr=1e-2, precision="bfloat16", loss=LossConfig(entropy_coef=0.1)),
    ],
    ids=["kl", "lora", "bfloat16"],
)
def test_a_resumed_run_repeats_the_numbers_of_one_that_was_not_stopped(
    tmp_path: Path, tiny_model_dir: Path, learner: LearnerConfig
) -> None:
    """The entropy term moves the weights, though an untrained model earns nothing here."""
    settings = config(tiny_model_dir, learner=learner, num_steps=3)
    if learner.precision == "bfloat16":
        settings = replace(settings, dtype="bfloat16")
    whole = run(settings, tmp_path / "whole")
    stopped = run(settings, tmp_path / "stopped", num_steps=1)
    assert numbers(stopped) == numbers(whole)
    rows = numbers(whole)[1:]
    assert all(row["train/grad_norm"] > 0 for row in rows)
    limit = 0.1 if learner.precision == "bfloat16" else 1e-4
    assert all(row["train/logprob_gap"] < limit for row in rows)
    if learner.loss.kl_coef:
        assert rows[-1]["train/reference_kl"] > 0
    adapter = whole.last_checkpoint() / "adapter" / "adapter_model.safetensors"
    assert adapter.is_file() is (learner.lora is not None)


def test_imitation_comes_first_and_is_resumed_where_it_stopped(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    stage = SupervisedConfig(num_steps=4, batch_size=4, lr=1e-2, num_workers=1)
    settings = config(tiny_model_dir, num_steps=1, supervised=stage)
    whole = run(settings, tmp_path / "whole")
    rows = numbers(whole)
    losses = [row["supervised/loss"] for row in rows if "supervised/loss" in row]
    assert len(losses) == 4 and losses[-1] < losses[0]
    folder = RunFolder.create(tmp_path / "stopped", settings)
    with open_trainer(
        settings, folder, report=silent, should_stop=lambda: len(folder.metrics()) >= 2
    ) as trainer:
        assert not trainer.run()
    assert [row["supervised_step"] for row in folder.metrics()] == [1, 2]
    with open_trainer(settings, folder, is_resumed=True, report=silent) as trainer:
        assert trainer.run()
    assert numbers(folder) == rows


def test_the_engine_shares_the_weights_of_the_learner_only_where_they_are_the_checkpoints(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    for lora in (None, LoRAConfig(rank=2)):
        settings = config(tiny_model_dir, learner=LearnerConfig(lora=lora))
        folder = RunFolder.create(tmp_path / f"lora-{lora is not None}", settings)
        with open_trainer(settings, folder, report=silent) as trainer:
            assert isinstance(trainer.engine, TransformersEngine)
            assert trainer.engine._is_shared is (lora is None)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model_dir, folder)
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"vocab_size": 100}))
    with pytest.raises(ValueError, match="belong to different models"):
        check_model_fits(folder, load_tokenizer(folder), max_model_len=256)


def test_a_context_that_the_model_does_not_have_is_refused(tiny_model_dir: Path) -> None:
    tokenizer = load_tokenizer(tiny_model_dir)
    check_model_fits(tiny_model_dir, tokenizer, max_model_len=512)
    with pytest.raises(ValueError, match="has a context of 512 tokens"):
        check_model_fits(tiny_model_dir, tokenizer, max_model_len=513)


def test_a_misspelt_engine_option_is_refused(tmp_path: Path, tiny_model_dir: Path) -> None:
    settings = replace(config(tiny_model_dir), engine_options={"max_num_seq": 3})
    folder = RunFolder.create(tmp_path / "run", settings)
    with (
        pytest.raises(ValueError, match=r"engine_options\.max_num_seq.*max_num_seqs"),
        open_trainer(settings, folder, report=silent),
    ):
        pass
