"""In: the name of a way of grading. Out: its rules: extraction, equality, set-up and time.

`strict` is ours. The compat modes reproduce what a peer's grader pays for, in our sandbox:

- ``compat:livecodebench``: the LiveCodeBench grader as SkyRL-Gym carries it, with rLLM's imports
  (https://github.com/NovaSky-AI/SkyRL, skyrl-gym/skyrl_gym/envs/lcb/livecodebench.py);
- ``compat:prime``: PRIME's grader in verl with ``continuous=False``
  (https://github.com/volcengine/verl, verl/utils/reward_score/prime_code/).

With them they share what a program reads and how results are compared, false negatives included
(`sys.stdin.buffer` and globals of the module do not work in their programs on standard input). What
differs on purpose: cheats earn nothing; an empty list of tests is an error; a program can not catch
its time limit; a numpy scalar counts as the number that it holds; each test on standard input has a
process of its own; and `numpy` and `pandas` are at hand only for programs that say `np` or `pd`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .code_compare import (
    same_output,
    same_output_as_livecodebench,
    same_output_as_prime,
    same_value,
    same_value_as_livecodebench,
    same_value_as_prime,
    with_number_keys,
)
from .code_extract import extract_as_livecodebench, extract_as_prime

_HARNESS = Path(__file__).with_name("code_peer_harness.py").read_text(encoding="utf-8")
_PRIME_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random"),
    *("statistics", "itertools", "functools", "operator", "io", "sys", "json"),
)
_LIVECODEBENCH_NAMES = {
    "itertools": "accumulate chain combinations count permutations product groupby islice repeat "
    "zip_longest cycle pairwise",
    "copy": "deepcopy",
    "string": "ascii_lowercase ascii_uppercase",
    "math": "floor log log2 log10 sqrt comb gcd ceil inf isqrt factorial atan2 pi prod",
    "collections": "defaultdict deque Counter OrderedDict",
    "bisect": "bisect bisect_left bisect_right insort",
    "heapq": "heappush heappop heapify merge nlargest nsmallest heapreplace",
    "functools": "reduce cache lru_cache cmp_to_key partial",
    "random": "randrange shuffle",
    "operator": "itemgetter sub xor or_ iand",
    "os.path": "commonprefix",
    "typing": "List Tuple Dict Set Optional Union Any Callable Iterable Iterator Generator Deque",
    "time": "time",
}
_LIVECODEBENCH_MODULES = (
    *("copy", "string", "math", "collections", "bisect", "heapq", "functools", "random"),
    *("itertools", "operator", "re", "datetime", "sys", "io", "os"),
)
_LIVECODEBENCH_SLOW = {"np": "numpy", "pd": "pandas"}  # imported only where a program says so
_HIDDEN_MODULES = ["ipdb", "joblib", "resource", "psutil", "tkinter"]


class CodeMode(StrEnum):
    """Whose rules decide whether a program is right."""

    STRICT = "strict"
    LIVECODEBENCH = "compat:livecodebench"
    PRIME = "compat:prime"

    @classmethod
    def from_name(cls, name: str) -> CodeMode:
        """The mode called `name`."""
        try:
            return cls(name)
        except ValueError:
            names = ", ".join(cls)
            raise ValueError(f"No mode {name!r} of grading code. There are: {names}.") from None


@dataclass(frozen=True, kw_only=True)
class CodeRules:
    """What a mode decides; the functions of `strict` leave programs and inputs as they are."""

    extract: Callable[[str], str] | None = None
    """The program in a model's text; None for our own rule, which knows the tested names."""
    same_value: Callable[[object, object], bool] = same_value
    same_output: Callable[[str, str], bool] = same_output
    call_program: Callable[[str, str], str] = lambda program, function: program
    """The program to load so that its function can be called."""
    arguments: Callable[[list[Any]], list[Any]] = lambda arguments: arguments
    stdio_job: Callable[[str, str], tuple[str, str]] = lambda program, stdin: (program, stdin)
    """The program to run, and what it reads."""
    timeout_s: float = 6.0
    """Seconds for each test, where the caller names none."""
    max_total_s: Callable[[int], float] = lambda num_tests: 120.0
    """Seconds for so many tests together, where the caller names none."""


