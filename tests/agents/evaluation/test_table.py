"""The table: what counts where, the macro average, and that nothing depends on the order of records."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from maskgym.agents.evaluation.records import EvaluationRecord
from maskgym.agents.evaluation.scores import QuestionScores, score_question
from maskgym.agents.evaluation.table import tabulate
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import Domain, Task, Verdict


def record(
    name: str, i: int, *, answer: str = "Ada", scores: dict[str, Any] | None = None, **fields: Any
) -> EvaluationRecord:
    task = Task(task_id=f"t{i:03}", question="Who?", answers=("Ada",), domain=Domain.SEARCH)
    is_right = answer == "Ada"
    settings: dict[str, Any] = {
        "verdict": Verdict.CORRECT if is_right else Verdict.WRONG,
        "end_reason": "answered",
    }
    trajectory = Trajectory(
        task_id=task.task_id,
        group=f"{task.task_id}|",
        turns=(),
        reward=float(is_right),
        answer=answer,
        question=task.question,
        gold=task.answers,
        **{**settings, **fields},
    )
    found: QuestionScores = replace(score_question(task, trajectory), **(scores or {}))
    return EvaluationRecord(benchmark=name, scores=found, trajectory=trajectory)


RECORDS = [
    *(record("nq", i, answer="Ada" if i < 3 else "Bob") for i in range(12)),
    *(record("popqa", i, answer="Ada" if i < 3 else "Bob") for i in range(4)),
]


def test_means_are_by_benchmark_and_the_macro_average_weighs_benchmarks_equally() -> None:
    table = tabulate(RECORDS)
    nq, popqa = table.benchmarks
    assert (nq.name, nq.num_questions, nq.estimates["exact_match"].mean) == ("nq", 12, 0.25)
    assert (popqa.num_questions, popqa.estimates["exact_match"].mean) == (4, 0.75)
    assert table.macro["exact_match"].mean == 0.5
    assert table.macro["exact_match"].low < 0.5 < table.macro["exact_match"].high
    assert nq.accuracy_wilson is not None
    assert nq.accuracy_wilson.low == pytest.approx(0.0889, abs=1e-3)


def test_a_benchmark_alone_has_no_macro_average_and_its_row_is_the_same_beside_others() -> None:
    alone = tabulate(RECORDS[:12])
    assert alone.macro == {}
    assert alone.benchmarks[0] == tabulate(RECORDS).benchmarks[0]


def test_the_order_of_records_says_nothing() -> None:
    shuffled = RECORDS[:12]
    random.Random(0).shuffle(shuffled)
    assert tabulate(shuffled + RECORDS[12:]) == tabulate(RECORDS)


def test_what_could_not_be_graded_or_played_is_counted_apart() -> None:
    failed = [
        record("nq", 20, verdict=Verdict.VERIFIER_ERROR),
        record("nq", 21, answer="", verdict=None, end_reason="engine_error", error="HTTP 500"),
        record("nq", 22, answer="", verdict=None, end_reason="max_turns"),
    ]
    (nq,) = tabulate(RECORDS[:12] + failed, expected={"nq": 20}).benchmarks
    assert (nq.num_verifier_errors, nq.num_failed, nq.num_missing) == (1, 1, 5)
    assert nq.estimates["accuracy"].mean == pytest.approx(3 / 14)  # the ungraded one is in no share
    assert nq.end_reasons == {"answered": 13, "engine_error": 1, "max_turns": 1}


def test_metrics_that_no_question_has_are_left_out() -> None:
    (nq,) = tabulate(RECORDS[:12]).benchmarks
    assert "gold_recall" not in nq.estimates
    assert "all gold shown" not in tabulate(RECORDS[:12]).to_markdown(who="x")
    shown = {"gold_recall": 1.0, "all_gold_shown": 1.0, "gold_recall_by_turn": (0.5, 1.0)}
    short = {"gold_recall": 0.5, "all_gold_shown": 0.0, "gold_recall_by_turn": (0.5,)}
    with_gold = [record("qed", 0, scores=shown), record("qed", 1, scores=short), record("qed", 2)]
    table = tabulate(with_gold)
    assert table.benchmarks[0].recall_by_turn == (
        0.5,
        0.75,
    )  # an episode that is over keeps its share
    assert table.benchmarks[0].estimates["gold_recall"].mean == 0.75
    assert "| qed | 50.0% | 75.0% |" in " ".join(table.to_markdown(who="x").split())
    assert "gold_recall" not in tabulate(with_gold + RECORDS).macro


def test_disagreements_of_the_two_ways_of_comparing_are_listed() -> None:
    odd = record(
        "nq", 30, answer="Adá | x", scores={"exact_match": 1.0, "exact_match_search_r1": 0.0}
    )
    table = tabulate([*RECORDS, odd])
    (disagreement,) = table.benchmarks[0].disagreements
    assert (disagreement.task_id, disagreement.strict, disagreement.search_r1) == ("t030", 1.0, 0.0)
    page = table.to_markdown(who="x")
    assert "disagree on 1 questions" in page
    squeezed = " ".join(page.split())
    assert (
        "| nq | t030 | Adá \\| x | Ada | 1 | 0 |" in squeezed
    )  # a cell cannot break out of its row
    assert "agree on every question" in tabulate(RECORDS).to_markdown(who="x")


def test_the_json_form_holds_plain_values() -> None:
    value = tabulate(RECORDS).to_json()
    assert value["benchmarks"]["nq"]["estimates"]["f1"]["mean"] == 0.25
    assert type(value["macro"]["f1"]["low"]) is float
    assert not np.isnan(value["macro"]["f1"]["low"])


def test_no_record_is_no_table() -> None:
    with pytest.raises(ValueError, match="no record"):
        tabulate([], expected={"nq": 3})


def test_the_columns_of_a_table_stand_below_each_other() -> None:
    lines = [
        line for line in tabulate(RECORDS).to_markdown(who="x").splitlines() if line[:1] == "|"
    ]
    answers = lines[:5]  # header, rule, two benchmarks, macro average
    bars = [[i for i, character in enumerate(line) if character == "|"] for line in answers]
    assert len(bars[0]) == 9 and all(each == bars[0] for each in bars)


def test_what_makes_the_numbers_doubtful_stands_before_them() -> None:
    assert "**nq**" not in tabulate(RECORDS, expected={"nq": 12}).to_markdown(who="x")
    failed = {"tool_calls": 2, "tool_failures": 1}
    unseen = {"tool_calls": 1, "gold_recall": 0.0, "all_gold_shown": 0.0}
    page = tabulate(
        [record("nq", 0, scores=failed), record("qed", 0, scores=unseen)], expected={"nq": 3}
    ).to_markdown(who="x")
    before = page.partition("## Answers")[0]
    assert "- **nq**: only 1 of 3 questions were played so far." in before
    assert "- **nq**: 50.0% of the tool calls failed." in before
    assert (
        "- **qed**: no gold passage was ever shown: is the index one of another corpus?" in before
    )
