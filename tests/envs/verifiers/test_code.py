"""verify_code: the three kinds of tests, cheats, limits, and real reference solutions."""

import asyncio
import gzip
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import (
    CodeTest,
    Domain,
    ExecResult,
    ExecStatus,
    Grade,
    SandboxLimits,
    SubprocessSandbox,
    Task,
    TestKind,
    Verdict,
    load_tasks,
    verify_code,
)
from maskgym.envs.sandbox import Candidate, LocalSandbox, Sandbox, ScriptsOnly
from maskgym.envs.verifiers import CodeVerifierConfig
from maskgym.scripts.benchmarks.sandbox_cheats import cheat_names, cheat_program, cheat_task


@pytest.fixture(scope="module", params=["local", "scripts"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """One that calls functions, and one that only runs scripts."""
    sandbox = LocalSandbox(require="T0") if request.param == "local" else SubprocessSandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="module")
def local() -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(require="T0")
    yield sandbox
    sandbox.close()


def call(arguments: object, expected: object, function: str = "double") -> CodeTest:
    return CodeTest(
        kind=TestKind.CALL,
        function=function,
        arguments=json.dumps(arguments),
        expected=json.dumps(expected),
    )


def task(*tests: CodeTest, prompt: str = "", entry_point: str = "") -> Task:
    return Task(
        task_id="t",
        question="double it",
        domain=Domain.CODE,
        tests=tests,
        prompt=prompt,
        entry_point=entry_point,
    )


DOUBLE = task(call([1], 2), call([21], 42), call([[1, "a"]], [1, "a", 1, "a"]))
ECHO = task(
    CodeTest(kind=TestKind.STDIO, stdin="3\n1 2 3\n", expected="6\n"),
    CodeTest(kind=TestKind.STDIO, stdin="1\n5", expected="5"),
)
ASSERTS = task(
    CodeTest(kind=TestKind.ASSERT, source="assert double(2) == 4"),
    CodeTest(kind=TestKind.ASSERT, source="assert double('a') == 'aa'"),
    entry_point="double",
)

GOOD = "def double(x):\n    return x + x"
SUM = "import sys\nif not sys.stdin.isatty(): print(sum(map(int, sys.stdin.read().split()[1:])))"


def test_a_right_function_passes_and_a_wrong_one_fails_with_the_test_named(
    sandbox: Sandbox,
) -> None:
    assert verify_code(f"Here:\n```python\n{GOOD}\n```", DOUBLE, sandbox).is_correct
    grade = verify_code("def double(x):\n    return 2 if x == 1 else 0", DOUBLE, sandbox)
    assert grade.verdict is Verdict.WRONG
    assert grade.reason == "test 2 of 3: wrong result"


@pytest.mark.parametrize(
    ("value", "expected", "is_same"),
    [
        ("True", 1, False),
        ("1", True, False),
        ("2.0", 2, True),
        ("2", 2.0, True),
        ("0.1 + 0.2", 0.3, True),
        ("0.0005", 0.0001, False),
        ("(1, 2)", [1, 2], True),
        ("[1, [2.0, {'a': None}]]", [1, [2, {"a": None}]], True),
        ("{'a': 1}", {"a": 1, "b": 2}, False),
        ("'1'", 1, False),
        ("None", None, True),
        ("{1, 2}", [1, 2], False),
        ("object()", None, False),
        ("float('nan')", float("nan"), True),
    ],
)
def test_results_are_compared_as_plain_values(
    sandbox: Sandbox, value: str, expected: object, is_same: bool
) -> None:
    grade = verify_code(f"def double(x): return {value}", task(call([0], expected)), sandbox)
    assert grade.is_correct is is_same, grade


def test_globals_recursion_classes_dataclasses_and_prints_work(sandbox: Sandbox) -> None:
    code = """
from dataclasses import dataclass
@dataclass
class Box:
    value: object
seen = []
def double(x, depth=3):
    global seen
    seen = seen + [x]
    print("noise", len(seen))
    return Box(x + x).value if depth == 0 else double(x, depth - 1)
if __name__ == "__main__":
    input()
"""
    assert verify_code(code, DOUBLE, sandbox).is_correct
    method = "class Solution:\n    def double(self, x):\n        return x + x"
    assert verify_code(method, DOUBLE, sandbox).is_correct


def test_programs_read_stdin_in_either_way_and_whitespace_is_normalised(sandbox: Sandbox) -> None:
    code = (
        "import sys\nn, *v = map(int, sys.stdin.buffer.read().split())\nprint(' ', sum(v), ' \\n')"
    )
    assert verify_code(code, ECHO, sandbox).is_correct
    assert verify_code("input()\nprint(sum(map(int, input().split())))", ECHO, sandbox).is_correct
    wrong = verify_code("print(6)", ECHO, sandbox)
    assert (wrong.verdict, wrong.reason) == (Verdict.WRONG, "test 2 of 2: wrong output")


def test_an_empty_test_list_and_broken_tests_are_errors(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="has no tests"):
        verify_code(GOOD, task(), sandbox)
    broken = CodeTest(kind=TestKind.CALL, function="double", arguments="[1", expected="2")
    with pytest.raises(ValueError, match="arguments is no JSON"):
        verify_code(GOOD, task(broken), sandbox)


def test_an_endless_loop_is_wrong_near_the_timeout_and_the_next_grade_is_unaffected(
    sandbox: Sandbox,
) -> None:
    config = CodeVerifierConfig(timeout_s=0.5)
    for test in (DOUBLE, ECHO):
        loop = "def double(x):\n  while True: pass\nwhile True: pass"
        grade = verify_code(loop, test, sandbox, config=config)
        assert grade.verdict is Verdict.WRONG
        assert "timeout" in grade.reason
    swallow = "def double(x):\n  while True:\n    try:\n      while True: pass\n    except: pass"
    assert "timeout after 0.5 s" in verify_code(swallow, DOUBLE, sandbox, config=config).reason
    assert verify_code(GOOD, DOUBLE, sandbox).is_correct


def test_slow_but_right_tests_each_have_their_own_time(sandbox: Sandbox) -> None:
    tests = task(*[call([i], 2 * i) for i in range(8)])
    slow = f"import time\n{GOOD.replace('return', 'time.sleep(0.15); return')}"
    config = CodeVerifierConfig(timeout_s=1.0)
    assert verify_code(slow, tests, sandbox, config=config).is_correct
    late = CodeVerifierConfig(timeout_s=1.0, max_total_s=1.0)
    assert not verify_code(slow, tests, sandbox, config=late).is_correct


class FailingSandbox(ScriptsOnly):
    """Fails a number of times, then runs."""

    tier = "T0"

    def __init__(self, num_failures: int) -> None:
        self.num_failures = num_failures
        self.sandbox = SubprocessSandbox()

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        self.num_failures -= 1
        if self.num_failures >= 0:
            return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr="no more processes")
        return self.sandbox.run(code, stdin=stdin, limits=limits)

    def report(self) -> dict[str, str]:
        return self.sandbox.report()

    def close(self) -> None:
        self.sandbox.close()


