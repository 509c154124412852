"""In: nothing. Out: `Task`, the record of one problem with its target and its expert trace."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ..masking import ExpertTrace


class Domain(StrEnum):
    """What kind of problem a task is, and so which verifier grades it."""

    MATH = "math"
    CODE = "code"
    SEARCH = "search"

    @classmethod
    def from_name(cls, name: str) -> Domain:
        """The domain called `name`; an unknown name raises with the nearest one."""
        try:
            return cls(name)
        except ValueError:
            near = difflib.get_close_matches(
                name, [member.value for member in cls], n=1, cutoff=0.0
            )
            names = ", ".join(member.value for member in cls)
            raise ValueError(
                f"No domain {name!r}. Did you mean {near[0]!r}? There are: {names}."
            ) from None


class TestKind(StrEnum):
    """How a code test is run."""

    __test__ = False  # pytest would collect a class called Test*

    CALL = "call"
    STDIO = "stdio"
    ASSERT = "assert"


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeTest:
    """One test of a code task; which fields count depends on `kind`."""

    kind: TestKind
    function: str = ""
    """CALL: the name of the function to call."""
    arguments: str = ""
    """CALL: a JSON list of the positional arguments."""
    stdin: str = ""
    """STDIO: what the program reads."""
    expected: str = ""
    """CALL: the result as JSON. STDIO: the text on standard output. Never enters the sandbox."""
    source: str = ""
    """ASSERT: Python that raises when the candidate is wrong; runs in the candidate's process."""

    def __post_init__(self) -> None:
        if self.kind is TestKind.CALL and not (self.function and self.arguments and self.expected):
            raise ValueError(
                "A call test needs `function`, `arguments` (a JSON list) and `expected` (JSON); "
                f"found function={self.function!r}, arguments={self.arguments!r}, "
                f"expected={self.expected!r}."
            )
        if self.kind is TestKind.ASSERT and not self.source.strip():
            raise ValueError("An assert test needs `source`, the Python that asserts; it is empty.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One problem with its target and, if there is one, its expert trace."""

    task_id: str
    question: str
    answers: tuple[str, ...] = ()
    """The target of math and search tasks: any one of these is right."""
    domain: Domain = Domain.MATH
    tests: tuple[CodeTest, ...] = ()
    """The target of code tasks: all of these must pass. Never shown."""
    public_tests: tuple[CodeTest, ...] = ()
    """Code: tests that the model may see and run; passing them earns nothing."""
    expert_trace: ExpertTrace | None = None
    entities: tuple[str, ...] = ()
    """Names a scaffold must not give away: bridge entities and the answer, none of the question."""
    gold_passages: tuple[str, ...] = ()
    """Ids of the passages that hold the evidence, in hop order."""
    level: int = 0
    """Difficulty; 0 where the source names none."""
    split: str = ""
    entry_point: str = ""
    """Code: the function the tests call, where the source names one."""
    prompt: str = ""
    """Code: the program prefix that a bare completion continues (HumanEval)."""

    def __post_init__(self) -> None:
        if not self.task_id:
            raise ValueError("task_id is empty; every task needs an id that is unique in its set.")
        if not self.question.strip():
            raise ValueError(f"Task {self.task_id!r} has an empty question.")
        if isinstance(self.answers, str) or isinstance(self.entities, str):
            raise ValueError(
                f"Task {self.task_id!r}: answers and entities are tuples of strings, found one."
            )


TaskSource = Sequence[Task]
"""Where an environment takes its tasks from: indexed at random, perhaps computed on demand."""
