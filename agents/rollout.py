"""Slots in, trajectories out: multi-turn episodes on one engine, without a barrier between them.

Each trajectory goes its own way between the engine and its environment; environments step on a thread
pool while the engine decodes for the others. With `num_env_workers=0` they step inline, in a fixed
order: slower with slow tools, but a run is then a function of its seed.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from .chat import Chat
from .engines.engine import Completion, Engine, FinishReason, Request, SamplingParams
from .env_pool import EnvPool, Episode
from .guidance import Planner, Slot
from .trajectory import Trajectory, Turn


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How episodes are sampled."""

    max_tokens_per_turn: int = 256
    """Most tokens of one action."""

    max_action_tokens: int | None = None
    """Most sampled tokens of a whole episode; None for no limit beside the context."""

    temperature: float = 1.0
    """Divides the logits; 0 for greedy."""

    stop: tuple[str, ...] = ()
    """Texts that end an action; the tokens that complete them are kept whole."""

    num_env_workers: int = 8
    """Environments that step at once beside the engine; 0 steps them inline, in a fixed order."""

    deadline_s: float | None = 600.0
    """Wall time of one episode; at the limit it is truncated with the reason "deadline"."""

    max_episodes: int | None = None
    """Episodes under way at once; the others wait, and their time starts when they do. None for all."""

    def __post_init__(self) -> None:
        if self.max_tokens_per_turn < 1:
            raise ValueError(
                f"max_tokens_per_turn is {self.max_tokens_per_turn}; an action has at least 1 token."
            )
        if self.num_env_workers < 0:
            raise ValueError(f"num_env_workers is {self.num_env_workers}; give 0 or more.")
        if self.max_episodes is not None and self.max_episodes < 1:
            raise ValueError(
                f"max_episodes is {self.max_episodes}; give 1 or more, or None for all."
            )


class RolloutInterruptedError(RuntimeError):
    """The caller asked to stop; `trajectories` holds what was finished."""

    def __init__(self, trajectories: list[Trajectory]) -> None:
        super().__init__("Rollouts were interrupted.")
        self.trajectories = trajectories


@dataclass(kw_only=True)
class _Running:
    """One trajectory under way."""

    slot: Slot
    env: Episode
    started_s: float
    context: list[int] = field(default_factory=list)
    bare_prompt_ids: tuple[int, ...] = ()
    scaffold: str = ""
    turns: list[Turn] = field(default_factory=list)
    new_ids: tuple[int, ...] = ()  # context tokens that came since the last action
    completion: Completion | None = None
    action_text: str = ""
    sandbox_tier: str = ""

    @property
    def num_action_tokens(self) -> int:
        return sum(len(turn.action_ids) for turn in self.turns)


def rollout(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    slots: Sequence[Slot],
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_finished: Callable[[Trajectory], object] = lambda trajectory: None,
) -> list[Trajectory]:
    """Plays one episode per slot.

    Args:
        engine: Idle, with the weights to sample from.
        chat: Renders observations to token ids.
        envs: Where environments come from.
        slots: What to play; a slot's own seed comes from `seed`, its task and its index.
        config: Sampling and limits.
        seed: With the slot, fixes what each turn samples.
        should_stop: Asked between decoding steps.
        on_finished: Called with each trajectory as its episode ends, in that order; what it raises
            ends the rollout.

    Returns:
        One trajectory per slot, in the order of the slots. An environment that raises or outlives the
        deadline gives a trajectory that says so; its neighbours go on.

    Raises:
        RolloutInterruptedError: If `should_stop` said yes; it carries what was finished.
    """
    return _Scheduler(engine, chat, envs, config, seed, on_finished).run(slots, should_stop)


