"""Assert-style tests: they run apart from the candidate, and what they need decides where."""

from collections.abc import Iterator

import pytest

from maskgym.envs import (
    CodeTest,
    Domain,
    Grade,
    SubprocessSandbox,
    Task,
    TestKind,
    Verdict,
    verify_code,
)
from maskgym.envs.sandbox import LocalSandbox, Sandbox
from maskgym.envs.verifiers import CodeVerifierConfig
from maskgym.envs.verifiers.code_test_names import names_of_test


@pytest.fixture(scope="module")
def local() -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(require="T0")
    yield sandbox
    sandbox.close()


def grade(
    program: str,
    *sources: str,
    sandbox: Sandbox,
    prompt: str = "",
    entry_point: str = "",
    config: CodeVerifierConfig | None = None,
) -> Grade:
    task = Task(
        task_id="t",
        question="?",
        domain=Domain.CODE,
        tests=tuple(CodeTest(kind=TestKind.ASSERT, source=source) for source in sources),
        prompt=prompt,
        entry_point=entry_point,
    )
    return verify_code(program, task, sandbox, config=config)


@pytest.mark.parametrize(
    ("program", "source", "is_right"),
    [
        ("def f(x): return (x, {x})", "assert f(1) == (1, {1})", True),
        ("def f(x): return (x, {x})", "assert f(1) == [1, {1}]", False),
        ("def f(x): return x", "assert f(f(2)) == 2 and f(x=3) == 3", True),
        ("def f(*a, **k): return a, k", "assert f(1, b=b'2') == ((1,), {'b': b'2'})", True),
        ("def f(x): return (i for i in range(x))", "assert list(f(3)) == [0, 1, 2]", True),
        ("def f(x): return map(str, range(x))", "assert sorted(f(2)) == ['0', '1']", True),
        (
            "from collections import *\ndef f(x): return Counter(x)",
            "assert f('aa') == {'a': 2}",
            True,
        ),
        (
            "import numpy\ndef f(x): return numpy.mean(x)",
            "assert abs(f([1, 2]) - 1.5) < 1e-9",
            True,
        ),
        ("def f(x): return x", "assert f(float('nan')) != f(float('nan'))", True),
        (
            "def f(x): raise KeyError(x)",
            "try:\n    f(1)\n    assert False\nexcept KeyError: pass",
            True,
        ),
        ("def f(x): return 1", "try:\n    f(1)\n    assert False\nexcept KeyError: pass", False),
        ("class E(Exception): pass\ndef f(x): raise E", "try: f(1)\nexcept Exception: pass", True),
        ("def f(x): return x is int", "assert f(int)", True),
        ("def f(x): return x.decode()", "try: f(b'\\xff')\nexcept UnicodeDecodeError: pass", True),
        (
            "def f(x): return 2",
            "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)",
            True,
        ),
        ("def f(x): return 2", "assert math.isclose(f(1), 2.0)", True),
        (
            "def f(x): return g(x) + 1\ndef g(x): return 2 * x",
            "assert f(1) == 3 and g(1) == 2",
            True,
        ),
        ("def f(x): x.append(1); return 5", "x = []\nassert f(x) == 5 and x == []", True),
        ("f = lambda x: x", "for i in range(5):\n    assert f(i) == i", True),
        ("def g(x): return x", "assert f(1) == 1", False),
        ("def f(x): return None", "assert f(1) > 2", False),
    ],
)
def test_values_of_every_plain_kind_pass_between_test_and_candidate(
    local: LocalSandbox, program: str, source: str, is_right: bool
) -> None:
    result = grade(program, source, sandbox=local)
    assert result.is_correct is is_right, result
    assert not result.reason.startswith("in-process")


def test_a_failed_test_is_named_with_its_reason(local: LocalSandbox) -> None:
    program = "def f(x): return x + 1"
    passed = grade(program, "assert f(1) == 2", "assert f(2) == 3", sandbox=local)
    assert passed.reason == "passed 2 tests"
    wrong = grade(program, "assert f(1) == 2", "assert f(2) == 5, 'no'", sandbox=local)
    assert wrong.reason == "test 2 of 2: AssertionError: no"
    assert grade("1/0", "assert f(1)", sandbox=local).reason == (
        "loading: error: ZeroDivisionError: division by zero"
    )
    left = grade("import os\ndef f(x): os._exit(0)", "try: f(1)\nexcept: pass", sandbox=local)
    assert left.reason == "test 1 of 1: error: the program ended"


def test_time_is_bounded_in_the_candidate_and_in_the_test(local: LocalSandbox) -> None:
    config = CodeVerifierConfig(timeout_s=1.0)
    loop = grade("def f(x):\n  while True: pass", "assert f(1)", sandbox=local, config=config)
    assert loop.reason == "test 1 of 1: timeout after 1.0 s"
    test = "while f(1): pass"
    asked = grade("def f(x): return True", test, sandbox=local, config=config)
    assert asked.reason == "test 1 of 1: timeout after 1.0 s"
    assert grade("def f(x): return True", "assert f(1)", sandbox=local, config=config).is_correct


