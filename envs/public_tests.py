"""In: a code task's public tests and a program. Out: the tests as text; and what each of them says."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

from .sandbox import ExecStatus, Sandbox, SandboxFeatureError, SandboxLimits
from .tasks import CodeTest, Task, TestKind
from .tools import ToolResult
from .verdicts import Verdict
from .verifiers import extract_code, verify_code
from .verifiers.code_modes import CodeMode, rules_of

_MAX_SHOWN_CHARS = 300


def describe_tests(task: Task) -> str:
    """The public tests as the model reads them; "" if there are none that the question lacks."""
    shown = [
        line
        for test in task.public_tests
        if (line := _described(test)) and line not in task.question
    ]
    return "\n".join(["Your program must pass:", *shown]) if shown else ""


class PublicTestsTool:
    """Runs the public tests of the task on a program and shows which fail, and how."""

    name = "run_tests"

    def __init__(self, sandbox: Sandbox, limits: SandboxLimits | None = None) -> None:
        self.sandbox = sandbox
        self.limits = limits or SandboxLimits()
        self._task: Task | None = None

    @property
    def description(self) -> str:
        """For the model."""
        return "Runs your whole program on the public tests and says which of them fail."

    def begin(self, task: Task) -> None:
        """Takes the tests of the next episode."""
        self._task = task

    def call(self, argument: str) -> ToolResult:
        """A line for each public test; a sandbox that fails is an error of the tool."""
        task = self._task
        if task is None or not task.public_tests:
            return ToolResult(text="This task has no public tests.")
        names = {test.function for test in task.public_tests if test.function}
        program = extract_code(
            argument, names=names or {task.entry_point} - {""}, prompt=task.prompt
        )
        if not program.strip():
            return ToolResult(text="There is no program in this call; write Python.")
        lines = [
            f"Test {number}: {self._run(argument, program, task, test)}"
            for number, test in enumerate(task.public_tests, start=1)
        ]
        return ToolResult(text="\n".join(lines), details=(("tier", self.sandbox.tier),))

    def close(self) -> None:
        """Nothing is kept."""

    def _run(self, text: str, program: str, task: Task, test: CodeTest) -> str:
        grade = verify_code(text, replace(task, tests=(test,)), self.sandbox)
        if grade.verdict is Verdict.VERIFIER_ERROR:
            raise RuntimeError(grade.reason)
        if grade.verdict is Verdict.CORRECT:
            return "passed."
        reason = grade.reason.removeprefix("test 1 of 1: ")
        if reason.startswith("wrong"):
            reason = f"got {_cut(self._got(program, test))}"
        return f"failed. {_described(test)}: {reason}"

    def _got(self, program: str, test: CodeTest) -> str:
        """What the program brings for a test that it fails."""
        if test.kind is TestKind.STDIO:
            return self.sandbox.run(program, stdin=test.stdin, limits=self.limits).stdout.strip()
        try:
            candidate = self.sandbox.candidate(program, limits=self.limits)
        except SandboxFeatureError:
            return "another result"
        with closing(candidate):
            arguments = rules_of(CodeMode.STRICT).arguments(json.loads(test.arguments))
            result = candidate.call(test.function, arguments, wall_s=self.limits.wall_s)
        return repr(result.value) if result.status is ExecStatus.OK else result.error


def _described(test: CodeTest) -> str:
    match test.kind:
        case TestKind.CALL:
            arguments = ", ".join(repr(value) for value in json.loads(test.arguments))
            return _cut(f"{test.function}({arguments}) == {json.loads(test.expected)!r}")
        case TestKind.STDIO:
            return f"for the input {_cut(test.stdin)!r} it prints {_cut(test.expected)!r}"
        case TestKind.ASSERT:
            return _cut(test.source.strip().rpartition("\n")[2])


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]} ..."
