"""In: assert-style tests (HumanEval, MBPP) and a candidate. Out: what went wrong, "" if nothing.

The test is a program too. It runs in a sandboxed process of its own, the judge, which the
candidate's code never enters, and calls the candidate through stand-ins: the host passes each call
to the candidate's process and its result, a plain value, back. So what the test compares was made
in the judge's process: overloading `==`, walking frames and searching the heap find nothing there.

A test that needs more than plain values (`needs_process` of its names, or an argument that is no
plain value) runs in the candidate's own process, where a hostile candidate can defeat it; which
tests do is decided by the test and never by what the candidate does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..sandbox import CallResult, Candidate, ExecStatus, Sandbox, SandboxFeatureError
from ..sandbox.candidate import ChannelCandidate
from .code_runs import CodeBudget, check, last_line, load, retried, run_harness, why
from .code_test_names import TestNames, names_of_test

_JUDGE = Path(__file__).with_name("code_judge.py").read_text(encoding="utf-8")
_RAISED = re.compile(r"^(?:[\w<>]+\.)*(\w+)(?:: (.*))?$", re.S)
_JUDGE_S = 30.0  # to start, which is not the candidate's time
_UNPLAIN = "is no plain value"


@dataclass(frozen=True, kw_only=True, slots=True)
class AssertOutcome:
    """How the tests went, and where they ran."""

    problem: str
    in_process: str = ""
    """Why they ran in the candidate's own process; "" if they did not."""


class _NeedsProcess(Exception):
    """The test passes what is no plain value."""


def run_asserts(
    program: str,
    sources: Sequence[str],
    sandbox: Sandbox,
    budget: CodeBudget,
    *,
    prompt: str = "",
    entry_point: str = "",
) -> AssertOutcome:
    """Runs the tests in order, up to the first that fails.

    Raises:
        ValueError: If a test is no Python.
        SandboxFailure: If the sandbox failed twice.
    """
    names = names_of_test("\n".join(sources), prompt=prompt, entry_point=entry_point)
    reason = names.needs_process
    if not reason:
        try:
            problem = retried(lambda: _run_apart(program, sources, sandbox, budget, names))
            return AssertOutcome(problem=problem)
        except SandboxFeatureError:
            reason = "this sandbox only runs scripts"
        except _NeedsProcess as error:
            reason = str(error)
    work: dict[str, object] = {"asserts": list(sources)}
    frames, ending = retried(lambda: run_harness(sandbox, program, work, len(sources), budget))
    num_passed, num = len(frames), len(sources)
    problem = "" if num_passed == num else f"test {num_passed + 1} of {num}: {ending}"
    return AssertOutcome(problem=problem, in_process=reason)


def _run_apart(
    program: str,
    sources: Sequence[str],
    sandbox: Sandbox,
    budget: CodeBudget,
    names: TestNames,
) -> str:
    candidate = load(sandbox, program, budget)
    try:
        if candidate.load.status is not ExecStatus.OK:
            return f"loading: {why(candidate.load.status, candidate.load.stderr, budget)}"
        judge = load(sandbox, _JUDGE, budget, wall_s=_JUDGE_S)
        try:
            return _judge(judge, candidate, sources, budget, names)
        finally:
            judge.close()
    finally:
        candidate.close()


def _judge(
    judge: Candidate,
    candidate: Candidate,
    sources: Sequence[str],
    budget: CodeBudget,
    names: TestNames,
) -> str:
    arguments = [list(names.modules), names.setup, list(names.functions)]
    prepared = judge.call("prepare", arguments, wall_s=_JUDGE_S)
    if prepared.status is not ExecStatus.OK:
        check(ExecStatus.SANDBOX_ERROR, f"the judge did not start: {prepared.error}")
    for number, source in enumerate(sources, start=1):
        problem = _run_test(judge, candidate, source, budget)
        if problem:
            return f"test {number} of {len(sources)}: {problem}"
    return ""


def _run_test(judge: Candidate, candidate: Candidate, source: str, budget: CodeBudget) -> str:
    """One test, from its start through its calls of the candidate to its end; "" if it passed."""
    own = budget.for_one_test()
    event = _event(judge.call("begin", [source], wall_s=own.next_s()), budget)
    while event[0] == "ask":
        answer = _ask(candidate, *event[1:], wall_s=own.next_s())
        if answer.status is ExecStatus.OK:
            told: list[Any] = [True, answer.value, ""]
        elif answer.status is ExecStatus.OOM:
            told = [False, "MemoryError", ""]
        elif answer.status is ExecStatus.ERROR and (raised := _raised(answer.error)):
            told = [False, *raised]
        else:
            check(answer.status, answer.error)
            return why(answer.status, answer.error, budget)
        event = _event(judge.call("resume", told, wall_s=own.next_s()), budget)
    return "" if event[0] == "passed" else str(event[1])


def _ask(
    candidate: Candidate,
    name: str,
    arguments: list[Any],
    keywords: dict[str, Any],
    *,
    wall_s: float,
) -> CallResult:
    if not keywords:
        return candidate.call(name, arguments, wall_s=wall_s)
    if isinstance(candidate, ChannelCandidate):
        return candidate.call(name, arguments, wall_s=wall_s, keywords=keywords)
    raise _NeedsProcess("the test names arguments")


def _event(result: CallResult, budget: CodeBudget) -> list[Any]:
    """What the judge says next; a judge that ends has failed the test."""
    if result.status is ExecStatus.OK:
        event: list[Any] = result.value
        return event
    check(result.status, result.error)
    if result.status is ExecStatus.ERROR and result.error.endswith(_UNPLAIN):
        raise _NeedsProcess(f"the test passes what is no plain value ({last_line(result.error)})")
    where = "" if result.status is ExecStatus.TIMEOUT else "in the test: "
    return ["failed", where + why(result.status, result.error, budget)]


def _raised(error: str) -> list[str] | None:
    """Name and message of the exception at the end of a traceback; None if there is none."""
    last = error.rpartition("Traceback (most recent call last):\n")[2]
    lines = last.split("\n")
    start = next((i for i, line in enumerate(lines) if not line.startswith(" ")), 0)
    match = _RAISED.match("\n".join(lines[start:]))
    return [match[1], match[2] or ""] if match else None
