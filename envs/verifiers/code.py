"""In: a model's text and a code task. Out: a grade: tests run in the sandbox, compared here.

CALL tests: arguments go in, results come back as JSON in lines framed by a random token; what the
candidate prints goes elsewhere. Expected results never enter the sandbox and the comparison is made
in this process on plain types, so overloading `==`, walking frames, searching the heap or leaving
early earns nothing.
STDIO tests: each is a run of its own, and its output is compared here.
ASSERT tests (HumanEval, MBPP): the test runs in the candidate's own process, because it may need
identity or classes. A hostile candidate can defeat it (an `__eq__` that always agrees, or reading
the frame token from a caller's frame); the grade's reason says "in-process".

What tier T0 does not prevent beyond that: a candidate can write to the result channel, which gains
nothing for CALL tests (it could as well return the value); and since it runs as the same user, it
could read the expected results in the files or memory of the host. Tiers T2 and up close that.
"""

from __future__ import annotations

import ast
import json
import math
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..sandbox import ExecResult, ExecStatus, Sandbox, SandboxLimits
from ..tasks import CodeTest, Task, TestKind
from ..verdicts import Grade, Verdict

_HARNESS = Path(__file__).with_name("code_harness.py").read_text(encoding="utf-8")
_FENCE = re.compile(
    r"^[ \t]*(?P<mark>`{3,}|~{3,})[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=mark)[ \t]*$|\Z)", re.M | re.S
)
_MAX_CODE_CHARS = 200_000
_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class CodeVerifierConfig:
    """Limits of grading."""

    timeout_s: float = 6.0
    """Seconds for each test, and for loading the candidate."""
    max_total_s: float = 120.0
    """Seconds for all tests of a task together."""
    memory_mb: int = 1024
    """Address space of the candidate, in MiB."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.max_total_s <= 0:
            raise ValueError(
                f"timeout_s is {self.timeout_s}, max_total_s {self.max_total_s}; use more than 0."
            )


class _SandboxFailure(Exception):
    """The sandbox failed twice; nothing is known about the candidate."""


def verify_code(
    code: str, task: Task, sandbox: Sandbox, *, config: CodeVerifierConfig | None = None
) -> Grade:
    """Correct if the program in `code` passes every test of the task.

    Args:
        code: A model's text; the program is its last fenced block that defines what is tested, or
        all
            of it if it is Python, or a continuation of `task.prompt`.
        task: A code task.
        sandbox: Runs the candidate. If it fails twice the verdict is `verifier_error`.
        config: Limits.

    Raises:
        ValueError: If the task has no tests, or a test is not valid JSON; never "correct by
        default".
    """
    config = config or CodeVerifierConfig()
    if not task.tests:
        raise ValueError(f"Task {task.task_id!r} has no tests, so any code would pass. Add some.")
    names = {test.function for test in task.tests if test.function}
    program = extract_code(code, names=names or {task.entry_point} - {""}, prompt=task.prompt)
    if not program.strip():
        return Grade.of(False, "no code")
    if len(program) > _MAX_CODE_CHARS:
        return Grade.of(False, f"code longer than {_MAX_CODE_CHARS} characters")
    by_kind = {kind: [t for t in task.tests if t.kind is kind] for kind in TestKind}
    label = "in-process: " if by_kind[TestKind.ASSERT] else ""
    try:
        problem = (
            _run_calls(program, by_kind[TestKind.CALL], sandbox, config)
            or _run_stdio(program, by_kind[TestKind.STDIO], sandbox, config)
            or _run_asserts(program, by_kind[TestKind.ASSERT], sandbox, config)
        )
    except _SandboxFailure as failure:
        return Grade(verdict=Verdict.VERIFIER_ERROR, reason=str(failure))
    return Grade.of(not problem, label + (problem or f"passed {len(task.tests)} tests"))


def extract_code(
    text: str, *, names: set[str] | frozenset[str] = frozenset(), prompt: str = ""
) -> str:
    """The program in a model's text; "" if there is none.

    The last fenced block that defines one of `names` counts, since a usage example often follows
    the solution; without such a block, the last one. Text without a fence counts if it is Python,
    or if it continues `prompt`.
    """
    text = text.rpartition("</think>")[2].replace("\r\n", "\n")
    blocks = [match["code"] for match in _FENCE.finditer(text)]
    defining = [block for block in blocks if any(_defines(block, name) for name in names)]
    if blocks:
        program = (defining or blocks)[-1]
        needs_prompt = prompt and names and not defining
        return prompt + program if needs_prompt and _parses(prompt + program) else program
    if _parses(text) and (not prompt or not names or any(_defines(text, name) for name in names)):
        return text
    return prompt + text if prompt and _parses(prompt + text) else ""


def _defines(code: str, name: str) -> bool:
    name = re.escape(name)
    pattern = rf"^\s*(?:async\s+)?(?:def|class)\s+{name}\b|^{name}\s*="
    return re.search(pattern, code, re.M) is not None


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return bool(code.strip())


def _run_calls(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, config: CodeVerifierConfig
) -> str:
    """What went wrong with the call tests; "" if nothing did."""
    if not tests:
        return ""
    calls = []
    for test in tests:
        arguments, _ = _json(test.arguments, "arguments"), _json(test.expected, "expected")
        if not isinstance(arguments, list):
            raise ValueError(f"arguments is {test.arguments!r}; it must be a JSON list.")
        calls.append({"function": test.function, "arguments": test.arguments})
    frames, ending = _run_harness(program, {"calls": calls}, len(calls), sandbox, config)
    for number, test in enumerate(tests, start=1):
        if number > len(frames):
            return f"test {number} of {len(tests)}: {ending}"
        if not _same(frames[number - 1], json.loads(test.expected)):
            return f"test {number} of {len(tests)}: wrong result"
    return ""


def _run_asserts(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, config: CodeVerifierConfig
) -> str:
    if not tests:
        return ""
    sources = [test.source for test in tests]
    frames, ending = _run_harness(program, {"asserts": sources}, len(tests), sandbox, config)
    return "" if len(frames) == len(tests) else f"test {len(frames) + 1} of {len(tests)}: {ending}"


def _run_stdio(
    program: str, tests: Sequence[CodeTest], sandbox: Sandbox, config: CodeVerifierConfig
) -> str:
    left_s = config.max_total_s
    for number, test in enumerate(tests, start=1):
        if left_s <= 0:
            return f"test {number} of {len(tests)}: no time left of {config.max_total_s} s"
        limits = SandboxLimits(wall_s=min(config.timeout_s, left_s), memory_mb=config.memory_mb)
        result = _run(sandbox, program, test.stdin, limits)
        left_s -= result.wall_s
        if result.status is not ExecStatus.OK:
            return f"test {number} of {len(tests)}: {_why(result)}"
        if _lines(result.stdout) != _lines(test.expected):
            return f"test {number} of {len(tests)}: wrong output"
    return ""


def _run_harness(
    program: str, work: dict[str, object], num: int, sandbox: Sandbox, config: CodeVerifierConfig
) -> tuple[list[object], str]:
    """The values that came back, in order, and why there are no more of them."""
    frame = secrets.token_hex(16)
    job = {"calls": [], "asserts": [], **work, "code": program, "frame": frame}
    job["timeout_s"] = config.timeout_s
    limits = SandboxLimits(
        wall_s=min(config.timeout_s * (num + 1), config.max_total_s), memory_mb=config.memory_mb
    )
    result = _run(sandbox, _HARNESS, json.dumps(job), limits)
    values: list[object] = []
    for line in result.stdout.split("\n"):
        if not line.startswith(frame):
            if line.startswith("Timeout ("):
                return values, f"timeout after {config.timeout_s} s"
            continue
        try:
            kind, value = json.loads(line[len(frame) :])
        except (ValueError, RecursionError):
            return values, "unreadable result"
        if kind == "raised":
            return values, str(value)
        values.append(value)
    return values[:num], _why(result) if result.status is not ExecStatus.OK else "left early"


def _run(sandbox: Sandbox, code: str, stdin: str, limits: SandboxLimits) -> ExecResult:
    for _ in range(2):
        result = sandbox.run(code, stdin=stdin, limits=limits)
        if result.status is not ExecStatus.SANDBOX_ERROR:
            return result
    raise _SandboxFailure(f"sandbox error: {result.stderr.strip()[:200]}")


def _why(result: ExecResult) -> str:
    last = result.stderr.strip().rpartition("\n")[2][:200]
    return f"{result.status.value}: {last}" if last else result.status.value


def _same(value: object, expected: object) -> bool:
    """Equality on plain JSON types: 1 is not true; 2.0 is 2; floats within a relative 1e-6."""
    if isinstance(expected, bool) or isinstance(value, bool):
        return value is expected
    if isinstance(expected, float) and isinstance(value, int | float):
        if math.isnan(expected):
            return math.isnan(value)
        return math.isclose(value, expected, rel_tol=_TOLERANCE, abs_tol=1e-9)
    if isinstance(expected, int) and isinstance(value, int | float):
        return value == expected
    if type(value) is not type(expected):
        return False
    if isinstance(expected, list) and isinstance(value, list):
        return len(value) == len(expected) and all(map(_same, value, expected))
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(_same(value[k], expected[k]) for k in value)
    return value == expected


def _json(text: str, field: str) -> object:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"A call test's {field} is no JSON ({error}): {text[:80]!r}.") from None


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]
