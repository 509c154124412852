"""In: code tasks with tests. Out: `CodeEnv`, the environment `maskgym/Code-v0`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from .base import TextEnv
from .public_tests import PublicTestsTool, describe_tests
from .tasks import Domain, Task, TaskSource
from .testbed import testbed
from .tools import Tool
from .verdicts import Grade
from .verifiers import verify_code


class CodeEnv(TextEnv):
    """A program to write; by default the testbed's small programs.

    **Observation**: the problem at reset, with the task's public tests; after a call of a tool,
    what it brought.

    **Action**: `<python> ... </python>` to try code, `<run_tests> ... </run_tests>` to run a whole
    program on the public tests (``tools=`` says which of them there are), and the program itself in
    `<answer> ... </answer>`.

    **Reward**: in [0, 1]: 1.0 when the program passes all of the task's own tests, which are never
    shown; passing the public ones earns nothing.

    **Episode end**: terminated by an answer, truncated by a limit of `EpisodeConfig`.
    """

    domain: ClassVar[Domain] = Domain.CODE

    def __init__(
        self, *, tools: Sequence[Tool | str] = ("python", "run_tests"), **settings: Any
    ) -> None:
        """As `TextEnv`, which refuses a setting that it does not know."""
        super().__init__(tools=tools, **settings)
        _ = self.sandbox  # refuses to start where the machine protects less than demanded

    def describe(self, task: Task) -> str:
        """The question and the public tests that it does not hold itself."""
        return "\n\n".join(filter(None, (task.question, describe_tests(task))))

    def make_tool(self, name: str) -> Tool:
        """The tool called `name`: "run_tests", or one that every environment has."""
        if name == "run_tests":
            return PublicTestsTool(self.sandbox)
        return super().make_tool(name)

    def default_tasks(self) -> TaskSource:
        """Small programs of level 2."""
        return testbed(self.domain)

    def grade(self, task: Task, answer: str) -> Grade:
        """Whether the program passes the tests, run in the sandbox."""
        return verify_code(answer, task, self.sandbox)
