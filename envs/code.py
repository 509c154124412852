"""In: code tasks with tests. Out: `CodeEnv`, the environment `maskgym/Code-v0`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .base import TextEnv
from .tasks import Domain, Task, TaskSource
from .testbed import testbed
from .tools import Tool
from .verdicts import Grade
from .verifiers import verify_code


class CodeEnv(TextEnv):
    """A program to write; by default the testbed's small programs.

    **Observation**: the problem at reset; after a call of the Python tool, what the program
    printed.

    **Action**: `<python> ... </python>` to try code (``tools=()`` takes that away), and the program
    itself in `<answer> ... </answer>`.

    **Reward**: in [0, 1]: 1.0 when the program passes all of the task's tests.

    **Episode end**: terminated by an answer, truncated by a limit of `EpisodeConfig`.
    """

    domain: ClassVar[Domain] = Domain.CODE

    def __init__(self, *, tools: Sequence[Tool | str] = ("python",), **settings: Any) -> None:
        """As `TextEnv`, which refuses a setting that it does not know."""
        super().__init__(tools=tools, **settings)

    def default_tasks(self) -> TaskSource:
        """Small programs of level 2."""
        return testbed(self.domain)

    def grade(self, task: Task, answer: str) -> Grade:
        """Whether the program passes the tests, run in the sandbox."""
        return verify_code(answer, task, self.sandbox)
