"""In: level, split, seed, size. Out: `ArithmeticChains`, math tasks: sums and products in a row."""

from __future__ import annotations

from typing import ClassVar

from ...masking import ExpertTrace, TraceTurn, TurnKind
from ..tasks import Domain, Task
from .family import TaskFamily

MODULUS = 47  # a prime: values stay uniform, so a guess pays 2%
OPERATIONS = (
    ("+", 11),
    ("+", 17),
    ("+", 23),
    ("+", 31),
    ("*", 2),
    ("*", 3),
    ("*", 5),
    ("*", 7),
)
_WORDS = {"+": "Add", "*": "Multiply by"}


class ArithmeticChains(TaskFamily):
    """Math: follow `level` operations modulo 47 from a start; the answer is the last value."""

    family: ClassVar[str] = "chains"
    max_level: ClassVar[int] = 8

    @property
    def num_problems(self) -> int:
        """Start values times the choices of each operation."""
        return int(MODULUS * len(OPERATIONS) ** self.level)

    def _decode(self, rank: int, index: int) -> Task:
        rank, start = divmod(rank, MODULUS)
        sentences, lines, value = [f"Start with {start} ."], [], start
        for _ in range(self.level):
            rank, choice = divmod(rank, len(OPERATIONS))
            sign, operand = OPERATIONS[choice]
            result = (value + operand if sign == "+" else value * operand) % MODULUS
            sentences.append(f"{_WORDS[sign]} {operand} .")
            lines.append(f"{value} {sign} {operand} = {result}")
            value = result
        sentences.append(f"Work modulo {MODULUS} . What is the result ?")
        return Task(
            task_id=self._task_id(index),
            question=" ".join(sentences),
            answers=(str(value),),
            domain=Domain.MATH,
            expert_trace=ExpertTrace(
                turns=(
                    TraceTurn(kind=TurnKind.THOUGHT, text="\n".join(lines)),
                    TraceTurn(kind=TurnKind.ANSWER, text=str(value)),
                )
            ),
            level=self.level,
            split=self.split,
        )
