"""Scaffold: what masking leaves of a trace; what training does not read is made when asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .audit import Audit
from .checks import Checks
from .givens import givens_of
from .leaks import audit_scaffold
from .spans import MaskableTask, Span
from .traces import ExpertTrace


@dataclass(frozen=True, kw_only=True)
class AuditInput:
    """What an audit looks at; kept by a scaffold until it travels to another process."""

    trace: ExpertTrace
    """The trace that was masked, with the text of dropped turns empty."""
    spans: Sequence[Span]
    """All spans found in it."""
    hidden: Sequence[Span]
    """The hidden ones, in reading order without overlaps."""
    task: MaskableTask
    checks: Checks | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaffold:
    """What is left of an expert trace after masking."""

    text: str
    """All actions that are not empty, joined by newlines."""

    turns: tuple[str, ...]
    """Masked text of the expert's i-th action; "" where nothing of it is left."""

    hidden: tuple[Span, ...] = field(repr=False)
    """As `spans`, but values that stand in the question need not be marked as given."""

    policy: str
    """Name of the policy that was applied; "" for a dropped scaffold."""

    requested_policy: str
    """Name of the policy that was asked for; another one than `policy` if that leaked too much."""

    is_dropped: bool = False
    """Whether it is empty because every policy leaked more than was allowed."""

    audit_input: AuditInput | None = field(default=None, repr=False)

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """The hidden spans in reading order, one for each placeholder; they do not overlap."""
        made_of = self.audit_input
        if made_of is None:
            return self.hidden
        return givens_of(made_of.task.question).mark_all(self.hidden)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scaffold):
            return NotImplemented
        return self._shown() == other._shown()

    def __hash__(self) -> int:
        return hash(self._shown())

    def _shown(self) -> tuple[Any, ...]:
        names = (self.policy, self.requested_policy, self.is_dropped)
        return (self.text, self.turns, self.spans, *names)

    @cached_property
    def audit(self) -> Audit:
        """What it gives away. Made when first asked for: training shows scaffolds by the thousand.

        Raises:
            LookupError: For a scaffold put together by hand, which nothing was masked for.
        """
        given = self.audit_input
        if given is None:
            raise LookupError(
                "This scaffold has no audit, as it was not made by mask(); make it with "
                "mask(trace, task, policy)."
            )
        return audit_scaffold(given.trace, given.spans, given.hidden, given.task, given.checks)

    def __getstate__(self) -> dict[str, Any]:
        # The audit travels, what it is made from does not: a verifier often cannot be pickled.
        state = dict(self.__dict__)
        if self.audit_input is not None:
            state["audit"] = self.audit
            state["hidden"] = state["spans"] = self.spans
            state["audit_input"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
