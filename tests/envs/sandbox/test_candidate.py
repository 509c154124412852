"""Candidates: calls and results one by one; whatever the program does, the host is neither stuck nor
fooled."""

import sys
import time
from collections.abc import Callable, Iterator

import pytest

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits
from maskgym.envs.sandbox.candidate import ChannelCandidate

Load = Callable[..., ChannelCandidate]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox(require="T0")
    yield sandbox
    sandbox.close()


@pytest.fixture
def load(sandbox: LocalSandbox) -> Iterator[Load]:
    candidates = []

    def start(code: str, **limits: float) -> ChannelCandidate:
        candidates.append(sandbox.candidate(code, limits=SandboxLimits(**limits)))  # type: ignore[arg-type]
        return candidates[-1]

    yield start
    for candidate in candidates:
        candidate.close()


def test_functions_are_called_one_by_one_and_state_is_kept(load: Load) -> None:
    candidate = load(
        "print('hi')\nseen = []\ndef f(x, *, y=1):\n  seen.append(x)\n  return seen, {y}"
    )
    assert (candidate.load.status, candidate.load.stdout) == (ExecStatus.OK, "hi\n")
    assert candidate.call("f", [(1, None)], wall_s=5).value == ([(1, None)], {1})
    assert candidate.call("f", [2], wall_s=5, keywords={"y": b"x"}).value == (
        [(1, None), 2],
        {b"x"},
    )


def test_a_method_of_solution_is_found(load: Load) -> None:
    candidate = load("class Solution:\n    def f(self, x):\n        return x + 1")
    assert candidate.call("f", [1], wall_s=5).value == 2


def test_what_is_raised_is_told_and_the_candidate_lives_on(load: Load) -> None:
    candidate = load("import sys\ndef f(x):\n    if x: raise KeyError('no')\n    sys.exit(0)")
    for argument, last in ((1, "KeyError: 'no'"), (0, "SystemExit: 0")):
        result = candidate.call("f", [argument], wall_s=5)
        assert result.status is ExecStatus.ERROR
        assert result.error.endswith(last)
        assert "candidate.py" in result.error
        assert "codec" not in result.error
    assert candidate.call("g", [], wall_s=5).error.endswith("has no attribute 'g'")


@pytest.mark.parametrize(
    "code", ["1 / 0", "def f(:", "import sys; sys.exit(0)", "raise StopIteration"]
)
def test_a_program_that_does_not_load_says_why(load: Load, code: str) -> None:
    candidate = load(code)
    assert candidate.load.status is ExecStatus.ERROR
    assert candidate.load.stderr
    assert candidate.call("f", [], wall_s=5).status is ExecStatus.ENDED


def test_a_call_out_of_time_is_ended_and_so_is_the_candidate(load: Load) -> None:
    candidate = load(
        "def f():\n    while True:\n        try:\n            while True: pass\n        except: pass"
    )
    started_s = time.monotonic()
    assert candidate.call("f", [], wall_s=0.3).status is ExecStatus.TIMEOUT
    assert time.monotonic() - started_s < 5
    assert candidate.call("f", [], wall_s=5).status is ExecStatus.ENDED
    assert load("while True: pass", wall_s=0.3).load.status is ExecStatus.TIMEOUT


@pytest.mark.parametrize("leave", ["os._exit(0)", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_leaving_is_never_a_result(load: Load, leave: str) -> None:
    candidate = load(f"import os\ndef f():\n    {leave}")
    result = candidate.call("f", [], wall_s=5)
    assert result.status in (ExecStatus.ERROR, ExecStatus.KILLED)
    assert result.error == "the program ended"
    assert load(f"import os\n{leave}").load.status in (ExecStatus.ERROR, ExecStatus.KILLED)


def test_too_much_memory_is_named(load: Load) -> None:
    candidate = load("def f(n): return len('a' * n)", memory_mb=512)
    assert candidate.call("f", [1 << 32], wall_s=5).status is ExecStatus.OOM
    assert candidate.call("f", [5], wall_s=5).value == 5


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("object()", "object is no plain value"),
        ("f", "function"),
        ("'a' * (5 << 20)", "may travel"),
    ],
)
def test_a_result_that_cannot_travel_is_an_error(load: Load, returned: str, reason: str) -> None:
    result = load(f"def f(): return {returned}").call("f", [], wall_s=5)
    assert result.status is ExecStatus.ERROR
    assert reason in result.error


