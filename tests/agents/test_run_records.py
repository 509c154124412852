"""Records that cannot be written wait, are named, and hold up no run."""

import json
from pathlib import Path

import pytest

from maskgym.agents.run_folder import RunFolder
from maskgym.agents.run_records import RunRecords


def test_lines_wait_for_room_and_keep_their_order(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    lines: list[str] = []
    records = RunRecords(folder, lines.append, is_writer=True)
    records.open((), first_step=1, is_resumed=False)
    records.log({"step": 1}, {"loss": 1.0}, None)
    file = folder.path / "metrics.jsonl"
    kept = file.read_text()
    file.unlink()
    file.mkdir()  # nothing can be appended to a folder
    records.log({"step": 2}, {"loss": 2.0}, {"step_s": 0.5})
    records.log({"step": 3}, {"loss": 3.0}, None)
    assert not records.is_complete()
    assert len(lines) == 3
    assert all("make room" in line for line in lines)
    file.rmdir()
    file.write_text(kept)
    assert records.is_complete()
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[1]["time"] == {"step_s": 0.5}


def test_a_tracker_that_fails_is_left_out_and_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    folder = RunFolder.create(tmp_path / "run", {})
    lines: list[str] = []
    records = RunRecords(folder, lines.append, is_writer=True)
    records.open(("tensorboard",), first_step=1, is_resumed=False)

    class Gone:
        def log(self, numbers: object, step: int) -> None:
            raise ConnectionError("the service is gone")

        def close(self) -> None:
            raise AssertionError("it was left out")

    records._trackers.append(Gone())
    for step in (1, 2):
        records.log({"step": step}, {"loss": 1.0}, None)
    records.close()
    assert lines == ["warning: Gone failed and is left out from here on: the service is gone"]
    assert list((folder.path / "tensorboard").iterdir())


def test_what_a_killed_start_left_is_dropped_unless_the_run_is_resumed(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    folder.append_metrics({"step": 0})
    for is_resumed, count in ((True, 1), (False, 0)):
        RunRecords(folder, print, is_writer=True).open((), first_step=1, is_resumed=is_resumed)
        assert len(folder.metrics()) == count


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    records = RunRecords(folder, print, is_writer=False)
    records.open(("tensorboard",), first_step=1, is_resumed=False)
    records.log({"step": 1}, {"loss": 1.0}, None)
    records.save("step-000001", [])
    assert records.is_complete()
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]
