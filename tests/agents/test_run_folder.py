"""Run folders: nothing overwritten, nothing half written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from maskgym.agents.run_folder import RunFolder
from maskgym.agents.trainer_config import TrainerConfig


def test_a_folder_that_holds_something_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="--resume"):
        RunFolder.create(tmp_path / "run", TrainerConfig())
    assert (tmp_path / "run" / "precious.txt").read_text() == "mine"


def test_the_resolved_configuration_is_saved(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig(num_steps=7))
    assert RunFolder.open(tmp_path / "run").config["num_steps"] == 7
    assert folder.config["guidance"]["planner"] == "always"


def test_a_missing_run_names_its_neighbours(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "gsm8k", TrainerConfig())
    with pytest.raises(FileNotFoundError, match="gsm8k"):
        RunFolder.open(tmp_path / "gsm8")


def test_a_metrics_line_that_a_crash_cut_short_is_left_out(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    folder.append_metrics({"step": 1, "x": 0.5})
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "x"')
    assert folder.metrics() == [{"step": 1, "x": 0.5}]


def test_what_came_after_the_checkpoint_is_dropped_on_resume(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
        folder.write_trajectories(f"step-{step:06d}", [])
    folder.forget_after(2)
    assert [row["step"] for row in folder.metrics()] == [1, 2]
    assert not (folder.path / "trajectories" / "step-000003.jsonl").exists()


def test_only_whole_checkpoints_are_found(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    assert not folder.has_checkpoint()
    for name in ("step-000002", "step-000010", ".partial-000011"):
        (folder.checkpoints_path / name).mkdir(parents=True)
    assert [path.name for path in folder.checkpoints()] == ["step-000002", "step-000010"]
    assert folder.has_checkpoint()
    # Killed between two renamings: the one that was to be replaced still counts.
    (folder.checkpoints_path / ".replaced-000011").mkdir()
    (folder.checkpoints_path / ".replaced-000010").mkdir()
    names = ["step-000002", "step-000010", ".replaced-000011"]
    assert [path.name for path in folder.checkpoints()] == names
    assert folder.last_checkpoint().name == ".replaced-000011"


def test_a_run_without_checkpoint_says_so(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    with pytest.raises(FileNotFoundError, match="no checkpoint yet"):
        folder.last_checkpoint()


def test_the_saved_configuration_is_plain_json(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    assert json.loads((folder.path / "config.json").read_text())["num_steps"] == 100


def test_a_run_folder_needs_no_torch() -> None:
    program = "import sys, maskgym.agents.run_folder; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
