"""The recipe that trains from nothing on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_testbed_recipe_learns_from_nothing_by_imitation_and_keeps_it(tmp_path: Path) -> None:
    """Two minutes: an untrained model solves held-out problems after imitation, and GRPO keeps that."""
    done = subprocess.run(
        [sys.executable, "-m", "maskgym", "train", "--recipe", "testbed-cpu", "--run", "run"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    evals = [row for row in rows if "eval/accuracy" in row]
    assert evals[0]["eval/accuracy"] > 0.4  # a guess pays 2%
    assert evals[-1]["eval/accuracy"] > evals[0]["eval/accuracy"] - 0.1