@pytest.mark.parametrize("tests", [DOUBLE, ECHO, ASSERTS])
def test_a_sandbox_failure_is_tried_again_and_never_counts_as_wrong(tests: Task) -> None:
    program = f"{GOOD}\n{SUM}"
    assert verify_code(program, tests, FailingSandbox(1)).is_correct
    grade = verify_code(program, tests, FailingSandbox(2))
    assert grade.verdict is Verdict.VERIFIER_ERROR
    assert "no more processes" in grade.reason


@pytest.mark.parametrize("tests", [DOUBLE, ECHO, ASSERTS])
def test_a_closed_sandbox_is_a_verifier_error(tests: Task) -> None:
    closed = LocalSandbox(require="T0")
    closed.close()
    assert verify_code(GOOD, tests, closed).verdict is Verdict.VERIFIER_ERROR


class RecordingCandidate:
    """A real candidate that keeps what went in."""

    def __init__(self, candidate: Candidate, seen: list[str]) -> None:
        self.candidate = candidate
        self.load = candidate.load
        self.seen = seen

    def call(self, function: str, arguments: Any, *, wall_s: float) -> Any:
        self.seen[-1] += f"{function}{arguments!r}" if "judge" not in self.seen[-1] else ""
        return self.candidate.call(function, arguments, wall_s=wall_s)

    def close(self) -> None:
        self.candidate.close()


class RecordingSandbox(LocalSandbox):
    """A real sandbox that keeps what each process was given, but for the judge of assert tests."""

    def __init__(self) -> None:
        super().__init__(require="T0")
        self.seen: list[str] = []

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        self.seen.append(code + stdin)
        return super().run(code, stdin=stdin, limits=limits)

    def candidate(self, code: str, *, limits: SandboxLimits | None = None) -> Any:
        candidate = super().candidate(code, limits=limits)
        if "def double" not in code:
            return candidate
        self.seen.append(code)
        return RecordingCandidate(candidate, self.seen)


def test_what_is_expected_never_enters_the_candidates_process() -> None:
    recording = RecordingSandbox()
    secret = task(
        call(["in-1"], "in-1in-1-SECRET"),
        CodeTest(kind=TestKind.STDIO, stdin="in-2", expected="in-3in-3-SECRET"),
        CodeTest(kind=TestKind.ASSERT, source="assert double('in-4') == 'in-4in-4-SECRET'"),
    )
    program = "def double(x):\n    return x + x + '-SEC' + 'RET'\nprint(double('in-3'))"
    assert verify_code(program, secret, recording).is_correct
    seen = "".join(recording.seen)
    assert all(given in seen for given in ("in-1", "in-2", "in-4"))
    assert "SECRET" not in seen


