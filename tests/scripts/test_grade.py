"""maskgym grade: rows with responses come in, the same rows with their grades go out."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maskgym.retrieval import read_rows, write_rows
from maskgym.scripts.cli import main

MATH: list[dict[str, Any]] = [
    {"question": "6 times 7?", "answer": "42", "response": r"So \boxed{42}."},
    {"question": "1 + 1?", "answer": "2", "response": "<think>2</think> <answer> 3 </answer>"},
    {"question": "1 / 2?", "answer": "0.5", "response": [r"\boxed{\frac12}", "2", "1 or 0.5"]},
]


def grade(*arguments: str | Path) -> int:
    return main(["grade", *map(str, arguments)])


def grades(path: Path) -> list[dict[str, Any]]:
    return [row["grade"] for row in read_rows(path)]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    write_rows(path, MATH)
    return path


def test_each_row_gets_its_grade_and_keeps_its_fields(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert grade(source, out, "--env", "math") == 0
    rows = list(read_rows(out))
    assert [{k: v for k, v in row.items() if k != "grade"} for row in rows] == MATH
    assert [row["grade"]["verdict"] for row in rows] == [
        "correct",
        "wrong",
        ["correct", "wrong", "wrong"],
    ]
    assert rows[2]["grade"]["reward"] == [1.0, 0.0, 0.0] and rows[0]["grade"]["reason"]
    assert "accuracy of the graded ones: 40.0%" in capsys.readouterr().out


def test_code_runs_in_the_sandbox(tmp_path: Path) -> None:
    task: dict[str, Any] = {
        "task_id": "f",
        "domain": "code",
        "question": "Write f.",
        "expert_trace": "x",
    }
    task["tests"] = [{"kind": "call", "function": "f", "arguments": "[2]", "expected": "4"}]
    rows = [
        {**task, "task_id": str(n), "response": f"def f(x):\n    return {n} * x"} for n in (2, 3)
    ]
    write_rows(tmp_path / "in.jsonl", rows)
    assert grade(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--env", "code") == 0
    assert [g["verdict"] for g in grades(tmp_path / "out.jsonl")] == ["correct", "wrong"]


def test_a_mode_of_a_peer_grades_as_the_peer_does(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "Who?", "golden_answers": ["Beyonce"], "pred": "Beyoncé"}]
    write_rows(tmp_path / "in.jsonl", rows)
    verdicts = []
    for mode in ("strict", "compat:search-r1"):
        out = tmp_path / f"{mode[:6]}.jsonl"
        assert grade(tmp_path / "in.jsonl", out, "--env", "search", "--mode", mode) == 0
        verdicts += [g["verdict"] for g in grades(out)]
    assert verdicts == ["correct", "wrong"]


def test_it_goes_on_behind_the_last_whole_row(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    grade(source, out, "--env", "math")
    whole = out.read_bytes()
    first = whole.index(b"\n") + 1
    out.write_bytes(whole[: first + 20])  # the second row is torn
    assert grade(source, out, "--env", "math") == 0
    assert out.read_bytes() == whole


def test_the_same_bytes_come_from_several_processes(tmp_path: Path) -> None:
    rows = [{**MATH[n % 3], "question": f"{n}?"} for n in range(40)]
    write_rows(tmp_path / "in.jsonl", rows)
    for jobs in ("1", "2"):
        grade(tmp_path / "in.jsonl", tmp_path / f"{jobs}.jsonl", "--env", "math", "--jobs", jobs)
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


@pytest.mark.slow
def test_a_killed_command_leaves_whole_rows_and_goes_on(tmp_path: Path) -> None:
    task: dict[str, Any] = {"domain": "code", "question": "Write f.", "expert_trace": "x"}
    task["tests"] = [{"kind": "call", "function": "f", "arguments": "[2]", "expected": "4"}]
    program = "import time\ntime.sleep(0.1)\ndef f(x):\n    return 2 * x"
    rows = [{**task, "task_id": str(n), "response": program} for n in range(40)]
    write_rows(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    words = ["grade", str(tmp_path / "in.jsonl"), str(out), "--env", "code"]
    process = subprocess.Popen([sys.executable, "-m", "maskgym", *words])
    while not out.exists() or out.read_bytes().count(b"\n") < 8:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 8 <= len(grades(out)) < 40
    assert main(words) == 0
    assert [g["row"] for g in grades(out)] == list(range(1, 41))


@pytest.mark.parametrize(
    ("rows", "options", "problem"),
    [
        ([{"question": "?", "answer": "1"}], [], "no response: looked for response or completion"),
        ([{"question": "?", "answer": "1", "response": 3}], [], "it must be text"),
        ([{"question": "?", "response": "3"}], [], "cannot guess"),
        (MATH, ["--mode", "compat:nobody"], "mode"),
        (MATH, ["--jobs", "0"], "--jobs is 0"),
        (MATH, ["--response", "reply"], "no response: looked for reply"),
    ],
)
def test_bad_input_is_told_with_its_place(
    rows: list[dict[str, Any]],
    options: list[str],
    problem: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(tmp_path / "in.jsonl", rows)
    assert grade(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--env", "math", *options) == 2
    assert problem in capsys.readouterr().err


def test_bad_rows_can_be_left_out_and_are_counted(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with source.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"question": "?", "answer": "1"}) + "\n")
    out = tmp_path / "out.jsonl"
    assert grade(source, out, "--env", "math", "--skip-bad-rows") == 0
    captured = capsys.readouterr()
    assert len(grades(out)) == 3 and "line 4: no response" in captured.err
    assert "bad rows left out" in captured.out


def test_an_output_of_other_settings_is_kept_and_refused(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    grade(source, out, "--env", "math")
    before = out.read_bytes()
    assert grade(source, out, "--env", "math", "--mode", "compat:smepo") == 2
    assert "another mode" in capsys.readouterr().err
    assert grade(source, source, "--env", "math") == 2
    assert grade(source, tmp_path / "out.txt", "--env", "math") == 2
    assert out.read_bytes() == before