def test_arguments_must_be_plain(load: Load) -> None:
    with pytest.raises(
        ValueError, match=r"arguments of f cannot be passed: object is no plain value"
    ):
        load("def f(x): pass").call("f", [object()], wall_s=5)


def test_what_is_printed_is_kept_to_a_limit_and_slows_nothing(load: Load) -> None:
    loop = "for _ in range(n): print('a' * 99)"
    code = f"def f(n):\n  {loop}\n  os.write(1, b'b' * n)\n  return sys.stdin.read()"
    candidate = load(f"import os, sys\n{code}")
    assert candidate.call("f", [1], wall_s=5).stdout == "a" * 99 + "\n"
    result = candidate.call("f", [100_000], wall_s=20)
    assert result.value == ""
    assert 1000 < len(result.stdout) < 100_000


WRITE = """
import gc, os, socket, struct, sys
channels = [each for each in gc.get_objects() if isinstance(each, socket.socket)]
descriptors = sorted({each.fileno() for each in channels} | {3, 4, 5})
def say(data):
    for descriptor in descriptors:
        try:
            os.write(descriptor, data)
        except OSError:
            pass
def message(text):
    return struct.pack("!I", len(text)) + text
"""


@pytest.mark.parametrize(
    "forged",
    [
        b'[1,"value",42,""]',
        b'[0,"value",42,""]',
        b'[2,"value",42,""]',
        b"[1]",
        b"{",
        b'[1,"value",{"type":"object"},""]',
        b"",
    ],
)
def test_a_forged_answer_is_at_most_what_could_have_been_returned(
    load: Load, forged: bytes
) -> None:
    candidate = load(f"{WRITE}\ndef f():\n    say(message({forged!r}))\n    return 1")
    first = candidate.call("f", [], wall_s=5)
    assert first.status is ExecStatus.ERROR or first.value in (1, 42)
    second = candidate.call("f", [], wall_s=5)  # answers are out of step now
    assert second.status in (ExecStatus.ERROR, ExecStatus.ENDED)


@pytest.mark.parametrize("head", [b"\xff\xff\xff\xff", b"\x00\x50\x00\x00"])
def test_an_announced_flood_is_bounded(load: Load, head: bytes) -> None:
    candidate = load(f"{WRITE}\ndef f():\n    say({head!r})\n    while True: say(b'a' * 65536)")
    result = candidate.call("f", [], wall_s=20)
    assert result.status is ExecStatus.ERROR
    assert len(candidate._received) < 16 << 20


def test_a_large_argument_arrives_and_one_that_is_never_read_does_not_stop_the_host(
    load: Load,
) -> None:
    argument = ["a" * (1 << 20), *range(700_000)]  # more than a result may hold
    assert load("def f(x): return len(x)").call("f", [argument], wall_s=20).value == len(argument)
    answer = b'[1,"value",7,""]'
    candidate = load(
        f"{WRITE}\nimport time\ndef f(x):\n    say(message({answer!r}))\n    time.sleep(60)"
    )
    assert candidate.call("f", [1], wall_s=5).value == 7
    assert candidate.call("f", [argument], wall_s=1.0).status is ExecStatus.TIMEOUT


def test_many_candidates_answer_side_by_side(load: Load) -> None:
    candidates = [load(f"def f(x): return x + {i}") for i in range(20)]
    for i, candidate in enumerate(candidates):
        assert candidate.call("f", [1], wall_s=5).value == i + 1


def test_recursion_and_large_numbers_work(load: Load) -> None:
    code = (
        "import sys\nsys.setrecursionlimit(20000)\ndef f(n): return 1 if n == 0 else f(n - 1) * n"
    )
    result = load(code).call("f", [3000], wall_s=20)
    assert result.value > 10**9000
    assert sys.getrecursionlimit() < 20000
