"""Scores of one question: both ways of comparing, what was shown, what was counted."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from maskgym.agents.evaluation.scores import (
    METRICS,
    QuestionScores,
    score_question,
)
from maskgym.agents.rollouts.trajectory import Trajectory, Turn
from maskgym.envs import Domain, Task, Verdict

TASK = Task(
    task_id="t",
    question="Who sang it?",
    answers=("Beyoncé", "Queen Bey"),
    gold_passages=("p1", "p2"),
    domain=Domain.SEARCH,
)


def turn(action: str = "search", observation: str = "", **fields: Any) -> Turn:
    return Turn(
        prompt_ids=(),
        action_ids=(),
        logprobs=(),
        action_text="",
        observation=observation,
        action=action,
        **fields,
    )


def episode(answer: str, *turns: Turn, **fields: Any) -> Trajectory:
    settings: dict[str, Any] = {"verdict": Verdict.WRONG, "end_reason": "answered", "reward": 0.0}
    return Trajectory(task_id="t", group="t|", turns=turns, answer=answer, **{**settings, **fields})


def test_an_accent_parts_strict_from_search_r1() -> None:
    scores = score_question(TASK, episode("Beyonce", verdict=Verdict.CORRECT))
    assert (scores.exact_match, scores.exact_match_search_r1) == (1.0, 0.0)
    assert scores.accuracy == 1.0


def test_part_of_a_word_is_contained_for_flashrag_alone() -> None:
    scores = score_question(TASK, episode("Queen Beyond"))
    assert (scores.contains, scores.contains_search_r1) == (0.0, 1.0)
    assert scores.f1 == pytest.approx(0.5)


def test_no_answer_scores_nothing_even_where_compat_would_match_nothing_with_a_gold() -> None:
    task = replace(TASK, answers=("The", "---"))
    assert score_question(task, episode("")).exact_match_search_r1 == 1.0
    scores = score_question(task, episode("", end_reason="max_turns", verdict=None))
    assert scores.exact_match_search_r1 == scores.contains_search_r1 == 0.0
    assert scores.answered == scores.accuracy == 0.0


def test_only_what_was_shown_counts_as_shown() -> None:
    turns = (
        turn(observation="a page about Queen Bey", passage_ids=("p2", "x")),
        turn(observation="the tool is down", tool_error="down"),
        turn("invalid", observation="Write an action."),
        turn(passage_ids=("p1",)),  # the last turn: nobody reads what it brought
    )
    scores = score_question(TASK, episode("", *turns, end_reason="max_turns", verdict=None))
    assert scores.gold_recall == 0.5
    assert scores.all_gold_shown == 0.0
    assert scores.answer_shown == 1.0
    assert scores.gold_recall_by_turn == (0.5, 0.5, 0.5)
    assert (scores.turns, scores.tool_calls, scores.tool_failures) == (4, 3, 1)
    assert scores.invalid_actions == 1


def test_scores_that_do_not_exist_are_none_and_not_zero() -> None:
    code = Task(task_id="t", question="Write it.")
    scores = score_question(code, episode("print()", verdict=Verdict.VERIFIER_ERROR))
    missing = {metric.name for metric in METRICS if getattr(scores, metric.name) is None}
    assert missing == {
        "accuracy",
        "exact_match",
        "exact_match_search_r1",
        "f1",
        "contains",
        "contains_search_r1",
        "gold_recall",
        "all_gold_shown",
        "answer_shown",
        "tokens",
    }
    closed = replace(TASK, answers=("yes",))
    shown = turn(observation="yes, a page", passage_ids=("p",))
    assert score_question(closed, episode("no", shown)).answer_shown is None


def test_tokens_are_those_of_the_ids_or_of_the_endpoint() -> None:
    assert score_question(TASK, episode("x", turn("answer", num_tokens=7))).tokens == 7
    sampled = replace(turn("answer"), action_ids=(1, 2), logprobs=(0.0, 0.0))
    assert score_question(TASK, episode("x", sampled)).tokens == 2


def test_scores_survive_their_json_form_and_refuse_another_version() -> None:
    scores = score_question(TASK, episode("x", turn(observation="p", passage_ids=("p1",))))
    row = asdict(scores)
    assert QuestionScores.from_row({**row, "gold_recall_by_turn": [0.5]}) == scores
    row.pop("f1")
    with pytest.raises(ValueError, match="another version of maskgym \\(fields f1\\)"):
        QuestionScores.from_row(row)
