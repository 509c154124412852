"""In: a JSON job on stdin. Out: one framed line for each result, on a copy of standard output.

This file is sent into the sandbox as the program; the product reads its text and never imports it.
The candidate's own standard output goes nowhere, and its standard input is empty. Expected results
are not here, so there is nothing to steal: what the candidate can forge is only what it could
return anyway.
"""

import __future__

import faulthandler
import json
import os
import sys
from types import ModuleType
from typing import Any


def run_job() -> None:
    """Loads the candidate, runs every call or test of the job, and leaves without any clean-up."""
    job = json.loads(sys.stdin.buffer.read())
    channel = os.dup(1)
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, 1)
    sys.stdin = os.fdopen(0, encoding="utf-8")
    frame: str = job.pop("frame")

    def send(kind: str, value: object) -> None:
        line = f"\n{frame} {json.dumps([kind, value])}\n".encode()
        while line:
            line = line[os.write(channel, line) :]

    def watch() -> None:  # a thread in C: also ends a candidate that is stuck in C
        faulthandler.dump_traceback_later(job["timeout_s"], exit=True, file=channel)

    watch()
    module = ModuleType("candidate")
    sys.modules["candidate"] = module
    try:
        flags = __future__.annotations.compiler_flag  # as `inside.candidate` does
        code = compile(job["code"], "candidate.py", "exec", flags, dont_inherit=True)
        exec(code, module.__dict__)
        for call in job["calls"]:
            watch()
            result = _function(module, call["function"])(*json.loads(call["arguments"]))
            send("result", _plain(result))
        for test in job["asserts"]:
            watch()
            exec(compile(test, "test.py", "exec", dont_inherit=True), module.__dict__)
            send("passed", None)
    except BaseException as error:  # also SystemExit: leaving early is failing
        send("raised", f"{type(error).__name__}: {error}"[:500])
    os._exit(0)


def _function(module: ModuleType, name: str) -> Any:
    if not hasattr(module, name) and hasattr(module, "Solution"):  # LeetCode's form
        return getattr(module.Solution(), name)
    return getattr(module, name)


def _plain(value: object) -> object:
    """The value as JSON has it; raises TypeError for what JSON cannot hold."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise TypeError(f"the result is no JSON value ({error})") from None


if __name__ == "__main__":
    run_job()
