"""The sandbox benchmark: its tables, and what it refuses."""

from pathlib import Path

import pytest

from maskgym.scripts.benchmarks.sandbox import main
from maskgym.scripts.benchmarks.sandbox_cost import Way


def test_a_short_soak_finds_nothing_wrong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "tables.md"
    assert main(["--only", "soak", "--runs", "100", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "| tier |" in text
    assert "Endings other than expected: 0." in text
    assert out.read_text(encoding="utf-8").strip() == text.strip()


def test_live_sessions_keep_their_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "sessions", "--sessions", "5"]) == 0
    assert "5/5" in capsys.readouterr().out


def test_a_way_counts_processor_time_of_what_it_starts() -> None:
    def spin() -> None:
        sum(range(200_000))

    way = Way("spin", spin, 3)
    way.measure()
    way.measure()
    assert len(way.cpu_ms) == 2
    assert all(cpu_ms > 0 for cpu_ms in way.cpu_ms)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "soak", "--runs", "5"], "100 runs"),
        (["--only", "cost", "--rounds", "0"], "rounds"),
        (["--only", "speed"], "there are: attacks"),
    ],
)
def test_arguments_that_measure_nothing_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
