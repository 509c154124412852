"""In: math tasks. Out: `MathEnv`, the environment `maskgym/Math-v0`."""

from __future__ import annotations

from typing import ClassVar

from .base import TextEnv
from .tasks import Domain, Task, TaskSource
from .testbed import testbed
from .verdicts import Grade
from .verifiers import verify_math


class MathEnv(TextEnv):
    """A problem whose answer is a number or an expression; by default the testbed's chains.

    **Observation**: the problem at reset; after a call of the Python tool, what the program
    printed.

    **Action**: `<answer> ... </answer>`, and with ``tools=("python",)`` also `<python> ...
    </python>`.

    **Reward**: in [0, 1]: 1.0 when the answer equals one of the task's, as `verify_math` reads
    both in its strict mode; an answer of several values is a hedge, and earns nothing.

    **Episode end**: terminated by an answer, truncated by a limit of `EpisodeConfig`.
    """

    domain: ClassVar[Domain] = Domain.MATH

    def default_tasks(self) -> TaskSource:
        """Arithmetic chains of level 2."""
        return testbed(self.domain)

    def grade(self, task: Task, answer: str) -> Grade:
        """Whether `answer` equals one of the task's answers."""
        return verify_math(answer, task.answers)
