"""In: level, split, seed, size. Out: `SmallPrograms`, code tasks: list operations in a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from ...masking import ExpertTrace, TraceTurn, TurnKind
from ..tasks import CodeTest, Domain, Task, TestKind
from .family import TaskFamily
from .permutation import keyed_bytes

_NUM_TESTS = 6
_NUM_PUBLIC_TESTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One step of a program: what it is, how English says it, how Python does it."""

    name: str
    operand: int = 0
    words: str
    source: str


def _operations() -> tuple[Operation, ...]:
    keep = [
        Operation(
            name="keep",
            operand=k,
            words=f"keep the values greater than {k}",
            source=f"[value for value in values if value > {k}]",
        )
        for k in range(5)
    ]
    add = [
        Operation(
            name="add",
            operand=k,
            words=f"add {k} to each value",
            source=f"[value + {k} for value in values]",
        )
        for k in range(1, 6)
    ]
    multiply = [
        Operation(
            name="multiply",
            operand=k,
            words=f"multiply each value by {k}",
            source=f"[value * {k} for value in values]",
        )
        for k in (2, 3)
    ]
    plain = [
        ("drop", "drop the first value", "values[1:]"),
        ("reverse", "reverse the order", "values[::-1]"),
        ("sort", "sort the values", "sorted(values)"),
        (
            "running",
            "take the running sums",
            "[sum(values[: i + 1]) for i in range(len(values))]",
        ),
        ("even", "keep the even values", "[value for value in values if value % 2 == 0]"),
        ("absolute", "take the absolute values", "[abs(value) for value in values]"),
        ("negate", "change the sign of each value", "[-value for value in values]"),
        ("unique", "drop repeated values", "list(dict.fromkeys(values))"),
    ]
    rest = [Operation(name=name, words=words, source=source) for name, words, source in plain]
    return (*keep, *add, *multiply, *rest)


OPERATIONS = _operations()
REDUCERS = tuple(
    Operation(name=name, words=words, source=source)
    for name, words, source in (
        ("sum", "return the sum", "sum(values)"),
        ("count", "return how many values there are", "len(values)"),
        ("largest", "return the largest value , or 0", "max(values, default=0)"),
        ("smallest", "return the smallest value , or 0", "min(values, default=0)"),
        ("first", "return the first value , or 0", "values[0] if values else 0"),
        ("last", "return the last value , or 0", "values[-1] if values else 0"),
    )
)


def interpret(operations: list[Operation], reducer: Operation, values: list[int]) -> int:
    """The result of a program, computed from the names of its steps and never from their source."""
    for step in operations:
        match step.name:
            case "keep":
                values = list(filter(step.operand.__lt__, values))
            case "add":
                values = list(map(step.operand.__add__, values))
            case "multiply":
                values = list(map(step.operand.__mul__, values))
            case "drop":
                _, *values = values or [0]
            case "reverse":
                values = list(reversed(values))
            case "sort":
                values.sort()
            case "running":
                values = list(accumulate(values))
            case "even":
                values = [value for value in values if not value & 1]
            case "absolute":
                values = [max(value, -value) for value in values]
            case "negate":
                values = [0 - value for value in values]
            case "unique":
                values = sorted(set(values), key=values.index)
            case name:
                raise AssertionError(name)
    match reducer.name:
        case "sum":
            total = 0
            for value in values:
                total += value
            return total
        case "count":
            return len(values)
        case "largest":
            return sorted(values)[-1] if values else 0
        case "smallest":
            return sorted(values)[0] if values else 0
        case "first":
            return next(iter(values), 0)
        case "last":
            return next(reversed(values), 0)
        case name:
            raise AssertionError(name)


class SmallPrograms(TaskFamily):
    """Code: write `solve(values)`, which applies `level` list operations and then a reducer."""

    family: ClassVar[str] = "programs"
    max_level: ClassVar[int] = 6

    @property
    def num_problems(self) -> int:
        """Reducers times the choices of each operation."""
        return int(len(REDUCERS) * len(OPERATIONS) ** self.level)

    def _decode(self, rank: int, index: int) -> Task:
        number = rank
        rank, choice = divmod(rank, len(REDUCERS))
        reducer, operations = REDUCERS[choice], []
        for _ in range(self.level):
            rank, choice = divmod(rank, len(OPERATIONS))
            operations.append(OPERATIONS[choice])
        steps = [*operations, reducer]
        body = [f"    values = {step.source}" for step in operations]
        source = "\n".join(["def solve(values):", *body, f"    return {reducer.source}"])
        thoughts = "\n".join(f"Step {i} : {step.words}" for i, step in enumerate(steps, start=1))
        tests = tuple(
            CodeTest(
                kind=TestKind.CALL,
                function="solve",
                arguments=json.dumps([values]),
                expected=json.dumps(interpret(operations, reducer, list(values))),
            )
            for values in self._inputs(number)
        )
        return Task(
            task_id=self._task_id(index),
            question=(
                "Write a function `solve(values)` that takes a list of integers . In this order : "
                + " ; ".join(step.words for step in steps)
                + " ."
            ),
            domain=Domain.CODE,
            tests=tests[:_NUM_TESTS],
            public_tests=tests[_NUM_TESTS:],
            expert_trace=ExpertTrace(
                turns=(
                    TraceTurn(kind=TurnKind.THOUGHT, text=thoughts),
                    TraceTurn(kind=TurnKind.ANSWER, text=f"```python\n{source}\n```"),
                )
            ),
            entry_point="solve",
            level=self.level,
            split=self.split,
        )

    def _inputs(self, rank: int) -> list[list[int]]:
        """The empty list and lists of 4 to 9 values from -9 to 12; the last are for public tests."""
        inputs: list[list[int]] = [[]]
        for i in range(1, _NUM_TESTS + _NUM_PUBLIC_TESTS):
            data = keyed_bytes(f"programs:{self.level}:{rank}:{i}", 10)
            inputs.append([byte % 22 - 9 for byte in data[1 : 5 + data[0] % 6]])
        return inputs
