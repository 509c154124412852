"""Arms of a side-by-side run: each in a process of its own, one step at a time, in turn.

The parent writes "go" to a child, which does one training step, answers with one line of JSON and waits.
So arms that could not share a process (TRL beside us, two copies of vLLM) are interleaved step by step,
and what else the machine does meets all of them alike.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

_MARK = "STEP "
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


@dataclass(frozen=True, kw_only=True)
class ArmStep:
    """One training step: its phases in seconds, its size in tokens."""

    total_s: float
    cpu_s: float
    """CPU time of the process: what other processes on the machine change least."""
    rollout_s: float
    train_s: float
    """Everything from the trajectories to the new weights: log-probabilities, loss, optimiser."""
    sync_s: float
    """Weights into the engine."""
    num_episodes: int
    num_sampled: int
    """Sampled tokens."""
    num_trained: int
    """Sampled tokens that the loss saw."""
    num_real: int
    """Tokens of all sequences, prompts and observations too, each sequence counted for itself."""
    num_computed: int
    """Tokens of one forward pass of the trainer, padding included."""
    reward: float
    grad_norm: float
    peak_bytes: int = 0
    """Highest memory in use on the device so far; 0 on a CPU."""
    parts: dict[str, float] = field(default_factory=dict)
    """Seconds of smaller parts, by name."""


class ArmFailedError(RuntimeError):
    """A child ended before its step was done; the message holds its last words."""


class Arm:
    """A child process that trains when told to."""

    def __init__(
        self, module: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts ``python -m maskgym.scripts.benchmarks.MODULE ARGUMENTS``."""
        self.name = " ".join((module, *arguments))
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"maskgym.scripts.benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **_ENVIRONMENT, **(environment or {})},
        )
        self._results: queue.Queue[ArmStep | None] = queue.Queue()
        self._last_lines: deque[str] = deque(maxlen=40)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def step(self, *, timeout_s: float = 900.0) -> ArmStep:
        """Has the child do one step.

        Raises:
            ArmFailedError: If it ends or is silent for `timeout_s`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            result = self._results.get(timeout=timeout_s)
        except (OSError, queue.Empty):
            result = None
        if result is None:
            self.close()
            raise ArmFailedError(f"{self.name} ended:\n" + "\n".join(self._last_lines))
        return result

    def close(self) -> None:
        """Ends the child."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._reader.join(timeout=10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):  # what was written to a child that is gone
                    stream.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_MARK):
                self._results.put(ArmStep(**json.loads(line.removeprefix(_MARK))))
            else:
                self._last_lines.append(line.rstrip())
        self._results.put(None)


def wait_for_go() -> bool:
    """In a child: waits for the parent; False when it wants no more."""
    return sys.stdin.readline().strip() == "go"


def report(times: ArmStep) -> None:
    """In a child: hands a step's times to the parent."""
    print(f"\n{_MARK}{json.dumps(asdict(times))}", flush=True)


def rounds(
    makers: Mapping[str, Callable[[], Arm]], *, num_rounds: int, num_discarded: int = 2
) -> tuple[dict[str, list[ArmStep]], dict[str, str]]:
    """Starts the arms one after another, with their first steps, which are left out; then takes turns.

    Args:
        makers: What starts each arm, by its name.
        num_rounds: Steps of each arm that count.
        num_discarded: Steps of each arm before, alone: they compile and fill caches.

    Returns:
        The steps of each arm that did all of them, and the last words of each that did not.
    """
    times: dict[str, list[ArmStep]] = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        arms: dict[str, Arm] = {}
        for name, make in makers.items():
            arms[name] = make()
            stack.callback(arms[name].close)
            try:
                for _ in range(num_discarded):
                    arms[name].step()
                times[name] = []
            except ArmFailedError as error:
                failures[name] = str(error)
        for _ in range(num_rounds):
            for name in tuple(times):
                try:
                    times[name].append(arms[name].step())
                except ArmFailedError as error:
                    failures[name] = str(error)
                    del times[name]
    return times, failures


def median(times: Sequence[ArmStep], name: str) -> float:
    """Median of a number over steps."""
    values = sorted(float(getattr(step, name)) for step in times)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def spread(times: Sequence[ArmStep], name: str) -> tuple[float, float]:
    """Least and most of a number over steps."""
    values: list[Any] = [getattr(step, name) for step in times]
    return float(min(values)), float(max(values))
