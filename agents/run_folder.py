"""A run's records in, one folder out: configuration, metrics, trajectories, checkpoints.

Everything is readable at any moment: lines are appended whole, checkpoints appear by renaming.
"""

import json
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .trajectory import Trajectory


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, config: Any) -> "RunFolder":
        """A new run folder with its resolved configuration.

        Raises:
            FileExistsError: If something is there already: nothing is overwritten.
        """
        folder = cls(path)
        if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
            raise FileExistsError(
                f"{str(path)!r} exists already and is kept as it is. Give another folder, or --resume "
                "the run in it."
            )
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write_json("config.json", plain_values(config))
        return folder

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """A run folder that exists.

        Raises:
            FileNotFoundError: If there is none, or it holds no configuration.
        """
        folder = cls(path)
        if not (folder.path / "config.json").is_file():
            near = sorted(p.parent.name for p in folder.path.parent.glob("*/config.json"))
            hint = f" Runs beside it: {', '.join(near)}." if near else ""
            raise FileNotFoundError(f"No run in {str(path)!r} (no config.json).{hint}")
        return folder

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as saved at the start."""
        return dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))

    def write_json(self, name: str, value: Any) -> Path:
        """Writes one JSON file, whole or not at all."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".partial")
        temporary.write_text(json.dumps(plain_values(value), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, target)
        return target

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`; it is on disk when this returns."""
        line = json.dumps(plain_values(row))
        with open(self.path / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """All metric lines so far; a last line that a crash cut short is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").split("\n"):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return rows

    def forget_after(self, step: int) -> None:
        """Drops metrics and trajectories of later steps than `step`: a resumed run redoes them."""
        kept = [row for row in self.metrics() if row.get("step", 0) <= step]
        temporary = self.path / "metrics.jsonl.partial"
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        os.replace(temporary, self.path / "metrics.jsonl")
        for path in (self.path / "trajectories").glob("step-*.jsonl"):
            if int(path.stem.split("-")[1]) > step:
                path.unlink()

    def write_trajectories(self, name: str, trajectories: Iterable[Trajectory]) -> Path:
        """Writes `trajectories/<name>.jsonl`, one trajectory a line, whole or not at all."""
        target = self.path / "trajectories" / f"{name}.jsonl"
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(target.name + ".partial")
        with open(temporary, "w", encoding="utf-8") as file:
            for trajectory in trajectories:
                file.write(json.dumps(trajectory.to_row(), ensure_ascii=False) + "\n")
        os.replace(temporary, target)
        return target

    def trajectories(self, name: str) -> Iterator[Trajectory]:
        """The trajectories that `write_trajectories` saved under a name."""
        path = self.path / "trajectories" / f"{name}.jsonl"
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line:
                yield Trajectory.from_row(json.loads(line))

    def save_checkpoint(
        self, step: int, *, model: Any, tokenizer: Any, state: dict[str, Any], keep: int
    ) -> Path:
        """Writes `checkpoints/step-<n>`: model in Hugging Face form, trainer state, RNG states.

        The folder appears by renaming, so it is whole or not there. Only the last `keep` stay.
        """
        import torch  # here: an evaluation of an endpoint has a run folder and no torch

        folder = self.path / "checkpoints"
        target = folder / f"step-{step:06d}"
        temporary = folder / f".partial-{step:06d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        torch.save({**state, "rng": rng_state()}, temporary / "trainer.pt")
        if target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
        for old in self.checkpoints()[:-keep]:
            shutil.rmtree(old)
        return target

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"))

    def last_checkpoint(self) -> Path:
        """The newest checkpoint.

        Raises:
            FileNotFoundError: If the run has none yet.
        """
        found = self.checkpoints()
        if not found:
            raise FileNotFoundError(
                f"{str(self.path)!r} has no checkpoint yet; start the run again in another folder."
            )
        return found[-1]


def load_trainer_state(checkpoint: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote, without the model; restores nothing by itself."""
    import torch

    state: dict[str, Any] = torch.load(checkpoint / "trainer.pt", weights_only=False)
    return state


def rng_state() -> dict[str, Any]:
    """States of the random number generators of Python, numpy and torch."""
    import torch

    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state(),
    }


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Puts back what `rng_state` gave."""
    import torch

    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])


def plain_values(value: Any) -> Any:
    """JSON values of configurations and metrics: dataclasses, paths, tuples, numpy numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain_values(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain_values(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, np.generic):
        return value.item()
    return value
