"""Checks: what the environment's own verifier can say about a value or a program, handed in."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The verifier of a task, as masking and its audit may ask it."""

    equals: Callable[[str, str], bool] | None = None
    """`equals(value, answer)`: whether the verifier would pay for `value`; None: not asked."""

    passes: Callable[[str], bool] | None = None
    """`passes(program)`: whether a program passes the task's tests; None: not asked."""

    timeout_s: float = 2.0
    """Longest that one call may take, in seconds; a slower one counts as unverified."""

    def __post_init__(self) -> None:
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s is {self.timeout_s}; give a number of seconds above 0.")
