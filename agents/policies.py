"""Observations in, actions out: policies written by hand, to compare models with."""

import re
from collections.abc import Callable
from typing import Protocol

from ..envs import Task, TextEnv, expert_actions
from .rollouts.trajectory import Trajectory, Turn

_WORD = re.compile(r"\w+")


class Policy(Protocol):
    """Plays an episode in text."""

    def begin(self, env: TextEnv, task: Task) -> None:
        """Called before the first turn.

        Raises:
            ValueError: If the policy cannot play this task in this environment.
        """

    def act(self, observation: str) -> str:
        """The next action."""


class ExpertPolicy:
    """Plays the task's expert trace: what a perfect student of the expert would reach."""

    def begin(self, env: TextEnv, task: Task) -> None:
        """Prepares the expert's actions."""
        if task.expert_trace is None:
            raise ValueError(f"Task {task.task_id!r} has no expert trace to play.")
        answer = task.answers[0] if task.answers else ""
        self._actions = expert_actions(task.expert_trace, env.protocol, answer)
        self._next = 0

    def act(self, observation: str) -> str:
        """The expert's next action; its last one again when the episode goes on."""
        action = self._actions[min(self._next, len(self._actions) - 1)]
        self._next += 1
        return action


class SearchFirstPolicy:
    """Searches with the question, then answers with a name from the best passage.

    The answer is the longest run of capitalised words in the first passage that the question does not
    hold; the passage's title where there is none. It shows what the environment pays without a model.
    """

    def begin(self, env: TextEnv, task: Task) -> None:
        """Remembers the question."""
        if not any(tool.name == "search" for tool in env.tools):
            raise ValueError("The policy search-first needs an environment with the search tool.")
        self._env = env
        self._question = task.question
        self._has_searched = False

    def act(self, observation: str) -> str:
        """The search, then the answer."""
        if not self._has_searched:
            self._has_searched = True
            return self._env.protocol.format_tool_call("search", self._question)
        return self._env.protocol.format_answer(name_in_passage(observation, self._question))


def name_in_passage(passage: str, question: str) -> str:
    """The first longest run of capitalised words of a passage that is not in the question."""
    asked = set(_WORD.findall(question.casefold()))
    body = re.sub(r"</?\w+>|\[\d+\]", " ", passage)
    runs: list[str] = re.findall(r"\b[A-Z][\w'-]*(?: (?:of |the )?[A-Z][\w'-]*)*", body)
    fresh = [run for run in runs if not set(_WORD.findall(run.casefold())) & asked]
    return max(fresh or runs or ["unknown"], key=lambda run: len(run.split()))


POLICIES: dict[str, Callable[[], Policy]] = {
    "expert": ExpertPolicy,
    "search-first": SearchFirstPolicy,
}


def play(env: TextEnv, policy: Policy, task: Task) -> Trajectory:
    """One bare episode of a policy; the trajectory has texts and no tokens.

    An environment that raises in the middle gives a trajectory that says so, as in a rollout.
    """
    observation, info = env.reset(options={"task": task, "scaffold": ""})
    sandbox_tier = str(info["sandbox_tier"])
    policy.begin(env, task)
    turns: list[Turn] = []
    scaffold = observation["scaffold"]
    reward, is_over, error = 0.0, False, ""
    while not is_over:
        action = policy.act(observation["text"])
        try:
            observation, reward, terminated, truncated, info = env.step(action)
        except Exception as failure:  # of this episode; the others go on, as in a rollout
            error, reward = f"{type(failure).__name__}: {failure}", 0.0
            info = {"verdict": "", "end_reason": "env_error", "answer": ""}
            break
        is_over = terminated or truncated
        scaffold = "\n".join(filter(None, (scaffold, observation["scaffold"])))
        turns.append(
            Turn(
                prompt_ids=(),
                action_ids=(),
                logprobs=(),
                action_text=action,
                observation="" if is_over else observation["text"],
                action=info["action"],
                tool_error=info["tool_error"],
                passage_ids=tuple(info["passage_ids"]),
            )
        )
    return Trajectory.of_episode(
        task,
        turns,
        info,
        group=f"{task.task_id}|",
        reward=float(reward),
        scaffold=scaffold,
        error=error,
        sandbox_tier=sandbox_tier,
    )
