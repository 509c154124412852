"""In: rows of a data set and what their columns mean. Out: tasks; and back, `save_tasks`."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from ..masking import ExpertTrace, TraceTurn, TurnKind
from ..retrieval.rows import read_located_rows
from .mappings import (
    MAPPINGS,
    ColumnMapping,
    RowForm,
    find,
    guess_mapping,
    mapping_by_name,
    require,
)
from .tasks import CodeTest, Domain, Task, TestKind

_CALCULATION = re.compile(r"<<[^<>]*>>")


def load_tasks(
    path: str | Path,
    *,
    domain: Domain | str,
    mapping: ColumnMapping | str | None = None,
    limit: int | None = None,
    on_bad_row: Literal["raise", "skip"] = "raise",
) -> list[Task]:
    """The tasks of a JSONL, JSON or Parquet file (also gzipped), in file order.

    Args:
        path: A file that `retrieval.read_rows` reads.
        domain: What the rows are; maskgym's own rows carry theirs, which must be the same.
        mapping: A preset's name, a mapping, or None to guess the preset from the first row.
        limit: Read at most this many rows.
        on_bad_row: "raise" at the first bad row, or "skip" bad rows and warn with their number.

    Raises:
        ValueError: If a row is bad (the message names file, row and field), two rows share an id, the
            columns fit no preset, or nothing is left.
    """
    domain = Domain.from_name(domain)
    if on_bad_row not in ("raise", "skip"):
        raise ValueError(f"on_bad_row is {on_bad_row!r}; it must be 'raise' or 'skip'.")
    if isinstance(mapping, str):
        mapping = mapping_by_name(mapping)
    tasks: dict[str, Task] = {}
    num_skipped, first_problem = 0, ""
    for located in islice(read_located_rows(path, on_bad_row=on_bad_row), limit):
        try:
            if mapping is None:
                mapping = MAPPINGS[guess_mapping(located.row)]
            task = task_from_row(
                located.row,
                domain=domain,
                mapping=mapping,
                fallback_id=f"{Path(path).name.partition('.')[0]}-{located.number}",
            )
            if task.task_id in tasks:
                raise ValueError(
                    f"task_id {task.task_id!r} stands in an earlier row too; make ids unique."
                )
        except ValueError as error:
            message = f"{located.where}: {error}"
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
        "tests": [
            {name: str(getattr(test, name)) for name in _TEST_FIELDS if getattr(test, name)}
            for test in task.tests
        ],
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


_TEST_FIELDS = ("kind", "function", "arguments", "stdin", "expected", "source")


def task_from_row(
    row: Mapping[str, Any], *, domain: Domain, mapping: ColumnMapping, fallback_id: str = "task"
) -> Task:
    """One row as a task.

    Raises:
        ValueError: If a field is missing or of the wrong kind; the message names it.
    """
    match mapping.form:
        case RowForm.MASKGYM:
            return _own(row, domain)
        case RowForm.GSM8K:
            return _gsm8k(row, domain, mapping, fallback_id)
        case RowForm.HUMANEVAL:
            return _humaneval(row, domain, mapping)
        case RowForm.MBPP:
            return _mbpp(row, domain, mapping)
        case RowForm.PLAIN:
            return _plain(row, domain, mapping, fallback_id)


def _plain(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str) -> Task:
    trace = find(row, mapping.trace)
    is_code = domain is Domain.CODE
    return Task(
        task_id=str(_or(find(row, mapping.task_id), task_id)),
        question=_question(require(row, mapping.question, "question")),
        answers=() if is_code else _answers(require(row, mapping.answers, "answers")),
        tests=_input_output_tests(require(row, mapping.tests, "tests")) if is_code else (),
        domain=domain,
        expert_trace=ExpertTrace.from_text(_text(trace, "trace")) if trace else None,
        entities=_strings(_or(find(row, mapping.entities), []), "entities"),
        gold_passages=_strings(_or(find(row, mapping.gold_passages), []), "gold_passages"),
        entry_point=_text(_or(find(row, mapping.entry_point), ""), "entry_point"),
        level=_whole(_or(find(row, mapping.level), 0), "level"),
        split=_text(_or(find(row, mapping.split), ""), "split"),
    )


def _gsm8k(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str) -> Task:
    _expect(domain, Domain.MATH, "GSM8K")
    solution = _text(require(row, mapping.answers, "answers"), "answers")
    steps, marker, last = solution.rpartition("####")
    gold = last.strip().replace(",", "")
    if not marker or not gold:
        raise ValueError(f"answers: no `#### n` line at the end of {solution[-60:]!r}.")
    steps = _CALCULATION.sub("", steps).strip()
    thoughts = [TraceTurn(kind=TurnKind.THOUGHT, text=steps)] if steps else []
    return Task(
        task_id=str(_or(find(row, mapping.task_id), task_id)),
        question=_question(require(row, mapping.question, "question")),
        answers=(gold,),
        domain=domain,
        expert_trace=ExpertTrace(turns=(*thoughts, TraceTurn(kind=TurnKind.ANSWER, text=gold))),
        split=_text(_or(find(row, mapping.split), ""), "split"),
    )


def _humaneval(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping) -> Task:
    _expect(domain, Domain.CODE, "HumanEval")
    prompt = _text(require(row, mapping.question, "question"), "question")
    entry_point = _text(require(row, mapping.entry_point, "entry_point"), "entry_point")
    test = _text(require(row, mapping.tests, "tests"), "tests")
    solution = find(row, mapping.trace)
    return Task(
        task_id=str(require(row, mapping.task_id, "task_id")),
        question=prompt,
        domain=domain,
        tests=(CodeTest(kind=TestKind.ASSERT, source=f"{test}\n\ncheck({entry_point})\n"),),
        expert_trace=_fenced(prompt + _text(solution, "trace")) if solution else None,
        entry_point=entry_point,
        prompt=prompt,
    )


def _mbpp(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping) -> Task:
    _expect(domain, Domain.CODE, "MBPP")
    statements = _strings(require(row, mapping.tests, "tests"), "tests")
    setup = _or(find(row, mapping.test_setup), "")
    setup = setup if isinstance(setup, str) else "\n".join(_strings(setup, "test_setup"))
    code = find(row, mapping.trace)
    # The function's name stands in the tests only, so the question shows the first, as the paper
    # does.
    text = _text(require(row, mapping.question, "question"), "question")
    first = statements[0] if statements else ""
    called = re.search(r"assert\s*\(?\s*(?:not\s+)?(\w+)\s*\(", first)
    return Task(
        task_id=f"mbpp-{require(row, mapping.task_id, 'task_id')}",
        question=f"{text}\nYour code must satisfy: {first}" if first else text,
        domain=domain,
        tests=tuple(
            CodeTest(kind=TestKind.ASSERT, source=f"{setup}\n{statement}\n".lstrip())
            for statement in statements
        ),
        expert_trace=_fenced(_text(code, "trace").replace("\r\n", "\n")) if code else None,
        entry_point=called[1] if called else "",
    )


def _own(row: Mapping[str, Any], domain: Domain) -> Task:
    own_domain = Domain.from_name(str(_or(row.get("domain"), domain)))
    if own_domain is not domain:
        raise ValueError(f"domain: the row says {own_domain.value!r}, the caller {domain.value!r}.")
    trace = row.get("expert_trace")
    return Task(
        task_id=_text(require(row, "task_id", "task_id"), "task_id"),
        question=_text(require(row, "question", "question"), "question"),
        answers=_strings(_or(row.get("answers"), []), "answers"),
        domain=domain,
        tests=tuple(_own_test(test) for test in _or(row.get("tests"), [])),
        expert_trace=_own_trace(trace) if trace is not None else None,
        entities=_strings(_or(row.get("entities"), []), "entities"),
        gold_passages=_strings(_or(row.get("gold_passages"), []), "gold_passages"),
        level=_whole(_or(row.get("level"), 0), "level"),
        split=_text(_or(row.get("split"), ""), "split"),
        entry_point=_text(_or(row.get("entry_point"), ""), "entry_point"),
        prompt=_text(_or(row.get("prompt"), ""), "prompt"),
    )


def _own_test(test: object) -> CodeTest:
    unknown = set(test) - set(_TEST_FIELDS) if isinstance(test, Mapping) else {"(not an object)"}
    if unknown or not isinstance(test, Mapping):
        raise ValueError(f"tests: unknown {', '.join(sorted(unknown))}; there are {_TEST_FIELDS}.")
    try:
        kind = TestKind(str(test.get("kind")))
    except ValueError:
        raise ValueError(
            f"tests: kind is {test.get('kind')!r}; use call, stdio or assert."
        ) from None
    values = {name: _text(_or(test.get(name), ""), f"tests.{name}") for name in _TEST_FIELDS[1:]}
    return CodeTest(kind=kind, **values)


def _own_trace(value: object) -> ExpertTrace:
    if isinstance(value, str):
        return ExpertTrace.from_text(value)
    turns = []
    for turn in value if isinstance(value, list) else [None]:
        if not isinstance(turn, Mapping) or not {"kind", "text"} <= set(turn):
            raise ValueError(
                "expert_trace: it must be text or a list of {kind, text} (and tool) objects; "
                f"found {str(turn)[:60]!r}."
            )
        try:
            kind = TurnKind(str(turn["kind"]))
        except ValueError:
            kinds = ", ".join(TurnKind)
            raise ValueError(f"expert_trace: kind is {turn['kind']!r}; use {kinds}.") from None
        tool = _text(_or(turn.get("tool"), ""), "expert_trace.tool")
        turns.append(TraceTurn(kind=kind, text=_text(turn["text"], "expert_trace.text"), tool=tool))
    return ExpertTrace(turns=tuple(turns))


def _question(value: object) -> str:
    """Text, or the last user message of a chat list."""
    if isinstance(value, list):
        users = [m for m in value if isinstance(m, Mapping) and m.get("role") == "user"]
        value = users[-1].get("content") if users else None
    text = _text(value, "question")
    if not text.strip():
        raise ValueError("question: it is empty.")
    return text


def _answers(value: object) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        value = _or(value.get("target"), value.get("ground_truth"))
    if isinstance(value, bool) or value is None or isinstance(value, Mapping):
        raise ValueError(f"answers: expected text, a number or a list, found {value!r}.")
    answers = (str(value),) if isinstance(value, str | int | float) else _strings(value, "answers")
    answers = tuple(answer for answer in answers if answer.strip())
    if not answers:
        raise ValueError(
            "answers: there is none, so nothing could ever be right. Mend the row, or leave bad rows "
            'out: on_bad_row="skip", --skip-bad-rows.'
        )
    return answers


def _input_output_tests(value: object) -> tuple[CodeTest, ...]:
    """Tests as APPS, TACO and the SMEPO release keep them: parallel lists of inputs and outputs."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"tests: not JSON ({error}): {str(value)[:60]!r}.") from None
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(CodeTest(kind=TestKind.ASSERT, source=statement) for statement in value)
    if not isinstance(value, Mapping) or not {"inputs", "outputs"} <= set(value):
        raise ValueError(
            'tests: expected {"inputs": [..], "outputs": [..]} (with "fn_name" for calls) or a '
            f"list of assert statements, found {value!r:.60}."
        )
    inputs, outputs = list(value["inputs"]), list(value["outputs"])
    if not inputs or len(inputs) != len(outputs):
        raise ValueError(
            f"tests: {len(inputs)} inputs, {len(outputs)} outputs; need pairs, one or more."
        )
    name = value.get("fn_name")
    if name:
        return tuple(_call_test(str(name), *pair) for pair in zip(inputs, outputs, strict=True))
    return tuple(
        CodeTest(kind=TestKind.STDIO, stdin=_lines(given), expected=_lines(wanted))
        for given, wanted in zip(inputs, outputs, strict=True)
    )