def rules_of(mode: CodeMode) -> CodeRules:
    """The rules of a mode."""
    match mode:
        case CodeMode.STRICT:
            return CodeRules()
        case CodeMode.LIVECODEBENCH:
            return CodeRules(
                extract=extract_as_livecodebench,
                same_value=same_value_as_livecodebench,
                same_output=same_output_as_livecodebench,
                call_program=_livecodebench_calls,
                stdio_job=_livecodebench_stdio,
                timeout_s=6.0,
                max_total_s=lambda num_tests: 7.0 * num_tests + 5.0,
            )
        case CodeMode.PRIME:
            return CodeRules(
                extract=extract_as_prime,
                same_value=same_value_as_prime,
                same_output=same_output_as_prime,
                call_program=_prime_calls,
                arguments=_prime_arguments,
                stdio_job=_prime_stdio,
                timeout_s=5.0,
                max_total_s=lambda num_tests: 6.0,
            )


def _livecodebench_prefix(program: str) -> str:
    lines = [
        f"from {module} import {names.replace(' ', ', ')}"
        for module, names in _LIVECODEBENCH_NAMES.items()
    ]
    lines += [f"import {name}" for name in _LIVECODEBENCH_MODULES]
    lines += ["from re import search as re_search"]
    for alias, module in _LIVECODEBENCH_SLOW.items():
        if re.search(rf"\b{alias}\b", program):
            lines.append(f"import {module} as {alias}")
    return "\n".join([*lines, "", ""])


def _prime_prefix() -> str:
    lines = [f"from {name} import *" for name in (*_PRIME_MODULES, "builtins", "typing")]
    lines += [f"import {name}" for name in _PRIME_MODULES]
    return "\n".join([*lines, "sys.setrecursionlimit(600_000)", "", ""])


def _livecodebench_calls(program: str, function: str) -> str:
    return _livecodebench_prefix(program) + program + _solution(program, function)


def _prime_calls(program: str, function: str) -> str:
    return _prime_prefix() + program + _solution(program, function)


def _solution(program: str, function: str) -> str:
    """Where there is a class `Solution`, one object of it answers every call."""
    return f"\n\n{function} = Solution().{function}\n" if "class Solution" in program else ""


def _prime_arguments(arguments: list[Any]) -> list[Any]:
    """A first argument that is an object with whole numbers for keys is the only one, with them."""
    if arguments and isinstance(arguments[0], dict):
        numbered = with_number_keys(arguments[0])
        return arguments if numbered is None else [numbered]
    return arguments


def _livecodebench_stdio(program: str, stdin: str) -> tuple[str, str]:
    prefix = _livecodebench_prefix(program)
    return _job(program, stdin, wrap="livecodebench", prefix=prefix, hidden_builtins=["quit"])


def _prime_stdio(program: str, stdin: str) -> tuple[str, str]:
    return _job(
        program,
        stdin,
        wrap="prime",
        prefix=_prime_prefix(),
        hidden_builtins=["quit", "exit"],
        hidden_modules=["subprocess", "ctypes"],
    )


def _job(
    program: str,
    stdin: str,
    *,
    wrap: str,
    prefix: str,
    hidden_builtins: list[str],
    hidden_modules: list[str] | None = None,
) -> tuple[str, str]:
    job = {
        "code": program,
        "stdin": stdin,
        "wrap": wrap,
        "prefix": prefix,
        "hidden_builtins": hidden_builtins,
        "hidden_modules": [*_HIDDEN_MODULES, *(hidden_modules or [])],
    }
    return _HARNESS, json.dumps(job)
