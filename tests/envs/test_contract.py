import random
import time
from typing import Any

import gymnasium
import pytest

from maskgym.envs import (
    ENV_IDS,
    ContractError,
    EpisodeConfig,
    FlattenScaffold,
    MathEnv,
    Task,
    TextEnv,
    XMLProtocol,
    check_environment,
)

TASK = Task(task_id="t", question="Which way?", answers=("left",))
Step = tuple[dict[str, str], float, bool, bool, dict[str, Any]]


class GoodEnv(TextEnv):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"tasks": [TASK], **settings})

    def grade(self, task: Task, answer: str) -> bool:
        return answer in task.answers


class GenerousEnv(GoodEnv):
    def grade(self, task: Task, answer: str) -> bool:
        return True


class WholeTranscriptEnv(GoodEnv):
    """Scores all that was said, as peers did."""

    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        if "left" in str(self.transcript) and (terminated or truncated):
            reward = 1.0
        return observation, reward, terminated, truncated, info


class GlobalRandomEnv(GoodEnv):
    def sample_task(self) -> Task:
        return Task(task_id=str(random.random()), question="?", answers=("left",))


class ClockEnv(GoodEnv):
    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "now": time.perf_counter()}


class FragileEnv(GoodEnv):
    def step(self, action: str) -> Step:
        action.encode("latin-1")
        return super().step(action)


class BothEndsEnv(GoodEnv):
    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        is_over = terminated or truncated
        return observation, reward, is_over, is_over, info


class EndlessEnv(GoodEnv):
    def step(self, action: str) -> Step:
        if not isinstance(action, str):
            action = ""
        observation, _, _, _, info = super().step(action)
        self._is_over = False
        return observation, float("nan"), False, False, info


class OddInfoEnv(GoodEnv):
    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        return {**observation, "text": "\ud800"}, reward, terminated, truncated, {**info, "odd": []}


class UnpaidGoldEnv(GoodEnv):
    def grade(self, task: Task, answer: str) -> bool:
        return answer == "right"


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_each_id_keeps_the_contract(env_id: str) -> None:
    env = gymnasium.make(env_id)
    check_environment(env)
    env.close()


@pytest.mark.parametrize(
    "env",
    [
        GoodEnv(),
        GoodEnv(config=EpisodeConfig(max_turns=1)),
        GoodEnv(config=EpisodeConfig(max_invalid_actions=1, invalid_action_penalty=0.5)),
        GoodEnv(protocol=XMLProtocol.preset("gem")),
        GoodEnv(protocol=XMLProtocol.preset("skyrl")),
        MathEnv(tools=("python",), scaffold="all"),
        MathEnv(scaffold="none", config=EpisodeConfig(scaffold_timing="per_turn")),
        FlattenScaffold(MathEnv()),
    ],
    ids=str,
)
def test_every_configuration_keeps_the_contract(env: gymnasium.Env[Any, Any]) -> None:
    check_environment(env)
    env.close()


@pytest.mark.parametrize(
    ("env_class", "points"),
    [
        (GenerousEnv, ["an answer that gives up is not paid"]),
        (
            WholeTranscriptEnv,
            [
                "an answer that stands in the scaffold is not paid",
                "an answer inside the think block is not paid",
                "an answer in a forged tool result is not paid",
            ],
        ),
        (GlobalRandomEnv, ["equal seeds and actions", "the global random state is left alone"]),
        (ClockEnv, ["equal seeds and actions", "info has the same keys"]),
        (FragileEnv, ["gymnasium's check_env", "any string can be stepped"]),
        (BothEndsEnv, ["exactly one of terminated and truncated"]),
        (EndlessEnv, ["an episode ends", "rewards are finite", "step before reset", "no string"]),
        (OddInfoEnv, ["can be written as UTF-8", "infos hold plain values"]),
        (UnpaidGoldEnv, ["the answer that the task itself names is paid"]),
    ],
)
def test_a_broken_environment_is_told_each_point_with_a_remedy(
    env_class: type[GoodEnv], points: list[str]
) -> None:
    with pytest.raises(ContractError) as caught:
        check_environment(env_class())
    for point in points:
        assert any(point in each.point for each in caught.value.violations), (point, caught.value)
    assert str(caught.value).count("remedy: ") == len(caught.value.violations)
    assert all(each.found and each.remedy for each in caught.value.violations)


def test_an_environment_of_another_kind_is_sent_to_gymnasium() -> None:
    with pytest.raises(TypeError, match="check_env for other environments"):
        check_environment(gymnasium.make("CartPole-v1"))
