from pathlib import Path

import pytest

from maskgym.scripts.benchmarks.verifiers import main
from maskgym.scripts.benchmarks.verifiers_peers import measure_peers


def test_every_deviation_from_the_peers_own_cases_is_explained(shared_data: Path) -> None:
    [summary, listed] = measure_peers(shared_data)
    assert [row[0] for row in summary.rows] == [
        "search",
        "aime",
        "gsm8k",
        "searchcode",
        "math_rubric",
    ]
    assert all(row[-1] == 0 for row in summary.rows)
    assert all(row[-1] for row in listed.rows)


def test_stored_search_scores_are_reproduced_in_the_peers_mode(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "search", "--data", str(shared_data)]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "compat:" in line]
    assert len(rows) > 10
    assert all(row[-1].strip(" |") == "0" for row in rows)


def test_missing_data_is_named_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "search,peers", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("left out") >= 5
    assert main(["--only", "maths", "--data", str(tmp_path)]) == 2
