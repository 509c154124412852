"""Curves beside the run folder."""

import importlib.util
from pathlib import Path

import pytest

from maskgym.agents.trackers import check_trackers, open_trackers


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    (tracker,) = open_trackers(["tensorboard"], tmp_path, config={})
    for step in range(1, 4):
        tracker.log({"reward": step / 4, "train/loss": -0.5}, step)
    tracker.close()
    assert scalars(tmp_path) == {
        "reward": [(1, 0.25), (2, 0.5), (3, 0.75)],
        "train/loss": [(1, -0.5), (2, -0.5), (3, -0.5)],
    }


def test_a_resumed_run_replaces_the_steps_that_it_repeats(tmp_path: Path) -> None:
    (tracker,) = open_trackers(["tensorboard"], tmp_path, config={})
    for step in range(1, 5):
        tracker.log({"reward": 0.0}, step)
    tracker.close()
    (tracker,) = open_trackers(["tensorboard"], tmp_path, config={}, first_step=3)
    for step in range(3, 6):
        tracker.log({"reward": 1.0}, step)
    tracker.close()
    assert scalars(tmp_path)["reward"] == [(1, 0.0), (2, 0.0), (3, 1.0), (4, 1.0), (5, 1.0)]


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ValueError, match="No tracker 'tensorbord'; choose of tensorboard, wandb"):
        check_trackers(["tensorbord"])


@pytest.mark.skipif(
    importlib.util.find_spec("wandb") is not None, reason="wandb is installed: nothing is missing"
)
def test_a_tracker_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ImportError, match="pip install wandb"):
        open_trackers(["wandb"], tmp_path, config={})
