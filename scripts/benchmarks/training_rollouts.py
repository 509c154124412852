"""Rollouts without a barrier beside turn-synchronous loops: same engine, model, environment and lengths.

The rivals play turn by turn: all episodes sample, then all call their tools, then all sample again. One
calls the tools of a turn side by side, one in turn (as TRL 1.16 does in the tool loop of its GRPOTrainer),
and one samples each turn with vLLM's own `LLM.generate`, as a user of vLLM would.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskgym.agents.engines.engine import (
    Completion,
    Engine,
    EngineConfig,
    Request,
    SamplingParams,
    open_engine,
)
from maskgym.agents.guidance.config import Slot
from maskgym.agents.rollouts.chat import Chat, Conversation, load_tokenizer
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, RolloutCounts, request_seed, rollout

from .tables import Cell, Table
from .training_env import (
    AskedLengths,
    Casting,
    ScriptedEnv,
    Workload,
    make_model,
    wanted_length,
)

SETTINGS = (
    ("5 ms", 2.0, Workload()),
    ("0.05 to 0.5 s", 4.0, Workload(tool_s=0.05, max_tool_s=0.5)),
)
_NUM_WORKERS = 64
_OURS = "ours"
_IN_TURN = "turn-synchronous, tools in turn"


@dataclass(frozen=True, kw_only=True)
class Played:
    """One arm's round."""

    seconds: float
    cpu_s: float
    num_tokens: int
    num_polls: int
    """Steps of the engine; 0 where vLLM made them by itself."""


class CountedLengths(AskedLengths):
    """Times the engine's steps as well."""

    num_polls = 0

    def __init__(self, engine: Engine, tokenizer: Any, workload: Workload) -> None:
        super().__init__(engine, tokenizer, workload)
        self.steps: list[tuple[int, float]] = []
        """Requests in flight and CPU seconds of every step."""

    def poll(self) -> list[Completion]:
        """What finished."""
        self.num_polls += 1
        num_requests, started_s = self.num_unfinished, time.thread_time()
        finished = super().poll()
        self.steps.append((num_requests, time.thread_time() - started_s))
        return finished

    def step_cost(self) -> str:
        """What a step takes whatever it computes, and for each request: least squares over all steps."""
        sizes, seconds = np.array(self.steps).T
        slope, fixed = np.polyfit(sizes, seconds, 1)
        return (
            f"An engine step took {1e3 * fixed:.1f} ms of CPU and {1e3 * slope:.2f} ms more for each "
            "request in it (least squares over all steps): the second part is the same whoever schedules."
        )


@dataclass(kw_only=True)
class Stage:
    """What every arm plays on."""

    engine: CountedLengths
    chat: Chat
    workload: Workload

    def envs(self) -> EnvPool:
        """Environments with a fresh cast: every arm gets the same scripts."""
        casting = Casting(self.workload)
        return EnvPool(lambda: ScriptedEnv(self.workload, casting))

    def slots(self, repeats: int = 1) -> list[Slot]:
        """One slot an episode."""
        size = self.workload.group_size * repeats
        return [Slot(task=task, index=i) for task in self.workload.tasks() for i in range(size)]


