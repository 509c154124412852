"""Stored answers scored again: every stored number comes out, and what is no such file is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.evaluation.replay import (
    ReplayedMetric,
    read_answers,
    replay,
    replay_to_json,
    replay_to_markdown,
)
from maskgym.envs import ActionKind, XMLProtocol


def metric(found: list[ReplayedMetric], mode: str, name: str) -> ReplayedMetric:
    return next(each for each in found if (each.mode, each.metric) == (mode, name))


def check_every_stored_number(
    path: Path, *, num_rows: int, metrics: tuple[str, ...]
) -> list[ReplayedMetric]:
    answers = read_answers(path)
    assert len(answers) == num_rows
    found = [each for each in replay(answers, num_resamples=2) if each.mode == "compat:search-r1"]
    for name in metrics:
        rows = [each for each in found if each.metric == name]
        assert sum(each.num_stored for each in rows) == num_rows
        assert [difference for each in rows for difference in each.differences] == []
    return found


def test_em_f1_and_acc_of_5750_flashrag_rows_are_reproduced(shared_data: Path) -> None:
    check_every_stored_number(
        shared_data / "qa_em_scored/flashrag_em_f1.jsonl.gz",
        num_rows=5750,
        metrics=("exact_match", "f1", "contains"),
    )


def test_em_and_f1_of_1464_fireact_rows_are_reproduced(shared_data: Path) -> None:
    check_every_stored_number(
        shared_data / "qa_em_scored/fireact_hotpot_em_f1.jsonl",
        num_rows=1464,
        metrics=("exact_match", "f1"),
    )


def test_stored_search_r1_trajectories_are_scored_as_they_were(shared_data: Path) -> None:
    paths = sorted((shared_data / "search_r1_rollouts").glob("*.json.gz"))
    assert len(paths) == 5
    published = json.loads((shared_data / "search_r1_rollouts/metrics.json").read_text())
    for path in paths:
        found = check_every_stored_number(
            path, num_rows=1000, metrics=("exact_match", "f1", "contains")
        )
        text = published[path.name.removesuffix(".gz")]
        means = {key: float(value) for key, value in (x.split(": ") for x in text.splitlines())}
        for name, key in (("exact_match", "em"), ("f1", "f1"), ("contains", "acc")):
            ours = metric(found, "compat:search-r1", name).estimate.mean
            assert ours == pytest.approx(means[key], abs=1e-12)


def test_answers_read_from_stored_search_r1_turns_are_the_stored_ones(shared_data: Path) -> None:
    """Our protocol reads the last turn; where it sees no answer, that turn forged a search result."""
    protocol = XMLProtocol.preset("search-r1")
    num_read = num_forged = 0
    for path in sorted((shared_data / "search_r1_rollouts").glob("*.json.gz")):
        for row in json.loads(gzip.decompress(path.read_bytes())):
            last_turn = row["output"]["final_response"].rpartition("</information>")[2]
            action = protocol.parse(last_turn, ())
            if action.argument.strip() == row["output"]["pred"].strip():
                num_read += 1
            else:
                assert action.kind is ActionKind.INVALID
                assert "<information>" in last_turn
                num_forged += 1
    assert (num_read, num_forged) == (4959, 41)


def write(path: Path, rows: list[dict[str, Any]], *, as_array: bool = False) -> Path:
    text = json.dumps(rows) if as_array else "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


ROW = {"id": "q1", "question": "Who?", "golden_answers": ["Beyoncé"], "pred": "Beyonce"}


@pytest.mark.parametrize(
    ("name", "as_array"), [("a.json", True), ("a.json.gz", True), ("a.jsonl.gz", False)]
)
def test_files_are_read_in_either_form(tmp_path: Path, name: str, as_array: bool) -> None:
    inner = {"pred": "Beyonce", "metric_score": {"em": 0.0, "acc": 0.0, "f1": 0}}
    rows: list[dict[str, Any]] = [
        ROW,
        {**ROW, "pred": None, "output": inner},
        {"gt": "x", "pred": "x", "em": True, "f1": 1},
    ]
    first, second, third = read_answers(write(tmp_path / name, rows, as_array=as_array))
    assert (first.source, first.answer_id, first.stored) == ("a", "q1", {})
    assert second.answer == "Beyonce"
    assert second.stored == {"exact_match": 0.0, "f1": 0.0, "contains": 0.0}
    assert (third.golds, third.stored) == (("x",), {"exact_match": 1.0, "f1": 1.0})


def test_rows_that_differ_are_counted_and_listed(tmp_path: Path) -> None:
    found = replay(read_answers(write(tmp_path / "a.jsonl", [{**ROW, "metric_em": 0.0}])))
    strict = metric(found, "strict", "exact_match")
    assert (strict.estimate.mean, strict.stored_mean, len(strict.differences)) == (1.0, 0.0, 1)
    assert metric(found, "compat:search-r1", "exact_match").differences == ()
    page = " ".join(replay_to_markdown(found).split())
    assert "compat:search-r1 gives the stored exact_match of 1 of 1 rows" in page
    assert "| a | strict | exact_match | q1 | Beyonce | Beyoncé | 0.000 | 1.000 |" in page
    assert "| a | strict | f1 | 1 | 100.0% [100.0, 100.0] | - | - |" in page
    assert replay_to_json(found)["metrics"][0]["differences"][0]["answer_id"] == "q1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no rows"),
        ('{"question": "x", "pred": "y"}', "line 1: no column with the gold answers"),
        ('{"golden_answers": ["x"]}', "line 1: no column with the answer; expected one of pred"),
        ('{"golden_answers": [], "pred": "x"}', r"line 1: the gold answers are \[\]"),
        ("[1]", "line 1: it holds a list, not an object"),
        ("not json", "line 1"),
    ],
)
def test_bad_files_are_refused_by_name_and_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_answers(tmp_path / "a.jsonl")


def test_no_answers_are_no_replay() -> None:
    with pytest.raises(ValueError, match="no stored answer"):
        replay([])
