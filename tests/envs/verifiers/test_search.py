"""verify_search: normalisation, its fixes, and agreement with scores of others."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs.verdicts import Verdict
from maskgym.envs.verifiers import (
    Normalization,
    contains_answer,
    exact_match,
    f1_score,
    normalize_answer,
    verify_search,
)

COMPAT = Normalization.COMPAT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("The Beatles!", "beatles"),
        ("1000", "1,000"),
        ("1914-1918", "1914\u20131918"),
        ("Beyonce", "Beyoncé"),
        ("O'Neill", "O\u2019Neill"),
        ("Malmo", "Malmö"),
        ("Lodz", "Łódź"),
        ("\uff21\uff22\uff23", "ABC"),
        ("日本", "日本"),
        ("A", "A"),
        ("the", "The"),
    ],
)
def test_the_same_words_match(answer: str, gold: str) -> None:
    assert verify_search(answer, [gold]).verdict is Verdict.CORRECT


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("", "A"),
        ("a", "The"),
        ("  ", "!"),
        ("an", "A"),
        ("3", "three"),
        ("か", "が"),
        ("Paris or London", "Paris"),
    ],
)
def test_other_words_or_none_do_not_match(answer: str, gold: str) -> None:
    assert verify_search(answer, [gold]).verdict is Verdict.WRONG


def test_compat_keeps_the_hole_that_strict_closes() -> None:
    assert exact_match("", ["A"], COMPAT) == 1.0 == exact_match("a", ["The"], COMPAT)
    assert exact_match("", ["A"]) == 0.0 == exact_match("a", ["The"])
    assert exact_match("Beyonce", ["Beyoncé"], COMPAT) == 0.0


@pytest.mark.parametrize(
    ("answer", "gold", "expected"),
    [
        ("nothing", "no", 0.0),
        ("1999", "1", 0.0),
        ("banana", "A", 0.0),
        ("5x", "5", 0.0),
        ("5", "the 5 boys", 0.0),
        ("the 5 boys", "5", 1.0),
        ("It was Neil Armstrong, I think", "neil armstrong", 1.0),
        ("Neil and Armstrong", "Neil Armstrong", 0.0),
    ],
)
def test_containment_is_of_whole_words_in_a_row(answer: str, gold: str, expected: float) -> None:
    assert contains_answer(answer, [gold]) == expected


@pytest.mark.parametrize(
    ("answer", "gold"),
    [("George III", "George II"), ("Mercian", "Mercia"), ("many", "---"), ("36", "6")],
)
def test_compat_containment_takes_part_of_a_word_and_even_nothing(answer: str, gold: str) -> None:
    assert contains_answer(answer, [gold], COMPAT) == 1.0
    assert contains_answer(answer, [gold]) == 0.0


def test_f1_equals_the_values_worked_by_hand() -> None:
    assert f1_score("Barack Obama", ["Barack Hussein Obama"]) == pytest.approx(0.8)
    assert f1_score("yes", ["no"]) == 0.0 == f1_score("yes it is", ["yes"])
    assert f1_score("yes", ["Yes!"]) == 1.0
    assert f1_score("a b b", ["b b c"]) == pytest.approx(0.8)  # the article does not count
    assert f1_score("", ["x"]) == 0.0


def test_the_best_gold_counts_and_none_is_an_error() -> None:
    assert f1_score("red car", ["blue", "red car"]) == 1.0
    with pytest.raises(ValueError, match="no gold"):
        verify_search("x", [])
    with pytest.raises(ValueError, match="list of strings"):
        verify_search("x", "x")


def test_normalisation_is_linear_on_a_megabyte() -> None:
    assert normalize_answer("the é, " * 150_000).startswith("e e")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    yield from (json.loads(line) for line in text.split("\n") if line)


def test_em_f1_and_containment_of_7214_scored_answers_are_reproduced(shared_data: Path) -> None:
    num_rows = 0
    for row in _rows(shared_data / "qa_em_scored/flashrag_em_f1.jsonl.gz"):
        said, golds = row["pred"] or "", row["golden_answers"]
        assert exact_match(said, golds, COMPAT) == row["metric_em"], row
        assert f1_score(said, golds, COMPAT) == pytest.approx(row["metric_f1"]), row
        assert contains_answer(said, golds, COMPAT) == row["metric_acc"], row
        num_rows += 1
    for row in _rows(shared_data / "qa_em_scored/fireact_hotpot_em_f1.jsonl"):
        assert exact_match(row["pred"] or "", [row["gt"]], COMPAT) == float(row["em"]), row
        assert f1_score(row["pred"] or "", [row["gt"]], COMPAT) == pytest.approx(row["f1"]), row
        num_rows += 1
    assert num_rows == 7214


def test_a_response_is_graded_in_each_mode() -> None:
    response = "<answer> Bonn </answer> no: <answer> the Beyonce </answer>"
    assert verify_search(response, ["Beyonce"], mode="compat:search-r1").is_correct
    assert not verify_search(response, ["Bonn"], mode="compat:flashrag").is_correct
    assert not verify_search("Beyonc\u00e9", ["Beyonce"], mode="compat:search-r1").is_correct
    assert verify_search("Beyonc\u00e9", ["Beyonce"]).is_correct
    assert verify_search("", ["The"], mode="compat:search-r1").is_correct
    assert not verify_search("", ["The"]).is_correct
    with pytest.raises(ValueError, match="Did you mean 'compat:search-r1'"):
        verify_search("x", ["x"], mode="compat:searchr1")