def measure_rollouts(
    *, engine: str = "vllm", num_rounds: int = 7, folder: Path | None = None
) -> list[Table]:
    """Tables of tokens a second and of what the scheduler itself takes.

    Args:
        engine: "vllm" or "transformers"; vLLM gives way to Transformers where it is not installed.
        num_rounds: Rounds of every arm that count, in turn, after one that does not.
        folder: Where the model is made; None for a temporary folder.
    """
    with tempfile.TemporaryDirectory(prefix="maskgym-rollouts-") as temporary:
        model_dir = make_model((folder or Path(temporary)) / "model", SETTINGS[0][2])
        tokenizer = load_tokenizer(model_dir)
        config = EngineConfig(max_model_len=1024, max_num_seqs=64, dtype="float32")
        try:
            inner = open_engine(model_dir, name=engine, config=config)
        except ImportError:
            engine, inner = (
                "transformers",
                open_engine(model_dir, name="transformers", config=config),
            )
        with closing(inner):
            table = Table(
                title=f"Rollouts: 64 episodes of 2 to 6 turns of 4 to 32 tokens, engine {engine}",
                columns=(
                    "tools",
                    "arm",
                    "s",
                    "min to max",
                    "tokens/s",
                    "CPU s",
                    "engine steps",
                    "ours faster",
                    "asked",
                ),
            )
            for name, asked, workload in SETTINGS:
                lengths = CountedLengths(inner, tokenizer, workload)
                stage = Stage(engine=lengths, chat=Chat(tokenizer), workload=workload)
                _add_rows(table, name, asked, _rounds(stage, arms(engine), num_rounds))
                if workload.max_tool_s is None:
                    table.notes.append(lengths.step_cost())
            refill = Table(
                title="Continuous refill: 256 episodes, 64 under way", columns=table.columns
            )
            for name, _, workload in SETTINGS:
                lengths = CountedLengths(inner, tokenizer, workload)
                stage = Stage(engine=lengths, chat=Chat(tokenizer), workload=workload)
                found = _rounds(stage, refill_arms(), max(1, num_rounds // 3))
                _add_rows(refill, name, None, found)
            stage = replace(stage, workload=SETTINGS[0][2])
            return [table, refill, overhead(stage)]


def arms(engine: str) -> dict[str, Callable[[Stage], Played]]:
    """Ours first."""
    found: dict[str, Callable[[Stage], Played]] = {
        _OURS: lambda stage: play_ours(stage),
        "turn-synchronous, tools side by side": lambda stage: play_turns(stage, _NUM_WORKERS),
        _IN_TURN: lambda stage: play_turns(stage, 1),
    }
    if engine == "vllm":
        found["turn-synchronous LLM.generate, tools side by side"] = lambda stage: play_turns(
            stage, _NUM_WORKERS, generate=_llm_generate
        )
    return found


def refill_arms() -> dict[str, Callable[[Stage], Played]]:
    """256 episodes, at most 64 requests in the engine: ours takes the next when one ends."""
    return {
        _OURS: lambda stage: play_ours(stage, repeats=4),
        "ours, all under way": lambda stage: play_ours(stage, repeats=4, max_episodes=256),
        "turn-synchronous, batches of 64": lambda stage: play_turns(stage, _NUM_WORKERS, repeats=4),
        "turn-synchronous, all at once": lambda stage: play_turns(
            stage, _NUM_WORKERS, repeats=4, batch_size=256
        ),
    }


def play_ours(stage: Stage, *, repeats: int = 1, max_episodes: int = _NUM_WORKERS) -> Played:
    """One round with `rollout`."""
    config = RolloutConfig(
        max_tokens_per_turn=stage.workload.max_tokens,
        num_env_workers=_NUM_WORKERS,
        max_episodes=max_episodes,
    )
    with closing(stage.envs()) as envs, _Timed(stage) as clock:
        played = rollout(stage.engine, stage.chat, envs, stage.slots(repeats), config)
    assert all(trajectory.end_reason == "answered" for trajectory in played)
    return clock.read()


Generate = Callable[[Stage, Sequence[tuple[Slot, Conversation, int]]], list[tuple[int, ...]]]


def play_turns(
    stage: Stage,
    num_workers: int,
    *,
    repeats: int = 1,
    batch_size: int = _NUM_WORKERS,
    generate: Generate | None = None,
) -> Played:
    """One round of a loop in which every episode waits for all others, twice a turn."""
    generate = generate or _poll_until_done
    slots = stage.slots(repeats)
    with (
        closing(stage.envs()) as envs,
        ThreadPoolExecutor(num_workers) as pool,
        _Timed(stage) as clock,
    ):
        for start in range(0, len(slots), batch_size):
            batch = slots[start : start + batch_size]
            played = [envs.acquire() for _ in batch]
            talks = [Conversation(stage.chat) for _ in batch]
            opened = pool.map(
                lambda slot, env: env.reset(options={"task": slot.task, "scaffold": ""}),
                batch,
                played,
            )
            for talk, (observation, _) in zip(talks, opened, strict=True):
                talk.say(observation["text"])
            live, turn = list(range(len(batch))), 0
            while live:
                actions = generate(stage, [(batch[i], talks[i], turn) for i in live])
                for i, ids in zip(live, actions, strict=True):
                    talks[i].act(ids)
                texts = [stage.chat.action_text(ids) for ids in actions]
                answers = list(
                    pool.map(lambda env, text: env.step(text), [played[i] for i in live], texts)
                )
                over = [i for i, a in zip(live, answers, strict=True) if a[2] or a[3]]
                for i, answer in zip(live, answers, strict=True):
                    if i not in over:
                        talks[i].say(answer[0]["text"])
                live = [i for i in live if i not in over]
                turn += 1
            for env in played:
                envs.release(env)
    return clock.read()


def _poll_until_done(
    stage: Stage, asked: Sequence[tuple[Slot, Conversation, int]]
) -> list[tuple[int, ...]]:
    """The actions of one turn, on the very engine that ours uses."""
    for number, (slot, talk, turn) in enumerate(asked):
        params = SamplingParams(
            max_tokens=stage.workload.max_tokens, seed=request_seed(0, slot, turn)
        )
        request = Request(request_id=str(number), prompt_ids=tuple(talk.context), params=params)
        stage.engine.submit(request)
    done: dict[str, tuple[int, ...]] = {}
    while stage.engine.num_unfinished:
        done |= {c.request_id: c.token_ids for c in stage.engine.poll()}
    return [done[str(number)] for number in range(len(asked))]


def _llm_generate(
    stage: Stage, asked: Sequence[tuple[Slot, Conversation, int]]
) -> list[tuple[int, ...]]:
    """The actions of one turn, by vLLM's own offline call."""
    from vllm import SamplingParams as VLLMSamplingParams

    inner: Any = stage.engine.engine
    params = [
        VLLMSamplingParams(
            max_tokens=wanted_length(talk.context, stage.engine.lengths),
            ignore_eos=True,
            seed=request_seed(0, slot, turn),
            logprobs=0,
        )
        for slot, talk, turn in asked
    ]
    prompts = [{"prompt_token_ids": list(talk.context)} for _, talk, _ in asked]
    outputs = inner._llm.generate(prompts, params, use_tqdm=False)
    found = [tuple(output.outputs[0].token_ids) for output in outputs]
    stage.engine.num_sampled += sum(map(len, found))
    return found


def overhead(stage: Stage) -> Table:
    """What the scheduler itself takes: profile of one round, per turn, beside engine and tools."""
    config = RolloutConfig(
        max_tokens_per_turn=stage.workload.max_tokens, num_env_workers=_NUM_WORKERS
    )
    counts = RolloutCounts()
    profile = cProfile.Profile(time.thread_time)
    with closing(stage.envs()) as envs:
        profile.enable()
        rollout(stage.engine, stage.chat, envs, stage.slots(), config, counts=counts)
        profile.disable()
    parts = {"the scheduler's thread, all": _cumulative(profile, "scheduler.py", "run")}
    parts["engine: poll"] = _cumulative(profile, "training_env.py", "poll")
    parts["engine: submit"] = _cumulative(profile, "scripted_lengths.py", "submit")
    parts["rendering and encoding"] = _cumulative(profile, "chat.py", "say")
    parts["decoding"] = _cumulative(profile, "chat.py", "action_text")
    rest = parts["the scheduler's thread, all"] - sum(list(parts.values())[1:])
    parts["the rest: the scheduler's own"] = rest
    table = Table(
        title="CPU time of the scheduler's thread, 64 episodes, under a profiler",
        columns=("part", "ms", "µs a turn", "share"),
    )
    total = parts["the scheduler's thread, all"]
    for name, seconds in parts.items():
        table.add(
            name, 1e3 * seconds, 1e6 * seconds / counts.num_requests, f"{seconds / total:.1%}"
        )
    table.notes.append(
        f"{counts.num_requests} turns; a profiler makes Python look slower than it is."
    )
    return table


def _cumulative(profile: cProfile.Profile, file: str, function: str) -> float:
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(
        float(row[3]) for key, row in stats.items() if key[0].endswith(file) and key[2] == function
    )


class _Timed:
    """Wall and CPU time of a block, and the tokens that were sampled in it."""

    def __init__(self, stage: Stage) -> None:
        self._engine = stage.engine

    def __enter__(self) -> _Timed:
        self._engine.num_sampled = self._engine.num_polls = 0
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self._wall = time.perf_counter() - self._wall
        self._cpu = time.process_time() - self._cpu

    def read(self) -> Played:
        """What was measured."""
        engine = self._engine
        return Played(
            seconds=self._wall,
            cpu_s=self._cpu,
            num_tokens=engine.num_sampled,
            num_polls=engine.num_polls,
        )


def _rounds(
    stage: Stage, arms: dict[str, Callable[[Stage], Played]], num_rounds: int
) -> dict[str, list[Played]]:
    """Every arm in turn, so that what else the machine does meets all of them alike."""
    found: dict[str, list[Played]] = {name: [] for name in arms}
    is_slow = stage.workload.max_tool_s is not None
    for number in range(num_rounds + 1):
        for name, play in arms.items():
            if is_slow and name == _IN_TURN and number != 1:
                continue  # a minute each, all of it waiting: once is enough
            played = play(stage)
            if number:  # the first warms up
                found[name].append(played)
    counts = {played.num_tokens for rows in found.values() for played in rows}
    assert len(counts) == 1, f"The arms sampled different numbers of tokens: {counts}."
    return found


def _add_rows(
    table: Table, tools: str, asked: float | None, found: dict[str, list[Played]]
) -> None:
    ours = found[_OURS]
    for name, rows in found.items():
        seconds = [played.seconds for played in rows]
        ratios = [r.seconds / o.seconds for r, o in zip(rows, ours, strict=False)]
        faster: Cell = None if name == _OURS else statistics.median(ratios)
        table.add(
            tools,
            name,
            statistics.median(seconds),
            f"{min(seconds):.2f} to {max(seconds):.2f}",
            rows[0].num_tokens / statistics.median(seconds),
            statistics.median(played.cpu_s for played in rows),
            rows[0].num_polls or None,
            faster,
            None if name == _OURS else asked,
        )


if __name__ == "__main__":
    for each in measure_rollouts(num_rounds=int(sys.argv[1]) if len(sys.argv) > 1 else 7):
        print(each.to_markdown(), flush=True)
