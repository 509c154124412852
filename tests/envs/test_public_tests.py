import json
from collections.abc import Iterator
from contextlib import closing

import pytest

from maskgym.envs import CodeTest, Domain, SubprocessSandbox, Task, TestKind
from maskgym.envs.public_tests import PublicTestsTool, describe_tests
from maskgym.envs.sandbox.local_sandbox import LocalSandbox


def call_test(arguments: list[object], expected: object) -> CodeTest:
    return CodeTest(
        kind=TestKind.CALL,
        function="double",
        arguments=json.dumps(arguments),
        expected=json.dumps(expected),
    )


CALLS = Task(
    task_id="double",
    question="Write double(x).",
    domain=Domain.CODE,
    tests=(call_test([21], 42),),
    public_tests=(call_test([1], 2), call_test(["a"], "aa")),
)
PRINTS = Task(
    task_id="print",
    question="Print the double of the number that you read.",
    domain=Domain.CODE,
    tests=(CodeTest(kind=TestKind.STDIO, stdin="21", expected="42"),),
    public_tests=(CodeTest(kind=TestKind.STDIO, stdin="1\n", expected="2\n"),),
)
ASSERTS = Task(
    task_id="assert",
    question="Write double(x). Your code must satisfy: assert double(1) == 2",
    domain=Domain.CODE,
    tests=(CodeTest(kind=TestKind.ASSERT, source="assert double(21) == 42"),),
    public_tests=(CodeTest(kind=TestKind.ASSERT, source="assert double(1) == 2"),),
    entry_point="double",
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with closing(LocalSandbox()) as made:
        yield made


def run_tests(sandbox: LocalSandbox | SubprocessSandbox, task: Task, program: str) -> str:
    tool = PublicTestsTool(sandbox)
    tool.begin(task)
    return tool.call(program).text


def test_public_tests_are_shown_unless_the_question_holds_them() -> None:
    assert describe_tests(CALLS).splitlines()[1:] == ["double(1) == 2", "double('a') == 'aa'"]
    assert "for the input '1\\n' it prints '2\\n'" in describe_tests(PRINTS)
    assert describe_tests(ASSERTS) == ""
    assert "42" not in describe_tests(CALLS) + describe_tests(PRINTS)


@pytest.mark.parametrize(
    ("task", "program"),
    [
        (CALLS, "def double(x):\n    return x * 2"),
        (CALLS, "```python\ndef double(x):\n    return x + x\n```"),
        (PRINTS, "print(2 * int(input()))"),
        (ASSERTS, "def double(x):\n    return 2 * x"),
    ],
)
def test_a_right_program_passes_each_test(sandbox: LocalSandbox, task: Task, program: str) -> None:
    lines = run_tests(sandbox, task, program).splitlines()
    assert lines == [f"Test {n}: passed." for n in range(1, len(task.public_tests) + 1)]


@pytest.mark.parametrize(
    ("task", "program", "line"),
    [
        (CALLS, "def double(x):\n    return 2", "failed. double('a') == 'aa': got 2"),
        (CALLS, "def double(x):\n    return x // 1 * 2", "TypeError"),
        (CALLS, "def double(x: return", "There is no program"),
        (PRINTS, "print(3)", "failed. for the input '1\\n' it prints '2\\n': got 3"),
        (ASSERTS, "def double(x):\n    return 3", "failed. assert double(1) == 2: "),
    ],
)
def test_a_wrong_program_is_told_what_it_gave(
    sandbox: LocalSandbox, task: Task, program: str, line: str
) -> None:
    assert line in run_tests(sandbox, task, program)


def test_a_sandbox_that_only_runs_scripts_tests_as_well() -> None:
    sandbox = SubprocessSandbox()
    assert "Test 1: passed." in run_tests(sandbox, CALLS, "def double(x):\n    return 2")
    assert "Test 2: failed." in run_tests(sandbox, CALLS, "def double(x):\n    return 2")


def test_hidden_tests_never_show(sandbox: LocalSandbox) -> None:
    text = run_tests(sandbox, CALLS, "def double(x):\n    return {1: 2, 'a': 'aa'}[x]")
    assert text.count("passed") == 2 and "42" not in text


def test_a_failing_sandbox_is_an_error_of_the_tool_and_not_of_the_program() -> None:
    sandbox = LocalSandbox()
    sandbox.close()
    tool = PublicTestsTool(sandbox)
    tool.begin(CALLS)
    with pytest.raises(RuntimeError, match="sandbox"):
        tool.call("def double(x):\n    return 2 * x")


def test_a_task_without_public_tests_says_so(sandbox: LocalSandbox) -> None:
    task = Task(task_id="t", question="?", domain=Domain.CODE, tests=CALLS.tests)
    assert "no public tests" in run_tests(sandbox, task, "def double(x): return 2")
