"""Rollouts: no barrier, budgets, failures that stay their own, and what is trained on."""

import itertools
import threading
import time
from typing import Any

import pytest

from maskgym.agents.engines.scripted_engine import ScriptedEngine, ScriptedEngineConfig
from maskgym.agents.guidance.config import GuidanceConfig, Slot, make_planner
from maskgym.agents.rollouts.chat import Chat, ChatConfig
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import (
    RolloutConfig,
    RolloutCounts,
    RolloutInterruptedError,
    play_groups,
    request_seed,
    rollout,
    rollout_groups,
)
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import EpisodeConfig, Task, TextEnv, ToolResult
from maskgym.masking import ExpertTrace

TASKS = [
    Task(
        task_id=f"t{i}",
        question=f"word{i} ?",
        answers=(f"word{i}",),
        expert_trace=ExpertTrace.from_text(f"the answer is word{i} ."),
        entities=(f"word{i}",),
    )
    for i in range(8)
]


class EchoTool:
    """Gives its argument back, after a while."""

    name = "echo"
    description = "Echoes."

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def call(self, argument: str) -> ToolResult:
        if argument == "boom":
            raise OSError("no echo today")
        time.sleep(self.seconds)
        return ToolResult(text=f"heard {argument}")


class EchoEnv(TextEnv):
    """Says back what it is told; right is the task's word."""

    def grade(self, task: Task, answer: str) -> bool:
        return answer == task.answers[0]


def pool(seconds: float = 0.0, **config: Any) -> EnvPool:
    settings = EpisodeConfig(instructions="", **config)
    return EnvPool(lambda: EchoEnv(tasks=TASKS, config=settings, tools=(EchoTool(seconds),)))


def engine(texts: list[str], tokenizer: Any, **config: Any) -> ScriptedEngine:
    eos = (int(tokenizer.eos_token_id),)
    settings = ScriptedEngineConfig(eos_ids=eos, **config)
    return ScriptedEngine(
        [text + "<|im_end|>" for text in texts], tokenizer=tokenizer, config=settings
    )


INLINE = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32)


