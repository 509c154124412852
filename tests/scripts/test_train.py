"""`maskgym train` and `maskgym eval` on real rows, from the shell."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SMALL = (
    "--model new --engine transformers --steps 2 --tasks-per-step 2 --group-size 2 --max-tokens 16 "
    "--max-model-len 1500 --num-eval-tasks 4 --eval-every 0 --set trainer.rollout.num_env_workers=0"
)


def command(words: str, *, folder: Path) -> list[str]:
    return [sys.executable, "-m", "maskgym", *words.split()]


def maskgym(words: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(words, folder=folder), cwd=folder, env=environment, capture_output=True, text=True
    )


def check_run(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2]
    losses = [row["train/loss"] for row in rows[1:]]
    assert all(loss == loss and abs(loss) < 1e3 for loss in losses)
    assert rows[-1]["eval/num_tasks"] == 4
    trajectories = (run / "trajectories" / "step-000002.jsonl").read_text().splitlines()
    assert len(trajectories) == 4
    assert all(json.loads(line)["turns"] for line in trajectories)
    assert (run / "report.html").is_file()
    assert (run / "curves.png").is_file()


@pytest.mark.slow
def test_grpo_on_gsm8k(tmp_path: Path, shared_data: Path) -> None:
    data = shared_data / "gsm8k"
    done = maskgym(
        f"train --env math --tasks {data}/train.jsonl.gz --eval-tasks {data}/test.jsonl.gz "
        f"--run gsm8k {SMALL}",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "gsm8k")
    row = json.loads((tmp_path / "gsm8k/trajectories/step-000002.jsonl").read_text().split("\n")[0])
    assert "[NUMBER]" in row["scaffold"]


@pytest.mark.slow
def test_grpo_on_humaneval(tmp_path: Path, shared_data: Path) -> None:
    done = maskgym(
        f"train --env code --tasks {shared_data}/humaneval/HumanEval.jsonl.gz --run humaneval {SMALL}",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "humaneval")


@pytest.mark.slow
def test_grpo_on_wikipedia_questions(tmp_path: Path, shared_data: Path) -> None:
    data = shared_data / "wiki_passages"
    built = maskgym(f"index {data}/corpus.jsonl.gz wiki", folder=tmp_path)
    assert built.returncode == 0, built.stderr
    rows = _questions(data, 64)
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = maskgym(
        f"train --env search --tasks questions.jsonl --index wiki --run qed {SMALL}",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    check_run(tmp_path / "qed")
    scored = maskgym(
        "eval --env search --tasks questions.jsonl --index wiki --policy search-first --out baseline",
        folder=tmp_path,
    )
    assert scored.returncode == 0, scored.stderr
    found = json.loads((tmp_path / "baseline/evaluation.json").read_text())
    assert found["benchmarks"]["questions"]["estimates"]["accuracy"]["mean"] > 0
    assert "| questions | 64 |" in " ".join(scored.stdout.split())
    again = maskgym(
        "eval --env search --tasks questions.jsonl --index wiki --policy serch-first --out other",
        folder=tmp_path,
    )
    assert again.returncode == 2
    assert "Did you mean 'search-first'" in again.stderr


def _questions(folder: Path, count: int) -> list[dict[str, object]]:
    import gzip

    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    dev = [row for row in rows if row["qid"].startswith("qed-dev") and row["answers"]]
    return dev[:count]


def test_a_run_folder_that_exists_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/notes.txt").write_text("mine")
    done = maskgym(f"train --tasks testbed:level=1 --run taken {SMALL}", folder=tmp_path)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    assert "--resume" in done.stderr
    assert (tmp_path / "taken/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --run r --tasks testbed:level=1", "needs --model"),
        ("train --run r --tasks testbed:level=1 --model nothing", "No model"),
        ("train --run r --tasks nothing.jsonl --model new", "nothing.jsonl"),
        ("train --run r --env serch --tasks testbed:level=1 --model new", "maskgym/Search-v0"),
        pytest.param(
            "train --run r --tasks testbed:levle=1 --model new", "levle", marks=pytest.mark.slow
        ),
        ("train --run r --tasks testbed:level=1 --model new --set trainer.num_stps=3", "num_steps"),
        pytest.param("train --run nowhere --resume", "No run in", marks=pytest.mark.slow),
        pytest.param(
            "train --run r --tasks testbed:level=1 --model new --engine remote --max-tokens 16 "
            '--set engine_options={"servers":["http://127.0.0.1:9"]}',
            "does not answer (ConnectionRefusedError",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train --run r --tasks testbed:level=1 --model new --num-eval-tasks 0",
            "at least 1",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train --run r --tasks testbed:level=1 --model new --ranks 3",
            "3 ranks cannot share",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "train --run r --env CartPole-v1 --tasks env --model new",
            "cannot be made",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "eval --tasks testbed:level=1 --model nothing --out o",
            "No model folder",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(tmp_path: Path, words: str, said: str) -> None:
    done = maskgym(words, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def running(words: str, *, folder: Path) -> tuple["subprocess.Popen[str]", Path]:
    """A long run under way, with its second checkpoint written, and its folder."""
    whole = (
        f"train --tasks testbed:level=1 --eval-tasks testbed:level=1,split=test --run run {words} "
        + SMALL.replace("--steps 2", "--steps 500")
        + " --checkpoint-every 1"
    )
    child = subprocess.Popen(
        command(whole, folder=folder),
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "run/checkpoints/step-000002").is_dir() and time.monotonic() < deadline:
        time.sleep(0.05)
    return child, folder / "run"


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_training_loses_nothing(tmp_path: Path) -> None:
    child, run = running("", folder=tmp_path)
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "--resume" in out
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = sorted((run / "checkpoints").glob("step-*"))[-1]
    assert int(last.name.split("-")[1]) == steps[-1]
    for path in (run / "trajectories").glob("*.jsonl"):
        assert all(json.loads(line) for line in path.read_text().splitlines())
    assert (run / "report.html").is_file()


@pytest.mark.slow
def test_two_ranks_are_killed_and_one_rank_goes_on(tmp_path: Path) -> None:
    child, run = running("--ranks 2", folder=tmp_path)
    first_rank = int((run / "run.lock").read_text())
    refused = maskgym("train --run run --resume", folder=tmp_path)
    assert refused.returncode == 2
    assert f"process {first_rank} trains in it" in refused.stderr
    os.kill(first_rank, signal.SIGKILL)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGKILL
    assert "rank 0 was ended by SIGKILL" in said
    last = int(sorted((run / "checkpoints").glob("step-*"))[-1].name.split("-")[1])
    ignored = maskgym("train --run run --resume --lr 1e-3", folder=tmp_path)
    assert ignored.returncode == 2
    assert "--lr would be ignored" in ignored.stderr
    done = maskgym(f"train --run run --resume --ranks 1 --steps {last + 2}", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(last + 3))
    again = maskgym("train --run run --resume", folder=tmp_path)
    assert again.returncode == 0
    assert f"is at step {last + 2} of {last + 2} already" in again.stdout
