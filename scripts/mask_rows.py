"""A batch of rows in, as a file holds them; the masked batch with its audit and examples out."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from maskgym.envs import Domain, Task
from maskgym.envs.mappings import ColumnMapping, RowForm, find
from maskgym.envs.row_forms import task_from_row
from maskgym.masking import ExpertTrace, RenderConfig, Scaffold, mask
from maskgym.masking.audit import DatasetAudit, LeakLevel
from maskgym.masking.checks import Checks
from maskgym.masking.trace_formats import parse_trace

from .mask_examples import Example, example_of
from .mask_files import RowBatch, arrow_bytes, arrow_table, fits_table, place, row_of

ADDED_FIELDS = ("scaffold", "scaffold_turns", "spans", "audit")
_SPAN_FIELDS = ("turn", "start", "end", "kind", "value", "is_given", "detector")
MAX_WORST = 10
"""Examples of the worst leaks that a report shows."""

OnBadRow = Literal["stop", "skip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """A row whose scaffold shows the target: an exception that a report lists."""

    where: str
    task_id: str
    level: str
    visible_as: str
    answer: str


@dataclass(kw_only=True, slots=True)
class MaskedBatch:
    """What became of a batch."""

    rows: bytes = b""
    """To be appended to OUT: JSON lines, or an Arrow stream."""
    num_rows: int = 0
    num_without_trace: int = 0
    num_hidden: int = 0
    """Characters."""
    num_characters: int = 0
    problems: list[str] = field(default_factory=list)
    """Rows that were skipped, each with its place and what was wrong."""
    audit: DatasetAudit = field(default_factory=DatasetAudit)
    examples: list[Example] = field(default_factory=list)
    worst: list[Example] = field(default_factory=list)
    leaks: list[Leak] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class RowMasker:
    """All that a worker has to know; called with one batch after the other."""

    path: Path
    """The input, for the names of rows."""
    domain: Domain
    mapping: ColumnMapping
    policy: str
    render: RenderConfig
    max_leak: LeakLevel | None = None
    checks_of: Callable[[Task], Checks] | None = None
    """The verifier of a task's environment, if it is to be asked."""
    trace: str = ""
    """The column of the trace, if not the one that the mapping names."""
    trace_format: str = "text"
    on_bad_row: OnBadRow = "stop"
    schema: Any = None
    """The Arrow schema of the input's fields; None writes JSON."""
    is_reported: bool = False
    """Whether the worst leaks are collected."""

    def __call__(self, batch: RowBatch) -> MaskedBatch:
        """Masks the rows of a batch.

        Raises:
            ValueError: At a bad row, unless those are skipped; names the row.
        """
        masked = MaskedBatch()
        fields: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        kept: list[int] = []
        for index, (number, content) in enumerate(_contents(batch)):
            try:
                row = row_of(content) if isinstance(content, bytes) else content
                self._refuse_masked(row)
                task = self._task(row, number)
                if self.schema is not None:
                    json.dumps(row, ensure_ascii=False, default=str).encode()
            except _AlreadyMaskedError:
                raise
            except UnicodeEncodeError:
                self._bad_row(number, "it holds half a surrogate pair; name OUT .jsonl.", masked)
            except ValueError as error:
                self._bad_row(number, str(error), masked)
            else:
                fields.append(self._mask(task, number, masked, batch.num_examples))
                rows.append(row)
                kept.append(index)
        if self.schema is None:
            masked.rows = b"".join(map(self._line, kept, rows, fields, [batch] * len(kept)))
        elif rows:
            masked.rows = arrow_bytes(self._table(batch, kept, rows, fields))
        masked.worst = worst_of(masked.worst)
        return masked

    def out_schema(self) -> Any:
        """The Arrow schema of OUT."""
        import pyarrow as pa

        return pa.schema([*self.schema, *_added_schema()])

    def _refuse_masked(self, row: Mapping[str, Any]) -> None:
        taken = next((name for name in ADDED_FIELDS if name in row), None)
        if taken:
            raise _AlreadyMaskedError(
                f"{self.path}: the rows have a field {taken!r} already; rename it, or mask the "
                "file that this one was made from."
            )

    def _bad_row(self, number: int, problem: str, masked: MaskedBatch) -> None:
        message = f"{place(self.path, number)}: {problem}"
        if self.on_bad_row == "stop":
            raise ValueError(f"{message} Or leave bad rows out: --on-bad-row skip.")
        masked.problems.append(message)

    def _task(self, row: dict[str, Any], number: int) -> Task:
        own_id = f"{self.path.name.partition('.')[0]}-{number}"
        if not self.trace and self.trace_format == "text":
            return task_from_row(row, domain=self.domain, mapping=self.mapping, fallback_id=own_id)
        is_ours = self.mapping.form is RowForm.MASKGYM
        column = self.trace or ("expert_trace" if is_ours else self.mapping.trace)
        value = find(row, column)
        task = task_from_row(
            {name: row[name] for name in row if name != "expert_trace"} if is_ours else row,
            domain=self.domain,
            mapping=replace(self.mapping, trace=""),
            fallback_id=own_id,
        )
        if not column:
            return task  # the form makes a trace of its own (GSM8K)
        return replace(task, expert_trace=parse_trace(value, self.trace_format) if value else None)

    def _mask(
        self, task: Task, number: int, masked: MaskedBatch, num_examples: int
    ) -> dict[str, Any]:
        trace = task.expert_trace
        masked.num_rows += 1
        if trace is None or not any(turn.text.strip() for turn in trace.turns):
            masked.num_without_trace += 1
            return {"scaffold": "", "scaffold_turns": [], "spans": [], "audit": None}
        try:
            scaffold = mask(
                trace,
                task,
                self.policy,
                render=self.render,
                checks=self.checks_of(task) if self.checks_of else None,
                max_leak=self.max_leak,
            )
            audit = scaffold.audit
        except ValueError as error:
            raise ValueError(f"{place(self.path, number)}: {error}") from error
        masked.audit.add(scaffold)
        masked.num_characters += audit.num_characters
        masked.num_hidden += sum(span.end - span.start for span in scaffold.spans)
        self._note(task, trace, scaffold, number, masked, num_examples)
        is_single = len(scaffold.turns) <= 1
        return {
            "scaffold": scaffold.text,
            "scaffold_turns": [] if is_single else list(scaffold.turns),
            "spans": [
                {name: getattr(span, name) for name in _SPAN_FIELDS} for span in scaffold.spans
            ],
            "audit": audit_row(scaffold),
        }

    def _note(
        self,
        task: Task,
        trace: ExpertTrace,
        scaffold: Scaffold,
        number: int,
        masked: MaskedBatch,
        num_examples: int,
    ) -> None:
        """Keeps what examples and the report will show of a trace."""
        is_wanted = len(masked.examples) < num_examples
        is_leak = self.is_reported and scaffold.audit.level >= LeakLevel.ONE_STEP
        if not is_wanted and not is_leak:
            return
        where = place(Path(self.path.name), number)
        has_results = self.render.tool_results != "drop"
        example = example_of(task, trace, scaffold, where=where, has_results=has_results)
        if is_wanted:
            masked.examples.append(example)
        if is_leak:
            masked.worst.append(example)
        if is_leak and scaffold.audit.is_answer_visible:
            masked.leaks.append(
                Leak(
                    where=where,
                    task_id=task.task_id,
                    level=scaffold.audit.level.label,
                    visible_as=scaffold.audit.visible_as,
                    answer=" | ".join(task.answers)[:80],
                )
            )

    def _line(
        self, index: int, row: dict[str, Any], fields: dict[str, Any], batch: RowBatch
    ) -> bytes:
        try:
            try:
                line = json.dumps({**row, **fields}, ensure_ascii=False).encode()
            except UnicodeEncodeError:  # a lone surrogate: JSON can say it, UTF-8 cannot
                line = json.dumps({**row, **fields}).encode()
        except (TypeError, ValueError) as error:
            number = batch.lines[index][0] if batch.lines else batch.first + index
            raise ValueError(
                f"{place(self.path, number)} cannot be written as JSON ({error}). "
                "Name OUT .parquet."
            ) from None
        return line + b"\n"

    def _table(
        self,
        batch: RowBatch,
        kept: list[int],
        rows: list[dict[str, Any]],
        fields: list[dict[str, Any]],
    ) -> Any:
        import pyarrow as pa

        if batch.table:  # the input's columns as they are, types and all
            table = arrow_table(batch.table)
            table = table if len(kept) == table.num_rows else table.take(pa.array(kept))
        else:
            with fits_table(f"{place(self.path, batch.first)} and the rows after it"):
                table = pa.RecordBatch.from_pylist(rows, schema=self.schema)
        added = pa.RecordBatch.from_pylist(fields, schema=_added_schema())
        return pa.RecordBatch.from_arrays(
            [*table.columns, *added.columns], schema=self.out_schema()
        )


