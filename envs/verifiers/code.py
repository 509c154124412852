"""In: a model's text and a code task. Out: a grade: tests run in the sandbox, compared here.

CALL tests: the program is loaded once; arguments go in and results come back one at a time, as
plain values, and are compared here. STDIO tests: each is a run of its own, and its output is
compared here. ASSERT tests (HumanEval, MBPP): the test runs in a second sandboxed process and calls
the candidate through stand-ins (`code_asserts`).

So what is expected never enters the candidate's process, and overloading `==`, walking frames,
searching the heap, leaving early or writing to descriptors earns nothing. What `inside.codec` can
not carry is no result: objects of the program's own classes, more than 4 MiB or 500,000 items.

Two cases are weaker. An assert test that needs more than plain values runs in the candidate's own
process; the grade's reason says "in-process", and which tests do is decided by the test alone. And
below tier T2 a candidate, being the same user, can read the files and the memory of the host.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..sandbox import ExecStatus, Sandbox, SandboxFeatureError
from ..tasks import CodeTest, Task, TestKind
from ..verdicts import Grade, Verdict
from .code_asserts import run_asserts
from .code_extract import extract_code
from .code_modes import CodeMode, CodeRules, rules_of
from .code_runs import CodeBudget, SandboxFailure, check, load, retried, run, run_harness, why

_MAX_CODE_CHARS = 200_000


@dataclass(frozen=True, kw_only=True)
class CodeVerifierConfig:
    """Limits of grading; what is None is the mode's own."""

    timeout_s: float | None = None
    """Seconds for each test, and for loading the candidate. In `strict` 6."""
    max_total_s: float | None = None
    """Seconds for all tests of a task together. In `strict` 120."""
    memory_mb: int = 1024
    """Address space of the candidate, in MiB."""

    def __post_init__(self) -> None:
        for name in ("timeout_s", "max_total_s", "memory_mb"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; use more than 0.")

    def budget(self, rules: CodeRules, num_tests: int) -> CodeBudget:
        """The budget of one grading that starts now."""
        return CodeBudget.starting_now(
            timeout_s=self.timeout_s or rules.timeout_s,
            max_total_s=self.max_total_s or rules.max_total_s(num_tests),
            memory_mb=self.memory_mb,
        )


def verify_code(
    code: str,
    task: Task,
    sandbox: Sandbox,
    *,
    mode: CodeMode | str = CodeMode.STRICT,
    config: CodeVerifierConfig | None = None,
) -> Grade:
    """Correct if the program in `code` passes every test of the task.

    Args:
        code: A model's text. In `strict` the program is its last fenced block that defines what is
            tested, or all of it if it is Python, or a continuation of `task.prompt`.
        task: A code task.
        sandbox: Runs the candidate. If it fails twice the verdict is `verifier_error`.
        mode: Whose rules of extraction, equality and time count: "strict",
            "compat:livecodebench" or "compat:prime"; see `code_modes`.
        config: Limits.

    Raises:
        ValueError: If the task has no tests, a test is broken, or the mode is unknown; never
            "correct by default".
    """
    rules = rules_of(CodeMode.from_name(mode))
    if not task.tests:
        raise ValueError(f"Task {task.task_id!r} has no tests, so any code would pass. Add some.")
    program = _program(code, task, rules)
    if not program.strip():
        return Grade.of(False, "no code")
    if len(program) > _MAX_CODE_CHARS:
        return Grade.of(False, f"code longer than {_MAX_CODE_CHARS} characters")
    by_kind = {kind: [t for t in task.tests if t.kind is kind] for kind in TestKind}
    budget = (config or CodeVerifierConfig()).budget(rules, len(task.tests))
    label = ""
    try:
        problem = _run_calls(program, by_kind[TestKind.CALL], sandbox, budget, rules)
        problem = problem or _run_stdio(program, by_kind[TestKind.STDIO], sandbox, budget, rules)
        if by_kind[TestKind.ASSERT] and not problem:
            sources = [test.source for test in by_kind[TestKind.ASSERT]]
            outcome = run_asserts(
                program,
                sources,
                sandbox,
                budget,
                prompt=task.prompt,
                entry_point=task.entry_point,
            )
            problem = outcome.problem
            label = f"in-process ({outcome.in_process}): " if outcome.in_process else ""
    except SandboxFailure as failure:
        return Grade(verdict=Verdict.VERIFIER_ERROR, reason=str(failure))
    return Grade.of(not problem, label + (problem or f"passed {len(task.tests)} tests"))


def _program(code: str, task: Task, rules: CodeRules) -> str:
    if rules.extract is not None:
        return rules.extract(code)
    names = {test.function for test in task.tests if test.function}
    return extract_code(code, names=names or {task.entry_point} - {""}, prompt=task.prompt)


def _run_calls(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, budget: CodeBudget, rules: CodeRules
) -> str:
    """What went wrong with the call tests; "" if nothing did."""
    if not tests:
        return ""
    for test in tests:
        _json(test.expected, "expected")
        if not isinstance(_json(test.arguments, "arguments"), list):
            raise ValueError(f"arguments is {test.arguments!r}; it must be a JSON list.")
    program = rules.call_program(program, tests[0].function)
    try:
        return retried(lambda: _call_each(program, tests, sandbox, budget, rules))
    except SandboxFeatureError:  # it only runs scripts: all calls in one run
        return retried(lambda: _call_all(program, tests, sandbox, budget, rules))


def _call_each(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, budget: CodeBudget, rules: CodeRules
) -> str:
    candidate = load(sandbox, program, budget)
    try:
        if candidate.load.status is not ExecStatus.OK:
            return f"loading: {why(candidate.load.status, candidate.load.stderr, budget)}"
        for number, test in enumerate(tests, start=1):
            where = f"test {number} of {len(tests)}"
            wall_s = budget.next_s()
            if wall_s == 0.0:
                return f"{where}: no time left"
            arguments = rules.arguments(json.loads(test.arguments))
            result = candidate.call(test.function, arguments, wall_s=wall_s)
            check(result.status, result.error)
            if result.status is not ExecStatus.OK:
                return f"{where}: {why(result.status, result.error, budget)}"
            if not rules.same_value(result.value, json.loads(test.expected)):
                return f"{where}: wrong result"
    finally:
        candidate.close()
    return ""


def _call_all(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, budget: CodeBudget, rules: CodeRules
) -> str:
    calls = [
        {
            "function": test.function,
            "arguments": json.dumps(rules.arguments(json.loads(test.arguments))),
        }
        for test in tests
    ]
    values, ending = run_harness(sandbox, program, {"calls": calls}, len(calls), budget)
    for number, test in enumerate(tests, start=1):
        if number > len(values):
            return f"test {number} of {len(tests)}: {ending}"
        if not rules.same_value(values[number - 1], json.loads(test.expected)):
            return f"test {number} of {len(tests)}: wrong result"
    return ""


def _run_stdio(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, budget: CodeBudget, rules: CodeRules
) -> str:
    """What went wrong with the tests on standard input and output; "" if nothing did."""
    for number, test in enumerate(tests, start=1):
        where = f"test {number} of {len(tests)}"
        script, stdin = rules.stdio_job(program, test.stdin)
        result = retried(lambda: run(sandbox, script, budget, stdin=stdin))  # noqa: B023
        if result is None:
            return f"{where}: no time left"
        if result.status is not ExecStatus.OK:
            return f"{where}: {why(result.status, result.stderr, budget)}"
        if not rules.same_output(result.stdout, test.expected):
            return f"{where}: wrong output"
    return ""


def _json(text: str, field: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"A call test's {field} is no JSON ({error}): {text[:80]!r}.") from None