@pytest.mark.parametrize("kind", list(TestKind))
@pytest.mark.parametrize("name", cheat_names())
def test_a_cheat_earns_nothing_and_honesty_what_it_deserves(
    local: LocalSandbox, name: str, kind: TestKind
) -> None:
    grade = verify_code(cheat_program(name, kind), cheat_task(kind), local)
    assert grade.verdict is (Verdict.CORRECT if name == "honest_right" else Verdict.WRONG), grade
    assert "in-process" not in grade.reason


@pytest.mark.parametrize("name", cheat_names())
def test_a_cheat_earns_nothing_in_a_sandbox_that_only_runs_scripts(name: str) -> None:
    grade = verify_code(
        cheat_program(name, TestKind.CALL), cheat_task(TestKind.CALL), SubprocessSandbox()
    )
    assert grade.verdict is (Verdict.CORRECT if name == "honest_right" else Verdict.WRONG), grade


def test_a_usage_example_after_the_solution_is_not_the_solution(sandbox: Sandbox) -> None:
    text = f"```python\n{GOOD}\n```\nUse it so:\n```python\nprint(double(2))\n```"
    assert verify_code(text, DOUBLE, sandbox).is_correct


def test_a_bare_completion_continues_the_prompt(sandbox: Sandbox) -> None:
    completion = task(call([2], 4), prompt="def double(x):\n", entry_point="double")
    assert verify_code("    return x + x\n", completion, sandbox).is_correct
    assert verify_code("```python\n    return x + x\n```", completion, sandbox).is_correct
    assert verify_code(GOOD, completion, sandbox).is_correct
    assert not verify_code("return x + x", completion, sandbox).is_correct


def _unsolved(path: Path, stride: int, sandbox: Sandbox) -> tuple[list[str], list[str]]:
    """Ids of reference solutions that fail, and of those tested in their own process."""
    tasks = load_tasks(path, domain="code")
    unsolved, in_process = [], []
    for chosen in tasks[::stride]:
        assert chosen.expert_trace is not None
        # A reference that computes for seconds is right, on a machine that others use too.
        patient = CodeVerifierConfig(timeout_s=60.0)
        grade = verify_code(chosen.expert_trace.text, chosen, sandbox, config=patient)
        unsolved += [] if grade.is_correct else [chosen.task_id]
        in_process += [chosen.task_id] if grade.reason.startswith("in-process") else []
    return unsolved, in_process


def test_sampled_reference_solutions_of_humaneval_and_mbpp_pass(
    shared_data: Path, local: LocalSandbox
) -> None:
    assert _unsolved(shared_data / "humaneval/HumanEval.jsonl.gz", 12, local) == ([], [])
    assert _unsolved(shared_data / "mbpp/mbpp.jsonl.gz", 60, local)[0] == []


@pytest.mark.slow
def test_every_reference_solution_of_humaneval_and_mbpp_passes_almost_all_of_them_apart(
    shared_data: Path, local: LocalSandbox
) -> None:
    assert _unsolved(shared_data / "humaneval/HumanEval.jsonl.gz", 1, local) == ([], [])
    # Their tests hand the candidate objects of a class that it defines.
    with_classes = ["mbpp-367", "mbpp-601", "mbpp-927"]
    assert _unsolved(shared_data / "mbpp/mbpp.jsonl.gz", 1, local) == ([], with_classes)


def test_bare_completions_of_humaneval_pass_as_the_models_wrote_them(
    shared_data: Path, local: LocalSandbox
) -> None:
    tasks = {
        t.question: t
        for t in load_tasks(shared_data / "humaneval/HumanEval.jsonl.gz", domain="code")
    }
    with gzip.open(shared_data / "humaneval/HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::20]
    for row in rows:
        assert verify_code(row["canonical_solution"], tasks[row["prompt"]], local).is_correct


def test_twenty_slow_right_answers_from_standard_input_pass(local: LocalSandbox) -> None:
    tests = [CodeTest(kind=TestKind.STDIO, stdin=str(i), expected=str(i)) for i in range(20)]
    slow = "import time\ntime.sleep(0.1)\nprint(input())"
    config = CodeVerifierConfig(timeout_s=3.0)
    assert verify_code(slow, task(*tests), local, config=config).is_correct


def test_grading_works_in_threads_in_asyncio_and_in_spawned_processes(local: LocalSandbox) -> None:
    programs = [GOOD, "def double(x): return 2"] * 4
    wanted = [True, False] * 4
    with ThreadPoolExecutor(4) as threads:
        grades = threads.map(lambda program: verify_code(program, DOUBLE, local), programs)
        assert [grade.is_correct for grade in grades] == wanted

    async def grade_all() -> list[Grade]:
        waiting = [asyncio.to_thread(verify_code, each, DOUBLE, local) for each in programs]
        return await asyncio.gather(*waiting)

    assert [grade.is_correct for grade in asyncio.run(grade_all())] == wanted
    spawning = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    with spawning as processes:
        futures = [processes.submit(verify_code, each, DOUBLE, local) for each in programs[:2]]
        assert [future.result().is_correct for future in futures] == wanted[:2]
