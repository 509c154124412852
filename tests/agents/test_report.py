"""The report page and its curves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.curves import draw_curves, metric
from maskgym.agents.policies import ExpertPolicy, play
from maskgym.agents.report import run_numbers, shown_samples, write_report
from maskgym.agents.rollouts.trajectory import Trajectory, Turn
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


def step_row(step: int, **fields: Any) -> dict[str, Any]:
    time = {"step_s": 2.0 * step, "rollout_s": 1.5, "update_s": 0.4, "push_s": 0.1}
    row = {"step": step, "num_rollouts": 8 * step, "train/loss": 0.1, "num_failed": step % 2}
    return {**row, "train/grad_norm": 0.5, "train/logprob_gap": 10.0**-step, "time": time, **fields}


def test_the_numbers_of_a_run_are_medians_maxima_and_sums() -> None:
    metrics: list[dict[str, Any]] = [{"step": 0, "num_rollouts": 0, "eval/accuracy": 0.1}]
    metrics += [step_row(step) for step in (1, 2, 3, 4, 5)]
    metrics[2]["train/grad_norm"] = 0.0
    numbers = dict(run_numbers(metrics)[1:])
    assert numbers["seconds a step, median"].startswith("6.00 (rollouts 1.50, updates 0.40")
    assert numbers["steps that moved the weights"] == "4 of 5"
    assert numbers["largest gap engine to trainer"] == "1.0e-01 nats a token"
    assert numbers["rollouts ended by an error"] == "3"
    assert not any("not finite" in name for name in numbers)
    # The third step computed its flat groups' log-probabilities alone: no speed of training.
    for row, speed in zip(metrics[1:], (10.0, 9e9, 30.0, 30.0, 20.0), strict=True):
        row["time"]["trained_tokens_per_s"] = speed
    assert dict(run_numbers(metrics))["tokens a second, median"] == "0 sampled, 25 trained"
    metrics[1]["train/num_skipped"] = 2
    assert dict(run_numbers(metrics))["updates left out, loss or gradient not finite"] == "2"
    assert run_numbers(metrics[:1]) == []


def test_curves_take_a_run_whose_metrics_are_partly_none_or_zero(tmp_path: Path) -> None:
    metrics = [
        {"step": 0, "num_rollouts": 0, "supervised_step": 1, "supervised/loss": 4.0},
        step_row(1, **{"train/logprob_gap": 0.0, "reward/bare": None, "reward/guided": -0.5}),
        step_row(2, **{"reward/bare": 0.25, "reward/guided": 1.0}),
    ]
    small = draw_curves(metrics[:1], tmp_path / "small.png").read_bytes()
    assert len(draw_curves(metrics, tmp_path / "whole.png").read_bytes()) > len(small)
    assert metric(metrics[2], "time/step_s") == 4.0
    assert metric(metrics[0], "time/step_s") is None


def trajectory_of(task: str, reward: float) -> Trajectory:
    turn = Turn(
        prompt_ids=(1,),
        action_ids=(2, 3),
        logprobs=(-1.0, -1.0),
        action_text=f"answer to {task}",
        observation="",
        action="answer",
        finish_reason="length",
    )
    return Trajectory(
        task_id=task,
        group=f"{task}|",
        turns=(turn,),
        reward=reward,
        verdict=None,
        end_reason="max_turns",
        question=f"Question {task}?",
    )


def test_the_last_evaluation_and_the_best_and_worst_of_each_group_are_shown(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", TrainerConfig())
    rewards = {"a": (0.5, 0.5, 0.5), "b": (0.25, 0.5, 0.0), "c": (0.0, 0.5, 1.0), "d": (0.75,)}
    played = [trajectory_of(task, reward) for task, row in rewards.items() for reward in row]
    folder.write_trajectories("step-000009", played[:1])
    folder.write_trajectories("step-000010", played)
    folder.write_trajectories("eval-000008", played[:2])
    samples = shown_samples(folder, count=6)
    assert list(samples) == ["Evaluation after step 8", "Rollouts of step 10"]
    shown = [(each.task_id, each.reward) for each in samples["Rollouts of step 10"]]
    assert shown == [("c", 1.0), ("c", 0.0), ("b", 0.5), ("b", 0.0), ("a", 0.5), ("a", 0.5)]
    everything = shown_samples(folder, count=99)["Rollouts of step 10"]
    assert sorted(map(repr, everything)) == sorted(map(repr, played))
    folder.append_metrics(step_row(10))
    page = write_report(folder, title="A run", lead=[], samples=samples).read_text(encoding="utf-8")
    assert "cut off at the limit" in page
    assert "2 tokens, max_turns" not in page  # the badge says it
    assert "1 turn, 2 tokens" in page
