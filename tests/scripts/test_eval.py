"""`maskgym eval` from the shell: bare, resumable, comparable."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.evaluation.records import read_records
from maskgym.retrieval import BM25Index, Passage

from .eval_service import maskgym, passages, questions, serving, stop_after, table

TESTBED = "testbed:level=1,split=test"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_a_policy_on_the_testbed_gives_table_records_and_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maskgym(f"--tasks {TESTBED} --num-tasks 8 --policy expert --out run") == 0
    said = capsys.readouterr().out
    found = table(tmp_path / "run")["benchmarks"][TESTBED]
    assert found["num_questions"] == 8
    assert found["estimates"]["exact_match"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert found["estimates"]["all_gold_shown"]["mean"] == 1.0
    assert found["end_reasons"] == {"answered": 8}
    assert f"| {TESTBED} | 8 | 100.0% [100.0, 100.0] |" in " ".join(said.split())
    assert (tmp_path / "run/evaluation.md").read_text() in said
    records = read_records(tmp_path / "run")
    assert len(records) == 8
    assert not any(record.trajectory.is_guided for record in records)


def test_benchmarks_have_a_row_each_and_a_macro_average(tmp_path: Path) -> None:
    for name, count in (("nq", 6), ("popqa", 3)):
        (tmp_path / "data" / name).mkdir(parents=True)
        questions(tmp_path / "data" / name / "test.jsonl", count)
    with serving(passages) as service, pytest.warns(UserWarning, match="the published split has"):
        words = f"--bench nq,popqa --index {service.url} --policy search-first --out run"
        assert maskgym(words) == 0
    value = table(tmp_path / "run")
    assert {name: b["num_questions"] for name, b in value["benchmarks"].items()} == {
        "nq": 6,
        "popqa": 3,
    }
    assert value["macro"]["answer_shown"]["mean"] == 1.0
    assert value["macro"]["exact_match"]["mean"] == 0.0
    assert "gold_recall" not in value["macro"]


def test_an_interrupted_run_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 12)
    with serving(passages) as service:
        words = f"--tasks rays.jsonl --index {service.url} --policy search-first --out"
        assert maskgym(words, "whole") == 0
        with monkeypatch.context() as patch:
            stop_after(5, patch, tmp_path / "broken")
            assert maskgym(words, "broken") == 130
        assert "7 questions are left; the same command goes on" in capsys.readouterr().out
        assert table(tmp_path / "broken")["benchmarks"]["rays"]["num_missing"] == 7
        num_asked = len(service.asked)
        assert maskgym(words, "broken", "--resume") == 0
        assert len(service.asked) == num_asked + 7  # only what was missing
        assert maskgym(words, "broken") == 0  # and then nothing is
        assert len(service.asked) == num_asked + 7
    assert table(tmp_path / "broken") == table(tmp_path / "whole")
    page = (tmp_path / "broken/evaluation.md").read_text()
    assert page == (tmp_path / "whole/evaluation.md").read_text()


def test_a_killed_run_loses_no_finished_question(tmp_path: Path) -> None:
    questions(tmp_path / "rays.jsonl", 40)

    def slowly(body: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.02)
        return passages(body)

    with serving(slowly) as service:
        words = f"--tasks rays.jsonl --index {service.url} --policy search-first --out run"
        child = subprocess.Popen(
            [sys.executable, "-m", "maskgym", "eval", *words.split()],
            cwd=tmp_path,
            env={**os.environ},
            stdout=subprocess.DEVNULL,
        )
        try:
            while len(service.asked) < 8:
                assert child.poll() is None
                time.sleep(0.01)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        num_kept = len(read_records(tmp_path / "run"))
        assert num_kept >= 7  # at most the one in hand is lost
        service.asked.clear()
        assert maskgym(words) == 0
        assert len(service.asked) == 40 - num_kept
    assert table(tmp_path / "run")["benchmarks"]["rays"]["num_missing"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--set env_kwargs.scaffold=all", "env_kwargs.scaffold=all shows a scaffold"),
        ("--set trainer.guidance.planner=always", "trainer.guidance.planner=always shows"),
        ("--policy serch-first", "Did you mean 'search-first'"),
        ("--model nothing", "Give one player"),
        ("--set endpoint.timeout_s=3", "no meaning without --endpoint"),
        ("--set episode.max_trns=3", "Did you mean 'episode.max_turns'"),
        ("--num-tasks 0", "give 1 or more"),
        ("--engine endpoint", "--endpoint URL"),
        ("--resume", "No run in 'run'"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_played(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    player = () if words.startswith("--policy") else ("--policy", "expert")
    assert maskgym(f"--tasks {TESTBED} --out run {words}", *player) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"--tasks {TESTBED} --out run", "Say who plays"),
        (f"--tasks {TESTBED} --policy expert", "--out FOLDER"),
        ("--policy expert --out run", "--bench NAMES or --tasks FILE"),
        ("--bench nqq --policy expert --out run", "Did you mean 'nq'"),
        ("--bench gsm8k --env search --policy expert --out run", "gsm8k is a math benchmark"),
        (f"--tasks {TESTBED} --model owner/none --out run", "hf download owner/none"),
        (f"--tasks {TESTBED} --model none --out run", "No model folder 'none'"),
        ("--compare a b", "No evaluation in 'a'"),
        ("--replay a.json", "a.json"),
        (
            f"--tasks {TESTBED} --endpoint http://127.0.0.1:9 --out run --set endpoint.timeot_s=1",
            "Did you mean 'endpoint.timeout_s'",
        ),
    ],
)
def test_what_is_missing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert maskgym(words) == 2
    assert said in capsys.readouterr().err


def test_a_run_of_another_configuration_is_refused_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--tasks {TESTBED} --num-tasks 2 --policy expert --out run"
    assert maskgym(words) == 0
    before = (tmp_path / "run/records.jsonl").read_bytes()
    assert maskgym(words, "--set", "episode.max_turns=3") == 2
    assert "episode.max_turns: 6 there, 3 here" in capsys.readouterr().err
    assert maskgym(words.replace("--num-tasks 2", "--num-tasks 3")) == 2
    assert "num_questions: 2 there, 3 here" in capsys.readouterr().err
    assert (tmp_path / "run/records.jsonl").read_bytes() == before
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/mine.txt").write_text("mine")
    assert maskgym(words.replace("--out run", "--out notes")) == 2
    assert "is kept as it is" in capsys.readouterr().err


def test_other_questions_and_another_index_are_another_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, texts in (("one", ["Becquerel found it."]), ("two", ["Röntgen found it."])):
        BM25Index.build([Passage(id=f"p{i}", text=t) for i, t in enumerate(texts)]).save(name)
    questions(tmp_path / "rays.jsonl", 2)
    words = "--tasks rays.jsonl --index index --policy search-first --out run"
    (tmp_path / "index").symlink_to("one")
    assert maskgym(words) == 0
    records = tmp_path / "run/records.jsonl"
    records.write_text(records.read_text().splitlines()[0] + "\n")
    (tmp_path / "index").unlink()
    (tmp_path / "index").symlink_to("two")
    assert maskgym(words) == 2
    assert "another index than the one" in capsys.readouterr().err
    (tmp_path / "index").unlink()
    (tmp_path / "index").symlink_to("one")
    assert maskgym(words) == 0
    questions(tmp_path / "rays.jsonl", 2, name="other")
    assert maskgym(words) == 2
    assert "rays.sha256" in capsys.readouterr().err


def test_an_environment_that_cannot_be_made_leaves_no_run_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 2)
    words = "--tasks rays.jsonl --policy search-first --out run"
    assert maskgym("--tasks rays.jsonl --policy expert --env math --out run") == 2
    assert "'q0' has no expert trace to play" in capsys.readouterr().err
    for more, said in (
        ((), "pass retriever="),
        (("--env", "math"), "needs an environment with the search tool"),
        (("--index", "nowhere"), "No index folder"),
        (("--index", str(tmp_path)), "is no index"),
        (
            ("--index", "http://127.0.0.1:9", "--set", "search.timeout_s=0.2"),
            "Is the service running there?",
        ),
        (("--env", "math", "--index", "x"), "No index folder"),
        (("--env", "math", "--set", "env_kwargs.retriever=x"), "unexpected keyword argument"),
    ):
        assert maskgym(words, *more) == 2
        error = capsys.readouterr().err
        assert said in error and len(error.splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_a_search_that_fails_is_told_and_the_episodes_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions(tmp_path / "rays.jsonl", 2)
    with serving(lambda body: {"error": "no such index"}) as service:
        words = f"--tasks rays.jsonl --index {service.url} --policy search-first --out run"
        assert maskgym(words, "--set", "search.timeout_s=0.2") == 0
    assert "- **rays**: 100.0% of the tool calls failed." in capsys.readouterr().out
    assert table(tmp_path / "run")["benchmarks"]["rays"]["end_reasons"] == {"answered": 2}


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"--tasks {TESTBED} --num-tasks 12"
    assert maskgym(words, "--policy", "expert", "--out", "a") == 0
    assert maskgym(words, "--policy", "search-first", "--out", "b") == 0
    capsys.readouterr()
    assert maskgym("--compare a b --out compared") == 0
    said = capsys.readouterr().out
    assert "policy: 'expert' A, 'search-first' B" in said
    value = json.loads((tmp_path / "compared/comparison.json").read_text())
    exact = value["benchmarks"][0]["differences"][1]
    assert exact["metric"] == "exact_match"
    assert exact["num_pairs"] == 12
    assert exact["mean_a"] == 1.0
    assert exact["difference"]["mean"] == exact["mean_b"] - 1.0
    assert (tmp_path / "compared/comparison.md").read_text() in said


def test_a_guided_record_makes_no_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"--tasks {TESTBED} --num-tasks 2 --policy expert --out run"
    assert maskgym(words) == 0
    path = tmp_path / "run/records.jsonl"
    path.write_text(path.read_text().replace('"scaffold": ""', '"scaffold": "First ..."'))
    for again in (words, "--compare run run"):
        assert maskgym(again) == 2
        assert "an evaluation is always bare" in capsys.readouterr().err


def test_failed_questions_are_played_again_when_asked(tmp_path: Path) -> None:
    words = f"--tasks {TESTBED} --num-tasks 3 --policy expert --out run"
    assert maskgym(words) == 0
    path = tmp_path / "run/records.jsonl"
    text = path.read_text()
    path.write_text(text.replace('"error": ""', '"error": "it fell"', 1))
    assert maskgym(words) == 0
    assert table(tmp_path / "run")["benchmarks"][TESTBED]["num_failed"] == 1
    assert maskgym(words, "--retry-failed") == 0
    assert table(tmp_path / "run")["benchmarks"][TESTBED]["num_failed"] == 0
    assert sorted(path.read_text().splitlines()) == sorted(text.splitlines())


def test_stored_answers_are_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: Sequence[dict[str, Any]] = [
        {"id": "1", "golden_answers": ["Mercia"], "pred": "Mercian", "metric_acc": 1.0},
        {"id": "2", "golden_answers": ["x"], "pred": "x", "metric_acc": 1.0, "metric_em": 1.0},
    ]
    (tmp_path / "stored.json").write_text(json.dumps(rows))
    assert maskgym("--replay stored.json --out replayed") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "| stored | strict | contains | 2 | 50.0% [0.0, 100.0] | 100.0% | 1 of 2 |" in said
    assert "| stored | compat:search-r1 | contains | 2 | 100.0% [100.0, 100.0] |" in said
    assert json.loads((tmp_path / "replayed/replay.json").read_text())["metrics"]
