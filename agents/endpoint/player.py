"""A model behind an OpenAI-compatible server and tasks in, trajectories of bare episodes out.

Each episode is one conversation that grows (the environment speaks as user, the model as assistant),
played in a thread of its own; none waits for another. The records hold texts and the server's token
counts, but no token ids, so that nothing can be trained on them.

At temperature 0 an episode is the one that `rollout` plays with an engine on the same model, except where

- the model's text, tokenised again by the server, gives other tokens than were sampled;
- the server's chat template rewrites earlier turns (Qwen3's drops old think blocks), where `Chat` keeps each
  turn as it was sampled;
- special tokens other than the end of turn were sampled: a server leaves them out of the text;
- the server adds sampling settings of its own: `vllm serve` takes a repetition penalty from the model's
  `generation_config.json` unless it is started with `--generation-config vllm`.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...envs import Task
from ..engines.engine import SamplingParams
from ..guidance.config import Slot
from ..rollouts.env_pool import EnvPool, Episode
from ..rollouts.rollout import RolloutConfig, RolloutInterruptedError, request_seed
from ..rollouts.trajectory import Trajectory, Turn
from .client import (
    ContextOverflowError,
    RequestFailedError,
)
from .client import Endpoint as Endpoint
from .client import EndpointConfig as EndpointConfig
from .client import EndpointError as EndpointError

_POLL_S = 0.1


class _EnvFailedError(RuntimeError):
    """An environment raised; the message says what."""


@dataclass(kw_only=True)
class _Running:
    """One episode under way; its thread alone writes here."""

    number: int
    task: Task
    env: Episode
    started_s: float
    messages: list[dict[str, str]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    num_tokens: int = 0
    sandbox_tier: str = ""


def play_endpoint(
    endpoint: Endpoint,
    envs: EnvPool,
    tasks: Sequence[Task],
    config: RolloutConfig,
    *,
    seed: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    on_finished: Callable[[Trajectory], object] = lambda trajectory: None,
) -> list[Trajectory]:
    """Plays one bare episode per task, `max_concurrency` of them at once.

    Args:
        endpoint: The model.
        envs: Where environments come from.
        tasks: What to play.
        config: Sampling and limits; `num_env_workers` has no say here, each episode steps its own
            environment.
        seed: Fixes what is sampled, as far as the server honours seeds.
        should_stop: Asked ten times a second.
        on_finished: Called with each trajectory as its episode ends, in this thread; with one that was
            lost to the server once another was not.

    Returns:
        One trajectory per task, in the order of the tasks. An episode whose request got no completion ends
        with the reason "engine_error", one whose environment raised with "env_error"; the others go on.

    Raises:
        RolloutInterruptedError: If `should_stop` said yes; it carries what was finished.
        EndpointError: If the server cannot be used at all, or `max_failures` episodes in a row were lost to
            it; `on_finished` has had what was finished before them.
        AssertionError: If an environment shows a scaffold.
    """
    if not tasks:
        return []
    endpoint.connect()  # a wrong address or key is told before anything is played
    return _Play(endpoint, envs, config, seed, on_finished).run(tasks, should_stop)


class _Play:
    """The loop behind `play_endpoint`: starts episodes, takes in what they bring."""

    def __init__(
        self,
        endpoint: Endpoint,
        envs: EnvPool,
        config: RolloutConfig,
        seed: int,
        on_finished: Callable[[Trajectory], object],
    ) -> None:
        self.endpoint = endpoint
        self.envs = envs
        self.config = config
        self.seed = seed
        self.on_finished = on_finished
        self.running: dict[int, _Running] = {}
        self.finished: dict[int, Trajectory] = {}
        self.ended: queue.SimpleQueue[tuple[_Running, Trajectory | BaseException]] = (
            queue.SimpleQueue()
        )
        self.is_cancelled = threading.Event()
        self.lost: list[Trajectory] = []  # to the server, since it last gave an episode its end

    def run(self, tasks: Sequence[Task], should_stop: Callable[[], bool]) -> list[Trajectory]:
        waiting = list(enumerate(tasks))[::-1]
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.endpoint.config.max_concurrency:
                    self._start(*waiting.pop())
                if should_stop():
                    self._collect(timeout_s=0.0)
                    raise RolloutInterruptedError([self.finished[n] for n in sorted(self.finished)])
                self._collect(timeout_s=_POLL_S)
                self._enforce_deadlines()
            self._report_lost()
        finally:
            self.is_cancelled.set()
        return [self.finished[number] for number in range(len(tasks))]

    def _start(self, number: int, task: Task) -> None:
        run = _Running(
            number=number, task=task, env=self.envs.acquire(), started_s=time.monotonic()
        )
        self.running[number] = run
        # A daemon: neither a request nor a tool that hangs keeps the process from ending.
        threading.Thread(
            target=self._episode_thread, args=(run,), name=f"maskgym-episode-{number}", daemon=True
        ).start()

    def _collect(self, *, timeout_s: float) -> None:
        """Takes in what has ended; waits for something to end for so long."""
        while True:
            try:
                run, outcome = self.ended.get(timeout=timeout_s)
            except queue.Empty:
                return
            timeout_s = 0.0
            if isinstance(outcome, BaseException):
                raise outcome
            if run.number not in self.running:  # its deadline passed meanwhile
                continue
            if outcome.end_reason not in ("env_error", "deadline"):
                self.envs.release(run.env)  # one that raised is not used again
            self._finish(run, outcome)

    def _enforce_deadlines(self) -> None:
        """Ends late episodes, also one whose tool hangs: its thread and its environment are left alone."""
        now = time.monotonic()
        for run in [run for run in self.running.values() if now > self._deadline(run)]:
            self._finish(run, _record(run, end_reason="deadline"))

    def _finish(self, run: _Running, trajectory: Trajectory) -> None:
        del self.running[run.number]
        self.finished[run.number] = trajectory
        if trajectory.end_reason == "engine_error":
            self.lost.append(trajectory)
        else:
            self._report_lost()
            self.on_finished(trajectory)
        if len(self.lost) >= self.endpoint.config.max_failures:
            raise EndpointError(
                f"{len(self.lost)} episodes in a row were lost to the server. The last one: "
                f"{trajectory.error}."
            )

    def _report_lost(self) -> None:
        """Hands over episodes that were lost alone.

        Where all are, the server is gone, and a later run has them to play.
        """
        lost, self.lost = self.lost, []
        for trajectory in lost:
            self.on_finished(trajectory)

    def _deadline(self, run: _Running) -> float:
        limit_s = self.config.deadline_s
        return float("inf") if limit_s is None else run.started_s + limit_s

    def _episode_thread(self, run: _Running) -> None:
        try:
            outcome: Trajectory | BaseException = self._episode(run)
        except BaseException as error:
            outcome = error
        self.ended.put((run, outcome))

    def _episode(self, run: _Running) -> Trajectory:
        try:
            return self._play_turns(run)
        except _EnvFailedError as error:
            return _record(run, end_reason="env_error", error=str(error))
        except ContextOverflowError:
            return _record(run, end_reason="context")
        except RequestFailedError as error:
            if time.monotonic() >= self._deadline(run):
                return _record(run, end_reason="deadline")
            return _record(run, end_reason="engine_error", error=str(error))

    def _play_turns(self, run: _Running) -> Trajectory:
        options = {"task": run.task, "scaffold": ""}
        observation, info = _call_env(run.env.reset, options=options)
        run.sandbox_tier = str(info.get("sandbox_tier", ""))
        if system := self.endpoint.config.system:
            run.messages.append({"role": "system", "content": system})
        slot = Slot(task=run.task, index=0)
        while True:
            _assert_bare(run.task, observation)
            run.messages.append({"role": "user", "content": observation["text"]})
            left = self._tokens_left(run)
            if left < 1:
                return _record(run, end_reason="context")
            params = SamplingParams(
                max_tokens=left,
                temperature=self.config.temperature,
                stop=self.config.stop,
                seed=request_seed(self.seed, slot, len(run.turns)),
            )
            completion = self.endpoint.complete(
                run.messages, params, deadline=self._deadline(run), is_cancelled=self.is_cancelled
            )
            run.messages.append({"role": "assistant", "content": completion.text})
            run.num_tokens += completion.num_tokens or 0
            observation, reward, terminated, truncated, info = _call_env(
                run.env.step, completion.text
            )
            is_over = bool(terminated or truncated)
            run.turns.append(
                Turn(
                    prompt_ids=(),
                    action_ids=(),
                    logprobs=(),
                    action_text=completion.text_with_reasoning,
                    observation="" if is_over else observation["text"],
                    action=str(info.get("action", "")),
                    tool_error=str(info.get("tool_error", "")),
                    finish_reason=completion.finish_reason,
                    passage_ids=tuple(str(p) for p in info.get("passage_ids", ())),
                    num_tokens=completion.num_tokens,
                )
            )
            if is_over:
                return _record(run, reward=float(reward), info=info)

    def _tokens_left(self, run: _Running) -> int:
        left = self.config.max_tokens_per_turn
        if self.config.max_action_tokens is not None:
            left = min(left, self.config.max_action_tokens - run.num_tokens)
        return left


def _call_env(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return call(*args, **kwargs)
    except Exception as error:
        raise _EnvFailedError(f"{type(error).__name__}: {error}") from error


def _assert_bare(task: Task, observation: dict[str, str]) -> None:
    if observation.get("scaffold"):
        raise AssertionError(
            f"The environment shows a scaffold for task {task.task_id!r}; a model behind an endpoint "
            "plays bare."
        )


def _record(
    run: _Running,
    *,
    reward: float = 0.0,
    info: dict[str, Any] | None = None,
    end_reason: str = "",
    error: str = "",
) -> Trajectory:
    return Trajectory.of_episode(
        run.task,
        run.turns,
        info or {},
        end_reason=end_reason,
        group=Slot(task=run.task, index=0).group,
        reward=reward,
        error=error,
        sandbox_tier=run.sandbox_tier,
    )