def rollout_groups(
    engine: Engine,
    chat: Chat,
    envs: EnvPool,
    tasks: Sequence[Any],
    planner: Planner,
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Trajectory]:
    """Plays the rounds that a planner asks for, for all tasks together round by round."""
    groups: list[list[Trajectory]] = [[] for _ in tasks]
    for round_index in range(16):
        slots: list[Slot] = []
        owners: list[int] = []
        for i, task in enumerate(tasks):
            planned = planner.plan(task, groups[i], round_index)
            slots += planned
            owners += [i] * len(planned)
        if not slots:
            break
        try:
            played = rollout(engine, chat, envs, slots, config, seed=seed, should_stop=should_stop)
        except RolloutInterruptedError as stop:
            done = [t for group in groups for t in group]
            raise RolloutInterruptedError(done + stop.trajectories) from None
        for i, trajectory in zip(owners, played, strict=True):
            groups[i].append(trajectory)
    return [trajectory for group in groups for trajectory in group]


class _Scheduler:
    """The loop behind `rollout`: completions go to environments, observations to the engine."""

    def __init__(
        self,
        engine: Engine,
        chat: Chat,
        envs: EnvPool,
        config: RolloutConfig,
        seed: int,
        on_finished: Callable[[Trajectory], object],
    ) -> None:
        self.engine = engine
        self.chat = chat
        self.envs = envs
        self.config = config
        self.seed = seed
        self.on_finished = on_finished
        self.in_engine: dict[str, int] = {}  # request id -> slot number
        self.in_env: dict[Future[Any], int] = {}
        self.running: dict[int, _Running] = {}
        self.finished: dict[int, Trajectory] = {}
        self.pool = (
            ThreadPoolExecutor(config.num_env_workers, thread_name_prefix="maskgym-env")
            if config.num_env_workers
            else None
        )

    def run(self, slots: Sequence[Slot], should_stop: Callable[[], bool]) -> list[Trajectory]:
        try:
            waiting = deque(enumerate(slots))
            while self.running or waiting:
                self._start(waiting)
                if should_stop():
                    self._abort_all()
                    raise RolloutInterruptedError([self.finished[n] for n in sorted(self.finished)])
                for completion in self.engine.poll():
                    self._after_engine(completion)
                self._collect_envs(is_engine_idle=self.engine.num_unfinished == 0)
                self._enforce_deadlines()
        finally:
            if self.pool is not None:
                self.pool.shutdown(wait=False, cancel_futures=True)
        return [self.finished[number] for number in range(len(slots))]

    def _start(self, waiting: deque[tuple[int, Slot]]) -> None:
        limit = self.config.max_episodes or len(self.running) + len(waiting)
        while waiting and len(self.running) < limit:
            number, slot = waiting.popleft()
            run = _Running(slot=slot, env=self.envs.acquire(), started_s=time.monotonic())
            self.running[number] = run
            options = {"task": slot.task, "scaffold": slot.scaffold}
            self._call_env(number, run.env.reset, options=options)

    def _call_env(self, number: int, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if self.pool is not None:
            self.in_env[self.pool.submit(call, *args, **kwargs)] = number
            return
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        self._after_env(number, future)

    def _collect_envs(self, *, is_engine_idle: bool) -> None:
        if not self.in_env:
            return
        timeout = 0.05 if is_engine_idle else 0.0
        done, _ = wait(self.in_env, timeout=timeout, return_when=FIRST_COMPLETED)
        for future in done:
            self._after_env(self.in_env.pop(future), future)

    def _after_env(self, number: int, future: "Future[Any]") -> None:
        run = self.running.get(number)
        if run is None:  # its deadline passed meanwhile
            return
        error = future.exception()
        if error is not None:
            self._finish(number, end_reason="env_error", error=f"{type(error).__name__}: {error}")
            return
        result = future.result()
        if run.completion is None:
            self._after_reset(number, run, *result)
        else:
            self._after_step(number, run, *result)

    def _after_reset(
        self, number: int, run: _Running, observation: dict[str, str], info: dict[str, Any]
    ) -> None:
        text, run.scaffold = observation["text"], observation["scaffold"]
        run.sandbox_tier = str(info.get("sandbox_tier", ""))
        run.bare_prompt_ids = tuple(self.chat.prompt_ids(text))
        guided = self.chat.prompt_ids(text, run.scaffold) if run.scaffold else run.bare_prompt_ids
        run.new_ids = tuple(guided)
        run.context = list(guided)
        self._submit(number, run)

    def _after_step(
        self,
        number: int,
        run: _Running,
        observation: dict[str, str],
        reward: float,
        terminated: bool,
        truncated: bool,
        info: dict[str, Any],
    ) -> None:
        completion = run.completion
        assert completion is not None
        is_over = bool(terminated or truncated)
        run.turns.append(
            Turn(
                prompt_ids=run.new_ids,
                action_ids=completion.token_ids,
                logprobs=completion.logprobs,
                action_text=run.action_text,
                observation="" if is_over else observation["text"],
                action=str(info.get("action", "")),
                tool_error=str(info.get("tool_error", "")),
                finish_reason=completion.finish_reason.value,
                weight_version=completion.weight_version,
                passage_ids=tuple(str(p) for p in info.get("passage_ids", ())),
            )
        )
        run.context += completion.token_ids
        if is_over:
            self._finish(number, reward=float(reward), info=info)
            return
        scaffold = observation.get("scaffold", "")
        run.scaffold = "\n".join(filter(None, (run.scaffold, scaffold)))
        run.new_ids = tuple(
            self.chat.observation_ids(observation["text"], scaffold, after_ids=completion.token_ids)
        )
        run.context += run.new_ids
        self._submit(number, run)

    def _submit(self, number: int, run: _Running) -> None:
        left = self.engine.max_model_len - len(run.context)
        if self.config.max_action_tokens is not None:
            left = min(left, self.config.max_action_tokens - run.num_action_tokens)
        if left < 1:
            self._finish(number, end_reason="context")
            return
        request_id = f"{number}.{len(run.turns)}"
        params = SamplingParams(
            max_tokens=min(self.config.max_tokens_per_turn, left),
            temperature=self.config.temperature,
            stop=self.config.stop,
            seed=request_seed(self.seed, run.slot, len(run.turns)),
        )
        self.in_engine[request_id] = number
        self.engine.submit(
            Request(request_id=request_id, prompt_ids=tuple(run.context), params=params)
        )

    def _after_engine(self, completion: Completion) -> None:
        number = self.in_engine.pop(completion.request_id, None)
        run = self.running.get(number) if number is not None else None
        if number is None or run is None:
            return
        if completion.finish_reason is FinishReason.ABORT:
            self._finish(number, end_reason="aborted")
            return
        run.completion = completion
        run.action_text = self.chat.action_text(completion.token_ids)
        self._call_env(number, run.env.step, run.action_text)

    def _finish(
        self,
        number: int,
        *,
        reward: float = 0.0,
        info: dict[str, Any] | None = None,
        end_reason: str = "",
        error: str = "",
    ) -> None:
        run = self.running.pop(number)
        self.finished[number] = Trajectory.of_episode(
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
        )
        self.on_finished(self.finished[number])
        if not error and end_reason not in ("deadline", "aborted"):
            self.envs.release(run.env)  # one that raised or may still be stepping is not used again

    def _enforce_deadlines(self) -> None:
        if self.config.deadline_s is None:
            return
        now = time.monotonic()
        late = [n for n, r in self.running.items() if now - r.started_s > self.config.deadline_s]
        for number in late:
            self.engine.abort([r for r, n in self.in_engine.items() if n == number])
            self._finish(number, end_reason="deadline")

    def _abort_all(self) -> None:
        self.engine.abort(list(self.in_engine))
        while self.engine.num_unfinished:
            self.engine.poll()
        self.running.clear()


def request_seed(seed: int, slot: Slot, turn: int) -> int:
    """A seed of the request's own: the same whatever else is in flight."""
    key = f"{seed}|{slot.task.task_id}|{slot.scaffold}|{slot.index}|{turn}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "big")