PROMPT = "import math\ndef helper(x):\n    return x * 2\ndef f(x):\n    '''Double.'''\n"


def test_the_tasks_own_helpers_are_not_the_candidates(local: LocalSandbox) -> None:
    source = "assert f(2) == helper(2) and math.floor(2.5) == 2"
    honest = f"{PROMPT}    return helper(x)\n"
    assert grade(honest, source, sandbox=local, prompt=PROMPT, entry_point="f").is_correct
    cheat = "def helper(x): return 0\ndef f(x): return 0"
    result = grade(cheat, source, sandbox=local, prompt=PROMPT, entry_point="f")
    assert result.reason == "test 1 of 1: AssertionError"


@pytest.mark.parametrize(
    ("program", "source", "reason"),
    [
        (
            "class Box:\n  def __init__(self, x): self.x = x\ndef f(box): return box.x",
            "assert f(Box(1)) == 1",
            "Box is a class",
        ),
        ("def f(g): return g(1)", "assert f(lambda x: x + 1) == 2", "no plain value"),
        ("def f(x): x.append(1)", "x = []\nf(x)\nassert x == [1]", "for what it does to its"),
        ("def f(): pass\nf.calls = 3", "assert f.calls == 3", "reads an attribute of f"),
    ],
)
def test_tests_that_need_more_run_in_the_candidates_process_and_say_so(
    local: LocalSandbox, program: str, source: str, reason: str
) -> None:
    result = grade(program, source, sandbox=local, entry_point="f")
    assert result.is_correct
    assert result.reason.startswith("in-process")
    assert reason in result.reason


def test_a_sandbox_of_scripts_tests_in_the_candidates_process_and_says_so() -> None:
    scripts = SubprocessSandbox()
    result = grade("def f(x): return x", "assert f(1) == 1", "assert f(2) == 2", sandbox=scripts)
    assert result.reason == "in-process (this sandbox only runs scripts): passed 2 tests"
    wrong = grade("def f(x): return 1", "assert f(1) == 1", "assert f(2) == 2", sandbox=scripts)
    assert wrong.verdict is Verdict.WRONG
    assert "test 2 of 2: AssertionError" in wrong.reason
    for leave in ("import os\nos._exit(0)", "import sys\nsys.exit(0)"):
        assert not grade(leave, "assert f(1) == 1", sandbox=scripts).is_correct


@pytest.mark.parametrize(
    "program",
    [
        "class T:\n  __eq__ = lambda s, o: True\ndef f(x): return T()",
        "class T:\n  def __bool__(s): return True\ndef f(x): return T()",
        "def f(x): return f",
    ],
)
def test_a_candidate_cannot_choose_to_be_tested_in_its_own_process(
    local: LocalSandbox, program: str
) -> None:
    result = grade(program, "assert f(1) == 7", sandbox=local)
    assert result.verdict is Verdict.WRONG
    assert not result.reason.startswith("in-process")
    assert "is no plain value" in result.reason


def test_a_result_that_makes_an_argument_too_large_is_wrong_and_no_way_out(
    local: LocalSandbox,
) -> None:
    program = "class T(str):\n  __eq__ = lambda s, o: True\ndef f(x): return T('a' * (3 << 20))"
    result = grade(program, "assert f(f(1) + f(1)) == 'b'", sandbox=local)
    assert result.verdict is Verdict.WRONG
    assert not result.reason.startswith("in-process")


def test_a_test_that_is_no_python_is_an_error_of_the_task(local: LocalSandbox) -> None:
    with pytest.raises(ValueError, match="A test is no Python"):
        grade("def f(x): return x", "assert f(1) ==", sandbox=local)


def test_the_names_that_a_test_takes_from_the_candidate() -> None:
    source = (
        "import os\ny = [f(x) for x in (1, 2)]\ndef g(a, b=h):\n    return a, y, os, sys.path, len"
    )
    names = names_of_test(source)
    assert (names.functions, names.modules) == (("f", "h"), ("sys",))
    assert names_of_test("assert sum(1, 2) == 3", entry_point="sum").functions == ("sum",)
    assert names_of_test("assert int(f(1)) == 3", entry_point="int").functions == ("f",)
    unfinished = names_of_test("f(1) + a", prompt="a = 1\ndef f(x):", entry_point="f")
    assert unfinished.functions == ("f",)
    assert unfinished.setup == "a = 1\ndef f(x):\n    pass\n"
    assert names_of_test("f(1)", prompt="Write a function.").setup == ""
