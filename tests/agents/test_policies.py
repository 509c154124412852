"""Policies written by hand."""

from typing import Any

import pytest

from maskgym.agents.policies import ExpertPolicy, SearchFirstPolicy, name_in_passage, play
from maskgym.envs import ArithmeticChains, MathEnv, SearchEnv, Task, testbed


@pytest.mark.parametrize("level", [1, 3])
def test_the_expert_policy_solves_the_testbed(level: int) -> None:
    tasks = testbed("search", level=level, size=4)
    env: Any = SearchEnv(tasks=tasks)
    assert all(play(env, ExpertPolicy(), task).is_correct for task in tasks)


def test_search_first_is_paid_sometimes_and_not_always() -> None:
    tasks = testbed("search", level=1, size=64)
    env = SearchEnv(tasks=tasks)
    rewards = [play(env, SearchFirstPolicy(), task).reward for task in tasks]
    assert 0 < sum(rewards) < 64


def test_search_first_needs_a_search_tool() -> None:
    env = MathEnv(tasks=ArithmeticChains(level=1, size=1))
    with pytest.raises(ValueError, match="search tool"):
        play(env, SearchFirstPolicy(), env.tasks[0])


def test_the_expert_policy_needs_a_trace() -> None:
    task = Task(task_id="t", question="2 + 2 ?", answers=("4",))
    with pytest.raises(ValueError, match="no expert trace"):
        play(MathEnv(tasks=[task]), ExpertPolicy(), task)


def test_a_name_of_the_question_is_not_the_answer() -> None:
    passage = (
        "<information> [1] Marie Curie: Marie Curie shared it with Pierre and Henri Becquerel."
    )
    assert name_in_passage(passage, "who shared it with marie curie") == "Henri Becquerel"
