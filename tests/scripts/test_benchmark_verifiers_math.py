"""The tables of the math verifier: each disagreement with public cases is explained, none by habit."""

from pathlib import Path

import pytest

from maskgym.scripts.benchmarks import verifiers_math
from maskgym.scripts.benchmarks.verifiers_math import EXPLAINED, measure_agreement, measure_cost


def test_every_disagreement_is_explained_and_every_explanation_is_needed(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [row for row in verifiers_math._SETS if "Math-Verify" in row[0] or "Hend" in row[0]]
    monkeypatch.setattr(verifiers_math, "_SETS", small)
    summary, listed = measure_agreement(shared_data)
    assert [row[:4] for row in summary.rows] == [
        ("Math-Verify's tests", "strict", 268, 268 - len(EXPLAINED)),
        ("Math-Verify's examples", "strict", 14, 13),
        ("Hendrycks' tests", "compat:smepo", 16, 16),
        ("Hendrycks' tests", "strict", 16, 14),
    ]
    assert all(row[5] == 0 for row in summary.rows)
    assert {row[1] for row in listed.rows if row[0] == "Math-Verify's tests"} == set(EXPLAINED)


def test_the_cost_of_each_way_is_measured(shared_data: Path) -> None:
    (table,) = measure_cost(shared_data, num=20)
    assert table.rows[0][0] == "decided exactly"
    assert all(isinstance(row[2], float) for row in table.rows if row[1])


def test_a_missing_file_is_named_beneath_the_table(tmp_path: Path) -> None:
    summary, _ = measure_agreement(tmp_path)
    assert summary.rows == [] and "math_verify_cases.jsonl" in summary.notes[0]
    assert "math_train.json.gz" in measure_cost(tmp_path)[0].notes[-1]
