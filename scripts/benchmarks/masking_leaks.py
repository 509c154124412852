"""Leaks: real traces in, how often the target can be read in their scaffolds out, masker by masker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from maskgym.envs import Domain
from maskgym.envs.mask_checks import mask_checks
from maskgym.masking import POLICIES, Audit, RenderConfig, mask

from .code_probe import CodeProbe
from .leak_probe import Leak, find_leak
from .masking_structure import StructureCount
from .released_masker import ReleasedMasker
from .tables import Table, rate
from .trace_sets import Case, TraceSet

OURS = ("critical_keep_given", "all")
CONTROLS = ("all_keep_given", "answer_only", "random_matched")
_LEVELS = ("L1", "L2", "L3", "L4")
_NUM_CONTROL_AUDITS = 300  # of each set: audits of what leaks anyway take most of the time
_ASIDES = {
    "label": "the number of a label (a step, a list marker) happens to be the target's",
    "division": "an open division of two shown numbers has the target's value (one step, L2)",
}


@dataclass(kw_only=True)
class SetCount:
    """What one set of traces gave."""

    num_traces: int = 0
    leaks: Counter[str] = field(default_factory=Counter)
    """Traces that leak, by column."""
    asides: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Traces in which only a label, or an open division, has the target's value; by column."""
    levels: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Our own audit: traces by policy and level."""
    structure: Mapping[str, StructureCount] = field(default_factory=dict)
    """What each policy of ours took away beside values."""
    exceptions: list[tuple[str, str, str, str]] = field(default_factory=list)
    """Leaks of ours: policy, row, form, excerpt."""


class LeakTables:
    """The tables of the leak and structure measurements, filled set by set."""

    def __init__(self, policies: list[str], released: ReleasedMasker):
        self._policies = policies
        self._columns = ("none", "released", *policies)
        self.probed = Table(
            title="Leak L1 on real traces, by an independent probe",
            columns=("data set", "traces", *self._columns),
            notes=[
                f"`none`: the trace as it is; `released`: {released.source}. 95% Wilson intervals."
            ],
        )
        self.audited = Table(
            title="The same scaffolds by our own audit: traces at each level",
            columns=("data set", "policy", "traces", *_LEVELS),
        )
        self.structure = Table(
            title="Structure kept",
            columns=("data set", "policy", "traces", *StructureCount.COLUMNS),
        )
        self.exceptions = Table(
            title="Every exception of ours",
            columns=("data set", "policy", "row", "form", "excerpt"),
        )

    def add(self, name: str, count: SetCount) -> None:
        """One set's rows and notes."""
        num = count.num_traces
        cells = [rate(count.leaks[column], num) for column in self._columns]
        self.probed.add(name, num, *cells)
        for (policy, aside), num_aside in sorted(count.asides.items()):
            if policy in OURS:
                note = f"{name}, {policy}: in {num_aside} further traces {_ASIDES[aside]}."
                self.probed.notes.append(note)
        for policy in self._policies:
            num_audited = num if policy in OURS else min(num, _NUM_CONTROL_AUDITS)
            levels = [count.levels[policy, level] for level in _LEVELS]
            self.audited.add(name, policy, num_audited, *levels)
        for policy, kept in count.structure.items():
            self.structure.add(name, policy, num, *kept.cells())
            self.structure.notes += kept.notes(name, policy)
        for exception in count.exceptions:
            self.exceptions.add(name, *exception)

    def all(self) -> list[Table]:
        """The four tables."""
        self.exceptions.notes = [f"{len(self.exceptions.rows)} in all."]
        return [self.probed, self.audited, self.structure, self.exceptions]


@dataclass(frozen=True, kw_only=True)
class LeakMeasurement:
    """Masks sets of traces in every way and probes what is left."""

    released: ReleasedMasker
    probe: CodeProbe
    limit: int | None = None
    """Traces taken of each set; None: all."""

    @property
    def policies(self) -> list[str]:
        """Ours and the controls, as far as they are there."""
        return [name for name in (*OURS, *CONTROLS) if name in POLICIES]

    def tables(self, sets: Iterable[TraceSet]) -> list[Table]:
        """The probe's verdicts, our audit's, structure, and every exception."""
        tables = LeakTables(self.policies, self.released)
        lacking = [name for name in (*OURS, *CONTROLS) if name not in POLICIES]
        if lacking:
            tables.probed.notes.append(f"There is no policy {', '.join(lacking)}; left out.")
        for each in sets:
            try:
                count = self._measure(each)
            except FileNotFoundError as error:
                tables.probed.notes.append(f"{each.name}: no file {error.filename}; left out.")
                continue
            if count.num_traces:
                tables.add(each.name, count)
            else:
                tables.probed.notes.append(f"{each.name}: no trace found; left out.")
        return tables.all()

    def _measure(self, each: TraceSet) -> SetCount:
        count = SetCount(
            structure={name: StructureCount() for name in OURS if name in self.policies}
        )
        config = RenderConfig(tool_results="mask" if each.tool_results == "mask" else "drop")
        for case in islice(each.read(), self.limit):
            count.num_traces += 1
            for column, text, audit in self._scaffolds(case, count, config):
                leak = self._leak(case, text)
                if leak is not None and leak.aside:
                    count.asides[column, leak.aside] += 1
                elif leak is not None:
                    count.leaks[column] += 1
                    if column in OURS:
                        row = (column, case.task.task_id, leak.form, leak.excerpt)
                        count.exceptions.append(row)
                for level in _levels_of(audit):
                    count.levels[column, level] += 1
        return count

    def _scaffolds(
        self, case: Case, count: SetCount, config: RenderConfig
    ) -> Iterator[tuple[str, str, Audit | None]]:
        """The trace under each masker: column, text, and our audit where it is ours."""
        yield "none", mask(case.trace, case.task, "none", render=config).text, None
        text = case.as_text(has_results=config.tool_results == "mask")
        yield "released", self.released.mask(text, case.task.domain), None
        for name in self.policies:
            # L4 of the controls would take hours.
            checks = mask_checks(case.task, self.probe.sandbox if name in OURS else None)
            scaffold = mask(case.trace, case.task, name, render=config, checks=checks)
            if name in count.structure:
                count.structure[name].add(case, scaffold, config)
            is_audited = name in OURS or count.num_traces <= _NUM_CONTROL_AUDITS
            yield name, scaffold.text, scaffold.audit if is_audited else None

    def _leak(self, case: Case, text: str) -> Leak | None:
        if case.task.domain is Domain.CODE:
            return self.probe.find_leak(case.task, case.program, text)
        return find_leak(case.task, text)


def _levels_of(audit: Audit | None) -> list[str]:
    if audit is None:
        return []
    found = (
        audit.is_answer_visible,
        audit.is_one_step_away,
        audit.is_replayable,
        audit.do_remains_pass,
    )
    return [level for level, is_found in zip(_LEVELS, found, strict=True) if is_found]
