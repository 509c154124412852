"""verify_code: extraction, the three kinds of tests, cheats, limits, and real reference solutions."""

import gzip
import json
import time
from pathlib import Path

import pytest

from maskgym.envs import (
    CodeTest,
    Domain,
    ExecResult,
    ExecStatus,
    SandboxLimits,
    SubprocessSandbox,
    Task,
    TestKind,
    Verdict,
    load_tasks,
    verify_code,
)
from maskgym.envs.verifiers import CodeVerifierConfig, extract_code

SANDBOX = SubprocessSandbox()


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


def test_a_right_function_passes_and_a_wrong_one_fails_with_the_test_named() -> None:
    assert verify_code(f"Here:\n```python\n{GOOD}\n```", DOUBLE, SANDBOX).is_correct
    grade = verify_code("def double(x):\n    return 2 if x == 1 else 0", DOUBLE, SANDBOX)
    assert grade.verdict is Verdict.WRONG
    assert grade.reason == "test 2 of 3: wrong result"


CHEATS = {
    "equal_to_all": "class T(int):\n  def __eq__(s, o): return True\n  __hash__ = int.__hash__\n"
    "def double(x): return T(0)",
    "walk_frames": "import sys\ndef double(x):\n  f = sys._getframe()\n  while f:\n"
    "    for v in list(f.f_locals.values()) + list(f.f_globals.values()):\n"
    "      if isinstance(v, dict) and 'expected' in str(v): print(v)\n    f = f.f_back\n"
    "  return None",
    "search_heap": "import gc\ndef double(x):\n  for o in gc.get_objects():\n"
    "    if isinstance(o, dict) and 'expected' in o: return o['expected']",
    "leave_early": "import os\ndef double(x): os._exit(0)",
    "system_exit": "import sys\ndef double(x): sys.exit(0)",
    "exit_while_loading": "import sys; sys.exit(0)\ndef double(x): return x + x",
    "patch_json": "import json\njson.dumps = lambda *a, **k: '[\"result\", 2]'\n"
    "json.loads = lambda *a, **k: [1]\ndef double(x): return 0",
    "print_results": "print('[\"result\", 2]\\n' * 3)\ndef double(x): print(2); return 0",
    "write_descriptors": "import os\nfor fd in range(1, 12):\n"
    "  try: os.write(fd, b'\\n[\"result\", 2]\\n' * 3)\n  except OSError: pass\n"
    "def double(x): os._exit(0)",
    "kill_parent": "import os, signal\ndef double(x): os.kill(os.getppid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_earns_nothing(name: str) -> None:
    assert verify_code(CHEATS[name], DOUBLE, SANDBOX).verdict is Verdict.WRONG


class RecordingSandbox:
    """A real sandbox that keeps what went in."""

    tier = "T0"

    def __init__(self) -> None:
        self.seen = ""

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        self.seen += code + stdin
        return SANDBOX.run(code, stdin=stdin, limits=limits)

    def report(self) -> dict[str, str]:
        return SANDBOX.report()

    def close(self) -> None:
        pass


def test_expected_results_never_enter_the_sandbox() -> None:
    recording = RecordingSandbox()
    secret = task(
        call(["in-1"], "in-1in-1-SECRET"),
        CodeTest(kind=TestKind.STDIO, stdin="in-2", expected="SECRET"),
    )
    verify_code("def double(x):\n    return x + x + '-SEC' + 'RET'", secret, recording)
    assert "in-1" in recording.seen and "in-2" in recording.seen
    assert "SECRET" not in recording.seen


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
def test_results_are_compared_as_plain_json_values(
    value: str, expected: object, is_same: bool
) -> None:
    grade = verify_code(f"def double(x): return {value}", task(call([0], expected)), SANDBOX)
    assert grade.is_correct is is_same, grade


def test_globals_recursion_classes_dataclasses_and_prints_work() -> None:
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
    assert verify_code(code, DOUBLE, SANDBOX).is_correct
    method = "class Solution:\n    def double(self, x):\n        return x + x"
    assert verify_code(method, DOUBLE, SANDBOX).is_correct


def test_programs_read_stdin_in_either_way_and_whitespace_is_normalised() -> None:
    code = (
        "import sys\nn, *v = map(int, sys.stdin.buffer.read().split())\nprint(' ', sum(v), ' \\n')"
    )
    assert verify_code(code, ECHO, SANDBOX).is_correct
    assert verify_code("input()\nprint(sum(map(int, input().split())))", ECHO, SANDBOX).is_correct
    wrong = verify_code("print(6)", ECHO, SANDBOX)
    assert (wrong.verdict, wrong.reason) == (Verdict.WRONG, "test 2 of 2: wrong output")


def test_assert_tests_run_in_process_and_say_so() -> None:
    assert verify_code(GOOD, ASSERTS, SANDBOX).reason == "in-process: passed 2 tests"
    wrong = verify_code("def double(x):\n    return x * 3 - 2", ASSERTS, SANDBOX)
    assert wrong.verdict is Verdict.WRONG
    assert wrong.reason.startswith("in-process: test 2 of 2: TypeError")
    for leave in ("import os\nos._exit(0)", "import sys\nsys.exit(0)"):
        assert not verify_code(f"{leave}\n{GOOD}", ASSERTS, SANDBOX).is_correct


def test_an_empty_test_list_and_broken_tests_are_errors() -> None:
    with pytest.raises(ValueError, match="has no tests"):
        verify_code(GOOD, task(), SANDBOX)
    broken = CodeTest(kind=TestKind.CALL, function="double", arguments="[1", expected="2")
    with pytest.raises(ValueError, match="arguments is no JSON"):
        verify_code(GOOD, task(broken), SANDBOX)


def test_an_endless_loop_is_wrong_near_the_timeout_and_the_next_grade_is_unaffected() -> None:
    config = CodeVerifierConfig(timeout_s=1.0)
    for test in (DOUBLE, ECHO):
        start = time.monotonic()
        grade = verify_code("def double(x):\n  while True: pass\nwhile True: pass", test, SANDBOX,
                            config=config)  # fmt: skip
        assert grade.verdict is Verdict.WRONG
        assert "timeout" in grade.reason
        assert 0.8 < time.monotonic() - start < 1.8
    swallow = "def double(x):\n  while True:\n    try:\n      while True: pass\n    except: pass"
    assert "timeout after 1.0 s" in verify_code(swallow, DOUBLE, SANDBOX, config=config).reason
    assert verify_code(GOOD, DOUBLE, SANDBOX).is_correct


def test_slow_but_right_tests_each_have_their_own_time() -> None:
    tests = task(*[call([i], 2 * i) for i in range(8)])
    slow = f"import time\n{GOOD.replace('return', 'time.sleep(0.25); return')}"
    config = CodeVerifierConfig(timeout_s=1.0)
    assert verify_code(slow, tests, SANDBOX, config=config).is_correct
    late = CodeVerifierConfig(timeout_s=1.0, max_total_s=1.0)
    assert not verify_code(slow, tests, SANDBOX, config=late).is_correct


class FailingSandbox(RecordingSandbox):
    """Fails a number of times, then runs."""

    def __init__(self, num_failures: int) -> None:
        super().__init__()
        self.num_failures = num_failures

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        self.num_failures -= 1
        if self.num_failures >= 0:
            return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr="no more processes")
        return super().run(code, stdin=stdin, limits=limits)


