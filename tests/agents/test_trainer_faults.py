"""Faults of a training run: bad tasks, lost engines, NaN, full disks, two processes, each kind of stop."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.checkpoints import CheckpointError
from maskgym.agents.experiment import ExperimentConfig, load_experiment, open_trainer
from maskgym.agents.guidance.supervised import SupervisedConfig
from maskgym.agents.learning.learner_config import LearnerConfig
from maskgym.agents.rollouts.rollout import RolloutConfig, RolloutFailedError
from maskgym.agents.run_folder import RunFolder
from maskgym.agents.trainer import NothingWorksError, Trainer
from maskgym.envs import SearchConfig, SearchEnv

from .run_cases import experiment, without_times


def resume(folder: RunFolder, config: ExperimentConfig) -> None:
    with open_trainer(config, folder, is_resumed=True, report=lambda line: None) as trainer:
        assert trainer.run()


@pytest.fixture(scope="module")
def whole(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing happened to."""
    config = experiment(tiny_model_dir)
    folder = RunFolder.create(tmp_path_factory.mktemp("whole") / "run", config)
    with open_trainer(config, folder, report=lambda line: None) as trainer:
        assert trainer.run()
    return folder


@pytest.mark.parametrize("where", ["reset", "step", "reward", "exit"])
def test_one_bad_task_is_named_and_stops_nothing(
    where: str, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset, step = SearchEnv.reset, SearchEnv.step
    bad: list[str] = []

    def is_bad(env: SearchEnv) -> bool:
        assert env.task is not None
        bad.append(env.task.task_id) if not bad else None
        return env.task.task_id == bad[0]

    def bad_reset(env: SearchEnv, **kwargs: Any) -> Any:
        found = reset(env, **kwargs)
        if where == "reset" and is_bad(env):
            raise ConnectionError("the page service is gone")
        return found

    def bad_step(env: SearchEnv, action: str) -> Any:
        found = step(env, action)
        if where == "step" and is_bad(env):
            raise KeyError("page")
        if where == "exit" and is_bad(env):
            sys.exit(3)
        if where == "reward" and is_bad(env):
            return found[0], float("nan"), *found[2:]
        return found

    monkeypatch.setattr(SearchEnv, "reset", bad_reset)
    monkeypatch.setattr(SearchEnv, "step", bad_step)
    config = experiment(tiny_model_dir, num_steps=2)
    folder = RunFolder.create(tmp_path / "run", config)
    lines: list[str] = []
    with open_trainer(config, folder, report=lines.append) as trainer:
        assert trainer.run()
    said = {"reset": "page service", "step": "page", "reward": "reward nan", "exit": "exit(3)"}
    assert any(said[where] in line and bad[0] in line for line in lines)
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2]


def test_a_run_in_which_nothing_works_any_more_ends_and_goes_on_once_it_is_mended(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset, is_broken = SearchEnv.reset, [False]

    def fragile(env: SearchEnv, **kwargs: Any) -> Any:
        if is_broken[0]:
            raise ConnectionError("the page service is gone")
        return reset(env, **kwargs)

    monkeypatch.setattr(SearchEnv, "reset", fragile)
    config = experiment(tiny_model_dir, num_steps=4, eval_every=0, max_failed_steps=2)
    folder = RunFolder.create(tmp_path / "run", config)
    with (
        pytest.raises(NothingWorksError, match="last 2 steps"),
        open_trainer(
            config,
            folder,
            report=lambda line: is_broken.__setitem__(0, line.startswith(("step    1", "warning"))),
        ) as trainer,
    ):
        trainer.run()
    assert [row["step"] for row in folder.metrics()] == [0, 1, 2, 3]
    is_broken[0] = False
    resume(folder, config)
    rows = folder.metrics()
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["failed_share"] for row in rows[1:]] == [0, 1, 1, 0]


