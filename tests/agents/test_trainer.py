"""The training loop on a real environment and engine: stale weights, kills, interrupts, resume."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.alarms import AlarmConfig
from maskgym.agents.experiment import ExperimentConfig, open_trainer
from maskgym.agents.rollouts.chat import Chat, load_tokenizer
from maskgym.agents.rollouts.rollout import RolloutInterruptedError
from maskgym.agents.rollouts.trajectory import TokenSequence
from maskgym.agents.run_folder import RunFolder

from .run_cases import experiment, without_times


def run(config: ExperimentConfig, path: Path, **kwargs: Any) -> RunFolder:
    folder = RunFolder.create(path, config)
    with open_trainer(config, folder, report=lambda line: None, **kwargs) as trainer:
        assert trainer.run()
    return folder


def test_a_run_leaves_everything_in_its_folder(tmp_path: Path, tiny_model_dir: Path) -> None:
    folder = run(experiment(tiny_model_dir, num_steps=2), tmp_path / "run")
    rows = folder.metrics()
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert rows[2]["eval/num_tasks"] == 4
    assert all(row["train/logprob_gap"] < 1e-4 for row in rows[1:])
    played = list(folder.trajectories("step-000002"))
    assert len(played) == 8
    assert sum(t.is_guided for t in played) == 4
    evaluated = list(folder.trajectories("eval-000002"))
    assert not any(t.is_guided for t in evaluated)
    assert [path.name for path in folder.checkpoints()] == ["step-000001", "step-000002"]


def test_resumed_metrics_equal_those_of_a_run_that_was_never_killed(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    config = experiment(tiny_model_dir, num_steps=5)
    whole = run(config, tmp_path / "whole")
    killed = tmp_path / "killed"
    program = (
        "import sys, torch; from pathlib import Path\n"
        "torch.set_num_threads(1)\n"
        "from maskgym.agents.experiment import load_experiment, open_trainer\n"
        "from maskgym.agents.run_folder import RunFolder\n"
        "import json\n"
        "config = load_experiment(json.loads(Path(sys.argv[1]).read_text()))\n"
        "folder = RunFolder.create(sys.argv[2], config)\n"
        "with open_trainer(config, folder) as trainer: trainer.run()\n"
    )
    arguments = [str(whole.path / "config.json"), str(killed)]
    child = subprocess.Popen([sys.executable, "-c", program, *arguments])
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "step-000002").is_dir() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    folder = RunFolder.open(killed)
    assert folder.metrics()[-1]["step"] < 5
    with open_trainer(config, folder, is_resumed=True, report=lambda line: None) as trainer:
        assert trainer.run()
    assert without_times(folder) == without_times(whole)
    last = [list(f.trajectories("step-000005")) for f in (folder, whole)]
    assert last[0] == last[1]


def test_an_interrupted_run_keeps_a_checkpoint_and_its_trajectories(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    config = experiment(tiny_model_dir, num_steps=50)
    folder = RunFolder.create(tmp_path / "run", config)
    lines: list[str] = []
    with open_trainer(
        config,
        folder,
        report=lines.append,
        should_stop=lambda: any(line.startswith("step    2") for line in lines),
    ) as trainer:
        assert not trainer.run()
    assert folder.last_checkpoint().name == "step-000002"
    assert len(list(folder.trajectories("step-000002"))) == 8
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2]


def test_an_interrupted_evaluation_keeps_the_numbers_of_its_step(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = experiment(tiny_model_dir, num_steps=4)
    folder = RunFolder.create(tmp_path / "run", config)
    with open_trainer(config, folder, report=lambda line: None) as trainer:
        evaluate = trainer._evaluate

        def interrupted() -> Any:
            if trainer.step == 2:
                raise RolloutInterruptedError([])
            return evaluate()

        monkeypatch.setattr(trainer, "_evaluate", interrupted)
        assert not trainer.run()
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2]
    assert folder.last_checkpoint().name == "step-000002"


def test_a_run_killed_in_its_first_step_has_one_line_for_step_zero(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    config = experiment(tiny_model_dir, num_steps=2)
    folder = RunFolder.create(tmp_path / "run", config)
    with open_trainer(config, folder, report=lambda line: None) as trainer:
        trainer._log({}, trainer._evaluate())
        trainer._checkpoint()
    with open_trainer(config, folder, is_resumed=True, report=lambda line: None) as trainer:
        assert trainer.run()
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2]


@pytest.mark.parametrize("is_skipped", [True, False])
def test_a_weight_update_that_is_skipped_trips_the_alarm(
    tmp_path: Path, tiny_model_dir: Path, is_skipped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.agents.engines.transformers_engine import TransformersEngine

    config = experiment(tiny_model_dir, num_steps=1, alarms=AlarmConfig(max_logprob_gap=0.01))
    folder = RunFolder.create(tmp_path / "run", config)
    lines: list[str] = []
    with open_trainer(config, folder, report=lines.append) as trainer:
        trainer.engine = TransformersEngine(tiny_model_dir)
        lesson = TokenSequence(
            ids=tuple(range(9, 39)), loss_mask=(0, *[1] * 29), logprobs=(0.0,) * 30
        )
        for _ in range(5):
            trainer.learner.supervised_step([lesson])
        if is_skipped:
            monkeypatch.setattr(trainer.engine, "update_weights", lambda weights, version: None)
        trainer.run()
    assert any("stale engine weights" in line for line in lines) == is_skipped


@pytest.mark.slow
@pytest.mark.vllm
def test_vllm_samples_from_the_weights_of_the_learner(tmp_path: Path, tiny_model_dir: Path) -> None:
    """Each step moves the weights; were one update lost, the gap would show it."""
    pytest.importorskip("vllm")
    config = replace(experiment(tiny_model_dir, num_steps=3), engine="vllm")
    folder = RunFolder.create(tmp_path / "run", config)
    lesson = TokenSequence(ids=tuple(range(9, 39)), loss_mask=(0, *[1] * 29), logprobs=(0.0,) * 30)
    with open_trainer(config, folder, report=lambda line: None) as trainer:
        for version in range(3):
            trainer.learner.supervised_step([lesson])
            trainer.engine.update_weights(trainer.learner.named_weights(), version=version)
        assert trainer.run()
    rows = folder.metrics()
    assert all(row["train/max_logprob_gap"] < 1e-3 for row in rows[1:])


def test_a_tokenizer_is_found_beside_the_model(tiny_model_dir: Path, tmp_path: Path) -> None:
    assert Chat(load_tokenizer(tiny_model_dir)).prompt_ids("word1 ?")
    with pytest.raises(FileNotFoundError, match="No model folder"):
        load_tokenizer(tmp_path / "nothing")
