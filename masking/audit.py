"""Audit: what one scaffold, or a whole data set of them, still gives away and what it keeps.

Four leaks, from what leaves the reader most work to what leaves none:
- L3: the answer can be computed from the operators in sight and the values of the question;
- L2: the answer is one arithmetic step away from values in sight;
- L1: the answer stands there, literally, in words, by an alias, or in a form the verifier pays for;
- L4: the code in sight passes the task's tests.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scaffold import Scaffold


class LeakLevel(IntEnum):
    """How much a scaffold gives away; the higher, the less is left to do."""

    NONE = 0
    REPLAYABLE = 1
    ONE_STEP = 2
    VISIBLE = 3
    PASSES = 4

    @property
    def label(self) -> str:
        """Short name: "none", "L3", "L2", "L1", "L4"."""
        return ("none", "L3", "L2", "L1", "L4")[self]

    @classmethod
    def from_name(cls, name: str) -> LeakLevel:
        """The level called "L2" or "one_step", in any case.

        Raises:
            ValueError: If there is no such level; names the nearest one.
        """
        levels = {level.label.lower(): level for level in cls}
        levels |= {level.name.lower(): level for level in cls}
        wanted = name.strip().lower()
        if wanted not in levels:
            near = difflib.get_close_matches(wanted, levels, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"No leak level {name!r}. Did you mean {levels[near].label!r}? There are, from "
                "the least: none, L3 (replayable), L2 (one_step), L1 (visible), L4 (passes)."
            )
        return levels[wanted]


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What one scaffold still gives away, and how much of the trace it keeps."""

    is_answer_visible: bool
    """L1: whether the target can be read off; in a code task, whether a program is left."""

    visible_as: str = ""
    """How it is seen best: "literal", "words" (a number in words), "alias" (another name or
    spelling), "equal" (by the verifier); "" if it is not."""

    is_one_step_away: bool = False
    """L2: whether one operation on values in sight gives the target."""

    is_replayable: bool = False
    """L3: whether the operators in sight and the values of the question give the target."""

    do_remains_pass: bool | None = None
    """L4: whether the code in sight passes the tests; None if that was not or could not be
    checked."""

    hidden_share: float = 0.0
    """Share of the trace's characters that are hidden."""

    hidden_share_by_kind: Mapping[str, float] = field(default_factory=dict)
    """For each kind of span found, the share of its characters that are hidden."""

    kept_structure: float = 1.0
    """Share of the operators, line breaks and labels outside of values that are still in sight."""

    num_characters: int = 0
    """Length of the trace without the turns that are not shown, before masking."""

    num_unverified: int = 0
    """Values and programs in sight on which the verifier raised, was late, or was not asked as
    there are too many; they count as not equal and not passing."""

    @property
    def level(self) -> LeakLevel:
        """The worst leak."""
        return max(self.leaks, default=LeakLevel.NONE)

    @property
    def leaks(self) -> tuple[LeakLevel, ...]:
        """Every kind of leak there is, the worst first."""
        found = {
            LeakLevel.PASSES: self.do_remains_pass,
            LeakLevel.VISIBLE: self.is_answer_visible,
            LeakLevel.ONE_STEP: self.is_one_step_away,
            LeakLevel.REPLAYABLE: self.is_replayable,
        }
        return tuple(level for level, is_there in found.items() if is_there)


@dataclass(kw_only=True)
class DatasetAudit:
    """What the scaffolds of a data set give away; grows by `add` and `merge`."""

    num_traces: int = 0
    """Scaffolds added, dropped ones included."""

    num_dropped: int = 0
    """Scaffolds left empty as every policy leaked more than was allowed; they leak nothing."""

    num_escalated: Counter[str] = field(default_factory=Counter)
    """Scaffolds made by a stricter policy than the one asked for, by "asked for -> applied"."""

    num_by_leak: Counter[LeakLevel] = field(default_factory=Counter)
    """Scaffolds with this leak, each leak counted by itself; NONE: those without any."""

    num_by_worst_leak: Counter[LeakLevel] = field(default_factory=Counter)
    """Scaffolds by their worst leak; these add up to `num_traces`."""

    num_visible_as: Counter[str] = field(default_factory=Counter)
    """Scaffolds whose target is visible (L1), by how: literal, words, alias, equal."""

    num_with_tests: int = 0
    """Scaffolds whose remaining code was given to the task's tests (L4)."""

    num_unverified: int = 0
    """Values and programs on which the verifier could not tell."""

    num_characters: int = 0
    num_hidden: float = 0.0
    """Hidden characters, up to rounding."""

    sum_kept_structure: float = 0.0
    sum_share_by_kind: Counter[str] = field(default_factory=Counter)
    num_traces_by_kind: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, scaffolds: Iterable[Scaffold]) -> DatasetAudit:
        """The audit of all these scaffolds."""
        total = cls()
        for scaffold in scaffolds:
            total.add(scaffold)
        return total

    def add(self, scaffold: Scaffold) -> None:
        """Counts one more scaffold."""
        audit = scaffold.audit
        self.num_traces += 1
        if scaffold.is_dropped:
            self.num_dropped += 1
        elif scaffold.policy != scaffold.requested_policy:
            self.num_escalated[f"{scaffold.requested_policy} -> {scaffold.policy}"] += 1
        self.num_by_leak.update(audit.leaks or (LeakLevel.NONE,))
        self.num_by_worst_leak[audit.level] += 1
        if audit.visible_as:
            self.num_visible_as[audit.visible_as] += 1
        self.num_with_tests += audit.do_remains_pass is not None and not scaffold.is_dropped
        self.num_unverified += audit.num_unverified
        self.num_characters += audit.num_characters
        self.num_hidden += audit.hidden_share * audit.num_characters
        self.sum_kept_structure += audit.kept_structure
        for kind, share in audit.hidden_share_by_kind.items():
            self.sum_share_by_kind[kind] += share  # type: ignore[assignment]  # a float total
            self.num_traces_by_kind[kind] += 1

    def merge(self, other: DatasetAudit) -> None:
        """Counts all that another audit has counted."""
        for name, value in vars(other).items():
            if isinstance(value, Counter):
                getattr(self, name).update(value)
            else:
                setattr(self, name, getattr(self, name) + value)

    def rate(self, leak: LeakLevel) -> float:
        """Share of the scaffolds with this leak, from 0 to 1; with NONE, of those without any."""
        return self.num_by_leak[leak] / self.num_traces if self.num_traces else 0.0

    @property
    def hidden_share(self) -> float:
        """Share of all characters that are hidden."""
        return self.num_hidden / self.num_characters if self.num_characters else 0.0

    @property
    def hidden_share_by_kind(self) -> dict[str, float]:
        """For each kind, the share of its characters hidden: the mean over traces that have it."""
        return {
            kind: self.sum_share_by_kind[kind] / num
            for kind, num in sorted(self.num_traces_by_kind.items())
        }

    @property
    def kept_structure(self) -> float:
        """Share of structure kept, the mean over traces."""
        return self.sum_kept_structure / self.num_traces if self.num_traces else 1.0
