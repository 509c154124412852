"""maskgym mask: rows come in, the same rows with scaffold, spans and audit go out."""

import datetime
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
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


def numbered(num_rows: int) -> list[dict[str, Any]]:
    return [
        {
            "task_id": f"t{number}",
            "question": f"{number} and 4?",
            "answers": [str(number + 4)],
            "expert_trace": f"Step 1: {number}+4={number + 4}\nSo it is {number + 4}.",
        }
        for number in range(num_rows)
    ]


def mask(*arguments: str | Path) -> int:
    return main(["mask", *map(str, arguments)])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.jsonl"
    write_rows(path, ROWS)
    return path


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_rows_keep_their_fields_and_get_four_more(
    source: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = source.with_name(name)
    assert mask(source, output, "--policy", "all_keep_given") == 0
    rows = list(read_rows(output))
    assert [row["task_id"] for row in rows] == ["a", "b", "c"]
    assert rows[0]["scaffold"] == "Step 1: 3+4=[NUMBER]"
    assert rows[0]["answers"] == ["7"]
    (span,) = rows[0]["spans"]
    assert list(span) == ["turn", "start", "end", "kind", "value", "is_given", "detector"]
    assert span["value"] == "7" and ROWS[0]["expert_trace"][span["start"] : span["end"]] == "7"
    audit = rows[0]["audit"]
    assert audit["policy"] == audit["requested_policy"] == "all_keep_given"
    assert audit["is_answer_visible"] is False and audit["is_dropped"] is False
    assert audit["level"] in ("none", "L3", "L2")
    assert rows[1]["scaffold"] == "" and rows[1]["spans"] == [] and rows[1]["audit"] is None
    assert rows[1]["note"] == "no trace"
    assert rows[2]["scaffold"] == "Add 6 and 1.\npython: [CODE]\nanswer: [ANSWER]"
    assert rows[2]["scaffold_turns"] == ["Add 6 and 1.\npython: [CODE]", "answer: [ANSWER]"]
    assert rows[0]["scaffold_turns"] == []
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == (
        "3 rows, 1 without a trace; target still visible in 0.0%; 14 characters hidden (36.8%)"
    )


def test_parquet_comes_in_and_goes_out_with_its_types(source: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    tables = [source.with_name("in.parquet"), source.with_name("out.parquet")]
    day = datetime.date(2026, 1, 2)
    rows = [{"day": day, "small": 3, "expert_trace": None, **row} for row in (ROWS[1], ROWS[0])]
    table = pa.Table.from_pylist(rows)
    small = pa.array([row["small"] for row in rows], pa.int8())
    index = table.schema.get_field_index("small")
    pq.write_table(table.set_column(index, "small", small), tables[0])
    assert mask(*tables) == 0
    masked = pq.read_table(tables[1])
    assert masked.schema.field("small").type == pa.int8()
    assert masked.schema.names[-4:] == ["scaffold", "scaffold_turns", "spans", "audit"]
    first, second = masked.to_pylist()
    assert first["audit"] is None and first["note"] == "no trace" and first["day"] == day
    assert second["scaffold"] == "Step 1: [NUMBER]+[NUMBER]=[NUMBER]"
    assert [span["kind"] for span in second["spans"]] == ["number"] * 3
    assert second["audit"]["hidden_share_by_kind"] == [{"kind": "number", "share": 1.0}]


def test_json_rows_that_differ_fit_one_table_or_are_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    rows = numbered(200)
    rows[150]["late"] = {"deep": [1.5]}
    write_rows(source, rows)
    output = source.with_name("out.parquet")
    assert mask(source, output) == 0
    table = pq.read_table(output)
    assert table.num_rows == 200 and table["late"][150].as_py() == {"deep": [1.5]}
    lates: list[Any] = ["text", {}, 2**70]
    for late in lates:
        rows[199]["late"] = late
        rows[150]["late"] = late if late == {} else 1.5
        write_rows(source, rows)
        assert mask(source, output, "--force") == 2
        assert "Name OUT .jsonl" in capsys.readouterr().err
        assert pq.read_table(output).num_rows == 200


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_two_processes_write_what_one_writes(tmp_path: Path, name: str) -> None:
    write_rows(tmp_path / "tasks.jsonl", numbered(300))
    written = []
    for jobs in ("1", "2"):
        folder = tmp_path / jobs
        options = ["--report", str(folder / "page.html"), "--policy", "random_matched(5)"]
        assert mask(tmp_path / "tasks.jsonl", folder / name, "--jobs", jobs, *options) == 0
        assert names_in(folder) == sorted([name, f"{name}.json", "page.html"])
        written.append([(folder / file).read_bytes() for file in names_in(folder)])
    assert written[0] == written[1]


def test_what_was_masked_and_how_is_recorded(source: Path) -> None:
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--indexed", "--max-leak", "L2") == 0
    text = output.with_name("out.jsonl.json").read_text()
    record = json.loads(text)
    assert record["input"]["name"] == "tasks.jsonl" and len(record["input"]["sha256"]) == 64
    assert record["policy"] == "all" and record["mapping"] == "maskgym"
    assert record["render"]["indexed"] is True and record["max_leak"] == "L2"
    assert "numbers" in record["detectors"] and record["maskgym"]
    assert record["audit"]["num_traces"] == 2 and record["audit"]["leaks"]["L1"]["count"] == 0
    assert str(source.parent) not in text
    assert mask(source, output, "--indexed", "--max-leak", "L2", "--force") == 0
    assert output.with_name("out.jsonl.json").read_text() == text


def test_indexed_placeholders_and_results_on_request(source: Path) -> None:
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--indexed", "--tool-results", "mask") == 0
    rows = list(read_rows(output))
    assert rows[0]["scaffold"] == "Step 1: [NUMBER_1]+[NUMBER_2]=[NUMBER_3]"
    assert "result: [OUTPUT_1]" in rows[2]["scaffold"]


def test_what_leaks_too_much_is_masked_harder(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--policy", "none", "--max-leak", "L2") == 0
    row = next(read_rows(output))
    assert row["audit"]["requested_policy"] == "none" != row["audit"]["policy"]
    assert row["audit"]["is_answer_visible"] is False
    assert "masked harder" in capsys.readouterr().out


def test_the_verifier_finds_what_is_equal_to_the_target(source: Path) -> None:
    half = {"task_id": "h", "question": "What part?", "answers": ["1/2"]}
    write_rows(source, [{**half, "expert_trace": r"Half of it, thus $\frac{3}{6}$ remains."}])
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--policy", "answer_only", "--check") == 0
    assert "frac" not in next(read_rows(output))["scaffold"]


@pytest.mark.parametrize("other", ["out.jsonl", "page.html"])
def test_an_existing_file_is_kept_unless_forced(
    source: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output, page = source.with_name("out.jsonl"), source.with_name("page.html")
    source.with_name(other).write_text("precious")
    assert mask(source, output, "--report", page) == 2
    assert "--force" in capsys.readouterr().err
    assert source.with_name(other).read_text() == "precious"
    assert mask(source, output, "--report", page, "--force") == 0
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
        (["--jobs", "many"], "or all"),
        (["--jobs", "0"], "from 1"),
        (["--max-leak", "L9"], "Did you mean"),
        (["--trace-format", "reakt"], "Did you mean 'react'"),
        (["--report", "page.txt"], ".html"),
    ],
)
def test_a_wrong_option_is_refused_and_nothing_is_left_behind(
    source: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mask(source, source.with_name("out.jsonl"), *options) == 2
    assert message in capsys.readouterr().err
    assert names_in(source.parent) == [source.name]


BAD_LINES = {
    b'{"task_id": "d"}': "no question",
    b'{"task_id": "d", "question": "caf\xe9?"}': "byte 34 is not UTF-8",
    b"[1, 2]": "not an object",
    b'{"task_id": "d",': "not JSON",
}


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize(("line", "message"), BAD_LINES.items(), ids=BAD_LINES.values())
def test_a_bad_row_stops_it_or_is_left_out_and_is_named(
    source: Path, line: bytes, message: str, jobs: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source.write_bytes(source.read_bytes() + line + b"\n" + json.dumps(numbered(1)[0]).encode())
    output = source.with_name("out.jsonl")
    output.write_text("of an earlier run")
    assert mask(source, output, "--force", "--jobs", jobs) == 2
    error = capsys.readouterr().err
    assert "tasks.jsonl, line 4" in error and message in error and "--on-bad-row skip" in error
    assert output.read_text() == "of an earlier run"
    assert names_in(source.parent) == ["out.jsonl", "tasks.jsonl"]
    assert mask(source, output, "--force", "--jobs", jobs, "--on-bad-row", "skip") == 0
    captured = capsys.readouterr()
    assert "line 4" in captured.err and "1 bad rows left out" in captured.out
    assert [row["task_id"] for row in read_rows(output)] == ["a", "b", "c", "t0"]
    record = json.loads(output.with_name("out.jsonl.json").read_text())
    assert record["audit"]["num_bad_rows"] == 1


def test_an_empty_trace_and_one_without_a_span_have_a_defined_result(source: Path) -> None:
    rows = [{**ROWS[0], "expert_trace": text} for text in ("", " \n", "Think hard.")]
    write_rows(source, rows)
    output = source.with_name("out.jsonl")
    assert mask(source, output) == 0
    empty, blank, wordy = read_rows(output)
    assert empty["scaffold"] == blank["scaffold"] == "" and empty["audit"] is None
    assert wordy["scaffold"] == "Think hard." and wordy["spans"] == []
    assert wordy["audit"]["hidden_share"] == 0


@pytest.mark.parametrize(
    ("rows", "message"), [([], "holds no good row"), ([ROWS[1]], "none of the 1 rows has a trace")]
)
def test_a_file_in_which_nothing_can_be_masked_is_refused(
    source: Path,
    rows: list[dict[str, Any]],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_rows(source, rows)
    assert mask(source, source.with_name("out.jsonl"), "--mapping", "maskgym") == 2
    assert message in capsys.readouterr().err
    assert names_in(source.parent) == [source.name]


@pytest.mark.slow
def test_a_trace_of_more_than_a_megabyte_is_masked(source: Path) -> None:
    trace = "We add 12 and 30 to get 42.\n" * 40_000
    write_rows(source, [{**ROWS[0], "answers": ["42"], "expert_trace": trace}])
    output, page = source.with_name("out.jsonl"), source.with_name("page.html")
    assert mask(source, output, "--report", page) == 0
    (row,) = read_rows(output)
    assert "42" not in row["scaffold"] and len(row["spans"]) == 120_000
    assert page.stat().st_size < 1_000_000 and "characters more" in page.read_text()


def test_a_cut_off_archive_is_named(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = source.with_name("tasks.jsonl.gz")
    packed.write_bytes(gzip.compress(source.read_bytes())[:-10])
    assert mask(packed, source.with_name("out.jsonl")) == 2
    assert "cut off" in capsys.readouterr().err


def test_half_a_surrogate_pair_is_kept_in_json_and_refused_in_parquet(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    source.write_text(json.dumps({**ROWS[0], "note": "\ud800"}) + "\n")
    output, page = source.with_name("out.jsonl"), source.with_name("page.html")
    assert mask(source, output, "--report", page, "--show", "1") == 0
    assert json.loads(output.read_text())["note"] == "\ud800"
    assert mask(source, source.with_name("out.parquet")) == 2
    assert "line 1" in (error := capsys.readouterr().err) and "name OUT .jsonl" in error


def test_a_trace_column_in_a_format_of_others(source: Path) -> None:
    text = (
        "Thought: I look it up.\nAction: Search[Lyon]\nObservation: A town.\nAction: Finish[Lyon]"
    )
    row = {"question": "Which town?", "answer": "Lyon", "log": {"react": text}}
    write_rows(source, [row])
    output = source.with_name("out.jsonl")
    options = ["--domain", "search", "--trace", "log.react", "--trace-format", "react"]
    assert mask(source, output, *options) == 0
    (masked,) = read_rows(output)
    assert masked["log"] == row["log"] and len(masked["scaffold_turns"]) == 2
    assert "Lyon" not in masked["scaffold"] and "A town" not in masked["scaffold"]


def test_the_trace_column_may_hold_messages(source: Path) -> None:
    messages = [
        {"role": "user", "content": "3 and 4?"},
        {"role": "assistant", "content": "Thought: 3+4=7\nAction: finish[7]"},
    ]
    write_rows(source, [{**ROWS[0], "expert_trace": messages}])
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--trace-format", "auto") == 0
    assert "[NUMBER]+[NUMBER]=" in next(read_rows(output))["scaffold"]


@pytest.mark.parametrize("name", ["out.csv", "tasks.jsonl"])
def test_an_output_that_cannot_be_is_refused(
    source: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = source.read_text()
    assert mask(source, source.with_name(name), "--force") == 2
    assert "end it in .jsonl" in (error := capsys.readouterr().err) or "input as well" in error
    assert source.read_text() == before


def test_rows_that_are_masked_already_are_refused(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, again = source.with_name("out.jsonl"), source.with_name("again.jsonl")
    assert mask(source, output) == 0
    assert mask(output, again, "--on-bad-row", "skip") == 2
    assert "have a field 'scaffold' already" in capsys.readouterr().err
    assert not again.exists()


def test_examples_are_shown_before_and_after(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = source.with_name("out.jsonl")
    assert mask(source, output, "--show", "1") == 0
    plain = capsys.readouterr().out
    assert "Step 1: 3+4=7\n" in plain and "Step 1: [NUMBER]+[NUMBER]=[NUMBER]\n" in plain
    assert "=== a" in plain and "=== c" not in plain and "\x1b" not in plain
    monkeypatch.setattr("maskgym.scripts.console.is_colour_wanted", lambda stream: True)
    assert mask(source, output, "--show", "2", "--force") == 0
    coloured = capsys.readouterr().out
    assert "\x1b[31m3\x1b[0m+\x1b[31m4\x1b[0m" in coloured
    assert "\x1b[32m[NUMBER]\x1b[0m+" in coloured and "=== c" in "".join(coloured)


class Page(HTMLParser):
    """Tags that are open, and whatever a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe"):
            self.loaded.append(tag)
        self.loaded += [name for name, _ in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_shows_every_leak_and_loads_nothing(source: Path) -> None:
    trap = {"task_id": "<script>", "question": "3 & 4?", "answers": ["7"]}
    write_rows(source, [*ROWS, {**trap, "expert_trace": "3+4=7 </pre><img src=x>"}])
    page = source.with_name("page.html")
    assert mask(source, source.with_name("out.jsonl"), "--policy", "none", "--report", page) == 0
    text = page.read_text()
    parser = Page()
    parser.feed(text)
    assert (
        parser.open == [] and parser.loaded == [] and "url(" not in text and "@import" not in text
    )
    leaks = text[text.index("Every scaffold that shows its target") : text.index(">Examples<")]
    for place in ("line 1", "line 3", "line 4"):
        assert f"tasks.jsonl, {place}" in leaks
    assert "line 2" not in leaks and "&lt;script&gt;" in leaks
    assert text.index("Worst leaks") < text.index("Every scaffold that shows")


def test_the_page_colours_what_is_hidden(source: Path) -> None:
    page = source.with_name("page.html")
    assert mask(source, source.with_name("out.jsonl"), "--report", page) == 0
    text = page.read_text()
    assert "title='number'>3</mark>+<mark" in text and "[NUMBER]</mark>" in text
    assert "None does." in text and "prefers-color-scheme: dark" in text


def is_gone(group: int) -> bool:
    """Whether a process group ends within seconds; Python's resource tracker takes a moment."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c_leaves_no_process_and_no_half_file(tmp_path: Path) -> None:
    source = tmp_path / "tasks.jsonl"
    write_rows(source, numbered(40_000))
    output = tmp_path / "out.jsonl"
    output.write_text("of an earlier run")
    command = [sys.executable, "-m", "maskgym", "mask", str(source), str(output)]
    command += ["--jobs", "2", "--force"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in tmp_path.glob(".out.jsonl.*.partial")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers as well
        _, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert error.strip().splitlines()[-1] == "maskgym: interrupted" and "Traceback" not in error
        assert is_gone(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert names_in(tmp_path) == ["out.jsonl", "tasks.jsonl"]
    assert output.read_text() == "of an earlier run"


def test_gsm8k_is_masked_without_a_leak(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = shared_data / "gsm8k" / "test.jsonl.gz", tmp_path / "masked.jsonl.gz"
    assert mask(source, output, "--mapping", "gsm8k") == 0
    assert "1319 rows, 0 without a trace; target still visible in 0.0%" in capsys.readouterr().out
    with gzip.open(output, "rt") as lines:
        assert sum(1 for _ in lines) == 1319