def _call_test(name: str, given: object, wanted: object) -> CodeTest:
    """LiveCodeBench keeps arguments as JSON lines, APPS as a list, where results may be boxed."""
    if isinstance(given, str):
        try:
            given = [json.loads(line) for line in given.splitlines() if line.strip()]
            wanted = json.loads(wanted) if isinstance(wanted, str) else wanted
        except json.JSONDecodeError as error:
            raise ValueError(f"tests: arguments of {name} are not JSON lines ({error}).") from None
    elif isinstance(wanted, list) and len(wanted) == 1:
        wanted = wanted[0]  # APPS boxes the result of a call
    return CodeTest(
        kind=TestKind.CALL,
        function=name,
        arguments=json.dumps(given),
        expected=json.dumps(wanted),
    )


def _lines(value: object) -> str:
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _fenced(code: str) -> ExpertTrace:
    return ExpertTrace(
        turns=(TraceTurn(kind=TurnKind.ANSWER, text=f"```python\n{code.strip(chr(10))}\n```"),)
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{field}: expected text, found {type(value).__name__} {value!r:.60}.")
    return value


def _whole(value: object, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{field}: expected a whole number, found {value!r}.")
    return value


def _strings(value: object, field: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if hasattr(values, "tolist"):  # a column of a Parquet reader
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise ValueError(f"{field}: expected text or a list, found {value!r:.60}.")
    if any(isinstance(item, bool) or not isinstance(item, str | int | float) for item in values):
        raise ValueError(f"{field}: expected a list of text, found {value!r:.60}.")
    return tuple(str(item) for item in values)


def _expect(domain: Domain, needed: Domain, name: str) -> None:
    if domain is not needed:
        raise ValueError(f"domain: {name} rows are {needed.value} tasks, not {domain.value}.")
