"""Finished questions in, `records.jsonl` out, one line each; and back again after any kind of end.

A line is on its way to disk before the next episode is asked for, so a run that is killed loses the
episodes in flight and nothing else.
"""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from ..rollouts.trajectory import Trajectory
from .evaluate import assert_bare, is_failed
from .scores import QuestionScores

RECORDS_FILE = "records.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationRecord:
    """One question of an evaluation: who asked, what was played, what it scored."""

    benchmark: str
    scores: QuestionScores
    trajectory: Trajectory
    """The episode in texts; token ids are counted and not kept."""

    @property
    def key(self) -> tuple[str, str]:
        """Benchmark and task id: what makes a question the same in two runs."""
        return self.benchmark, self.trajectory.task_id

    def to_row(self) -> dict[str, Any]:
        """A JSON object with everything."""
        return {
            "benchmark": self.benchmark,
            "task_id": self.trajectory.task_id,
            "scores": asdict(self.scores),
            "trajectory": self.trajectory.to_row(),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "EvaluationRecord":
        """The record that `to_row` wrote.

        Raises:
            ValueError: If it is none, or the episode was played with a scaffold.
        """
        try:
            record = cls(
                benchmark=row["benchmark"],
                scores=QuestionScores.from_row(row["scores"]),
                trajectory=Trajectory.from_row(row["trajectory"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no record of an evaluation ({error})") from None
        refuse_guided(record.trajectory)
        return record


def refuse_guided(trajectory: Trajectory) -> None:
    """Raises ValueError if the episode was played with a scaffold."""
    try:
        assert_bare(trajectory)
    except AssertionError as error:
        raise ValueError(str(error)) from None


def without_ids(trajectory: Trajectory) -> Trajectory:
    """The episode with its tokens counted instead of kept: a tenth of the size on disk."""
    turns = tuple(
        replace(
            turn,
            prompt_ids=(),
            action_ids=(),
            logprobs=(),
            num_tokens=len(turn.action_ids) or turn.num_tokens,
        )
        for turn in trajectory.turns
    )
    return replace(trajectory, turns=turns, bare_prompt_ids=())


def read_records(folder: str | Path) -> list[EvaluationRecord]:
    """The records of a run folder, in the order in which they were finished.

    A last line that a kill cut short is left out.

    Raises:
        FileNotFoundError: If the folder holds no evaluation.
        ValueError: If a line is no record, a question stands there twice, or a scaffold was shown.
    """
    path = Path(folder) / RECORDS_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"No evaluation in {str(folder)!r} (no {RECORDS_FILE}). Give a folder that "
            "`maskgym eval --out` wrote; the rollouts of a training run are no evaluation."
        )
    records: dict[tuple[str, str], EvaluationRecord] = {}
    for number, line in _whole_lines(path):
        try:
            record = EvaluationRecord.from_row(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: {error} Mend or delete the line, or evaluate anew."
            ) from None
        if record.key in records:
            raise ValueError(f"{path}, line {number}: question {record.key} stands there twice.")
        records[record.key] = record
    return list(records.values())


def drop_failed(folder: str | Path) -> int:
    """Takes the questions out whose episode or grade failed, so that they are played again; how many.

    Failed means an error of the environment, the engine or the verifier, or a deadline; an episode that
    the policy itself brought to a bad end stays.
    """
    path = Path(folder) / RECORDS_FILE
    if not path.is_file():
        return 0
    records = read_records(folder)
    kept = [r for r in records if r.scores.accuracy is not None and not is_failed(r.trajectory)]
    if len(kept) < len(records):
        partial = path.with_name(path.name + ".partial")
        with RecordWriter(folder), open(partial, "wb") as file:  # nobody else may be adding
            file.writelines(_line(record) for record in kept)
            os.replace(partial, path)
    return len(records) - len(kept)


class RecordWriter:
    """Adds records to the file of a run folder, which no other process may be adding to."""

    def __init__(self, folder: str | Path) -> None:
        """Opens the file; a last line that a kill cut short is cut off.

        Raises:
            BlockingIOError: If another process is writing to the same run.
        """
        self._path = Path(folder) / RECORDS_FILE
        self._lock = threading.Lock()
        self._file = open(self._path, "ab")  # noqa: SIM115 - closed by close()
        try:
            _lock_file(self._file, self._path)
            with open(self._path, "rb+") as file:
                file.truncate(_end_of_last_line(self._path))
        except OSError:
            self._file.close()
            raise

    def append(self, record: EvaluationRecord) -> None:
        """Adds one record; the operating system has it when this returns.

        Raises:
            ValueError: If the episode was played with a scaffold.
        """
        refuse_guided(record.trajectory)
        record = replace(record, trajectory=without_ids(record.trajectory))
        with self._lock:
            self._file.write(_line(record))
            self._file.flush()

    def close(self) -> None:
        """Closes the file and gives it free."""
        self._file.close()

    def __enter__(self) -> "RecordWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _line(record: EvaluationRecord) -> bytes:
    text = json.dumps(record.to_row(), ensure_ascii=False) + "\n"
    return text.encode("utf-8", errors="replace")


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield number, line


def _end_of_last_line(path: Path) -> int:
    end = 0
    for _, line in _whole_lines(path):
        end += len(line)
    return end


def _lock_file(file: Any, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"Another process is adding to {str(path)!r}. Wait for it, or give another --out folder."
        ) from None
