"""A way to make an environment in, environments for one episode at a time out; and threads to step them."""

import queue
import threading
import warnings
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol


class Episode(Protocol):
    """What a rollout needs of an environment: a text environment of maskgym, or one like it."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, str], dict[str, Any]]:
        """Begins an episode."""

    def step(self, action: str) -> tuple[dict[str, str], float, bool, bool, dict[str, Any]]:
        """Answers one action."""

    def close(self) -> None:
        """Frees what the environment holds."""


class EnvPool:
    """Environments that are made once and used by one episode at a time; any thread may ask for one."""

    def __init__(self, make_env: Callable[[], Any]) -> None:
        self._make_env = make_env
        self._idle: deque[Episode] = deque()
        self._all: list[Episode] = []
        self._making = threading.Lock()

    def acquire(self) -> Episode:
        """An idle environment, or a new one; they are made one at a time."""
        try:
            return self._idle.pop()
        except IndexError:
            pass
        with self._making:
            env: Episode = self._make_env()
            self._all.append(env)
        return env

    def release(self, env: Episode) -> None:
        """Takes an environment back; not one that raised or hangs."""
        self._idle.append(env)

    def discard(self, env: Episode) -> None:
        """Closes an environment that raised, and forgets it; another takes its place."""
        with self._making:
            if env not in self._all:
                return
            self._all.remove(env)
        _close(env)

    def prepare(self) -> None:
        """Makes the first environment now: a mistake in `make_env` is then no failed episode."""
        if not self._all:
            self.release(self.acquire())

    def close(self) -> None:
        """Closes every environment made here."""
        for env in self._all:
            _close(env)
        self._idle.clear()
        self._all.clear()


def _close(env: Episode) -> None:
    try:
        env.close()
    except Exception as error:  # an environment that breaks at its end leaves the others alone
        warnings.warn(
            f"{type(env).__name__}.close raised {type(error).__name__}: {error}", stacklevel=3
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call brought: a value, or what it raised."""

    key: Hashable
    value: Any = None
    error: Exception | None = None


class EnvWorkers:
    """Threads that step environments beside the engine, and a queue of what they bring.

    A call that hangs holds its thread: `give_up` on it, and another thread takes its place, up to
    `max_hung` at once; a thread whose call returns after all then ends. With no workers a call
    runs where it is submitted. The threads are daemons: one that hangs does not keep a process alive.
    """

    def __init__(self, num_workers: int, *, max_hung: int = 64) -> None:
        self._num_workers = num_workers
        self._max_hung = max_hung
        self._jobs: queue.SimpleQueue[tuple[Hashable, Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._queued: set[Hashable] = set()  # submitted, not begun, not given up
        self._busy: dict[Hashable, threading.Thread] = {}
        self._replaced: set[threading.Thread] = set()
        self._num_threads = 0
        self.num_replaced = 0
        """Threads that were replaced because their call hung."""

    @property
    def num_hung(self) -> int:
        """Replaced threads whose call has not returned yet."""
        return len(self._replaced)

    def submit(self, key: Hashable, call: Callable[[], Any]) -> None:
        """Has the call run; `collect` gives its answer under the key, unique among those under way."""
        if not self._num_workers:
            self._answers.put(_answer(key, call))
            return
        with self._lock:
            self._queued.add(key)
        self._jobs.put((key, call))
        if self._num_threads < self._num_workers:
            self._num_threads += 1
            self._start_thread()

    def collect(self, *, timeout_s: float = 0.0) -> list[Answer]:
        """What has come in, in the order of its coming; waits so long where there is nothing yet.

        A call that was given up while it ran gives its answer as well, once it returns.
        """
        answers: list[Answer] = []
        try:
            if timeout_s > 0:
                answers.append(self._answers.get(timeout=timeout_s))
            while True:
                answers.append(self._answers.get_nowait())
        except queue.Empty:
            return answers

    def give_up(self, key: Hashable) -> bool:
        """Nobody waits for this call any more; whether it runs, and holds what it works on.

        A thread that runs it is replaced. A call that has not begun is left out.
        """
        with self._lock:
            self._queued.discard(key)
            thread = self._busy.get(key)
            if thread is None or len(self._replaced) >= self._max_hung:
                return thread is not None
            self._replaced.add(thread)
        self.num_replaced += 1
        self._start_thread()
        return True

    def close(self) -> None:
        """Ends the threads: those that wait now, those inside a call after it."""
        with self._lock:
            self._queued.clear()
        for _ in range(self._num_threads):
            self._jobs.put(None)

    def _start_thread(self) -> None:
        threading.Thread(target=self._work, name="maskgym-env", daemon=True).start()

    def _work(self) -> None:
        me = threading.current_thread()
        is_replaced = False
        while not is_replaced and (job := self._jobs.get()) is not None:
            key, call = job
            with self._lock:
                if key not in self._queued:
                    continue
                self._queued.remove(key)
                self._busy[key] = me
            answer = _answer(key, call)
            with self._lock:
                del self._busy[key]
                is_replaced = me in self._replaced
                self._replaced.discard(me)
            self._answers.put(answer)


def _answer(key: Hashable, call: Callable[[], Any]) -> Answer:
    try:
        return Answer(key, value=call())
    except (
        SystemExit
    ) as error:  # code of a model, say, that asks Python to end: only its episode does
        return Answer(key, error=RuntimeError(f"the environment called exit({error.code!r})"))
    except Exception as error:
        return Answer(key, error=error)
