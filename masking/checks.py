"""Checks: what the environment's own verifier can say about a value or a program, handed in."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .bounded import BoundedPredicate

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class Checks:
    """The verifier of a task, as masking and its audit may ask it.

    Its functions may raise, hang or end their process: such a question counts as unverified. A
    function that can be pickled runs in a process of its own, which is ended when time is up.
    """

    equals: Callable[[str, str], bool] | None = None
    """`equals(value, answer)`: whether the verifier would pay for `value`; None: not asked."""

    passes: Callable[[str], bool] | None = None
    """`passes(program)`: whether a program passes the task's tests; None: not asked."""

    timeout_s: float | None = 2.0
    """Longest that one call may take, in seconds; a slower one counts as unverified. None: the
    functions end by themselves, and are called as they are, which is faster."""

    _known: dict[tuple[str, str], bool | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise ValueError(
                f"timeout_s is {self.timeout_s}; give a number of seconds above 0, or None for "
                "functions that bound their own time."
            )

    def is_equal(self, value: str, answer: str) -> bool | None:
        """Whether `equals` takes a value for this answer; None if it could not tell in time.

        Each pair is asked about once. Without `equals`, nothing is equal.
        """
        if self.equals is None:
            return False
        key = (value, answer)
        if key not in self._known:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[key] = self._equals(value, answer)
        return self._known[key]

    def is_passing(self, program: str) -> bool | None:
        """Whether a program passes; None if `passes` is missing or could not tell in time."""
        return None if self.passes is None else self._passes(program)

    @property
    def num_late(self) -> int:
        """Calls of `equals` that took too long so far."""
        return 0 if self.equals is None else self._equals.num_late

    @cached_property
    def _equals(self) -> BoundedPredicate:
        assert self.equals is not None
        return BoundedPredicate(self.equals, self.timeout_s)

    @cached_property
    def _passes(self) -> BoundedPredicate:
        assert self.passes is not None
        return BoundedPredicate(self.passes, self.timeout_s)

    def __reduce__(self) -> tuple[Any, ...]:
        # What was learned and what runs stays behind; the functions travel if they can.
        return _remade, (self.equals, self.passes, self.timeout_s)


def _remade(
    equals: Callable[[str, str], bool] | None,
    passes: Callable[[str], bool] | None,
    timeout_s: float | None,
) -> Checks:
    return Checks(equals=equals, passes=passes, timeout_s=timeout_s)
