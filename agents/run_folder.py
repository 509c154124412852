"""A run's records in, one folder out: configuration, metrics, trajectories; where checkpoints are.

Everything is readable at any moment: lines are appended whole, files appear by renaming.
"""

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .rollouts.trajectory import Trajectory

_LOCK = "run.lock"
_MADE_AT_START = {"config.json", "config.json.partial", "recipe.toml", "model", _LOCK}


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._waiting = b""

    @classmethod
    def create(cls, path: str | Path, config: Any) -> "RunFolder":
        """A new run folder with its resolved configuration; one of a run that never began is taken over.

        Raises:
            FileExistsError: If something is there already: nothing is overwritten.
        """
        folder = cls(path)
        if folder.path.exists() and not folder._is_unused():
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

    def _is_unused(self) -> bool:
        """Whether nothing of value is there: at most the settings of a run that failed at its start."""
        if not self.path.is_dir():
            return False
        names = {path.name for path in self.path.iterdir()}
        if names and not (names <= _MADE_AT_START and "config.json" in names):
            return False
        if _LOCK in names:
            with self.locked():  # raises where that start is still under way
                pass
        return True

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in this folder; a process that dies frees it.

        Raises:
            BlockingIOError: If a process is training in it.
        """
        with open(self.path / _LOCK, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise BlockingIOError(
                    f"{str(self.path)!r} is in use: process {file.read().strip() or 'unknown'} trains "
                    "in it. Stop that one first (Ctrl-C, or kill), or give another folder."
                ) from None
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as saved at the start."""
        path = self.path / "config.json"
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(
                f"{str(path)!r} is damaged ({error}). recipe.toml beside it holds the same settings: start "
                "a run in another folder with it as --recipe, and the last checkpoint's model as --model."
            ) from error

    def write_json(self, name: str, value: Any) -> Path:
        """Writes one JSON file, whole or not at all."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(target.name + ".partial")
        temporary.write_text(json.dumps(plain_values(value), indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, target)
        return target

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`; it is on disk when this returns.

        Raises:
            OSError: If it cannot be written; it waits, and is written before the next one.
        """
        self._waiting += (json.dumps(plain_values(row)) + "\n").encode()
        self.write_waiting()

    def write_waiting(self) -> None:
        """Writes the lines of `metrics.jsonl` that could not be written before.

        Raises:
            OSError: If they still cannot.
        """
        if not (lines := self._waiting):
            return
        with open(self.path / "metrics.jsonl", "ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            try:
                if file.write(lines) < len(lines):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(end)  # no half of a line that the next one would be written behind
                raise
        self._waiting = b""

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

    def forget_after(self, step: int, *, supervised_step: int | None = None) -> None:
        """Drops metrics and trajectories of later steps than these: a resumed run redoes them."""
        if not (self.path / "metrics.jsonl").exists() and not (self.path / "trajectories").exists():
            return
        last = float("inf") if supervised_step is None else supervised_step
        self._keep_metrics(
            lambda row: row.get("step", 0) <= step and row.get("supervised_step", 0) <= last
        )
        for path in (self.path / "trajectories").glob("step-*.jsonl"):
            if int(path.stem.split("-")[1]) > step:
                path.unlink()

    def forget_row(self, step: int) -> None:
        """Drops the metrics of a step, and keeps its trajectories: its line is written anew."""
        self._keep_metrics(lambda row: row.get("step") != step)

    def _keep_metrics(self, is_kept: Callable[[dict[str, Any]], bool]) -> None:
        kept = "".join(json.dumps(row) + "\n" for row in self.metrics() if is_kept(row))
        temporary = self.path / "metrics.jsonl.partial"
        temporary.write_text(kept, encoding="utf-8")
        os.replace(temporary, self.path / "metrics.jsonl")

    def write_trajectories(self, name: str, trajectories: Iterable[Trajectory]) -> Path:
        """Writes `trajectories/<name>.jsonl`, one trajectory a line, whole or not at all."""
        target = self.path / "trajectories" / f"{name}.jsonl"
        target.parent.mkdir(exist_ok=True)
        temporary = target.with_name(target.name + ".partial")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                for trajectory in trajectories:
                    file.write(json.dumps(trajectory.to_row(), ensure_ascii=False) + "\n")
            os.replace(temporary, target)
        except OSError:
            temporary.unlink(missing_ok=True)  # on a full disk it takes what others need
            raise
        return target

    def trajectories(self, name: str) -> Iterator[Trajectory]:
        """The trajectories that `write_trajectories` saved under a name."""
        path = self.path / "trajectories" / f"{name}.jsonl"
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line:
                yield Trajectory.from_row(json.loads(line))

    @property
    def checkpoints_path(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"

    def has_checkpoint(self) -> bool:
        """Whether the run can be resumed."""
        return bool(self.checkpoints())

    def checkpoints(self) -> list[Path]:
        """Whole checkpoints, oldest first."""
        return whole_checkpoints(self.checkpoints_path)

    def last_checkpoint(self) -> Path:
        """The newest checkpoint.

        Raises:
            FileNotFoundError: If the run has none yet.
        """
        return last_checkpoint(self.checkpoints_path)


def whole_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in a folder, oldest first.

    One that is `.replaced` counts where the one that replaces it is not there: the process was killed
    between two renamings.
    """
    # Digits: a copy that somebody keeps beside them, "step-000020-good", is none of ours.
    found = {_step_of(path): path for path in folder.glob(".replaced-*[0-9]")}
    found |= {_step_of(path): path for path in folder.glob("step-*") if path.name[5:].isdigit()}
    return [found[step] for step in sorted(found)]


def last_checkpoint(folder: Path) -> Path:
    """The newest checkpoint in a folder.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not (found := whole_checkpoints(folder)):
        raise FileNotFoundError(
            f"{str(folder)!r} has no checkpoint yet; start the run again in another folder."
        )
    return found[-1]


def _step_of(path: Path) -> int:
    return int(path.name.rsplit("-", 1)[1])


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
