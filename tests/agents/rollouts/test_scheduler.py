"""Faults of engines and environments stay where they happen; nothing that was finished is lost."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from maskgym.agents.engines.engine import Completion, EngineOutOfMemoryError, Request
from maskgym.agents.engines.scripted_engine import ScriptedEngine, ScriptedEngineConfig
from maskgym.agents.guidance.config import Slot
from maskgym.agents.rollouts.chat import Chat, ChatConfig
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import (
    RolloutConfig,
    RolloutCounts,
    RolloutFailedError,
    RolloutInterruptedError,
    rollout,
)
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import EpisodeConfig

from .test_renderers import QWEN3_TEMPLATE, tokenizer
from .test_rollout import INLINE, TASKS, EchoEnv, EchoTool

SLOTS = [Slot(task=task, index=0) for task in TASKS]
LOOK, WORKERS = "<echo> a </echo>", RolloutConfig(num_env_workers=1, max_tokens_per_turn=32)


@pytest.fixture
def chat(tiny_tokenizer: Any) -> Chat:
    return Chat(tiny_tokenizer)


def looks_then_answers(chat: Chat) -> Callable[[Sequence[int]], list[int]]:
    """A script: each episode calls the tool once, then gives its own task's answer."""

    def script(prompt_ids: Sequence[int]) -> list[int]:
        text = chat.tokenizer.decode(prompt_ids)
        word = text.split(" ?")[0].split()[-1]
        return chat.action_ids(f"<answer> {word} </answer>" if "heard" in text else LOOK)

    return script


def envs_of(make: Callable[..., EchoEnv] = EchoEnv) -> EnvPool:
    config = EpisodeConfig(instructions="")
    return EnvPool(lambda: make(tasks=TASKS, config=config, tools=(EchoTool(),)))


class SmallEngine(ScriptedEngine):
    """Has memory for so many requests at once; says so as vLLM and torch do, and forgets them."""

    def __init__(self, script: Any, *, room: int, num_polls: int = 2) -> None:
        super().__init__(script, config=ScriptedEngineConfig(num_polls=num_polls))
        self.room = room
        self.most = 0

    def poll(self) -> list[Completion]:
        if self.num_unfinished > self.room:
            ids = tuple(self._pending)
            self._pending.clear()
            raise EngineOutOfMemoryError("out of memory", ids)
        self.most = max(self.most, self.num_unfinished)
        return super().poll()


@pytest.mark.parametrize("num_env_workers", [0, 4])
def test_an_engine_out_of_memory_is_asked_for_less_at_once_and_nothing_is_lost(
    chat: Chat, num_env_workers: int
) -> None:
    config = RolloutConfig(num_env_workers=num_env_workers, max_tokens_per_turn=32)
    counts = RolloutCounts()
    engine = SmallEngine(looks_then_answers(chat), room=3)
    played = rollout(engine, chat, envs_of(), SLOTS, config, counts=counts)
    whole = rollout(ScriptedEngine(looks_then_answers(chat)), chat, envs_of(), SLOTS, INLINE)
    assert played == whole
    assert all(t.is_correct and len(t.turns) == 2 for t in played)
    assert counts.num_engine_failures >= 1
    assert 1 <= engine.most <= 3
    seeds = {(r.prompt_ids, r.params.seed) for r in engine.requests}
    assert len(seeds) == 2 * len(SLOTS)  # what is asked again is asked with its own seed


class BreakingEngine(ScriptedEngine):
    """Raises in every step that computes a request with this word in it; takes them back if asked."""

    def __init__(self, chat: Chat, word: str, *, is_stuck: bool = False) -> None:
        super().__init__(looks_then_answers(chat))
        self.chat = chat
        self.word = word
        self.is_stuck = is_stuck

    def poll(self) -> list[Completion]:
        prompts = {request.request_id: request.prompt_ids for request in self.requests}
        for request_id, pending in self._pending.items():
            is_computed = pending.num_polls > 0 or self.is_stuck
            if is_computed and self.word in self.chat.tokenizer.decode(prompts[request_id]):
                raise RuntimeError("device-side assert")
        return super().poll()


