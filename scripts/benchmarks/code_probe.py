"""Code probe: a code task, its expert's program and a scaffold in, what is left of the program out.

Two questions, neither of them asked of our own detectors: how many of the program's own lines (those
that the question does not show) can be read in the scaffold, and does code that is put together from
what is left pass the task's tests in the sandbox.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator

from maskgym.envs import Sandbox, Task, verify_code
from maskgym.envs.verdicts import Verdict

from .leak_probe import Leak

HALF = 0.5
_BACKTICKS = re.compile(r"`([^`\n]+)`")
_OPENS_CODE = re.compile(r"[ \t>]*(?:def|class|import|from|@\w)\b")
_MAX_LINES = 80  # of one candidate; the longest reference solution has 60


def visible_share(program: str, question: str, scaffold: str) -> tuple[float, str]:
    """Share of the program's own lines that stand in the scaffold, and the longest of them."""
    asked = _flat(question)
    own = {_flat(line) for line in program.split("\n")}
    own = {line for line in own if len(line) > 3 and re.search(r"\w\W+\w", line)}
    own = {line for line in own if line not in asked and not line.startswith(("#", '"""'))}
    if not own:
        return 0.0, ""
    shown = _flat(scaffold)
    seen = [line for line in own if line in shown]
    return len(seen) / len(own), max(seen, key=len, default="")


class CodeProbe:
    """Asks the sandbox whether the remains of a program pass; equal remains are asked once."""

    def __init__(self, sandbox: Sandbox | None):
        self.sandbox = sandbox
        self._passed: dict[tuple[str, str], bool] = {}

    def find_leak(self, task: Task, program: str, scaffold: str) -> Leak | None:
        """Half of the program's own lines, or a program that passes; None where neither is left."""
        share, line = visible_share(program, task.question, scaffold)
        if share >= HALF:
            return Leak(form="lines", excerpt=f"{share:.0%} of the lines, such as: {line}")
        if share > 0 or "return" in scaffold or "lambda" in scaffold:
            for candidate in candidates(scaffold):
                if self.passes(task, candidate):
                    return Leak(form="passes", excerpt=candidate[:160].replace("\n", "\\n"))
        return None

    def passes(self, task: Task, program: str) -> bool:
        """Whether a program, or the task's prompt with it behind, passes the tests."""
        if self.sandbox is None:
            return False
        key = (task.task_id, program)
        if key not in self._passed:
            grade = verify_code(f"~~~~~~python\n{program}\n~~~~~~", task, self.sandbox)
            self._passed[key] = grade.verdict is Verdict.CORRECT
        return self._passed[key]


def candidates(scaffold: str) -> Iterator[str]:
    """Programs that can be read off a scaffold: runs of lines that parse, and all inline code."""
    lines = scaffold.split("\n")
    at = 0
    while at < len(lines):
        length = _parsing_run(lines, at) if _OPENS_CODE.match(lines[at]) else 0
        if length:
            yield textwrap.dedent("\n".join(lines[at : at + length])).strip("\n")
        at += max(1, length)
    pieces = [match[1].strip() for match in _BACKTICKS.finditer(scaffold)]
    if len(pieces) > 1 and _parses("\n".join(pieces)):
        yield "\n".join(pieces)


def _parsing_run(lines: list[str], at: int) -> int:
    """How many lines from here on are a program; 0 if none."""
    for length in range(min(_MAX_LINES, len(lines) - at), 0, -1):
        if _parses(textwrap.dedent("\n".join(lines[at : at + length]))):
            return length
    return 0


def _parses(text: str) -> bool:
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) for node in body)


def _flat(text: str) -> str:
    return " ".join(text.replace("`", "").split())
