"""What became of each batch in, the totals of a masking run out: its lines, tables and record."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from maskgym.masking.audit import DatasetAudit, LeakLevel

from .mask_examples import Example
from .mask_rows import Leak, MaskedBatch, worst_of

_MAX_LISTED = 1000
"""Rows that a page or a record names one by one; OUT itself has them all."""

MEANINGS = {
    LeakLevel.VISIBLE: "the target can be read off",
    LeakLevel.ONE_STEP: "it is one step of arithmetic away",
    LeakLevel.REPLAYABLE: "the operators and the question replay it",
    LeakLevel.PASSES: "what is left of the code passes the tests",
}


@dataclass(kw_only=True, slots=True)
class Totals:
    """What one run has masked so far; as large after a million rows as after a thousand."""

    num_examples: int = 0
    """How many examples to keep, the first of the file."""
    num_rows: int = 0
    num_without_trace: int = 0
    num_characters: int = 0
    num_hidden: int = 0
    num_problems: int = 0
    num_leaks: int = 0
    audit: DatasetAudit = field(default_factory=DatasetAudit)
    problems: list[str] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)

    def add(self, batch: MaskedBatch) -> list[Example]:
        """Counts a batch; returns the examples that are new."""
        self.num_rows += batch.num_rows
        self.num_without_trace += batch.num_without_trace
        self.num_characters += batch.num_characters
        self.num_hidden += batch.num_hidden
        self.audit.merge(batch.audit)
        self.num_problems += len(batch.problems)
        self.num_leaks += len(batch.leaks)
        self.problems += batch.problems[: _MAX_LISTED - len(self.problems)]
        self.leaks += batch.leaks[: _MAX_LISTED - len(self.leaks)]
        self.worst = worst_of([*self.worst, *batch.worst])
        new = batch.examples[: self.num_examples - len(self.examples)]
        self.examples += new
        return new

    def line(self) -> str:
        """The last line that the command prints."""
        hidden = self.num_hidden / self.num_characters if self.num_characters else 0.0
        skipped = f", {self.num_problems} bad rows left out" if self.num_problems else ""
        return (
            f"{self.num_rows} rows, {self.num_without_trace} without a trace{skipped}; target still "
            f"visible in {self.audit.rate(LeakLevel.VISIBLE):.1%}; "
            f"{self.num_hidden} characters hidden ({hidden:.1%})"
        )

    def leak_rows(self) -> Iterator[tuple[str, str, int, float]]:
        """Each leak, what it says, the traces that have it and their share; L4 if it was asked."""
        for leak, meaning in MEANINGS.items():
            if leak is not LeakLevel.PASSES or self.audit.num_with_tests:
                yield leak.label, meaning, self.audit.num_by_leak[leak], self.audit.rate(leak)

    def kind_rows(self) -> Iterator[tuple[str, str, None, float]]:
        """Each kind that was found and the share of its characters that is hidden."""
        for kind, share in self.audit.hidden_share_by_kind.items():
            yield kind.replace("_", " "), "", None, share

    def fact_rows(self) -> Iterator[tuple[str, str]]:
        """What the leak table leaves open."""
        audit = self.audit
        yield "structure kept (operators, line breaks, labels)", f"{audit.kept_structure:.1%}"
        for form, count in sorted(audit.num_visible_as.items()):
            yield f"target visible: {form}", f"{count:,}"
        yield "rows without a trace", f"{self.num_without_trace:,}"
        yield "bad rows left out", f"{self.num_problems:,}"
        for step, count in sorted(audit.num_escalated.items()):
            yield f"masked harder: {step}", f"{count:,}"
        yield "dropped", f"{audit.num_dropped:,}"
        yield "values the verifier could not judge", f"{audit.num_unverified:,}"

    def record(self) -> dict[str, Any]:
        """The totals as plain values."""
        audit = self.audit
        return {
            "num_rows": self.num_rows,
            "num_without_trace": self.num_without_trace,
            "num_bad_rows": self.num_problems,
            "bad_rows": self.problems,
            "leaks": {
                label: {"meaning": meaning, "count": count, "rate": rate}
                for label, meaning, count, rate in self.leak_rows()
            },
            "num_traces": audit.num_traces,
            "num_visible_as": dict(sorted(audit.num_visible_as.items())),
            "num_with_tests": audit.num_with_tests,
            "num_escalated": dict(sorted(audit.num_escalated.items())),
            "num_dropped": audit.num_dropped,
            "num_unverified": audit.num_unverified,
            "num_characters": self.num_characters,
            "num_hidden": self.num_hidden,
            "hidden_share_by_kind": audit.hidden_share_by_kind,
            "kept_structure": audit.kept_structure,
        }
