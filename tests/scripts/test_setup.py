"""scripts/setup.sh: refuses what would do harm, and fetches nothing when nothing is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted([*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci" / "run"])


def setup(venv: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs setup.sh on a machine whose pip reaches no index."""
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup.sh"), *arguments],
        env={**os.environ, **offline, "MASKGYM_VENV": str(venv)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse_and_stop_at_the_first_error(script: Path) -> None:
    parsed = subprocess.run(["bash", "-n", str(script)], capture_output=True, check=False)
    assert (parsed.returncode, parsed.stderr) == (0, b"")
    assert "set -euo pipefail" in script.read_text(encoding="utf-8").splitlines()


def test_a_folder_that_is_no_virtual_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    result = setup(tmp_path)
    assert result.returncode == 1
    assert "is not a virtual environment" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_argument_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    result = setup(tmp_path / "venv", "--extra", "train")
    assert result.returncode == 1
    assert "unknown argument '--extra'" in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_second_run_needs_no_network_and_an_unknown_extra_is_named() -> None:
    venv = Path(sys.prefix)
    stamp = venv / "maskgym-setup.txt"
    if not stamp.is_file():
        pytest.skip("this environment was not made by scripts/setup.sh")
    before = stamp.read_bytes()
    result = setup(venv, "--extras", "dev,train")
    assert result.returncode == 0, f"after a change of pyproject.toml run setup.sh: {result.stderr}"
    assert (result.stdout, result.stderr) == ("", "")
    result = setup(venv, "--extras", "trian")
    assert result.returncode == 1
    assert "no extra 'trian'; pyproject.toml has dense, dev" in result.stderr
    assert stamp.read_bytes() == before
