"""Numbers of a step in; curves in TensorBoard or Weights & Biases out, beside `metrics.jsonl`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes the numbers of a run as they come."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers of one step; a step that is logged again replaces nothing."""

    def close(self) -> None:
        """Writes out what is not written yet."""


class TensorBoardTracker:
    """Curves for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run repeats steps that were logged before it was killed: they are dropped.
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers of one step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


class WandbTracker:
    """Curves in Weights & Biases; its own environment variables say where and as whom."""

    def __init__(self, folder: Path, *, config: Mapping[str, Any]) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="maskgym",
            name=folder.name,
            id=folder.name,
            dir=str(folder),
            config=dict(config),
            resume="allow",
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes the numbers of one step."""
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


TRACKERS = ("tensorboard", "wandb")
_REMEDIES = {
    "tensorboard": "`pip install tensorboard`",
    "wandb": "`pip install wandb`",
}


def open_trackers(
    names: Sequence[str], folder: Path, *, config: Mapping[str, Any], first_step: int = 0
) -> list[Tracker]:
    """The trackers of a run.

    Args:
        names: Of `TRACKERS`.
        folder: The run's folder.
        config: The run's settings, for trackers that show them.
        first_step: The step that the run goes on after.

    Raises:
        ImportError: If the package of one is missing; says what to install or which setting to change.
    """
    trackers: list[Tracker] = []
    for name in names:
        try:
            if name == "tensorboard":
                trackers.append(TensorBoardTracker(folder, first_step=first_step))
            else:
                trackers.append(WandbTracker(folder, config=config))
        except ImportError as error:
            raise ImportError(
                f"The tracker {name!r} is not installed ({error}): {_REMEDIES[name]}, or leave it out with "
                f"--set trainer.trackers=[]."
            ) from None
    return trackers


def check_trackers(names: Sequence[str]) -> None:
    """Raises ValueError if a tracker is unknown."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"No tracker {name!r}; choose of {', '.join(TRACKERS)}, or none ([]).")
