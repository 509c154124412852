"""`maskgym demo` from the shell."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_learns_what_it_says(tmp_path: Path) -> None:
    """The whole demo: bare accuracy on held-out questions rises by 15 points or more."""
    done = subprocess.run(
        [sys.executable, "-m", "maskgym", "demo", "--run", "demo", "--steps", "20"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Report:" in done.stdout
    rows = [json.loads(line) for line in (tmp_path / "demo/metrics.jsonl").read_text().splitlines()]
    found = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
    assert found[-1] - found[0] >= 0.15
    assert (tmp_path / "demo/report.html").is_file()