def test_a_request_that_breaks_the_engine_costs_its_own_episode_alone(chat: Chat) -> None:
    played = rollout(BreakingEngine(chat, "word5"), chat, envs_of(), SLOTS, INLINE)
    ends = {t.task_id: t.end_reason for t in played}
    assert ends == {f"t{i}": "engine_error" if i == 5 else "answered" for i in range(8)}
    assert played[5].error == "RuntimeError: device-side assert"
    assert not played[5].is_trainable


@pytest.mark.parametrize(("is_stuck", "num_lost"), [(False, 3), (True, 0)])
def test_an_engine_that_is_broken_for_good_gives_up_with_what_was_finished(
    chat: Chat, is_stuck: bool, num_lost: int
) -> None:
    engine = BreakingEngine(chat, "no such word", is_stuck=is_stuck)

    def break_down(trajectory: Trajectory) -> None:
        engine.word = "user"  # stands in every prompt

    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32, max_episodes=1)
    with pytest.raises(RolloutFailedError, match="device-side assert") as caught:
        rollout(engine, chat, envs_of(), SLOTS, config, on_finished=break_down)
    assert [t.task_id for t in caught.value.trajectories if t.is_correct] == ["t0"]
    ends = [t.end_reason for t in caught.value.trajectories[1:]]
    assert ends == ["engine_error"] * num_lost  # so many were tried one by one


def test_a_request_that_the_engine_refuses_is_its_episodes_end(chat: Chat) -> None:
    class Picky(ScriptedEngine):
        def submit(self, request: Request) -> None:
            if "word2" in chat.tokenizer.decode(request.prompt_ids):
                raise ValueError("token ids from 0 to 999; the model knows 0 to 700.")
            super().submit(request)

    played = rollout(Picky(looks_then_answers(chat)), chat, envs_of(), SLOTS[:4], INLINE)
    assert [t.end_reason for t in played] == ["answered"] * 2 + ["engine_error", "answered"]
    assert "the model knows 0 to 700" in played[2].error


def test_an_environment_that_hangs_ends_at_its_deadline_and_its_worker_is_replaced(
    chat: Chat,
) -> None:
    gate = threading.Event()
    stepping: list[EchoEnv] = []

    class Hanging(EchoEnv):
        def step(self, action: str) -> Any:
            assert self.task is not None
            if self.task.task_id == "t0":
                stepping.append(self)
                gate.wait()
            return super().step(action)

    counts = RolloutCounts()
    config = RolloutConfig(num_env_workers=1, max_tokens_per_turn=32, deadline_s=0.3)
    envs = envs_of(Hanging)
    script = looks_then_answers(chat)
    played = rollout(ScriptedEngine(script), chat, envs, SLOTS[:1], config, counts=counts)
    assert [t.end_reason for t in played] == ["deadline"]
    assert [turn.action_text for turn in played[0].turns] == [LOOK]  # sampled, though not answered
    assert counts.num_hung_envs == 1
    assert envs.acquire() is not stepping[0]
    slow = RolloutConfig(num_env_workers=1, max_tokens_per_turn=32, deadline_s=0.3, max_episodes=1)
    others = rollout(ScriptedEngine(script), chat, envs, SLOTS[:3], slow)
    gate.set()
    assert [t.end_reason for t in others] == ["deadline", "answered", "answered"]


