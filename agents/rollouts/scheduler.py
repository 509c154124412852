"""Slots in, trajectories out, each as it ends: the loop that keeps one engine and many environments busy.

Each episode goes its own way between engine and environment; no one waits for another. Environments step
on threads while the engine decodes for the others. With `num_env_workers=0` they step inline, in a
fixed order: slower with slow tools, but a run is then a function of its seed.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..engines.engine import Completion, Engine, FinishReason, Request, SamplingParams
from ..guidance.config import Slot
from .chat import Chat, Conversation, Prompt
from .env_pool import Answer, EnvPool, EnvWorkers, Episode
from .rollout_config import (
    RolloutConfig,
    RolloutCounts,
    RolloutFailedError,
    RolloutInterruptedError,
    request_seed,
)
from .trajectory import Trajectory, Turn

_IDLE_S = 0.05  # longest wait for environments between two questions to `should_stop`
_MAX_LONE_FAILURES = 3


@dataclass(kw_only=True)
class _Running:
    """One episode under way."""

    number: int
    slot: Slot
    repeat: int
    talk: Conversation
    started_s: float
    env: Episode | None = None
    bare_prompt_ids: tuple[int, ...] = ()
    scaffold: str = ""
    sandbox_tier: str = ""
    turns: list[Turn] = field(default_factory=list)
    prompt: Prompt | None = None  # of the action to come, or under way
    history: tuple[int, ...] = ()  # the last request with its completion
    completion: Completion | None = None  # what the environment is answering
    action_text: str = ""
    is_held: bool = False
    is_late: bool = False
    num_action_tokens: int = 0

    @property
    def request_id(self) -> str:
        return f"{self.number}.{len(self.turns)}"


class Scheduler:
    """Plays the episodes that are added to it, also while it runs."""

    def __init__(
        self,
        engine: Engine,
        chat: Chat,
        envs: EnvPool,
        config: RolloutConfig,
        *,
        seed: int = 0,
        counts: RolloutCounts | None = None,
    ) -> None:
        self.engine = engine
        self.chat = chat
        self.envs = envs
        self.config = config
        self.seed = seed
        self.counts = counts or RolloutCounts()
        self.finished: dict[int, Trajectory] = {}
        self._waiting: deque[tuple[int, Slot, int]] = deque()
        self._running: dict[int, _Running] = {}
        self._in_engine: dict[str, _Running] = {}
        self._held: deque[_Running] = deque()  # wait for the engine to have room again
        self._hung: dict[Hashable, _Running] = {}  # their environments were given up while stepping
        self._deadlines: deque[tuple[float, int]] = deque()  # in order: all episodes have as long
        self._engine_limit: int | None = None
        self._num_lone_failures = 0
        self._num_added = 0
        self._workers = EnvWorkers(config.num_env_workers, max_hung=config.max_hung_envs)
        self._on_finished: Callable[[int, Trajectory], object] = lambda number, trajectory: None

    def add(self, slot: Slot, *, repeat: int = 0) -> int:
        """Queues an episode; gives its number. `repeat` counts earlier groups of the same task."""
        number, self._num_added = self._num_added, self._num_added + 1
        self._waiting.append((number, slot, repeat))
        return number

    def run(
        self, on_finished: Callable[[int, Trajectory], object], should_stop: Callable[[], bool]
    ) -> None:
        """Plays until nothing is left; `on_finished` takes each number and trajectory as it ends.

        Raises:
            RolloutInterruptedError: If `should_stop` said yes.
            RolloutFailedError: If the engine fails whatever is asked of it.
        """
        self._on_finished = on_finished
        self.envs.prepare()
        try:
            while self._running or self._waiting:
                self._start()
                if should_stop():
                    raise RolloutInterruptedError(self._done(), self._abort_all())
                if self._in_engine:
                    for completion in self._poll():
                        self._after_engine(completion)
                self._collect()
                self._enforce_deadlines()
        except BaseException:
            with suppress(Exception):  # an engine that is broken does not hide what broke it
                self._empty_engine()
            raise
        finally:
            self._workers.close()

    def _start(self) -> None:
        limit = self.config.max_episodes
        while self._waiting and (limit is None or len(self._running) < limit):
            number, slot, repeat = self._waiting.popleft()
            run = _Running(
                number=number,
                slot=slot,
                repeat=repeat,
                talk=Conversation(self.chat),
                started_s=time.monotonic(),
            )
            self._running[number] = run
            if self.config.deadline_s is not None:
                self._deadlines.append((run.started_s + self.config.deadline_s, number))
            self._workers.submit(number, partial(self._open, run))

    def _open(self, run: _Running) -> Any:
        """On a worker: an environment, at the start of the episode."""
        run.env = self.envs.acquire()
        return run.env.reset(options={"task": run.slot.task, "scaffold": run.slot.scaffold})

    def _collect(self) -> None:
        """Takes in what environments brought; waits for them where nothing else is to do."""
        is_idle = not self._in_engine and len(self._running) > len(self._held)
        for answer in self._workers.collect(timeout_s=_IDLE_S if is_idle else 0.0):
            self._after_env(answer)

    def _after_env(self, answer: Answer) -> None:
        if (late := self._hung.pop(answer.key, None)) is not None:
            self._give_back(late, is_whole=answer.error is None)
        if not isinstance(answer.key, int) or (run := self._running.get(answer.key)) is None:
            return
        failure, trajectory = answer.error, None
        if failure is None:
            try:  # what the environment gave is read here as well: it may be no observation at all
                trajectory = self._read(run, answer.value)
            except Exception as error:
                failure = error
        if failure is not None:
            self._end(run, "env_error", f"{type(failure).__name__}: {failure}")
        elif trajectory is not None:
            self._finish(run, trajectory)
        else:
            self._submit(run)

    def _read(self, run: _Running, value: Any) -> Trajectory | None:
        """Takes in what reset or step gave; the trajectory where the episode is over."""
        if run.completion is None:
            observation, info = value
            run.scaffold = observation.get("scaffold", "")
            run.sandbox_tier = str(info.get("sandbox_tier", ""))
            run.prompt = run.talk.say(observation["text"], run.scaffold)
            bare = run.prompt.bare_ids
            run.bare_prompt_ids = run.prompt.ids if bare is None else bare
            return None
        observation, reward, terminated, truncated, info = value
        if not math.isfinite(reward):
            raise ValueError(f"the environment gave the reward {reward}.")
        is_over = bool(terminated or truncated)
        self._add_turn(run, "" if is_over else observation["text"], info)
        if is_over:
            return self._record(run, reward=float(reward), info=info)
        scaffold = observation.get("scaffold", "")
        run.scaffold = "\n".join(filter(None, (run.scaffold, scaffold)))
        run.prompt = run.talk.say(observation["text"], scaffold)
        return None

    def _add_turn(self, run: _Running, observation: str, info: Mapping[str, Any]) -> None:
        completion, prompt = run.completion, run.prompt
        assert completion is not None and prompt is not None
        is_first = not run.turns
        run.turns.append(
            Turn(
                prompt_ids=prompt.ids,
                action_ids=completion.token_ids,
                logprobs=completion.logprobs,
                action_text=run.action_text,
                observation=observation,
                action=str(info.get("action", "")),
                tool_error=str(info.get("tool_error", "")),
                finish_reason=completion.finish_reason.value,
                weight_version=completion.weight_version,
                passage_ids=tuple(str(p) for p in info.get("passage_ids", ())),
                is_new_context=prompt.is_new_context,
                bare_prompt_ids=None if is_first else prompt.bare_ids,
            )
        )
        run.completion = run.prompt = None

    def _submit(self, run: _Running) -> None:
        """Asks the engine for the next action, or has the episode wait until it takes another."""
        config, room = self.config, self.engine.max_model_len
        left = min(room, config.max_tokens or room) - len(run.talk.context)
        if config.max_action_tokens is not None:
            left = min(left, config.max_action_tokens - run.num_action_tokens)
        if left < 1:
            self._end(run, "context")
            return
        if self._engine_limit is not None and len(self._in_engine) >= self._engine_limit:
            run.is_held = True
            self._held.append(run)
            return
        prompt_ids = tuple(run.talk.context)
        assert run.prompt is not None
        assert run.prompt.is_new_context or prompt_ids[: len(run.history)] == run.history
        params = SamplingParams(
            max_tokens=min(config.max_tokens_per_turn, left),
            temperature=config.temperature,
            stop=config.stop,
            stop_token_ids=(self.chat.eos_token_id,),
            seed=request_seed(self.seed, run.slot, len(run.turns), repeat=run.repeat),
        )
        try:
            self.engine.submit(
                Request(request_id=run.request_id, prompt_ids=prompt_ids, params=params)
            )
        except ValueError as error:  # of this request: a token id that the model does not know, say
            self._end(run, "engine_error", f"ValueError: {error}")
            return
        run.history = prompt_ids
        self._in_engine[run.request_id] = run
        self.counts.num_requests += 1

    def _after_engine(self, completion: Completion) -> None:
        run = self._in_engine.pop(completion.request_id, None)
        if run is None:
            return
        self._num_lone_failures = 0
        run.completion = completion
        run.history += completion.token_ids
        run.num_action_tokens += len(completion.token_ids)
        run.talk.act(completion.token_ids)
        run.action_text = self.chat.action_text(completion.token_ids)
        if run.is_late:  # aborted, or ended by itself in the same moment
            self._end(run, "deadline")
        elif completion.finish_reason is FinishReason.ABORT:
            self._end(run, "aborted")
        else:
            assert run.env is not None
            self._workers.submit(run.number, partial(run.env.step, run.action_text))
        self._release_held()

    def _release_held(self) -> None:
        for _ in range(len(self._held)):
            if self._engine_limit is not None and len(self._in_engine) >= self._engine_limit:
                return
            run = self._held.popleft()
            if run.number in self._running and run.is_held:
                run.is_held = False
                self._submit(run)

    def _poll(self) -> list[Completion]:
        try:
            return self.engine.poll()
        except (MemoryError, RuntimeError) as error:  # torch's out-of-memory error is one
            self._after_failure(error)
            return []

    def _after_failure(self, error: Exception) -> None:
        """Makes the requests in flight again, half as many at once.

        An episode whose request fails alone is lost; after a few of those in a row the engine is.
        """
        self.counts.num_engine_failures += 1
        lost = list(self._in_engine.values())
        try:
            self._empty_engine()
        except Exception as second:
            raise RolloutFailedError(second, self._done()) from error
        if len(lost) == 1:
            self._engine_limit = None
            self._num_lone_failures += 1
            self._end(lost.pop(), "engine_error", f"{type(error).__name__}: {error}")
            if self._num_lone_failures >= _MAX_LONE_FAILURES:
                raise RolloutFailedError(error, self._done()) from error
        else:
            self._engine_limit = len(lost) // 2
        for run in reversed(lost):
            if run.is_late:
                self._end(run, "deadline")
            else:  # the same tokens again: a request has its own seed
                run.is_held = True
                self._held.appendleft(run)
        self._release_held()

    def _empty_engine(self) -> None:
        """Takes back what the engine was asked for, and drops what it has of it."""
        ids, self._in_engine = list(self._in_engine), {}
        self.engine.abort(ids)
        for _ in range(1000):
            if not self.engine.num_unfinished:
                return
            self.engine.poll()
        raise RuntimeError("The engine goes on with requests that were aborted.")

    def _end(self, run: _Running, end_reason: str, error: str = "") -> None:
        """Ends an episode from outside."""
        self._finish(run, self._record(run, end_reason=end_reason, error=error))

    def _finish(self, run: _Running, trajectory: Trajectory) -> None:
        del self._running[run.number]
        self.finished[run.number] = trajectory
        if run.number not in self._hung:  # else it is still stepping
            self._give_back(run, is_whole=trajectory.end_reason != "env_error")
        self._on_finished(run.number, trajectory)

    def _record(
        self,
        run: _Running,
        *,
        reward: float = 0.0,
        info: Mapping[str, Any] | None = None,
        end_reason: str = "",
        error: str = "",
    ) -> Trajectory:
        if run.completion is not None and run.completion.token_ids:  # sampled, and not answered
            self._add_turn(run, "", {})
        return Trajectory.of_episode(
            run.slot.task,
            run.turns,
            info or {},
            end_reason=end_reason,
            group=run.slot.group,
            reward=reward,
            scaffold=run.scaffold,
            scaffold_policy=run.slot.scaffold if run.scaffold else "",
            bare_prompt_ids=run.bare_prompt_ids,
            train_on=run.slot.train_on,
            error=error,
            sandbox_tier=run.sandbox_tier,
            num_kept_thoughts=run.talk.num_kept_thoughts,
        )

    def _enforce_deadlines(self) -> None:
        while self._deadlines and self._deadlines[0][0] <= time.monotonic():
            run = self._running.get(self._deadlines.popleft()[1])
            if run is None:
                continue
            if run.request_id in self._in_engine:
                run.is_late = True  # what it has so far comes with the next poll
                self.engine.abort([run.request_id])
                continue
            if not run.is_held and self._workers.give_up(run.number):
                self._hung[run.number] = run
                self.counts.num_hung_envs += 1
            self._end(run, "deadline")

    def _give_back(self, run: _Running, *, is_whole: bool) -> None:
        """Frees the environment for another episode, or has it closed where it raised."""
        if run.env is not None and is_whole:
            self.envs.release(run.env)
        elif run.env is not None:
            self._workers.submit(f"close {run.number}", partial(self.envs.discard, run.env))

    def _abort_all(self) -> list[Trajectory]:
        """Ends everything under way; gives what there was of it."""
        self.engine.abort(list(self._in_engine))
        while self._in_engine and self.engine.num_unfinished:
            for completion in self.engine.poll():
                if run := self._in_engine.pop(completion.request_id, None):
                    run.completion = completion
                    run.action_text = self.chat.action_text(completion.token_ids)
                    assert run.env is not None
                    self.envs.release(run.env)
        runs = [self._running[number] for number in sorted(self._running)]
        return [self._record(run, end_reason="aborted") for run in runs]

    def _done(self) -> list[Trajectory]:
        return [self.finished[number] for number in sorted(self.finished)]
