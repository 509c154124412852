"""Experts that play the real environment, and what is imitated of them."""

from typing import Any

import pytest

from maskgym.agents.guidance.experts import (
    Lesson,
    UnusableExpertError,
    expert_sequences,
    expert_trajectories,
    play_expert,
)
from maskgym.agents.rollouts.chat import Chat, ChatConfig
from maskgym.envs import EpisodeConfig, Grade, MathEnv, SearchEnv, Task, TextEnv, testbed
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
    assert trajectory.passage_ids  # what it searched is on record as in a rollout
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


def test_an_experts_sequences_are_off_policy(tiny_tokenizer: Any, search_env: TextEnv) -> None:
    lesson = Lesson(task=search_env.tasks[0])
    trajectory = play_expert(search_env, Chat(tiny_tokenizer), lesson)
    (sequence,) = expert_sequences(trajectory)
    assert not sequence.is_on_policy
    assert sequence.ids == trajectory.sequence().ids


def test_a_format_that_drops_thoughts_gives_a_sequence_for_each_context(
    tiny_tokenizer: Any,
) -> None:
    config = EpisodeConfig(instructions="")  # which name the think block
    search_env = SearchEnv(tasks=testbed("search", level=2), config=config)
    chat = Chat(tiny_tokenizer, ChatConfig(renderer="qwen3", thinking=True, keep_thinking=False))
    trajectory = play_expert(search_env, chat, Lesson(task=search_env.tasks[0]))
    sequences = expert_sequences(trajectory)
    assert len(sequences) > 1
    imitated: list[int] = []
    for sequence in sequences:
        pairs = list(zip(sequence.ids, sequence.loss_mask, strict=True))
        imitated += [i for i, is_trained in pairs if is_trained]
        shown = chat.tokenizer.decode([i for i, is_trained in pairs if not is_trained])
        assert "</think>" not in shown
    assert imitated == [i for turn in trajectory.turns for i in turn.action_ids]
    assert "</think>" in chat.tokenizer.decode(imitated)


def test_scaffolds_shown_turn_by_turn_are_kept_out_of_the_bare_prompts(tiny_tokenizer: Any) -> None:
    config = EpisodeConfig(scaffold_timing="per_turn")
    env = SearchEnv(tasks=testbed("search", level=2), config=config)
    lesson = Lesson(task=env.tasks[0], scaffold="all")
    trajectory = play_expert(env, Chat(tiny_tokenizer), lesson)
    assert trajectory.scaffold.count("[ENTITY]") >= 2
    tokenizer = Chat(tiny_tokenizer).tokenizer
    assert "[ENTITY]" in tokenizer.decode(trajectory.sequence().ids)
    assert "[ENTITY]" not in tokenizer.decode(trajectory.sequence(train_on="bare").ids)


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


def test_an_expert_that_needs_more_turns_than_there_are_is_not_imitated(
    tiny_tokenizer: Any,
) -> None:
    env = SearchEnv(tasks=testbed("search", level=3), config=EpisodeConfig(max_turns=2))
    with pytest.raises(UnusableExpertError, match="end: max_turns") as caught:
        play_expert(env, Chat(tiny_tokenizer), Lesson(task=env.tasks[0]))
    assert caught.value.kind == "unsolved"


def test_a_lesson_that_is_too_long_is_left_out_and_said_so(
    tiny_tokenizer: Any, search_env: TextEnv
) -> None:
    reasons: list[str] = []
    lessons = [Lesson(task=search_env.tasks[0])]
    chat = Chat(tiny_tokenizer)
    whole = play_expert(search_env, chat, lessons[0])
    length = len(whole.sequence().ids)
    for limit, num_kept in ((length, 1), (length - 1, 0)):
        kept = expert_trajectories(
            search_env, chat, lessons, max_tokens=limit, on_skip=reasons.append
        )
        assert len(list(kept)) == num_kept
    assert f"the limit is {length - 1}" in reasons[0]
