"""In: the columns of a data set. Out: `ColumnMapping`, what each column is to a `Task`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RowForm(StrEnum):
    """How the named columns are read."""

    PLAIN = "plain"
    """Answers are a string or a list, the trace is text, tests are input and output lists."""
    GSM8K = "gsm8k"
    """The answer column is the worked solution, with `<<..>>` annotations and a `#### n` line."""
    HUMANEVAL = "humaneval"
    """`prompt` continues into the canonical solution; `test` defines `check(candidate)`."""
    MBPP = "mbpp"
    """`test_list` holds assert statements; `code` is the reference."""
    STRATEGYQA = "strategyqa"
    """The answer is true or false, which is yes or no; `decomposition` lists the expert's steps."""
    FIREACT = "fireact"
    """The question column is a whole trajectory, messages or text; its paid answer is the gold."""
    SEARCH_R1 = "search_r1"
    """A rollout as Search-R1 and FlashRAG store it; one with a wrong answer is no expert trace."""
    MASKGYM = "maskgym"
    """Our own rows, as `save_tasks` writes them."""


@dataclass(frozen=True, kw_only=True)
class ColumnMapping:
    """Where a row keeps what a `Task` needs.

    A name may be dotted to reach into nested fields (`reward_model.ground_truth`), and may list
    alternatives with `|`, of which the first that a row has counts. Empty: the rows have no such
    column.
    """

    question: str
    """The problem; a chat list (`prompt` of verl) gives its last user message."""
    answers: str = ""
    """The target of math and search tasks: a string, a number, a list, or {"target": ...}."""
    trace: str = ""
    """The expert trace as text."""
    task_id: str = ""
    """A unique id; without it the id is the file's name and the row's number."""
    entities: str = ""
    """A list of names that a scaffold must not give away."""
    gold_passages: str = ""
    """A list of ids of the evidence passages."""
    tests: str = ""
    """Code tests: an object of `inputs`, `outputs` and perhaps `fn_name`, also as JSON text; or a
    list of assert statements."""
    test_setup: str = ""
    """MBPP: Python to run before the statements."""
    entry_point: str = ""
    """The function under test."""
    level: str = ""
    """Difficulty, a whole number."""
    split: str = ""
    """Name of the split."""
    form: RowForm = RowForm.PLAIN
    """How the named columns are read."""


MAPPINGS: dict[str, ColumnMapping] = {
    "maskgym": ColumnMapping(question="question", task_id="task_id", form=RowForm.MASKGYM),
    "smepo": ColumnMapping(
        question="question|extra_info.question|prompt",
        answers="reward_model.ground_truth|extra_info.reward_model.ground_truth",
        tests="reward_model.ground_truth|extra_info.reward_model.ground_truth",
        trace="teacher_ds|extra_info.teacher_ds",
        task_id="task_id|id",
        split="split|extra_info.split",
    ),
    "gsm8k": ColumnMapping(question="question", answers="answer", form=RowForm.GSM8K),
    "humaneval": ColumnMapping(
        question="prompt",
        trace="canonical_solution",
        tests="test",
        entry_point="entry_point",
        task_id="task_id",
        form=RowForm.HUMANEVAL,
    ),
    "mbpp": ColumnMapping(
        question="text|prompt",
        trace="code",
        tests="test_list",
        test_setup="test_setup_code|test_imports",
        task_id="task_id",
        form=RowForm.MBPP,
    ),
    "math": ColumnMapping(
        question="problem|question",
        answers="answer",
        trace="solution",
        task_id="unique_id|id",
        level="level",
    ),
    "search_qa": ColumnMapping(
        question="question|extra_info.question|prompt",
        answers="answers|golden_answers|answer|target|reward_model.ground_truth",
        task_id="qid|id|_id",
        entities="entities",
        gold_passages="gold_passages",
    ),
    "strategyqa": ColumnMapping(
        question="question",
        answers="answer|golden_answers",
        trace="decomposition",
        task_id="qid|id",
        form=RowForm.STRATEGYQA,
    ),
    "fireact": ColumnMapping(
        question="messages|traj", answers="gt", task_id="id", form=RowForm.FIREACT
    ),
    "search_r1": ColumnMapping(
        question="question",
        answers="golden_answers",
        trace="output.final_response",
        task_id="id",
        form=RowForm.SEARCH_R1,
    ),
}
"""Presets by name."""

_MISSING = object()


def mapping_by_name(name: str) -> ColumnMapping:
    """The preset called `name`; an unknown name raises with the nearest one."""
    if name not in MAPPINGS:
        raise ValueError(
            f"No column mapping {name!r}. Did you mean {_nearest(name, MAPPINGS)!r}? "
            f"There are: {', '.join(MAPPINGS)}; or pass a ColumnMapping."
        )
    return MAPPINGS[name]


def guess_mapping(row: Mapping[str, Any]) -> str:
    """The name of the preset that fits the columns of a row.

    Raises:
        ValueError: If none does; the message shows the columns.
    """
    columns = set(row)
    if "task_id" in columns and "question" in columns and columns & {"domain", "expert_trace"}:
        return "maskgym"
    if {"prompt", "test", "entry_point"} <= columns:
        return "humaneval"
    if "test_list" in columns:
        return "mbpp"
    has_question = bool(columns & {"question", "prompt", "problem"})
    if {"traj", "gt"} <= columns or ("messages" in columns and not has_question):
        return "fireact"
    if {"question", "golden_answers"} <= columns and find(row, MAPPINGS["search_r1"].trace):
        return "search_r1"
    if isinstance(row.get("answer"), bool) and "question" in columns:
        return "strategyqa"
    smepo = MAPPINGS["smepo"]
    if find(row, smepo.answers) is not None and find(row, smepo.question) is not None:
        return "smepo"
    if "question" in columns and isinstance(row.get("answer"), str) and "####" in row["answer"]:
        return "gsm8k"
    qa = MAPPINGS["search_qa"]
    if "question" in columns and find(row, qa.answers) is not None:
        return "search_qa"
    if "problem" in columns and "answer" in columns:
        return "math"
    raise ValueError(
        f"cannot guess what the columns {', '.join(sorted(columns)) or '(none)'} mean. Name a "
        f"preset with mapping=... ({', '.join(MAPPINGS)}) or pass "
        "ColumnMapping(question='...', answers='...')."
    )


def find(row: Mapping[str, Any], names: str) -> Any:
    """The first value that `names` (dotted, alternatives by `|`) reaches, else None."""
    for name in names.split("|") if names else ():
        value: Any = row
        for part in name.split("."):
            value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is not _MISSING and value is not None:
            return value
    return None


def require(row: Mapping[str, Any], names: str, field: str) -> Any:
    """As `find`, but a missing value raises with the row's columns and the nearest name."""
    value = find(row, names)
    if value is None:
        columns = list(_columns(row))
        first = names.partition("|")[0]
        near = f" Did you mean {_nearest(first, columns)!r}?" if columns and first else ""
        raise ValueError(
            f"no {field}: looked for {names.replace('|', ' or ') or '(no column named)'} among the "
            f"columns {', '.join(columns) or '(none)'}.{near}"
        )
    return value


def _columns(row: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in row.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix.count(".") < 2:
            yield from _columns(value, f"{prefix}{key}.")


def _nearest(name: str, names: Iterable[str]) -> str:
    return difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)[0]
