"""maskgym mask: rows come in, the same rows with scaffold, spans and audit go out."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from maskgym.retrieval import read_rows, write_rows
from maskgym.scripts.cli import main

ROWS: list[dict[str, Any]] = [
    {"task_id": "a", "question": "3 and 4?", "answers": ["7"], "expert_trace": "Step 1: 3+4=7"},
    {"task_id": "b", "question": "2 and 2?", "answers": ["4"], "note": "no trace"},
    {
        "task_id": "c",
        "question": "6 and 1?",
        "answers": ["7"],
        "expert_trace": [
            {"kind": "thought", "text": "Add 6 and 1."},
            {"kind": "tool_call", "tool": "python", "text": "print(6 + 1)"},
            {"kind": "tool_result", "tool": "python", "text": "7"},
            {"kind": "answer", "text": "7"},
        ],
    },
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_rows_keep_their_fields_and_get_three_more(
    source: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = source.with_name(name)
    assert main(["mask", str(source), str(output), "--policy", "all_keep_given"]) == 0
    rows = list(read_rows(output))
    assert [row["task_id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["scaffold"] == "Step 1: 3+4=[NUMBER]"
    assert rows[0]["answers"] == ["7"]
    (span,) = rows[0]["spans"]
    assert span["value"] == "7" and ROWS[0]["expert_trace"][span["start"] : span["end"]] == "7"
    assert rows[0]["audit"]["policy"] == "all_keep_given"
    assert rows[0]["audit"]["is_answer_visible"] is False
    assert rows[1]["scaffold"] == "" and rows[1]["spans"] == [] and rows[1]["audit"] is None
    assert rows[1]["note"] == "no trace"
    assert rows[2]["scaffold"] == "Add 6 and 1.\npython: [CODE]\nanswer: [ANSWER]"
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == (
        "3 rows, 1 without a trace; target still visible in 0.0%; 14 characters hidden (36.8%)"
    )


def test_parquet_comes_in_and_goes_out(source: Path) -> None:
    tables = [source.with_name("in.parquet"), source.with_name("out.parquet")]
    write_rows(tables[0], ROWS[:2])
    assert main(["mask", *map(str, tables)]) == 0
    rows = list(read_rows(tables[1]))
    assert rows[0]["scaffold"] == "Step 1: [NUMBER]+[NUMBER]=[NUMBER]"
    assert [span["kind"] for span in rows[0]["spans"]] == ["number"] * 3
    assert rows[0]["audit"]["hidden_share_by_kind"] == [{"kind": "number", "share": 1.0}]
    assert rows[1]["audit"] is None and rows[1]["note"] == "no trace"


def test_indexed_placeholders_and_results_on_request(source: Path) -> None:
    output = source.with_name("out.jsonl")
    options = ["--indexed", "--tool-results", "mask"]
    assert main(["mask", str(source), str(output), *options]) == 0
    rows = list(read_rows(output))
    assert rows[0]["scaffold"] == "Step 1: [NUMBER_1]+[NUMBER_2]=[NUMBER_3]"
    assert "result: [OUTPUT_1]" in rows[2]["scaffold"]


def test_an_existing_output_is_kept_unless_forced(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = source.with_name("out.jsonl")
    output.write_text("precious")
    assert main(["mask", str(source), str(output)]) == 2
    assert "--force" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert main(["mask", str(source), str(output), "--force"]) == 0
    assert len(list(read_rows(output))) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--policy", "al"], "Did you mean 'all'"),
        (["--policy", "prefix"], "prefix(ratio)"),
        (["--policy", "prefix(2)"], "from 0 to 1"),
        (["--domain", "maths"], "Did you mean 'math'"),
        (["--mapping", "gsm8"], "gsm8k"),
        (["--show", "-1"], "--show is -1"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_left_behind(
    source: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mask", str(source), str(source.with_name("out.jsonl")), *options]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_bad_row_stops_it_and_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source.write_text(source.read_text() + '{"task_id": "d"}\n')
    assert main(["mask", str(source), str(source.with_name("out.jsonl"))]) == 2
    assert "line 4" in capsys.readouterr().err
    assert [path.name for path in source.parent.iterdir()] == [source.name]


@pytest.mark.parametrize("name", ["out.csv", "tasks.jsonl"])
def test_an_output_that_cannot_be_is_refused(
    source: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = source.read_text()
    assert main(["mask", str(source), str(source.with_name(name)), "--force"]) == 2
    assert "end it in .jsonl" in (error := capsys.readouterr().err) or "input as well" in error
    assert source.read_text() == before


def test_rows_that_are_masked_already_are_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, again = source.with_name("out.jsonl"), source.with_name("again.jsonl")
    assert main(["mask", str(source), str(output)]) == 0
    assert main(["mask", str(output), str(again)]) == 2
    assert "have a field 'scaffold' already" in capsys.readouterr().err
    assert not again.exists()


def test_examples_are_shown_before_and_after(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = source.with_name("out.jsonl")
    assert main(["mask", str(source), str(output), "--show", "1"]) == 0
    plain = capsys.readouterr().out
    assert "Step 1: 3+4=7\n" in plain and "Step 1: [NUMBER]+[NUMBER]=[NUMBER]\n" in plain
    assert "=== a" in plain and "=== c" not in plain and "\x1b" not in plain
    monkeypatch.setattr("maskgym.scripts.console.is_colour_wanted", lambda stream: True)
    assert main(["mask", str(source), str(output), "--show", "2", "--force"]) == 0
    coloured = capsys.readouterr().out
    assert "\x1b[31m3\x1b[0m+\x1b[31m4\x1b[0m" in coloured
    assert "\x1b[32m[NUMBER]\x1b[0m+" in coloured and "=== c" in "".join(coloured)


def test_gsm8k_is_masked_without_a_leak(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = shared_data / "gsm8k" / "test.jsonl.gz", tmp_path / "masked.jsonl.gz"
    assert main(["mask", str(source), str(output), "--mapping", "gsm8k"]) == 0
    assert "1319 rows, 0 without a trace; target still visible in 0.0%" in capsys.readouterr().out
    with gzip.open(output, "rt") as lines:
        assert sum(1 for _ in lines) == 1319
