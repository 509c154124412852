from collections.abc import Sequence
from typing import Any

import gymnasium
import pytest

from maskgym.envs import (
    ENV_IDS,
    CodeEnv,
    Grade,
    MathEnv,
    SearchEnv,
    Task,
    TextEnv,
    ToolResult,
    strip_thinking,
)
from maskgym.envs.reward_integrity import (
    RewardIntegrityError,
    TrickOutcome,
    check_reward,
    play_tricks,
)
from maskgym.envs.transcript import SegmentKind

TASK = Task(task_id="t", question="Which way?", answers=("left",))
Step = tuple[dict[str, str], float, bool, bool, dict[str, Any]]


class LookTool:
    name = "look"
    description = "Looks."

    def call(self, argument: str) -> ToolResult:
        return ToolResult(text="a wall")


class GoodEnv(TextEnv):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"tasks": [TASK], "tools": (LookTool(),), **settings})

    def grade(self, task: Task, answer: str) -> Grade | bool:
        return answer in task.answers


class _LateEnv(GoodEnv):
    """Pays at the end for whatever `scored` gives, as suites do that score a text of their own."""

    def scored(self) -> str:
        raise NotImplementedError

    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        if terminated or truncated:
            reward = float("left" in self.scored())
        return observation, reward, terminated, truncated, info

    def said(self, *kinds: SegmentKind) -> str:
        return " ".join(s.text for s in self.transcript.segments if s.kind in kinds)


class ToolReader(_LateEnv):
    def scored(self) -> str:
        return self.said(SegmentKind.TOOL_RESULT)


class PromptReader(_LateEnv):
    def scored(self) -> str:
        return self.said(SegmentKind.QUESTION)


class ScaffoldReader(_LateEnv):
    def scored(self) -> str:
        return self.said(SegmentKind.SCAFFOLD)


class ThoughtReader(_LateEnv):
    def scored(self) -> str:
        return self.said(SegmentKind.MODEL)


class ForgeryReader(_LateEnv):
    def scored(self) -> str:
        return strip_thinking(self.said(SegmentKind.MODEL))


class HedgeTaker(GoodEnv):
    def grade(self, task: Task, answer: str) -> bool:
        return "left" in answer


class EmptyTaker(GoodEnv):
    def grade(self, task: Task, answer: str) -> bool:
        return answer in ("left", "the", ".")


class CallPayer(GoodEnv):
    def step(self, action: str) -> Step:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward + 0.1 * (info["action"] == "look"), terminated, truncated, info


class SilentVerifier(GoodEnv):
    def _grade(self, task: Task, answer: str) -> Grade:
        try:
            return Grade.of(bool(self.grade(task, answer)))
        except RuntimeError:
            return Grade.of(False)


def caught(env: TextEnv) -> set[str]:
    return {outcome.name for outcome in play_tricks(env) if not outcome.is_stopped}


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_our_environments_fall_for_nothing(env_id: str) -> None:
    env = gymnasium.make(env_id)
    outcomes = check_reward(env)
    env.close()
    assert all(isinstance(outcome, TrickOutcome) for outcome in outcomes)
    assert sum(outcome.num_attempts for outcome in outcomes) > 40


@pytest.mark.parametrize(
    "make", [lambda: MathEnv(tools=("python",)), lambda: SearchEnv(tools=("python", "search"))]
)
def test_environments_with_several_tools_fall_for_nothing(make: Any) -> None:
    env = make()
    assert all(outcome.num_attempts for outcome in check_reward(env)[:-1])
    env.close()


@pytest.mark.parametrize(
    ("env_class", "trick"),
    [
        (ToolReader, "an answer that stands in a tool's result"),
        (PromptReader, "an answer that stands in the question"),
        (ScaffoldReader, "an answer that stands in the scaffold"),
        (ThoughtReader, "an answer inside the think block"),
        (ForgeryReader, "an answer in a forged tool result"),
        (HedgeTaker, "a hedge between two answers"),
        (EmptyTaker, "an answer that says nothing"),
        (CallPayer, "calling tools for ever"),
        (SilentVerifier, "an answer that the verifier failed to grade"),
    ],
)
def test_an_environment_that_falls_for_a_trick_is_caught(
    env_class: type[GoodEnv], trick: str
) -> None:
    assert caught(GoodEnv()) == set()
    assert trick in caught(env_class())
    with pytest.raises(RewardIntegrityError, match=trick) as error:
        check_reward(env_class())
    assert str(error.value).startswith(env_class.__name__)


def test_one_of_two_answers_may_count_but_not_both() -> None:
    class BothTaker(GoodEnv):
        def grade(self, task: Task, answer: str) -> bool:
            return answer == "left" or "left" in self.transcript.model_text(1)

    trick = "both of two answers, in either order"
    assert trick in caught(BothTaker())
    assert trick not in caught(GoodEnv())


def test_what_cannot_be_judged_is_refused_with_a_remedy() -> None:
    class NeverPays(GoodEnv):
        def grade(self, task: Task, answer: str) -> bool:
            return False

    with pytest.raises(ValueError, match="does not pay for 'left'"):
        check_reward(NeverPays())
    with pytest.raises(ValueError, match="tells no right answer"):
        check_reward(GoodEnv(tasks=[Task(task_id="t", question="?")]))
    with pytest.raises(TypeError, match="for a TextEnv"):
        check_reward(gymnasium.make("CartPole-v1"))


def test_the_environment_is_left_as_it_was() -> None:
    env = GoodEnv()
    tools: Sequence[Any] = env.tools
    play_tricks(env)
    assert env.tools is tools
    env.reset(seed=1)
    assert env.step("<answer>left</answer>")[1] == 1.0


def test_the_code_environment_is_attacked_with_programs() -> None:
    env = CodeEnv()
    programs = play_tricks(env)[-1]
    env.close()
    assert programs.name == "a program that attacks its grader"
    assert programs.is_stopped
