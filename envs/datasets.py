"""In: rows of a data set and what their columns mean. Out: tasks; and back, `save_tasks`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from .mappings import MAPPINGS, ColumnMapping, guess_mapping, mapping_by_name
from .row_forms import TEST_FIELDS, task_from_row
from .task_rows import TaskRow, read_task_rows
from .tasks import CodeTest, Domain, Task


def load_tasks(
    path: str | Path,
    *,
    domain: Domain | str,
    mapping: ColumnMapping | str | None = None,
    limit: int | None = None,
    on_bad_row: Literal["raise", "skip"] = "raise",
) -> list[Task]:
    """The tasks of a JSONL, JSON or Parquet file (also gzipped) or of topics, in file order.

    Args:
        path: A file that `read_task_rows` reads.
        domain: What the rows are; maskgym's own rows carry theirs, which must be the same.
        mapping: A preset's name, a mapping, or None to guess the preset from the first row.
        limit: Read at most this many rows.
        on_bad_row: "raise" at the first bad row, or "skip" bad rows and warn with their number.

    Raises:
        ValueError: If a row is bad (the message names file, row and field), two rows share an id, the
            columns fit no preset, or nothing is left.
    """
    if on_bad_row not in ("raise", "skip"):
        raise ValueError(f"on_bad_row is {on_bad_row!r}; it must be 'raise' or 'skip'.")
    return tasks_from_rows(
        islice(read_task_rows(path, on_bad_row=on_bad_row), limit),
        path=path,
        domain=domain,
        mapping=mapping,
        on_bad_row=on_bad_row,
    )


def tasks_from_rows(
    rows: Iterable[TaskRow],
    *,
    path: str | Path,
    domain: Domain | str,
    mapping: ColumnMapping | str | None = None,
    on_bad_row: Literal["raise", "skip"] = "raise",
) -> list[Task]:
    """As `load_tasks`, of rows that were read from `path`, perhaps not all of them."""
    domain = Domain.from_name(domain)
    if isinstance(mapping, str):
        mapping = mapping_by_name(mapping)
    tasks: dict[str, Task] = {}
    num_skipped, first_problem = 0, ""
    stem = Path(path).name.partition(".")[0]
    for item in rows:
        try:
            if mapping is None:
                mapping = MAPPINGS[guess_mapping(item.row)]
            task = task_from_row(
                item.row, domain=domain, mapping=mapping, fallback_id=f"{stem}-{item.number}"
            )
            if task.task_id in tasks:
                raise ValueError(
                    f"task_id {task.task_id!r} stands in an earlier row too; make ids unique."
                )
        except ValueError as error:
            message = f"{item.where}: {error}"
            if on_bad_row == "raise" or mapping is None:
                raise ValueError(message) from error
            num_skipped += 1
            first_problem = first_problem or message
        else:
            tasks[task.task_id] = task
    if num_skipped:
        warnings.warn(f"Skipped {num_skipped} bad rows; the first: {first_problem}", stacklevel=2)
    if not tasks:
        raise ValueError(
            f"{path} holds no task{f' among {num_skipped} bad rows' if num_skipped else ''}. "
            "Give a file with at least one good row."
        )
    return list(tasks.values())


def save_tasks(tasks: Iterable[Task], path: str | Path) -> None:
    """Writes tasks as JSONL in maskgym's own schema, which `load_tasks` reads back unchanged."""
    with open(path, "w", encoding="utf-8") as file:
        for task in tasks:
            file.write(json.dumps(task_to_row(task), ensure_ascii=False) + "\n")


def task_to_row(task: Task) -> dict[str, Any]:
    """The row of a task in maskgym's own schema: plain JSON values, empty fields left out."""
    row: dict[str, Any] = {
        "task_id": task.task_id,
        "domain": task.domain.value,
        "question": task.question,
        "answers": list(task.answers),
        "tests": [_test_to_row(test) for test in task.tests],
        "public_tests": [_test_to_row(test) for test in task.public_tests],
        "entities": list(task.entities),
        "gold_passages": list(task.gold_passages),
        "level": task.level,
        "split": task.split,
        "entry_point": task.entry_point,
        "prompt": task.prompt,
    }
    if task.expert_trace is not None:
        row["expert_trace"] = [
            {
                "kind": turn.kind.value,
                "text": turn.text,
                **({"tool": turn.tool} if turn.tool else {}),
            }
            for turn in task.expert_trace.turns
        ]
    kept = ("task_id", "domain", "question", "expert_trace")
    return {name: value for name, value in row.items() if value or name in kept}


def _test_to_row(test: CodeTest) -> dict[str, str]:
    return {name: str(getattr(test, name)) for name in TEST_FIELDS if getattr(test, name)}
