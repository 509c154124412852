"""Two runs side by side: pairs by question, exact numbers, and what is no pair."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.evaluation.compare import Comparison, Difference, compare
from maskgym.agents.evaluation.records import EvaluationRecord
from maskgym.agents.evaluation.scores import score_question
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import Domain, Task, Verdict


def run(name: str, answers: str, *, first: int = 0, **fields: Any) -> list[EvaluationRecord]:
    """One question a letter: "+" right, "-" wrong, "e" verifier error."""
    records = []
    for i, letter in enumerate(answers, start=first):
        task = Task(
            task_id=f"t{i:02}",
            question=f"Who is {i}?",
            answers=("Ada Byron",),
            domain=Domain.SEARCH,
        )
        verdict = {"+": Verdict.CORRECT, "-": Verdict.WRONG, "e": Verdict.VERIFIER_ERROR}[letter]
        trajectory = Trajectory(
            task_id=task.task_id,
            group=f"{task.task_id}|",
            turns=(),
            reward=0.0,
            verdict=verdict,
            end_reason="answered",
            answer="Ada Byron" if letter == "+" else "Ada",
            question=task.question,
            gold=task.answers,
        )
        trajectory = replace(trajectory, **fields)
        scores = score_question(task, trajectory)
        records.append(EvaluationRecord(benchmark=name, scores=scores, trajectory=trajectory))
    return records


def row(comparison: Comparison, metric: str) -> Difference:
    return next(d for d in comparison.benchmarks[0].differences if d.metric == metric)


def test_differences_and_tests_are_those_worked_by_hand() -> None:
    found = compare(run("nq", "+++-------"), run("nq", "++-+++++--"))
    exact = row(found, "exact_match")
    assert (exact.mean_a, exact.mean_b, exact.num_pairs) == (0.3, 0.7, 10)
    assert exact.difference.mean == pytest.approx(0.4)
    assert (exact.num_only_a, exact.num_only_b) == (1, 5)
    assert exact.test == "McNemar exact"
    assert exact.p_value == pytest.approx(2 * (1 + 6) / 64)
    f1 = row(found, "f1")  # "Ada" for "Ada Byron" is 2/3: each difference is a third
    assert f1.difference.mean == pytest.approx(4 / 30)
    assert f1.test == "permutation"
    assert f1.p_value == pytest.approx(14 / 64)


def test_a_run_compared_with_itself_differs_in_nothing() -> None:
    found = compare(run("nq", "+-+-"), run("nq", "+-+-"))
    for each in found.benchmarks[0].differences:
        assert each.difference.mean == each.difference.low == each.difference.high == 0.0
        assert each.p_value == 1.0


def test_sides_change_the_sign_and_nothing_else() -> None:
    a, b = run("nq", "+++--+-----+"), run("nq", "-+-+++++--+-")
    forth, back = row(compare(a, b), "f1"), row(compare(b, a), "f1")
    assert forth.difference.mean == pytest.approx(-back.difference.mean)
    assert forth.difference.low == pytest.approx(-back.difference.high)
    assert forth.p_value == back.p_value


def test_questions_of_one_run_alone_are_named_and_counted() -> None:
    found = compare(run("nq", "+++"), run("nq", "--++", first=1) + run("popqa", "+"))
    (nq,) = found.benchmarks
    assert nq.num_pairs == 2
    assert (nq.only_in_a, nq.only_in_b) == (("t00",), ("t03", "t04"))
    assert found.unpaired_benchmarks == ("popqa",)
    page = found.to_markdown(name_a="a", name_b="b")
    assert "nq: 1 questions only in A: t00" in page
    assert "nq: 2 questions only in B: t03, t04" in page
    assert "Only in one of the runs: popqa" in page


def test_a_question_that_one_run_could_not_grade_is_no_pair_of_the_accuracy() -> None:
    found = compare(run("nq", "+e-+"), run("nq", "-+-+"))
    assert row(found, "accuracy").num_pairs == 3
    assert row(found, "accuracy").difference.mean == pytest.approx(-1 / 3)
    assert row(found, "exact_match").num_pairs == 4


def test_several_benchmarks_have_a_macro_average() -> None:
    a, b = run("nq", "--") + run("popqa", "----"), run("nq", "++") + run("popqa", "+---")
    found = compare(a, b)
    exact = next(each for each in found.macro if each.metric == "exact_match")
    assert exact.difference.mean == pytest.approx((1 + 0.25) / 2)
    assert exact.p_value is None
    page = " ".join(found.to_markdown(name_a="a", name_b="b").split())
    assert "| macro average | EM strict | 6 | 0.0 | 62.5 |" in page


def test_one_id_for_two_questions_is_refused() -> None:
    with pytest.raises(ValueError, match="on other versions of the data"):
        compare(run("nq", "+"), run("nq", "+", question="Who else?"))


def test_runs_without_a_common_question_are_refused() -> None:
    with pytest.raises(ValueError, match="A has nq, B has popqa"):
        compare(run("nq", "+"), run("popqa", "+"))
    with pytest.raises(ValueError, match="no question in common"):
        compare(run("nq", "+"), run("nq", "+", first=5))


def test_the_json_form_says_how_it_was_made(tmp_path: Path) -> None:
    value = compare(run("nq", "+-"), run("nq", "++")).to_json()
    assert "McNemar" in value["method"]
    assert value["benchmarks"][0]["differences"][0]["metric"] == "accuracy"
