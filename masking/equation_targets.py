"""Numeric target: a task in, a test whether a computed value is its answer out."""

from collections.abc import Iterable
from fractions import Fraction

from .arithmetic import Value
from .equations import equations_of
from .givens import canonical_value
from .spans import MaskableTask


class NumericTarget:
    """The values that the task's answers have, as far as they are numbers."""

    def __init__(self, task: MaskableTask):
        answers = {*task.answers, *map(canonical_value, task.answers)}
        self.values = frozenset(value for answer in answers for value in _values(answer))
        # "3.33" stands for all that rounds to it; a whole number only for itself.
        self._rounded = [
            (abs(Fraction(value)), _half_unit(value)) for value in self.values if _is_decimal(value)
        ]

    def __bool__(self) -> bool:
        """Whether any answer is a number."""
        return bool(self.values)

    def is_hit_by(self, values: Iterable[Value]) -> bool:
        """Whether one of the values is an answer, but for its sign, which stays in sight.

        An answer with decimals is also hit by what rounds to it.
        """
        return any(
            value in self.values
            or -value in self.values
            or any(abs(abs(Fraction(value)) - goal) <= margin for goal, margin in self._rounded)
            for value in values
        )


def _values(answer: str) -> tuple[Value, ...]:
    statements = equations_of(answer)
    sides = statements[0].sides if len(statements) == 1 else ()
    return sides[-1].result if sides else ()


def _is_decimal(value: Value) -> bool:
    return value.denominator > 1 and 10**6 % value.denominator == 0


def _half_unit(value: Value) -> Fraction:
    """Half of the last decimal place."""
    unit = Fraction(1)
    while (value / unit).denominator > 1:
        unit /= 10
    return unit / 2
