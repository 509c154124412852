"""Agreement of the code verifier: data and peers in, one table per question out.

Reference solutions against their own tests, with the share that had to be tested in the candidate's
own process; the cases of `code_cases` in every mode, the LiveCodeBench column beside SkyRL-Gym's own
grader where that is installed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from maskgym.envs import CodeTest, Domain, Grade, Task, TestKind, load_tasks, verify_code
from maskgym.envs.sandbox import LocalSandbox, Sandbox
from maskgym.envs.verdicts import Verdict
from maskgym.envs.verifiers import CodeMode, CodeVerifierConfig

from .code_cases import CODE_CASES
from .tables import Table

_RIVAL = Path(__file__).with_name("code_rival.py")
_PATIENT = CodeVerifierConfig(timeout_s=60.0)  # a reference that computes for seconds is right
_RIVAL_S = 20.0  # for each pair; its own limit is 12 s
_FAULTS = {
    "EvoEval_combine_EvoEval/16": "the solution is no Python",
    "shadow_humaneval_python 1": "the test is no Python",
    "shadow_humaneval_python 12": "the test uses a name that nobody defines",
    "shadow_humaneval_python 32": "the test leaves an argument out",
    "shadow_humaneval_python 33": "the test calls a function that the solution does not have",
    "shadow_humaneval_python 37": "the solution fails its test wherever it is run",
}
"""Rows that are wrong in the data."""
Reference = tuple[str, Task]
"""A solution as text, and its task."""


def measure_agreement(data: Path, *, stride: int = 1) -> list[Table]:
    """References and cases; of each data set every `stride`-th row."""
    sandbox = LocalSandbox(require="T0")
    try:
        return [_references(data, sandbox, stride), _modes(sandbox)]
    finally:
        sandbox.close()


def rival_rewards(pairs: Sequence[tuple[str, Sequence[CodeTest]]]) -> list[object]:
    """What SkyRL-Gym's LiveCodeBench grader pays for each; None where it did not survive.

    Empty where it is not installed.
    """
    if importlib.util.find_spec("skyrl_gym") is None:
        return []
    rewards: list[object] = [None] * len(pairs)
    for start in range(len(pairs)):  # it may be killed by any of them: then on with the next
        if rewards[start] is not None:
            continue
        asked = [[text, [_rival_test(test) for test in tests]] for text, tests in pairs[start:]]
        for number, reward in _ask_rival(asked):
            rewards[start + number] = reward
        if rewards[start] is None:
            rewards[start] = "did not survive"
    return rewards


def _ask_rival(asked: list[list[Any]]) -> list[tuple[int, object]]:
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder, "answers")
        answers.touch()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                [sys.executable, str(_RIVAL), str(answers)],
                input=json.dumps(asked),
                text=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_RIVAL_S * len(asked),
                start_new_session=True,
            )
        return [tuple(json.loads(line)) for line in answers.read_text("utf-8").splitlines()]


def _rival_test(test: CodeTest) -> dict[str, Any]:
    if test.kind is TestKind.STDIO:
        return {"input": test.stdin, "output": test.expected, "testtype": "stdin"}
    arguments = "\n".join(json.dumps(each) for each in json.loads(test.arguments))
    return {
        "input": arguments,
        "output": test.expected,
        "testtype": "functional",
        "metadata": {"func_name": test.function},
    }


def _modes(sandbox: Sandbox) -> Table:
    columns = ("program", "test", *CodeMode, "skyrl_gym")
    table = Table(title="Code cases by mode", columns=columns)
    texts = [f"```python\n{case.program}\n```" for case in CODE_CASES]
    rewards = rival_rewards([(t, [c.test]) for t, c in zip(texts, CODE_CASES, strict=True)])
    num_same = 0
    for number, (text, case) in enumerate(zip(texts, CODE_CASES, strict=True)):
        grades = {mode: verify_code(text, case.task, sandbox, mode=mode) for mode in CodeMode}
        paid = {mode: int(grade.is_correct) for mode, grade in grades.items()}
        reward = rewards[number] if rewards else None
        num_same += reward == paid[CodeMode.LIVECODEBENCH]
        shown = int(reward) if isinstance(reward, float) else str(reward or "-")
        table.add(case.name, case.test.kind.value, *paid.values(), shown)
    if rewards:
        table.notes.append(
            f"compat:livecodebench pays what SkyRL-Gym pays in {num_same} of {len(CODE_CASES)} cases."
        )
    return table


def _references(data: Path, sandbox: Sandbox, stride: int) -> Table:
    columns = (
        "data set",
        "tasks",
        "right",
        "in-process",
        "verifier errors",
        "rows at fault",
        "not right",
    )
    table = Table(title="Reference solutions against their own tests", columns=columns)
    for name, references in _data_sets(data):
        chosen = references[::stride]
        grades = {task.task_id: _graded(text, task, sandbox) for text, task in chosen}
        wrong = [i for i, grade in grades.items() if not grade.is_correct]
        faults = [_FAULTS.get(i) or _FAULTS.get(f"{Path(name).name} {i}") for i in wrong]
        told = [f"{i}: {fault or grades[i].reason}" for i, fault in zip(wrong, faults, strict=True)]
        table.add(
            name,
            len(chosen),
            sum(grade.is_correct for grade in grades.values()),
            sum(grade.reason.startswith("in-process") for grade in grades.values()),
            sum(grade.verdict is Verdict.VERIFIER_ERROR for grade in grades.values()),
            sum(fault is not None for fault in faults),
            "; ".join(told),
        )
    return table


def _graded(text: str, task: Task, sandbox: Sandbox) -> Grade:
    """The grade; a row whose test is broken gets none."""
    try:
        return verify_code(text, task, sandbox, config=_PATIENT)
    except ValueError as error:
        return Grade.of(False, f"the row is broken: {error}")


def _data_sets(data: Path) -> Iterator[tuple[str, list[Reference]]]:
    for name in ("humaneval/HumanEval.jsonl.gz", "mbpp/mbpp.jsonl.gz"):
        if (data / name).exists():
            tasks = load_tasks(data / name, domain=Domain.CODE)
            yield name, [(t.expert_trace.text, t) for t in tasks if t.expert_trace]
    samples = data / "sandboxfusion_samples"
    for name, read in _SAMPLES.items():
        path = samples / f"code_eval_{name}.jsonl"
        if path.exists():
            yield f"{samples.name}/{name}", [read(row) for row in _rows(path)]


def _checked(row: dict[str, Any]) -> Reference:
    """EvoEval, shadow HumanEval: a prompt, its continuation, and a function `check`."""
    labels = json.loads(row["labels"]) if isinstance(row["labels"], str) else row["labels"]
    name = labels["entry_point"]
    source = f"{row['test']}\n\ncheck({name})\n"
    return row["content"] + row["canonical_solution"], _task(
        row, [CodeTest(kind=TestKind.ASSERT, source=source)], row["content"], name
    )


def _listed(row: dict[str, Any]) -> Reference:
    """MBPP: a list of assertions."""
    tests = [CodeTest(kind=TestKind.ASSERT, source=source) for source in row["test_list"]]
    return row["canonical_solution"].replace("\r\n", "\n"), _task(row, tests)


def _output(row: dict[str, Any]) -> Reference:
    """CRUXEval: a function `f`, its arguments and its result as Python writes them."""
    source = f"assert f({row['input']}) == {row['output']}"
    return row["code"], _task(row, [CodeTest(kind=TestKind.ASSERT, source=source)])


def _task(
    row: dict[str, Any], tests: list[CodeTest], prompt: str = "", entry_point: str = ""
) -> Task:
    return Task(
        task_id=str(row["id"]),
        question=row.get("content") or "What does f return?",
        domain=Domain.CODE,
        tests=tuple(tests),
        prompt=prompt,
        entry_point=entry_point,
    )


_SAMPLES = {
    "EvoEval": _checked,
    "shadow_humaneval_python": _checked,
    "mbpp": _listed,
    "cruxeval": _output,
}


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line.strip()]