class _AlreadyMaskedError(ValueError):
    """The whole file is the wrong one; no row of it can be skipped."""


def audit_row(scaffold: Scaffold) -> dict[str, Any]:
    """The audit of a scaffold as plain values, of one type in every row."""
    audit = scaffold.audit
    shares = audit.hidden_share_by_kind
    return {
        "level": audit.level.label,
        "is_answer_visible": audit.is_answer_visible,
        "visible_as": audit.visible_as,
        "is_one_step_away": audit.is_one_step_away,
        "is_replayable": audit.is_replayable,
        "do_remains_pass": audit.do_remains_pass,
        "hidden_share": audit.hidden_share,
        "hidden_share_by_kind": [{"kind": kind, "share": shares[kind]} for kind in shares],
        "kept_structure": audit.kept_structure,
        "num_characters": audit.num_characters,
        "num_unverified": audit.num_unverified,
        "policy": scaffold.policy,
        "requested_policy": scaffold.requested_policy,
        "is_dropped": scaffold.is_dropped,
    }


def worst_of(examples: list[Example]) -> list[Example]:
    """The examples that leak most, worst first, in the file's order where they leak alike."""
    return sorted(examples, key=lambda example: -example.level)[:MAX_WORST]


def _contents(batch: RowBatch) -> Iterator[tuple[int, bytes | dict[str, Any]]]:
    if batch.table:
        yield from enumerate(arrow_table(batch.table).to_pylist(), start=batch.first)
    else:
        yield from batch.lines


def _added_schema() -> Any:
    """Types of the added fields; the same whatever the rows hold."""
    import pyarrow as pa

    text, number, share, flag = pa.string(), pa.int64(), pa.float64(), pa.bool_()
    span = {name: text for name in _SPAN_FIELDS} | {
        "turn": number,
        "start": number,
        "end": number,
        "is_given": flag,
    }
    audit = {
        "level": text,
        "is_answer_visible": flag,
        "visible_as": text,
        "is_one_step_away": flag,
        "is_replayable": flag,
        "do_remains_pass": flag,
        "hidden_share": share,
        "hidden_share_by_kind": pa.list_(pa.struct({"kind": text, "share": share}.items())),
        "kept_structure": share,
        "num_characters": number,
        "num_unverified": number,
        "policy": text,
        "requested_policy": text,
        "is_dropped": flag,
    }
    return pa.schema(
        {
            "scaffold": text,
            "scaffold_turns": pa.list_(text),
            "spans": pa.list_(pa.struct(span.items())),
            "audit": pa.struct(audit.items()),
        }.items()
    )