def test_an_environment_that_comes_back_late_is_used_again(chat: Chat) -> None:
    made: list[EchoEnv] = []

    class Late(EchoEnv):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            made.append(self)

        def step(self, action: str) -> Any:
            assert self.task is not None
            time.sleep(0.25 if self.task.task_id == "t0" else 0.1)
            return super().step(action)

    config = RolloutConfig(
        num_env_workers=2, max_tokens_per_turn=32, deadline_s=0.2, max_episodes=2
    )
    script = looks_then_answers(chat)
    rollout(ScriptedEngine(script), chat, envs_of(Late), [*SLOTS[:1] * 2, *SLOTS[1:7]], config)
    assert len(made) <= 4  # two under way, two late; not one more for each that follows


def test_what_was_sampled_until_the_deadline_is_kept(chat: Chat) -> None:
    class Endless(ScriptedEngine):
        """Gives an aborted request the tokens that it has, as real engines do."""

        def abort(self, request_ids: Any) -> None:
            from dataclasses import replace

            whole = {key: self._pending[key].completion for key in self._pending}
            super().abort(request_ids)
            for pending in self._pending.values():
                tokens = whole[pending.completion.request_id].token_ids[:2]
                pending.completion = replace(
                    pending.completion, token_ids=tokens, logprobs=(0.0,) * len(tokens)
                )

    engine = Endless(looks_then_answers(chat), config=ScriptedEngineConfig(num_polls=10**9))
    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32, deadline_s=0.05)
    (late,) = rollout(engine, chat, envs_of(), SLOTS[:1], config)
    assert late.end_reason == "deadline"
    assert [turn.finish_reason for turn in late.turns] == ["abort"]
    assert late.num_action_tokens == 2
    assert engine.num_unfinished == 0


def test_an_interrupted_rollout_hands_over_what_was_under_way_as_aborted(chat: Chat) -> None:
    engine = ScriptedEngine(
        looks_then_answers(chat), config=ScriptedEngineConfig(num_polls=(1, 1, 1, 2, 99, 99))
    )
    num_asked = 0

    def should_stop() -> bool:
        nonlocal num_asked
        num_asked += 1
        return num_asked == 5

    with pytest.raises(RolloutInterruptedError) as caught:
        rollout(engine, chat, envs_of(), SLOTS[:3], INLINE, should_stop=should_stop)
    assert [t.task_id for t in caught.value.trajectories] == ["t0"]
    partial = caught.value.partial
    assert [(t.task_id, len(t.turns), t.end_reason) for t in partial] == [
        ("t1", 1, "aborted"),
        ("t2", 1, "aborted"),
    ]
    assert not any(t.is_trainable for t in partial)
    assert engine.num_unfinished == 0


def test_whatever_ends_a_rollout_leaves_the_engine_ready_for_the_next(chat: Chat) -> None:
    engine = ScriptedEngine(looks_then_answers(chat), config=ScriptedEngineConfig(num_polls=3))

    def refuse(trajectory: Trajectory) -> None:
        raise OSError("disk full")

    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32, deadline_s=None)
    with pytest.raises(OSError, match="disk full"):
        rollout(engine, chat, envs_of(), SLOTS, config, on_finished=refuse)
    assert engine.num_unfinished == 0
    assert all(t.is_correct for t in rollout(engine, chat, envs_of(), SLOTS, config))


def test_an_environment_that_gives_nonsense_or_cannot_be_made_costs_its_episode_alone(
    chat: Chat,
) -> None:
    num_made = 0

    class Odd(EchoEnv):
        def __init__(self, **settings: Any) -> None:
            nonlocal num_made
            num_made += 1
            if num_made == 3:
                raise OSError("no more processes")
            super().__init__(**settings)

        def step(self, action: str) -> Any:
            observation, reward, *ends, info = super().step(action)
            assert self.task is not None
            if self.task.task_id == "t1":
                observation = {"txt": ""}
            if self.task.task_id == "t4":
                reward = float("nan")
            if self.task.task_id == "t5":
                info = {**info, "verdict": "splendid"}
            return observation, reward, *ends, info

    played = rollout(
        ScriptedEngine(looks_then_answers(chat)), chat, envs_of(Odd), SLOTS[:7], INLINE
    )
    errors = {t.task_id: t.error for t in played if t.end_reason == "env_error"}
    assert errors == {
        "t1": "KeyError: 'text'",
        "t2": "OSError: no more processes",
        "t4": "ValueError: the environment gave the reward nan.",
        "t5": "ValueError: 'splendid' is not a valid Verdict",
    }
    assert [t.task_id for t in played if t.is_correct] == ["t0", "t3", "t6"]


