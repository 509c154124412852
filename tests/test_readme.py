"""What the README shows runs as it stands."""

import re
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(
    r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def block(mark: str) -> str:
    (found,) = [text for text in BLOCKS if mark in text]
    return str(found)


def test_using_an_environment(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(block("maskgym:maskgym/Search-v0"), names)
    assert "[ENTITY]" in capsys.readouterr().out
    assert names["info"]["action"] == "search"
    assert names["info"]["passage_ids"]


def test_an_environment_of_your_own_takes_fifteen_lines() -> None:
    text = block("class ReverseEnv")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) <= 15
    exec(text, {"__name__": "readme"})


def test_masking_traces_prints_what_the_readme_shows(capsys: pytest.CaptureFixture[str]) -> None:
    exec(block("from maskgym.masking import mask"), {})
    (shown,) = re.findall(r"````\n(.*?)````", README.read_text(encoding="utf-8"), re.DOTALL)
    assert capsys.readouterr().out == shown
