"""Bare evaluation: intervals, what counts, and that no scaffold slips in."""

from dataclasses import replace
from typing import Any

import pytest

from maskgym.agents.engines.scripted_engine import ScriptedEngine
from maskgym.agents.evaluation.evaluate import assert_bare, evaluate, summarise
from maskgym.agents.guidance.config import Slot
from maskgym.agents.policies import ExpertPolicy, play
from maskgym.agents.rollouts.chat import Chat
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, rollout
from maskgym.envs import SearchEnv, Verdict, testbed

TASKS = testbed("search", level=1, size=6)
INLINE = RolloutConfig(num_env_workers=0, max_tokens_per_turn=64)


def test_the_expert_scores_everything_and_sees_every_gold_passage() -> None:
    env = SearchEnv(tasks=TASKS)
    played = [play(env, ExpertPolicy(), task) for task in TASKS]
    evaluation = summarise(TASKS, played)
    assert evaluation.accuracy.mean == 1.0
    assert evaluation.exact_match == 1.0
    assert evaluation.f1 == 1.0
    assert evaluation.retrieval_recall == 1.0
    assert evaluation.mean_turns == 2.0


def test_a_verifier_error_is_counted_apart_and_not_as_wrong() -> None:
    env = SearchEnv(tasks=TASKS)
    played = [play(env, ExpertPolicy(), task) for task in TASKS]
    played[0] = replace(played[0], verdict=Verdict.VERIFIER_ERROR, reward=0.0)
    evaluation = summarise(TASKS, played)
    assert evaluation.num_verifier_errors == 1
    assert evaluation.accuracy.mean == 1.0


def test_an_episode_with_a_scaffold_is_no_evaluation(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    envs = EnvPool(lambda: SearchEnv(tasks=TASKS))
    answer = chat.action_ids("<answer> nobody </answer>")
    slot = Slot(task=TASKS[0], index=0, scaffold="all")
    (guided,) = rollout(ScriptedEngine(lambda _: answer), chat, envs, [slot], INLINE)
    assert guided.is_guided
    with pytest.raises(AssertionError, match="an evaluation is always bare"):
        assert_bare(guided)
    # Nor does it help to forget that there was one: the prompt itself tells.
    with pytest.raises(AssertionError, match="an evaluation is always bare"):
        assert_bare(replace(guided, scaffold=""))


def test_an_environment_that_shows_scaffolds_by_default_is_still_evaluated_bare(
    tiny_tokenizer: Any,
) -> None:
    chat = Chat(tiny_tokenizer)
    envs = EnvPool(lambda: SearchEnv(tasks=TASKS, scaffold="all"))
    prompts: list[str] = []

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        prompts.append(chat.tokenizer.decode(prompt_ids))
        return chat.action_ids("<answer> nobody </answer>")

    evaluation, trajectories = evaluate(ScriptedEngine(script), chat, envs, TASKS, INLINE)
    assert evaluation.accuracy.mean == 0.0
    assert len(trajectories) == len(TASKS)
    assert not any("[ENTITY]" in prompt or "hidden" in prompt for prompt in prompts)
