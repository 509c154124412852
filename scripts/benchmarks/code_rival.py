"""In: pairs of a program and a test as JSON on standard input. Out: what SkyRL-Gym's grader pays.

Run as a script of its own, since a hostile program reaches everything of the process that grades it
there. Each line of the answer is a number of the input and its reward; a grader that was killed on
the way leaves the rest out.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path


def main() -> None:
    """Grades every pair, one line for each."""
    compute_score = import_module("skyrl_gym.envs.lcb.livecodebench").compute_score
    pairs = json.load(sys.stdin)
    answers = Path(sys.argv[1])
    for number, (text, tests) in enumerate(pairs):
        try:
            _, reward = compute_score(text, tests)
        except Exception as error:
            reward = type(error).__name__
        with answers.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps([number, reward])}\n")


if __name__ == "__main__":
    main()
