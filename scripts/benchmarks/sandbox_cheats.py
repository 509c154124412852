"""Grader cheats: the programs of `tests/envs/verifiers/cheats` in, who pays them out.

Each cheat is graded by our verifier with the three kinds of tests, and by SkyRL-Gym's LiveCodeBench
grader where that is installed. A cheat must earn nothing, and the honest programs what they deserve.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

from maskgym.envs import CodeTest, Domain, Grade, Task, TestKind, verify_code
from maskgym.envs.sandbox import LocalSandbox
from maskgym.envs.verdicts import Verdict

from .verifiers_code import rival_rewards

CHEATS = Path(__file__).resolve().parents[2] / "tests" / "envs" / "verifiers" / "cheats"
_PLACES = (4, 10, 21)
_READS = "\n\nprint(f(int(input())))\n"


def cheat_task(kind: TestKind) -> Task:
    """Asks for f(x) = 2x + 1 with tests of one kind."""
    values = [(x, 2 * x + 1) for x in _PLACES]
    match kind:
        case TestKind.CALL:
            tests = [
                CodeTest(kind=kind, function="f", arguments=json.dumps([x]), expected=str(y))
                for x, y in values
            ]
        case TestKind.STDIO:
            tests = [CodeTest(kind=kind, stdin=f"{x}\n", expected=f"{y}\n") for x, y in values]
        case TestKind.ASSERT:
            # The last test is passed by a candidate that ends the iteration, unless that is caught.
            sources = [f"assert f({x}) == {y}" for x, y in values]
            sources.append(f"assert all(map(lambda pair: f(pair[0]) == pair[1], {values}))")
            tests = [CodeTest(kind=kind, source=source) for source in sources]
    question = "Write a function f such that f(x) is 2x + 1."
    return Task(task_id=f"cheat-{kind}", question=question, domain=Domain.CODE, tests=tuple(tests))


def cheat_program(name: str, kind: TestKind) -> str:
    """The program of a cheat; for tests on standard input it prints what its function gives."""
    program = (CHEATS / f"{name}.py").read_text(encoding="utf-8")
    return program + _READS if kind is TestKind.STDIO else program


def cheat_names() -> list[str]:
    """The honest programs, then the cheats."""
    names = sorted(path.stem for path in CHEATS.glob("*.py"))
    return sorted(names, key=lambda name: not name.startswith("honest"))


def tables() -> Iterator[list[dict[str, str]]]:
    """One table: what each program earns, and by how much it made this process grow."""
    sandbox = LocalSandbox(require="T0")
    rivals = dict(zip(cheat_names(), _rival_rewards(), strict=False))
    rows = []
    try:
        for name in cheat_names():
            before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            grades = {
                kind: verify_code(cheat_program(name, kind), cheat_task(kind), sandbox)
                for kind in (TestKind.CALL, TestKind.ASSERT, TestKind.STDIO)
            }
            grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
            rows.append(
                {
                    "program": name.replace("_", " "),
                    **{f"ours, {kind}": _reward(grade) for kind, grade in grades.items()},
                    "host memory": f"+{grown_kb / 1024:.1f} MB",
                    "skyrl_gym, call": rivals.get(name, "-"),
                }
            )
    finally:
        sandbox.close()
    yield rows


def _reward(grade: Grade) -> str:
    if grade.verdict is Verdict.VERIFIER_ERROR:
        return f"verifier error: {grade.reason}"
    return str(int(grade.is_correct))


def _rival_rewards() -> list[str]:
    tests = cheat_task(TestKind.CALL).tests
    texts = [f"```python\n{cheat_program(name, TestKind.CALL)}\n```" for name in cheat_names()]
    rewards = rival_rewards([(text, tests) for text in texts])
    return [str(int(each)) if isinstance(each, float) else str(each) for each in rewards]
