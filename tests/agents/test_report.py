"""The report page and its curves."""

from dataclasses import replace
from pathlib import Path

import pytest

from maskgym.agents.curves import draw_curves
from maskgym.agents.policies import ExpertPolicy, play
from maskgym.agents.report import write_report
from maskgym.agents.run_folder import RunFolder
from maskgym.agents.trainer_config import TrainerConfig
from maskgym.envs import SearchEnv, testbed

METRICS = [
    {
        "step": step,
        "num_rollouts": 8 * step,
        "reward/bare": 0.1 * step,
        "eval/accuracy": 0.2 * step,
        "eval/accuracy_low": 0.1 * step,
        "eval/accuracy_high": 0.3 * step,
    }
    for step in range(4)
]


def test_the_page_stands_alone_and_shows_what_was_played(tmp_path: Path) -> None:
    tasks = testbed("search", level=1, size=1)
    trajectory = play(SearchEnv(tasks=tasks), ExpertPolicy(), tasks[0])
    evil = replace(trajectory, question="<script>alert(1)</script>")
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    for row in METRICS:
        folder.append_metrics(row)
    page = write_report(
        folder,
        title="A run",
        lead=["It went well."],
        table=[("hops", "accuracy"), ("1", "100%")],
        samples={"After": [trajectory, evil]},
    ).read_text(encoding="utf-8")
    assert "It went well." in page
    assert "data:image/png;base64," in page
    assert tasks[0].question in page
    assert "<script>alert" not in page
    assert (folder.path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_no_metric_no_curve(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no metric"):
        draw_curves([], tmp_path / "curves.png")
