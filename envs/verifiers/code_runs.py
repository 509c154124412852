"""In: programs and the sandbox that runs them. Out: results; or `SandboxFailure`, tried once again.

Also the way to test without calls from outside: the harness, a program that loads the candidate and
runs all calls or tests in one go, for sandboxes that only run scripts and for tests that have to
run in the candidate's own process.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from ..sandbox import Candidate, ExecResult, ExecStatus, Sandbox, SandboxLimits

_HARNESS = Path(__file__).with_name("code_harness.py").read_text(encoding="utf-8")
_MAX_REASON_CHARS = 200
_T = TypeVar("_T")


class SandboxFailure(Exception):
    """The sandbox failed; nothing is known about the candidate."""


@dataclass(frozen=True, kw_only=True)
class CodeBudget:
    """What one grading may use; the clock of `left_s` runs from the making of this record."""

    timeout_s: float
    memory_mb: int
    deadline_s: float
    """On the clock of `time.monotonic`."""

    @classmethod
    def starting_now(cls, *, timeout_s: float, max_total_s: float, memory_mb: int) -> CodeBudget:
        """A budget of so many seconds in all."""
        deadline_s = time.monotonic() + max_total_s
        return cls(timeout_s=timeout_s, memory_mb=memory_mb, deadline_s=deadline_s)

    def next_s(self) -> float:
        """Seconds for the next test; 0 when there are none left."""
        return max(0.0, min(self.timeout_s, self.deadline_s - time.monotonic()))

    def for_one_test(self) -> CodeBudget:
        """What one test of several calls may use, from now on."""
        return replace(self, deadline_s=time.monotonic() + self.next_s())

    def limits(self, wall_s: float) -> SandboxLimits:
        """Limits of one process."""
        return SandboxLimits(wall_s=wall_s, memory_mb=self.memory_mb)


def retried(work: Callable[[], _T]) -> _T:
    """What `work` gives; once more where the sandbox fails under it."""
    try:
        return work()
    except SandboxFailure:
        return work()


def run(
    sandbox: Sandbox, program: str, budget: CodeBudget, *, stdin: str = "", num_tests: int = 1
) -> ExecResult | None:
    """One run of a script that holds so many tests; None when there is no time left.

    Raises:
        SandboxFailure: If the sandbox failed.
    """
    wall_s = budget.next_s()
    if num_tests > 1:
        left_s = budget.deadline_s - time.monotonic()
        wall_s = max(0.0, min(budget.timeout_s * num_tests, left_s))
    if wall_s == 0.0:
        return None
    result = sandbox.run(program, stdin=stdin, limits=budget.limits(wall_s))
    check(result.status, result.stderr)
    return result


def load(
    sandbox: Sandbox, program: str, budget: CodeBudget, *, wall_s: float | None = None
) -> Candidate:
    """A loaded program, whose `load` may say that it failed.

    Args:
        sandbox: Where it runs.
        program: What is loaded.
        budget: Of the grading.
        wall_s: Seconds for loading; None for those of a test.

    Raises:
        SandboxFailure: If the sandbox failed.
        SandboxFeatureError: If this kind of sandbox only runs scripts.
    """
    limits = budget.limits(wall_s or max(budget.next_s(), 0.01))
    try:
        candidate = sandbox.candidate(program, limits=limits)
    except OSError as error:
        raise SandboxFailure(f"sandbox error: {error}") from error
    try:
        check(candidate.load.status, candidate.load.stderr)
    except SandboxFailure:
        candidate.close()
        raise
    return candidate


def check(status: ExecStatus, message: str) -> None:
    """Raises `SandboxFailure` where the sandbox failed."""
    if status is ExecStatus.SANDBOX_ERROR:
        raise SandboxFailure(f"sandbox error: {last_line(message)}")


def why(status: ExecStatus, message: str, budget: CodeBudget) -> str:
    """In a line, how something ended that did not end well."""
    if status is ExecStatus.TIMEOUT:
        return f"timeout after {budget.timeout_s} s"
    last = last_line(message)
    return f"{status.value}: {last}" if last else status.value


def last_line(message: str) -> str:
    """The last line of a traceback, cut."""
    return message.strip().rpartition("\n")[2][:_MAX_REASON_CHARS]


def run_harness(
    sandbox: Sandbox, program: str, work: dict[str, object], num_tests: int, budget: CodeBudget
) -> tuple[list[object], str]:
    """The values that came back, in order, and why there are no more of them.

    Each value is framed by a random token on a copy of standard output.
    """
    frame = secrets.token_hex(16)
    job = {"calls": [], "asserts": [], **work, "code": program, "frame": frame}
    job["timeout_s"] = budget.timeout_s
    result = run(sandbox, _HARNESS, budget, stdin=json.dumps(job), num_tests=num_tests + 1)
    if result is None:
        return [], "no time left"
    values: list[object] = []
    for line in result.stdout.split("\n"):
        if not line.startswith(frame):
            if line.startswith("Timeout ("):
                return values, f"timeout after {budget.timeout_s} s"
            continue
        try:
            kind, value = json.loads(line[len(frame) :])
        except (ValueError, TypeError, RecursionError):
            return values, "unreadable result"
        if kind == "raised":
            return values, str(value)
        values.append(value)
    is_ok = result.status is ExecStatus.OK
    return values[:num_tests], "left early" if is_ok else why(result.status, result.stderr, budget)