def test_an_episode_of_two_turns_keeps_ids_as_sampled(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    script = ["<echo> hello </echo>", "<answer> word0 </answer>"]
    (trajectory,) = rollout(
        engine(script, tiny_tokenizer), chat, pool(), [Slot(task=TASKS[0], index=0)], INLINE
    )
    assert trajectory.reward == 1.0
    assert trajectory.is_correct
    assert [turn.action_text for turn in trajectory.turns] == script
    assert [turn.action for turn in trajectory.turns] == ["echo", "answer"]
    sequence = trajectory.sequence()
    sampled = [i for i, m in zip(sequence.ids, sequence.loss_mask, strict=True) if m]
    assert sampled == [i for text in script for i in chat.action_ids(text)]
    assert "heard hello" in chat.tokenizer.decode(trajectory.turns[1].prompt_ids)


def test_the_context_of_each_request_extends_the_one_before(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    prompts: list[tuple[int, ...]] = []
    texts = iter(["<echo> a </echo>", "<echo> b </echo>", "<answer> word0 </answer>"])

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        prompts.append(prompt_ids)
        return chat.action_ids(next(texts))

    rollout(ScriptedEngine(script), chat, pool(), [Slot(task=TASKS[0], index=0)], INLINE)
    assert len(prompts) == 3
    for shorter, longer in itertools.pairwise(prompts):
        assert longer[: len(shorter)] == shorter


def test_a_guided_rollout_shows_the_masked_scaffold_and_keeps_the_bare_prompt(
    tiny_tokenizer: Any,
) -> None:
    chat = Chat(tiny_tokenizer)
    slot = Slot(task=TASKS[3], index=0, scaffold="all", train_on="bare")
    (trajectory,) = rollout(
        engine(["<answer> word3 </answer>"], tiny_tokenizer), chat, pool(), [slot], INLINE
    )
    assert trajectory.is_guided
    assert "word3" not in trajectory.scaffold
    assert trajectory.bare_prompt_ids == tuple(chat.prompt_ids(TASKS[3].question))
    assert trajectory.turns[0].prompt_ids != trajectory.bare_prompt_ids
    assert (
        trajectory.sequence().ids[: len(trajectory.bare_prompt_ids)] == trajectory.bare_prompt_ids
    )


@pytest.mark.parametrize("num_env_workers", [0, 4])
def test_a_failing_tool_and_a_failing_environment_leave_their_neighbours_alone(
    tiny_tokenizer: Any, num_env_workers: int
) -> None:
    made: list[EchoEnv] = []

    class Fragile(EchoEnv):
        def step(self, action: str) -> Any:
            if "fall" in action:
                raise RuntimeError("fell")
            return super().step(action)

    def make() -> EchoEnv:
        made.append(
            Fragile(tasks=TASKS, config=EpisodeConfig(instructions=""), tools=(EchoTool(),))
        )
        return made[-1]

    by_word = {
        "word0": ["<echo> boom </echo>", "<answer> word0 </answer>"],
        "word1": ["<answer> fall </answer>"],
        "word2": ["<answer> word2 </answer>"],
    }
    chat = Chat(tiny_tokenizer)

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        text = chat.tokenizer.decode(prompt_ids)
        return chat.action_ids(next(v for k, v in by_word.items() if k in text).pop(0))

    config = RolloutConfig(num_env_workers=num_env_workers, max_tokens_per_turn=32)
    slots = [Slot(task=TASKS[i], index=0) for i in range(3)]
    first, second, third = rollout(ScriptedEngine(script), chat, EnvPool(make), slots, config)
    assert first.is_correct
    assert "no echo today" in first.turns[0].tool_error
    assert second.end_reason == "env_error"
    assert second.error == "RuntimeError: fell"
    assert not second.is_trainable
    assert third.is_correct


def test_slow_tools_run_side_by_side(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    inside, most, lock = 0, 0, threading.Lock()

    class Counting(EchoTool):
        def call(self, argument: str) -> ToolResult:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1
            return ToolResult(text="heard")

    envs = EnvPool(
        lambda: EchoEnv(tasks=TASKS, config=EpisodeConfig(instructions=""), tools=(Counting(),))
    )
    script = ["<echo> a </echo>"] * 6 + ["<answer> word0 </answer>"] * 6
    config = RolloutConfig(num_env_workers=6, max_tokens_per_turn=32)
    slots = [Slot(task=TASKS[i], index=0) for i in range(6)]
    rollout(engine(script, tiny_tokenizer), chat, envs, slots, config)
    assert most >= 3


def test_a_late_trajectory_is_truncated_and_the_others_finish(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    config = RolloutConfig(num_env_workers=2, max_tokens_per_turn=32, deadline_s=0.3)
    by_word = {"word0": "<echo> a </echo>", "word1": "<answer> word1 </answer>"}

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        text = chat.tokenizer.decode(prompt_ids)
        return chat.action_ids(next(v for k, v in by_word.items() if k in text))

    slots = [Slot(task=TASKS[i], index=0) for i in range(2)]
    late, other = rollout(ScriptedEngine(script), chat, pool(seconds=1.0), slots, config)
    assert late.end_reason == "deadline"
    assert other.is_correct


def test_an_episode_that_fills_the_context_ends_there(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    length = len(chat.prompt_ids(TASKS[0].question)) + 12
    script = ["<echo> a </echo>"] * 9
    (trajectory,) = rollout(
        engine(script, tiny_tokenizer, max_model_len=length),
        chat,
        pool(),
        [Slot(task=TASKS[0], index=0)],
        INLINE,
    )
    assert trajectory.end_reason == "context"
    assert trajectory.reward == 0.0


def test_an_invalid_action_gets_a_notice_and_is_counted(tiny_tokenizer: Any) -> None:
    script = ["hello", "<answer> word0 </answer>"]
    (trajectory,) = rollout(
        engine(script, tiny_tokenizer),
        Chat(tiny_tokenizer),
        pool(),
        [Slot(task=TASKS[0], index=0)],
        INLINE,
    )
    assert [turn.action for turn in trajectory.turns] == ["invalid", "answer"]
    assert "No action was found" in trajectory.turns[0].observation


def test_rescue_plays_a_second_round_where_all_failed(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        text = chat.tokenizer.decode(prompt_ids)
        is_right = "word1 ?" in text or "hidden" in text
        word = "word1" if "word1 ?" in text else "word0"
        return chat.action_ids(f"<answer> {word if is_right else 'nothing'} </answer>")

    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    played = rollout_groups(ScriptedEngine(script), chat, pool(), TASKS[:2], planner, INLINE)
    assert [(t.task_id, t.is_guided, t.reward) for t in played] == [
        ("t0", False, 0.0),
        ("t0", False, 0.0),
        ("t0", True, 1.0),
        ("t0", True, 1.0),
        ("t1", False, 1.0),
        ("t1", False, 1.0),
    ]


def test_an_interrupted_rollout_hands_over_what_was_finished(tiny_tokenizer: Any) -> None:
    asked = iter([False, False, False, True])
    script = ["<answer> word0 </answer>", "<echo> a </echo>"] + ["<echo> a </echo>"] * 9
    slow = engine(script, tiny_tokenizer, num_polls=(1, 50))
    with pytest.raises(RolloutInterruptedError) as caught:
        rollout(
            slow,
            Chat(tiny_tokenizer),
            pool(),
            [Slot(task=TASKS[0], index=0), Slot(task=TASKS[1], index=0)],
            INLINE,
            should_stop=lambda: next(asked, True),
        )
    assert [t.task_id for t in caught.value.trajectories] == ["t0"]
    assert slow.num_unfinished == 0


def test_sampling_seeds_differ_between_rollouts_and_repeat_between_runs(
    tiny_tokenizer: Any,
) -> None:
    slots = [Slot(task=TASKS[0], index=i) for i in range(8)]
    seeds = {request_seed(1, slot, turn) for slot in slots for turn in range(3)}
    assert len(seeds) == 24
    assert request_seed(1, slots[0], 0) == request_seed(1, Slot(task=TASKS[0], index=0), 0)


def test_each_episode_is_handed_over_as_it_ends(tiny_tokenizer: Any) -> None:
    ended: list[str] = []
    script = ["<echo> a </echo>", "<answer> word1 </answer>", "<answer> word0 </answer>"]
    slots = [Slot(task=TASKS[i], index=0) for i in range(2)]
    played = rollout(
        engine(script, tiny_tokenizer),
        Chat(tiny_tokenizer),
        pool(),
        slots,
        INLINE,
        on_finished=lambda trajectory: ended.append(trajectory.task_id),
    )
    assert ended == ["t1", "t0"]  # in the order of their ends
    assert [t.task_id for t in played] == ["t0", "t1"]  # in the order of the slots


def test_an_episode_that_was_cut_short_is_not_handed_over(tiny_tokenizer: Any) -> None:
    ended: list[str] = []
    slow = engine(["<answer> word0 </answer>"] * 2, tiny_tokenizer, num_polls=(1, 50))
    with pytest.raises(RolloutInterruptedError) as caught:
        rollout(
            slow,
            Chat(tiny_tokenizer),
            pool(),
            [Slot(task=TASKS[i], index=0) for i in range(2)],
            INLINE,
            should_stop=lambda: bool(ended),
            on_finished=lambda trajectory: ended.append(trajectory.task_id),
        )
    assert ended == [t.task_id for t in caught.value.trajectories] == ["t0"]


@pytest.mark.parametrize("num_env_workers", [0, 2])
def test_no_more_episodes_are_under_way_than_allowed(
    tiny_tokenizer: Any, num_env_workers: int
) -> None:
    made: list[EchoEnv] = []

    def make() -> EchoEnv:
        made.append(EchoEnv(tasks=TASKS, config=EpisodeConfig(instructions="")))
        return made[-1]

    chat = Chat(tiny_tokenizer)

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        word = chat.tokenizer.decode(prompt_ids).split(" ?")[0].split()[-1]
        return chat.action_ids(f"<answer> {word} </answer>")

    config = RolloutConfig(num_env_workers=num_env_workers, max_tokens_per_turn=32, max_episodes=3)
    slots = [Slot(task=task, index=0) for task in TASKS]
    played = rollout(ScriptedEngine(script), chat, EnvPool(make), slots, config)
    assert [t.task_id for t in played] == [task.task_id for task in TASKS]
    assert len(made) == 3
    with pytest.raises(ValueError, match="max_episodes is 0"):
        RolloutConfig(max_episodes=0)


def test_the_time_of_an_episode_that_waits_its_turn_has_not_begun(tiny_tokenizer: Any) -> None:
    config = RolloutConfig(
        num_env_workers=1, max_tokens_per_turn=32, deadline_s=0.6, max_episodes=1
    )
    script = ["<echo> a </echo>", "<answer> x </answer>"] * 4
    slots = [Slot(task=TASKS[i], index=0) for i in range(4)]
    played = rollout(
        engine(script, tiny_tokenizer), Chat(tiny_tokenizer), pool(seconds=0.2), slots, config
    )
    assert [t.end_reason for t in played] == ["answered"] * 4  # though all four take 0.8 seconds


def answers(chat: Chat, is_right: Any) -> Any:
    """A script: each task's episodes answer right where `is_right(task number, how many before)`."""
    num_asked: dict[int, int] = {}

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        word = chat.tokenizer.decode(prompt_ids).split(" ?")[0].split()[-1]
        number = int(word.removeprefix("word"))
        before = num_asked.get(number, 0)
        num_asked[number] = before + 1
        return chat.action_ids(f"<answer> {word if is_right(number, before) else 'x'} </answer>")

    return script


def is_mixed(group: list[Trajectory]) -> bool:
    return len({t.reward for t in group}) > 1


BARE = make_planner(GuidanceConfig(planner="bare", group_size=2))


@pytest.mark.parametrize("num_polls", [1, (1, 7, 3), (9, 1, 1, 1, 5)])
@pytest.mark.parametrize("num_env_workers", [0, 3])
def test_dynamic_sampling_gives_the_first_wanted_groups_whoever_is_faster(
    tiny_tokenizer: Any, num_polls: Any, num_env_workers: int
) -> None:
    chat = Chat(tiny_tokenizer)
    wanted_tasks = {2, 3, 5, 7}  # the others succeed twice
    script = answers(chat, lambda number, before: number not in wanted_tasks or before % 2 == 0)
    engine = ScriptedEngine(script, config=ScriptedEngineConfig(num_polls=num_polls))
    ended: list[str] = []
    counts = RolloutCounts()
    tasks = iter(TASKS)
    groups = play_groups(
        engine,
        chat,
        pool(),
        tasks,
        BARE,
        RolloutConfig(num_env_workers=num_env_workers, max_tokens_per_turn=32),
        num_groups=3,
        is_wanted=is_mixed,
        on_finished=lambda group: ended.append(group[0].task_id),
        counts=counts,
    )
    assert [[t.task_id for t in group] for group in groups] == [["t2"] * 2, ["t3"] * 2, ["t5"] * 2]
    assert sorted(ended) == [f"t{i}" for i in range(6)]
    assert next(tasks).task_id == "t6"  # no task was taken that was not played
    assert (counts.num_groups, counts.num_unwanted_groups) == (6, 3)


def test_dynamic_sampling_stops_at_its_bound_or_where_tasks_end(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    script = answers(chat, lambda number, before: number != 1 or before % 2 == 0)

    def found(tasks: Any, max_groups: int | None) -> tuple[list[str], int]:
        config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=32, max_groups=max_groups)
        counts = RolloutCounts()
        groups = play_groups(
            ScriptedEngine(script),
            chat,
            pool(),
            tasks,
            BARE,
            config,
            num_groups=2,
            is_wanted=is_mixed,
            counts=counts,
        )
        return [group[0].task_id for group in groups], counts.num_groups

    assert found(TASKS[:5], None) == (["t1"], 5)
    assert found(itertools.cycle(TASKS[2:]), None) == ([], 8)
    assert found(itertools.cycle(TASKS), 3) == (["t1"], 3)


def test_the_next_round_of_a_task_does_not_wait_for_other_tasks(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)

    def script(prompt_ids: tuple[int, ...]) -> list[int]:
        return chat.action_ids("<answer> wrong </answer>")

    # The first task's first rollout takes long; the second task is rescued in the meantime.
    slow = ScriptedEngine(script, config=ScriptedEngineConfig(num_polls=(50, 1, 1, 1, 1, 1, 1, 1)))
    planner = make_planner(GuidanceConfig(planner="rescue", group_size=2))
    order: list[str] = []
    groups = play_groups(
        slow,
        chat,
        pool(),
        TASKS[:2],
        planner,
        INLINE,
        on_finished=lambda group: order.append(group[0].task_id),
    )
    assert order == ["t1", "t0"]
    assert [[t.is_guided for t in group] for group in groups] == [[False, False, True, True]] * 2
    guided = [
        i for i, r in enumerate(slow.requests) if "hidden" in chat.tokenizer.decode(r.prompt_ids)
    ]
    assert guided == [4, 5, 6, 7]
    shown = [chat.tokenizer.decode(slow.requests[i].prompt_ids) for i in guided]
    assert ["word1 ?" in text for text in shown] == [True, True, False, False]


def test_a_task_that_comes_twice_is_sampled_with_other_seeds(tiny_tokenizer: Any) -> None:
    chat = Chat(tiny_tokenizer)
    engine = ScriptedEngine(answers(chat, lambda number, before: True))
    play_groups(engine, chat, pool(), [TASKS[0], TASKS[0]], BARE, INLINE)
    assert len({request.params.seed for request in engine.requests}) == 4


def real_engine(tiny_model_dir: Any) -> Any:
    from maskgym.agents.engines.transformers_engine import (
        TransformersEngine,
        TransformersEngineConfig,
    )

    return TransformersEngine(
        tiny_model_dir, config=TransformersEngineConfig(max_model_len=256, max_num_seqs=16)
    )


def test_a_run_is_a_function_of_its_seed(tiny_tokenizer: Any, tiny_model_dir: Any) -> None:
    chat = Chat(tiny_tokenizer)
    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=6, deadline_s=None)

    def played(seed: int) -> list[list[Trajectory]]:
        return play_groups(
            real_engine(tiny_model_dir),  # a fresh one: a filled prefix cache changes last digits
            chat,
            pool(max_turns=3),
            itertools.cycle(TASKS),
            BARE,
            config,
            num_groups=3,
            is_wanted=lambda group: sum(t.num_action_tokens for t in group) % 2 == 0,
            seed=seed,
        )

    first = played(1)
    assert len(first) == 3
    assert played(1) == first
    assert played(2) != first


@pytest.mark.parametrize("keep_thinking", [True, False])
def test_what_is_trained_has_the_probabilities_that_it_was_sampled_with(
    tiny_model_dir: Any, keep_thinking: bool
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .test_renderers import QWEN3_TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(tiny_model_dir)
    tokenizer.chat_template = QWEN3_TEMPLATE
    chat = Chat(tokenizer, ChatConfig(thinking=False, keep_thinking=keep_thinking))
    slots = [Slot(task=TASKS[i], index=0) for i in range(3)]
    config = RolloutConfig(num_env_workers=0, max_tokens_per_turn=8, temperature=0.7)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32)
    engine = real_engine(tiny_model_dir)
    for trajectory in rollout(engine, chat, pool(max_turns=3), slots, config):
        sequences = trajectory.sequences()
        assert len(sequences) == (1 if keep_thinking else len(trajectory.turns)) > 0
        assert sum(sum(s.loss_mask) for s in sequences) == trajectory.num_action_tokens
        for sequence in sequences:
            with torch.no_grad():
                logits = model(torch.tensor([sequence.ids])).logits[0].double()
            logprobs = (logits / 0.7).log_softmax(-1)
            for i, (token, is_trained) in enumerate(
                zip(sequence.ids, sequence.loss_mask, strict=True)
            ):
                if is_trained:
                    assert sequence.logprobs[i] == pytest.approx(
                        float(logprobs[i - 1, token]), abs=1e-4
                    )
