"""Policies written by hand."""

from typing import Any

import pytest

from maskgym.agents.policies import ExpertPolicy, SearchFirstPolicy, name_in_passage, play
from maskgym.envs import ArithmeticChains, CodeEnv, MathEnv, SearchEnv, Task, testbed


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


def test_an_environment_that_raises_ends_its_episode_and_says_so() -> None:
    class Fragile(SearchEnv):
        def step(self, action: str) -> Any:
            raise RuntimeError("fell")

    tasks = testbed("search", level=1, size=1)
    trajectory = play(Fragile(tasks=tasks), SearchFirstPolicy(), tasks[0])
    assert (trajectory.end_reason, trajectory.error) == ("env_error", "RuntimeError: fell")
    assert not trajectory.is_trainable


def test_a_scaffold_that_an_environment_shows_of_its_own_accord_is_in_the_record() -> None:
    class Chatty(SearchEnv):
        def reset(self, **settings: Any) -> Any:
            observation, info = super().reset(**settings)
            return {**observation, "scaffold": "First [ENTITY]."}, info

    tasks = testbed("search", level=1, size=1)
    assert play(Chatty(tasks=tasks), SearchFirstPolicy(), tasks[0]).is_guided


def test_a_trajectory_says_what_protected_the_machine() -> None:
    env = CodeEnv(tasks="testbed:level=1,size=2", sandbox="subprocess")
    assert play(env, ExpertPolicy(), env.tasks[0]).sandbox_tier == "T0"
    env.close()
    assert play(SearchEnv(), SearchFirstPolicy(), SearchEnv().tasks[0]).sandbox_tier == ""
