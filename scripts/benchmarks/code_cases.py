"""In: nothing. Out: programs on which the ways of grading code differ, and whom each satisfies.

What LiveCodeBench's grader says is checked against SkyRL-Gym's copy of it (`verifiers_code.py`); what
PRIME's says was read from verl's source, whose dependency `pyext` no longer installs.
"""

from __future__ import annotations

from dataclasses import dataclass

from maskgym.envs import CodeTest, Domain, Task, TestKind
from maskgym.envs.verifiers import CodeMode

_STRICT, _LCB, _PRIME = CodeMode.STRICT, CodeMode.LIVECODEBENCH, CodeMode.PRIME
_ALL = (_STRICT, _LCB, _PRIME)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeCase:
    """A program, one test of it, and the modes in which it is right."""

    name: str
    program: str
    test: CodeTest
    right_in: tuple[CodeMode, ...]

    @property
    def task(self) -> Task:
        """The test as a task."""
        question = f"Code case: {self.name}."
        return Task(task_id=self.name, question=question, domain=Domain.CODE, tests=(self.test,))


def _reads(name: str, program: str, stdin: str, expected: str, *right_in: CodeMode) -> CodeCase:
    test = CodeTest(kind=TestKind.STDIO, stdin=stdin, expected=expected)
    return CodeCase(name=name, program=program, test=test, right_in=right_in)


def _called(
    name: str, program: str, arguments: str, expected: str, *right_in: CodeMode
) -> CodeCase:
    test = CodeTest(kind=TestKind.CALL, function="f", arguments=arguments, expected=expected)
    return CodeCase(name=name, program=program, test=test, right_in=right_in)


_SECOND = """
def main():
    input()
    numbers = list(map(int, input().split()))
    print(numbers.index(sorted(numbers)[-2]) + 1)
"""
_GUARD = "\nif __name__ == '__main__':\n    main()\n"
_DEEP = "def f(n): return n and 1 + f(n - 1)\nprint(f(%d))"
_STDIN = "from sys import stdin\nprint(stdin.readline())"
_TO_THE_END = """
total = 0
while True:
    try:
        total += int(input())
    except EOFError:
        break
print(total)
"""
_THREAD = """
import sys, threading
def main():
    print(input())
sys.setrecursionlimit(1 << 20)
thread = threading.Thread(target=main)
thread.start()
thread.join()
"""
_LINES = "import sys\nfor line in sys.stdin: print(line, end='')"
_STATE = "class Solution:\n  n = 0\n  def f(self, x):\n    self.n += 1\n    return self.n"
_GLOBAL = "n = 5\ndef f():\n    global n\n    n += 1\nf()\nprint(n)"

CODE_CASES = (
    _reads("main guard", _SECOND + _GUARD, "4\n8 2 5 1\n", "3\n", *_ALL),
    _reads("main never called", _SECOND, "4\n8 2 5 1\n", "3\n"),
    _reads(
        "stdin buffer", "import sys\nprint(sys.stdin.buffer.read().decode())", "5", "5", _STRICT
    ),
    _reads("stdin read", "import sys\nprint(sys.stdin.read())", "5", "5", *_ALL),
    _reads("stdin lines", _LINES, "5\n6", "5\n6", *_ALL),
    _reads("open(0)", "print(open(0).read())", "5", "5", _STRICT, _LCB),
    _reads("empty line", "input()\nprint(input())", "\n7", "7", *_ALL),
    _reads("stdin imported", _STDIN, "5", "5", *_ALL),
    _reads("global of the module", _GLOBAL, "", "6", _STRICT),
    _reads("recursion", _DEEP % 900, "", "900", *_ALL),
    _reads("deep recursion", _DEEP % 9000, "", "9000", _PRIME),
    _reads("names not imported", "print(gcd(4, 6), Counter('a')['a'])", "", "2 1", _LCB, _PRIME),
    _reads("sys.exit(0)", "import sys\nprint(5)\nsys.exit(0)", "", "5", *_ALL),
    _reads("sys.exit(1)", "import sys\nprint(5)\nsys.exit(1)", "", "5", _LCB, _PRIME),
    _reads("quit()", "print(5)\nquit()", "", "5", _STRICT),
    _reads("exit()", "print(5)\nexit()", "", "5", _STRICT, _LCB),
    _reads("os._exit(0)", "import os\nprint(5, flush=True)\nos._exit(0)", "", "5", _STRICT),
    _reads("import in between", "a = 5\nimport math\nprint(math.floor(a))", "", "5", *_ALL),
    _reads("an error at the end", "print(5)\n1 / 0", "", "5"),
    _reads("lines up to the end", _TO_THE_END, "1\n2", "3", *_ALL),
    _reads("lines beyond the end", "print(input())\nprint(input())", "1", "1"),
    _reads("a main thread", _THREAD, "5", "5", *_ALL),
    _reads("numpy as np", "print(int(np.sum([1, 2])))", "", "3", _LCB),
    _reads("no Python", "print(5", "", "5"),
    _reads("nothing but imports", "import math", "", "", _STRICT, _PRIME),
    _reads("a text over two lines", "print('''a\nb''')", "", "a\nb", *_ALL),
    _reads("a row of numbers, spaced", "print('1.0  2')", "", "1 2", _STRICT, _LCB),
    _reads("a row of words, spaced", "print('a  b')", "", "a b", _STRICT),
    _reads("one number, nearly", "print(1.5000001)", "", "1.5", _STRICT, _PRIME),
    _called("a sum", "def f(a, b): return a + b", "[1, 2]", "3", *_ALL),
    _called("a method", "class Solution:\n  def f(self, a): return [a]", "[1]", "[1]", *_ALL),
    _called("types not imported", "def f(a: List[int]): return a", "[[1]]", "[1]", *_ALL),
    _called("names not imported", "def f(x): return gcd(x, 4)", "[6]", "2", _LCB, _PRIME),
    _called("a tuple", "def f(x): return (1, 2)", "[0]", "[1, 2]", *_ALL),
    _called(
        "a pair in a list", "def f(x): return [(1, 2), (3, 4)]", "[0]", "[[1, 2], [3, 4]]", _STRICT
    ),
    _called("nearly", "def f(x): return 0.1 + 0.2", "[0]", "0.3", _STRICT),
    _called("True for 1", "def f(x): return True", "[0]", "1", _LCB, _PRIME),
    _called("number keys in", "def f(d): return d[1]", '[{"1": 2}]', "2", _PRIME),
    _called("number keys out", "def f(x): return {1: 2}", "[0]", '{"1": 2}', _STRICT, _PRIME),
    _called("the list boxed", "def f(x): return [1]", "[0]", "[[1]]", _PRIME),
    _called("a set", "def f(x): return {1}", "[0]", "[1]"),
    _called("one object for all calls", _STATE, "[0]", "1", *_ALL),
    _called("another function", "def g(x): return 1", "[0]", "1"),
)