def test_a_sandbox_failure_is_tried_again_and_never_counts_as_wrong() -> None:
    assert verify_code(GOOD, DOUBLE, FailingSandbox(1)).is_correct
    grade = verify_code(GOOD, DOUBLE, FailingSandbox(2))
    assert grade.verdict is Verdict.VERIFIER_ERROR
    assert "no more processes" in grade.reason


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("```python\na\n```\n```py\nb = 1\n```", "b = 1\n"),
        ("~~~\nx = 1\n~~~", "x = 1\n"),
        ("so\n```python\nx = 1", "x = 1"),
        ("```python\ndef f():\n    '''a ``` b'''\n```", "def f():\n    '''a ``` b'''\n"),
        ("x = 1", "x = 1"),
        ("I give up.", ""),
        ("", ""),
        ("<think>```python\nx = 2\n```</think>x = 1", "x = 1"),
        ("```\r\nx = 1\r\n```", "x = 1\n"),
    ],
)
def test_the_last_block_or_plain_python_is_the_program(text: str, code: str) -> None:
    assert extract_code(text) == code


def test_a_usage_example_after_the_solution_is_not_the_solution() -> None:
    text = f"```python\n{GOOD}\n```\nUse it so:\n```python\nprint(double(2))\n```"
    assert verify_code(text, DOUBLE, SANDBOX).is_correct


def test_a_bare_completion_continues_the_prompt() -> None:
    completion = task(call([2], 4), prompt="def double(x):\n", entry_point="double")
    assert verify_code("    return x + x\n", completion, SANDBOX).is_correct
    assert verify_code("```python\n    return x + x\n```", completion, SANDBOX).is_correct
    assert verify_code(GOOD, completion, SANDBOX).is_correct
    assert not verify_code("return x + x", completion, SANDBOX).is_correct


def _unsolved(path: Path, stride: int) -> list[str]:
    tasks = load_tasks(path, domain="code")
    unsolved = []
    for chosen in tasks[::stride]:
        assert chosen.expert_trace is not None
        if not verify_code(chosen.expert_trace.text, chosen, SANDBOX).is_correct:
            unsolved.append(chosen.task_id)
    return unsolved


def test_sampled_reference_solutions_of_humaneval_and_mbpp_pass(shared_data: Path) -> None:
    assert _unsolved(shared_data / "humaneval/HumanEval.jsonl.gz", 8) == []
    assert _unsolved(shared_data / "mbpp/mbpp.jsonl.gz", 50) == []


@pytest.mark.slow
def test_every_reference_solution_of_humaneval_and_mbpp_passes(shared_data: Path) -> None:
    assert _unsolved(shared_data / "humaneval/HumanEval.jsonl.gz", 1) == []
    assert _unsolved(shared_data / "mbpp/mbpp.jsonl.gz", 1) == []


def test_bare_completions_of_humaneval_pass_as_the_models_wrote_them(shared_data: Path) -> None:
    tasks = {
        t.question: t
        for t in load_tasks(shared_data / "humaneval/HumanEval.jsonl.gz", domain="code")
    }
    with gzip.open(shared_data / "humaneval/HumanEval.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file][::16]
    for row in rows:
        assert verify_code(row["canonical_solution"], tasks[row["prompt"]], SANDBOX).is_correct
