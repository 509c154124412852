"""Expert traces in, supervised token sequences out: the expert plays the real environment.

The expert's actions are stepped through the environment, so observations are the real ones and never
trained on; only the expert's own tokens carry loss.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..envs import Task, TextEnv, Verdict
from ..envs.experts import expert_actions
from .chat import Chat
from .learner import Learner
from .trajectory import TokenSequence, Trajectory, Turn


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """A task for the supervised warm start, and the scaffold to show with it."""

    task: Task
    scaffold: str = ""
    """Mask policy of the scaffold; empty for a bare prompt."""


def play_expert(env: TextEnv, chat: Chat, lesson: Lesson) -> Trajectory:
    """The trajectory of an expert that plays one task, log-probabilities 0.

    Raises:
        ValueError: If the task has no expert trace, or the trace does not reach the target: a wrong
            expert is not imitated.
    """
    task = lesson.task
    if task.expert_trace is None:
        raise ValueError(f"Task {task.task_id!r} has no expert trace to imitate.")
    observation, info = env.reset(options={"task": task, "scaffold": lesson.scaffold})
    text, scaffold = observation["text"], observation["scaffold"]
    bare_prompt = tuple(chat.prompt_ids(text))
    new_ids = tuple(chat.prompt_ids(text, scaffold)) if scaffold else bare_prompt
    answer = task.answers[0] if task.answers else ""
    turns: list[Turn] = []
    reward, is_over = 0.0, False
    for action in expert_actions(task.expert_trace, env.protocol, answer):
        if is_over:
            break
        observation, reward, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
        ids = tuple(chat.action_ids(action))
        turns.append(
            Turn(
                prompt_ids=new_ids,
                action_ids=ids,
                logprobs=(0.0,) * len(ids),
                action_text=action,
                observation="" if is_over else observation["text"],
                action=str(info["action"]),
                tool_error=str(info["tool_error"]),
            )
        )
        if not is_over:
            new_ids = tuple(
                chat.observation_ids(observation["text"], observation["scaffold"], after_ids=ids)
            )
    if not is_over or info["verdict"] != Verdict.CORRECT:
        raise ValueError(
            f"The expert trace of task {task.task_id!r} does not solve it (end: "
            f"{info['end_reason'] or 'none'}, verdict: {info['verdict'] or 'none'}). Leave the task "
            "out of the warm start, or mend its trace."
        )
    return Trajectory(
        task_id=task.task_id,
        group=f"{task.task_id}|expert|{lesson.scaffold}",
        turns=tuple(turns),
        reward=reward,
        verdict=Verdict(info["verdict"]),
        end_reason=str(info["end_reason"]),
        answer=str(info["answer"]),
        scaffold=scaffold,
        scaffold_policy=lesson.scaffold if scaffold else "",
        bare_prompt_ids=bare_prompt,
        question=task.question,
        gold=task.answers,
    )


def expert_trajectories(
    env: TextEnv,
    chat: Chat,
    lessons: Iterable[Lesson],
    *,
    max_tokens: int,
    on_skip: Callable[[str], None] = lambda reason: None,
) -> Iterator[Trajectory]:
    """Plays many lessons; one that cannot be played, or is too long, is reported and left out.

    Args:
        env: An environment of the lessons' domain.
        chat: Renders the episodes.
        lessons: Tasks with expert traces.
        max_tokens: Longest trajectory to keep.
        on_skip: Called with the reason for each lesson left out.
    """
    for lesson in lessons:
        try:
            trajectory = play_expert(env, chat, lesson)
        except ValueError as error:
            on_skip(str(error))
            continue
        length = sum(len(t.prompt_ids) + len(t.action_ids) for t in trajectory.turns)
        if length > max_tokens:
            on_skip(
                f"Task {lesson.task.task_id!r} takes {length} tokens; the limit is {max_tokens}."
            )
            continue
        yield trajectory


def supervised_training(
    learner: Learner,
    make_batch: Callable[[], Sequence[TokenSequence]],
    *,
    num_steps: int,
    name: str = "imitation",
    report: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Takes optimiser steps of imitation; whether all were taken (False: asked to stop).

    Args:
        learner: What learns.
        make_batch: Gives the sequences of one step.
        num_steps: Optimiser steps.
        name: What the progress lines call it.
        report: Takes one line of progress, about every tenth of the way.
        should_stop: Asked before each step.
    """
    started_s = time.perf_counter()
    every = max(1, num_steps // 10)
    for step in range(1, num_steps + 1):
        if should_stop():
            return False
        stats = learner.supervised_step(make_batch())
        if step % every == 0 or step == num_steps:
            report(
                f"  {name} {step:4d}/{num_steps}  loss {stats.loss:.3f}  "
                f"{time.perf_counter() - started_s:.0f} s"
            )
    return True
