"""The copy meter: runs of words that stand in the scaffold."""

import random
import time

import pytest

from maskgym.agents.guidance.copying import copied_share, num_covered, runs_of, words_of
from maskgym.agents.rollouts.trajectory import Trajectory, Turn

SCAFFOLD = "First find the price of one bag , then multiply it by [NUMBER] ."


def trajectory(*actions: str, scaffold: str = SCAFFOLD, question: str = "") -> Trajectory:
    turns = tuple(
        Turn(
            prompt_ids=(1,),
            action_ids=(2,),
            logprobs=(0.0,),
            action_text=text,
            observation="",
            action="answer",
        )
        for text in actions
    )
    return Trajectory(
        task_id="t",
        group="t|all",
        turns=turns,
        reward=0.0,
        verdict=None,
        end_reason="answered",
        scaffold=scaffold,
        question=question,
    )


def test_the_words_in_copied_runs_are_counted() -> None:
    # 8 words of the scaffold among 4 of the model's own
    text = "I think : first find the price of one bag , so"
    assert words_of(text)[3:11] == words_of(SCAFFOLD)[:8]
    assert copied_share(trajectory(text)) == pytest.approx(8 / 12)


def test_seven_words_are_no_run_of_eight() -> None:
    assert copied_share(trajectory("first find the price of one bag and more")) == 0.0
    assert copied_share(trajectory("first find the price"), num_words=4) == 1.0


def test_a_run_does_not_reach_from_one_action_into_the_next() -> None:
    assert copied_share(trajectory("first find the price", "of one bag ,")) == 0.0


def test_what_the_question_says_as_well_is_no_copy() -> None:
    assert copied_share(trajectory(SCAFFOLD)) == 1.0
    assert copied_share(trajectory(SCAFFOLD, question=SCAFFOLD)) == 0.0


def test_a_short_scaffold_counts_as_a_whole() -> None:
    assert copied_share(
        trajectory("so I say search : [ ENTITY ]", scaffold="search: [ENTITY]")
    ) == (pytest.approx(5 / 8))


def test_a_bare_or_silent_trajectory_has_copied_nothing() -> None:
    assert copied_share(trajectory(SCAFFOLD, scaffold="")) == 0.0
    assert copied_share(trajectory("")) == 0.0
    assert copied_share(trajectory()) == 0.0


def test_covered_words_are_those_that_marking_every_run_marks() -> None:
    draw = random.Random(0)
    for _ in range(300):
        words = [draw.choice("abc") for _ in range(draw.randrange(30))]
        known = frozenset(runs_of([draw.choice("abc") for _ in range(12)], 3))
        marked: set[int] = set()
        for start in range(len(words) - 2):
            if tuple(words[start : start + 3]) in known:
                marked |= {start, start + 1, start + 2}
        assert num_covered(words, known, 3) == len(marked)


def test_runs_are_all_neighbours_of_a_length() -> None:
    assert list(runs_of(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(runs_of(["a"], 2)) == []


def test_long_texts_take_time_in_proportion_to_their_length() -> None:
    text = "a b " * 50_000
    started_s = time.process_time()
    assert copied_share(trajectory(text, scaffold=text)) == 1.0
    assert time.process_time() - started_s < 5