def test_prompts_longer_than_the_context_are_left_out_and_named(
    tmp_path: Path, tiny_model_dir: Path
) -> None:
    config = replace(experiment(tiny_model_dir, num_steps=1), max_model_len=12)
    folder = RunFolder.create(tmp_path / "run", config)
    lines: list[str] = []
    with open_trainer(config, folder, report=lines.append) as trainer:
        assert trainer.run()
    assert any("no action: context" in line for line in lines)
    assert folder.metrics()[1]["train/num_tokens"] == 0


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), torch.OutOfMemoryError("CUDA out")])
def test_an_engine_lost_in_a_rollout_leaves_a_run_that_resumes_to_the_same_numbers(
    error: Exception,
    tmp_path: Path,
    tiny_model_dir: Path,
    whole: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = experiment(tiny_model_dir)
    folder = RunFolder.create(tmp_path / "run", config)

    def broken() -> Any:
        raise error

    with (
        pytest.raises(RolloutFailedError, match="engine failed again and again"),
        open_trainer(config, folder, report=lambda line: None) as trainer,
    ):
        trainer.report = lambda line: (
            monkeypatch.setattr(trainer.engine, "poll", broken) if "step    1" in line else None
        )
        trainer.run()
    monkeypatch.undo()
    resume(folder, config)
    assert without_times(folder) == without_times(whole)


def test_weights_that_are_not_finite_never_reach_a_checkpoint(
    tmp_path: Path, tiny_model_dir: Path, whole: RunFolder
) -> None:
    config = experiment(tiny_model_dir)
    folder = RunFolder.create(tmp_path / "run", config)
    lines: list[str] = []

    def poison(trainer: Trainer) -> None:
        with torch.no_grad():
            next(trainer.learner.model.parameters())[:] = float("nan")

    with (
        pytest.raises((RolloutFailedError, FloatingPointError)),
        open_trainer(config, folder, report=lines.append) as trainer,
    ):

        def report(line: str) -> None:
            lines.append(line)
            if line.startswith("step    2"):
                poison(trainer)

        trainer.report = report
        trainer.run()
    assert any("not finite" in line for line in lines)
    assert folder.last_checkpoint().name == "step-000001"
    resume(folder, config)
    assert without_times(folder) == without_times(whole)


class Stop(BaseException):
    """Ends the process here, as kill -9 would: nothing of ours handles it."""


@pytest.fixture(scope="module")
def staged(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with imitation before its steps, and an evaluation after each, that nothing happened to."""
    config = experiment(
        tiny_model_dir,
        supervised=SupervisedConfig(num_steps=3, batch_size=2),
        num_steps=2,
        eval_every=1,
    )
    config = replace(config, max_model_len=512, search=SearchConfig(top_k=1))
    folder = RunFolder.create(tmp_path_factory.mktemp("staged") / "run", config)
    with open_trainer(config, folder, report=lambda line: None) as trainer:
        assert trainer.run()
    return folder


@pytest.mark.parametrize("phase", ["imitation", "rollout", "update", "checkpoint", "evaluation"])
def test_killed_in_any_phase_a_run_resumes_to_the_same_numbers(
    phase: str, tmp_path: Path, staged: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_experiment(staged.config)
    folder = RunFolder.create(tmp_path / "run", config)
    path, place, count = {
        "imitation": ("maskgym.agents.learning.learner.Learner", "supervised_step", 3),
        "rollout": ("maskgym.agents.rollouts.scheduler.Scheduler", "_after_engine", 30),
        "update": ("maskgym.agents.learning.learner.Learner", "policy_update", 2),
        "checkpoint": ("maskgym.agents.checkpoints", "_flush", 6),
        "evaluation": ("maskgym.agents.trainer.Trainer", "_evaluate", 2),
    }[phase]
    calls = 0

    def killed(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Stop
        return real(self, *args, **kwargs)

    owner: Any = sys.modules.get(path)
    if owner is None:
        module, _, name = path.rpartition(".")
        owner = getattr(sys.modules[module], name)
    real = getattr(owner, place)
    monkeypatch.setattr(owner, place, killed)
    with pytest.raises(Stop), open_trainer(config, folder, report=lambda line: None) as trainer:
        trainer.run()
    monkeypatch.undo()
    with open_trainer(
        config, folder, is_resumed=folder.has_checkpoint(), report=lambda line: None
    ) as trainer:
        assert trainer.run()
    assert without_times(folder) == without_times(staged)


def test_an_interrupted_evaluation_is_made_up_for_on_resumption(
    tmp_path: Path, tiny_model_dir: Path, whole: RunFolder
) -> None:
    config = experiment(tiny_model_dir)
    folder = RunFolder.create(tmp_path / "run", config)
    is_evaluating = False
    with open_trainer(
        config, folder, report=lambda line: None, should_stop=lambda: is_evaluating
    ) as trainer:
        evaluate = trainer._evaluate

        def interrupted() -> Any:
            nonlocal is_evaluating
            is_evaluating = trainer.step == 2
            return evaluate()

        trainer._evaluate = interrupted  # type: ignore[method-assign]
        assert not trainer.run()
    assert "eval/accuracy" not in folder.metrics()[-1]
    resume(folder, config)
    assert without_times(folder) == without_times(whole)


def test_two_processes_never_train_in_one_folder(tmp_path: Path, tiny_model_dir: Path) -> None:
    config = experiment(tiny_model_dir)
    folder = RunFolder.create(tmp_path / "run", config)
    with folder.locked():
        for again in (folder, RunFolder(folder.path)):
            with (
                pytest.raises(BlockingIOError, match=f"process {os.getpid()} trains"),
                again.locked(),
            ):
                pass
        with pytest.raises(BlockingIOError, match="is in use"):
            RunFolder.create(folder.path, config)
    with folder.locked():
        pass


def test_a_start_that_failed_does_not_take_its_folder(tmp_path: Path, tiny_model_dir: Path) -> None:
    bad = replace(experiment(tiny_model_dir), model=str(tmp_path / "nothing"))
    folder = RunFolder.create(tmp_path / "run", bad)
    with pytest.raises(FileNotFoundError, match="No model"), open_trainer(bad, folder):
        pass
    good = experiment(tiny_model_dir)
    assert RunFolder.create(tmp_path / "run", good).config["model"] == str(tiny_model_dir)


def test_broken_weights_are_named(tmp_path: Path, tiny_model_dir: Path) -> None:
    broken = shutil.copytree(tiny_model_dir, tmp_path / "broken")
    os.truncate(broken / "model.safetensors", 20_000)
    config = replace(experiment(tiny_model_dir), model=str(broken))
    folder = RunFolder.create(tmp_path / "run", config)
    with pytest.raises(ValueError, match=r"broken.*are damaged"), open_trainer(config, folder):
        pass
    (broken / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="No tokenizer"), open_trainer(config, folder):
        pass


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_eval_tasks": 0}, "num_eval_tasks is 0"),
        ({"num_train_tasks": -1}, "num_train_tasks is -1"),
        ({"num_ranks": 0}, "num_ranks is 0"),
        ({"num_ranks": 3}, "3 ranks cannot share"),
        ({"max_model_len": 8}, "no room for its prompt"),
        ({"learner": LearnerConfig(updates_per_batch=3)}, "some would have none"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], said: str, tiny_model_dir: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(experiment(tiny_model_dir), **settings)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's
def test_a_full_disk_stops_nothing_and_loses_no_number(
    small_disk: Path, tiny_model_dir: Path, whole: RunFolder
) -> None:
    config = experiment(tiny_model_dir, trackers=("tensorboard",))
    folder = RunFolder.create(small_disk / "run", config)
    lines: list[str] = []
    filler = small_disk / "filler"
    with open_trainer(config, folder, report=lines.append) as trainer:

        def report(line: str) -> None:
            lines.append(line)
            if line.startswith("step    1"):
                with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
                    while True:
                        file.write(bytes(4096))
            if line.startswith("step    2"):
                filler.unlink()

        trainer.report = report
        assert trainer.run()
    assert any("Records could not be written" in line for line in lines)
    assert any("No checkpoint" in line for line in lines)
    assert without_times(folder) == without_times(whole)
    assert folder.last_checkpoint().name == "step-000003"


def test_sigterm_stops_a_run_as_ctrl_c_does() -> None:
    from maskgym.scripts.interrupts import stop_on_interrupt

    before = signal.getsignal(signal.SIGTERM)
    with stop_on_interrupt("Stopping.") as should_stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert should_stop()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoints/step-000003/checkpoint.json", "Move it away"),
        ("checkpoints/step-000003/trainer.pt", "Move it away"),
        ("checkpoints/step-000003/model/model.safetensors", "move that away"),
        ("config.json", r"recipe\.toml"),
    ],
)
def test_a_damaged_file_is_named_with_the_way_back(
    name: str, said: str, tmp_path: Path, whole: RunFolder
) -> None:
    folder = RunFolder(shutil.copytree(whole.path, tmp_path / "run"))
    config = load_experiment(folder.config)
    os.truncate(folder.path / name, 40)
    with (
        pytest.raises((ValueError, CheckpointError), match=said),
        open_trainer(config, folder, is_resumed=True),
    ):
        assert folder.config
    if name == "config.json":
        return
    shutil.move(folder.path / "checkpoints/step-000003", folder.path / "checkpoints/step-bad")
    resume(folder, config)
    assert without_times(folder) == without_times(whole)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"deadline_s": 0.0}, "deadline_s is 0"),
        ({"max_hung_envs": -1}, "max_hung_envs is -1"),
        ({"temperature": 0.0}, "samples that differ"),
    ],
)
def test_rollout_settings_that_cannot_train_are_refused(
    settings: dict[str, Any], said: str, tiny_model_dir: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        experiment(tiny_model_dir, rollout=RolloutConfig(max_tokens_per_turn=8, **settings))


@pytest.mark.parametrize("settings", [{"seed": -1}, {"eval_every": -3}, {"num_steps": -5}])
def test_negative_numbers_of_a_run_are_refused(
    settings: dict[str, int], tiny_model_dir: Path
) -> None:
    with pytest.raises(ValueError, match="not below 0"):
        experiment(tiny_model_dir, **settings)