def test_an_environment_that_can_never_be_made_is_an_error_of_its_own(chat: Chat) -> None:
    def make() -> Any:
        raise LookupError("no such index")

    with pytest.raises(LookupError, match="no such index"):
        rollout(ScriptedEngine(lambda ids: [1]), chat, EnvPool(make), SLOTS, INLINE)


def test_a_budget_of_tokens_ends_an_episode_and_bounds_its_last_action(chat: Chat) -> None:
    whole = ScriptedEngine(looks_then_answers(chat))
    rollout(whole, chat, envs_of(), SLOTS[:1], INLINE)
    limit = len(whole.requests[1].prompt_ids) + 5
    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32, max_tokens=limit)
    engine = ScriptedEngine(lambda ids: chat.action_ids(LOOK))
    (trajectory,) = rollout(engine, chat, envs_of(), SLOTS[:1], config)
    assert trajectory.end_reason == "context"
    assert [request.params.max_tokens for request in engine.requests] == [32, 5]
    assert trajectory.turns[-1].finish_reason == "length"
    assert len(trajectory.sequence().ids) == limit


def test_a_prompt_longer_than_the_context_is_its_tasks_end_alone(chat: Chat) -> None:
    from dataclasses import replace

    long = replace(TASKS[0], question="word1 " * 300)
    engine = ScriptedEngine(
        looks_then_answers(chat), config=ScriptedEngineConfig(max_model_len=200)
    )
    slots = [Slot(task=long, index=0), SLOTS[1]]
    first, second = rollout(engine, chat, envs_of(), slots, INLINE)
    assert (first.end_reason, first.turns, first.is_trainable) == ("context", (), False)
    assert second.is_correct


def test_a_format_that_drops_old_thoughts_trains_each_action_behind_what_it_was_sampled_after() -> (
    None
):
    chat = Chat(tokenizer(QWEN3_TEMPLATE), ChatConfig(keep_thinking=False))
    asked: list[tuple[int, ...]] = []
    thought = "<think>\nhm\n</think>\n\n"

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        asked.append(prompt_ids)
        is_first = "heard" not in chat.tokenizer.decode(prompt_ids)
        return chat.action_ids(thought + (LOOK if is_first else "<answer> word0 </answer>"))

    (trajectory,) = rollout(ScriptedEngine(script), chat, envs_of(), SLOTS[:1], INLINE)
    assert trajectory.is_correct
    sequences = trajectory.sequences()
    assert len(sequences) == len(asked) == 2
    for sequence, prompt in zip(sequences, asked, strict=True):
        assert sequence.ids[: len(prompt)] == prompt
        assert sequence.loss_mask == (0,) * len(prompt) + (1,) * (len(sequence.ids) - len(prompt))
    assert thought not in chat.tokenizer.decode(asked[1])
    assert thought in trajectory.turns[0].action_text


def test_another_end_of_text_token_ends_a_turn_as_well(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    other = int(tiny_tokenizer.pad_token_id)
    assert other != chat.eos_token_id
    answer = [*chat.action_ids("<answer> word0 </answer>")[:-1], other]
    (trajectory,) = rollout(ScriptedEngine(lambda ids: answer), chat, envs_of(), SLOTS[:1], INLINE)
    assert trajectory.turns[0].action_text == "<answer> word0 </answer>"
    assert trajectory.turns[0].action_ids == tuple(answer)
    assert trajectory.is_correct
