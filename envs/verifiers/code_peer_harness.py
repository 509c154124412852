"""In: a JSON job on stdin. Out: what the program printed, as a peer's grader would have seen it.

This file is sent into the sandbox as the program; the product reads its text and never imports it.
The peers wrap a program in a function and hand it a stand-in for standard input, and so refuse
programs that read `sys.stdin.buffer` or assign globals. The compat modes reproduce that.
"""

import ast
import builtins
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def run_job() -> None:
    """Runs the program of the job on its input, and prints what it printed."""
    job = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)  # a stream taken from sys before the call is not the one that is read
    for name in job["hidden_modules"]:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in job["hidden_builtins"]:
        setattr(builtins, name, None)
    wrap: Callable[[str], str] = {"livecodebench": _wrap_tree, "prime": _wrap_lines}[job["wrap"]]
    module = ModuleType("tmp_sol")
    source = job["prefix"] + wrap(_without_main_guard(job["code"]))
    exec(compile(source, "candidate.py", "exec", dont_inherit=True), module.__dict__)
    printed = _call(module.__dict__["program"], job["stdin"])
    with os.fdopen(channel, "wb") as output:
        output.write(printed.encode("utf-8", "surrogatepass"))


def _without_main_guard(code: str) -> str:
    """The program with the body of a last `if __name__ == "__main__":` in its place."""
    try:
        *body, last = ast.parse(code).body
        if isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'":
            return "\n".join(ast.unparse(statement) for statement in [*body, *last.body])
    except (SyntaxError, ValueError):
        pass
    return code


def _wrap_tree(code: str) -> str:
    """Imports of the top level as they are, everything else in a function."""
    statements = ast.parse(code).body
    imports = [each for each in statements if isinstance(each, ast.Import | ast.ImportFrom)]
    function = ast.parse("def program(): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    function.body = [each for each in statements if each not in imports]
    return ast.unparse(ast.Module(body=[*imports, function], type_ignores=[]))


def _wrap_lines(code: str) -> str:
    """From the first line that is no import on, all other lines moved into a function by a tab."""
    lines, is_inside = [], False
    for line in code.split("\n"):
        is_import = line.startswith(("from ", "import "))
        if not is_import and not is_inside:
            lines += ["stdin = sys.stdin", "stdout = sys.stdout", "def program():"]
            is_inside = True
        lines.append(line if is_import and not is_inside else "\t" + line)
    return "\n".join(lines) + "\n"


def _call(program: Callable[[], object], text: str) -> str:
    """What `program` prints when it reads `text` through the stand-ins.

    The stream that was there before, which a program may have taken by `from sys import stdin`,
    reads `text` too, but its lines come without their ends.
    """
    lines = iter(text.split("\n"))
    before: Any = sys.stdin
    before.readline = lambda *_: next(lines)
    before.readlines = lambda *_: text.split("\n")
    before.read = lambda *_: text
    printed = io.StringIO()
    printed.close = lambda: None  # type: ignore[method-assign]
    sys.stdin, sys.stdout = io.StringIO(text), printed
    builtins.open = lambda *_, **__: io.StringIO(text)  # type: ignore[assignment]
    with contextlib.suppress(SystemExit):
        program()
    return printed.getvalue()


if __name__ == "__main__":
    run_job()
