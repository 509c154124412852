"""Experts that play the real environment, and what is imitated of it."""

from pathlib import Path
from typing import Any

import pytest

from maskgym.agents.chat import Chat
from maskgym.agents.learner import Learner, LearnerConfig, load_model
from maskgym.agents.sft import Lesson, expert_trajectories, play_expert, supervised_training
from maskgym.envs import Grade, MathEnv, SearchEnv, Task, TextEnv, testbed
from maskgym.masking import ExpertTrace


@pytest.fixture(scope="module")
def search_env() -> SearchEnv:
    return SearchEnv(tasks=testbed("search", level=2))


def test_the_expert_earns_the_reward_in_the_real_environment(
    tiny_tokenizer: Any, search_env: TextEnv
) -> None:
    task = search_env.tasks[0]
    trajectory = play_expert(search_env, Chat(tiny_tokenizer), Lesson(task=task))
    assert trajectory.reward == 1.0
    assert [turn.action for turn in trajectory.turns] == ["search", "search", "answer"]
    assert not trajectory.is_guided


def test_observations_and_scaffold_are_not_imitated(
    tiny_tokenizer: Any, search_env: TextEnv
) -> None:
    chat = Chat(tiny_tokenizer)
    lesson = Lesson(task=search_env.tasks[1], scaffold="all")
    trajectory = play_expert(search_env, chat, lesson)
    sequence = trajectory.sequence()
    imitated = [i for i, m in zip(sequence.ids, sequence.loss_mask, strict=True) if m]
    assert imitated == [i for turn in trajectory.turns for i in turn.action_ids]
    text = chat.tokenizer.decode(imitated)
    assert "<information>" not in text
    assert "[ENTITY]" not in text
    assert "[ENTITY]" in trajectory.scaffold


def test_an_expert_that_is_wrong_is_not_imitated(tiny_tokenizer: Any) -> None:
    wrong = Task(
        task_id="w",
        question="3 + 4 ?",
        answers=("7",),
        expert_trace=ExpertTrace.from_text("3 + 4 = 7"),
    )
    missing = Task(task_id="m", question="3 + 4 ?", answers=("7",))

    class Stern(MathEnv):
        def grade(self, task: Task, answer: str) -> Grade:
            return Grade.of(False)

    chat = Chat(tiny_tokenizer)
    reasons: list[str] = []
    kept = list(
        expert_trajectories(
            Stern(tasks=[wrong]),
            chat,
            [Lesson(task=wrong), Lesson(task=missing)],
            max_tokens=500,
            on_skip=reasons.append,
        )
    )
    assert kept == []
    assert "does not solve it" in reasons[0]
    assert "no expert trace" in reasons[1]


def test_a_lesson_that_is_too_long_is_left_out_and_said_so(
    tiny_tokenizer: Any, search_env: TextEnv
) -> None:
    reasons: list[str] = []
    lessons = [Lesson(task=search_env.tasks[0])]
    chat = Chat(tiny_tokenizer)
    kept = expert_trajectories(search_env, chat, lessons, max_tokens=10, on_skip=reasons.append)
    assert list(kept) == []
    assert "the limit is 10" in reasons[0]


def test_supervised_training_learns_and_stops_when_asked(
    tiny_model_dir: Path, tiny_tokenizer: Any, search_env: TextEnv
) -> None:
    chat = Chat(tiny_tokenizer)
    learner = Learner(load_model(tiny_model_dir, device="cpu"), LearnerConfig(lr=3e-3))
    sequences = [play_expert(search_env, chat, Lesson(task=search_env.tasks[0])).sequence()]
    lines: list[str] = []
    done = supervised_training(learner, lambda: sequences, num_steps=10, report=lines.append)
    assert done
    losses = [float(line.split("loss ")[1].split()[0]) for line in lines]
    assert losses[-1] < losses[0]
    assert not supervised_training(
        learner, lambda: sequences, num_steps=10, should_stop=lambda: True
    )
