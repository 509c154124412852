"""Expert traces in, trajectories and token sequences out: the expert plays the real environment.

The expert's actions are stepped through the environment, so observations are the real ones and never
trained on; only the expert's own tokens carry loss.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ...envs import Task, TextEnv, Verdict
from ...envs.experts import expert_actions
from ..rollouts.chat import Chat, Conversation
from ..rollouts.trajectory import TokenSequence, Trajectory, Turn
from .config import group_name


class UnusableExpertError(ValueError):
    """An expert that is not to be imitated; `kind` names the reason in one word, for counts."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """A task to imitate the expert of, and the scaffold to show with it."""

    task: Task
    scaffold: str = ""
    """Mask policy of the scaffold; empty for a bare prompt."""


def play_expert(
    env: TextEnv, chat: Chat, lesson: Lesson, *, max_tokens: int | None = None
) -> Trajectory:
    """The trajectory of an expert that plays one task, log-probabilities 0.

    Args:
        env: An environment of the task's domain.
        chat: Renders the episode.
        lesson: What to play.
        max_tokens: Longest context, the last action included; None for any.

    Raises:
        UnusableExpertError: If the task has no expert trace ("no_trace"), the trace does not reach the
            target ("unsolved": a wrong expert is not imitated), or it takes too many tokens ("too_long").
    """
    task = lesson.task
    if task.expert_trace is None:
        raise UnusableExpertError(
            "no_trace", f"Task {task.task_id!r} has no expert trace to imitate."
        )
    observation, info = env.reset(options={"task": task, "scaffold": lesson.scaffold})
    scaffold = observation["scaffold"]
    bare_prompt = tuple(chat.prompt_ids(observation["text"]))
    conversation = Conversation(chat)
    prompt = conversation.say(observation["text"], scaffold)
    answer = task.answers[0] if task.answers else ""
    turns: list[Turn] = []
    reward, is_over = 0.0, False
    for action in expert_actions(task.expert_trace, env.protocol, answer):
        if is_over:
            break
        observation, reward, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
        ids = tuple(chat.action_ids(action))
        conversation.act(ids)
        num_tokens = len(conversation.context)
        if max_tokens is not None and num_tokens > max_tokens:
            raise UnusableExpertError(
                "too_long",
                f"Task {task.task_id!r} takes {num_tokens} tokens or more; the limit is {max_tokens}.",
            )
        turns.append(
            Turn(
                prompt_ids=prompt.ids,
                bare_prompt_ids=prompt.bare_ids if turns else None,
                is_new_context=prompt.is_new_context,
                action_ids=ids,
                logprobs=(0.0,) * len(ids),
                action_text=action,
                observation="" if is_over else observation["text"],
                action=str(info["action"]),
                tool_error=str(info["tool_error"]),
                passage_ids=tuple(str(p) for p in info.get("passage_ids", ())),
            )
        )
        if not is_over:
            shown = observation["scaffold"]
            scaffold = "\n".join(filter(None, (scaffold, shown)))
            prompt = conversation.say(observation["text"], shown)
    if not is_over or info["verdict"] != Verdict.CORRECT:
        raise UnusableExpertError(
            "unsolved",
            f"The expert trace of task {task.task_id!r} does not solve it (end: "
            f"{info['end_reason'] or 'none'}, verdict: {info['verdict'] or 'none'}). Leave the task "
            "out of the warm start, or mend its trace.",
        )
    return Trajectory.of_episode(
        task,
        turns,
        info,
        group=group_name(task.task_id, f"expert|{lesson.scaffold}"),
        reward=float(reward),
        scaffold=scaffold,
        scaffold_policy=lesson.scaffold if scaffold else "",
        bare_prompt_ids=bare_prompt,
        num_kept_thoughts=conversation.num_kept_thoughts,
    )


def expert_sequences(trajectory: Trajectory) -> list[TokenSequence]:
    """What is imitated of an expert: off-policy sequences, as nobody knows its log-probabilities."""
    return [replace(sequence, is_on_policy=False) for sequence in trajectory.sequences()]


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
            yield play_expert(env, chat, lesson, max_tokens=max_tokens)
        except UnusableExpertError as error:
            on_skip(str(error))
