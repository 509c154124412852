"""In: one row of a data set and what its columns mean. Out: the task."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping
from typing import Any

from ..masking import ExpertTrace, TraceTurn, TurnKind
from .mappings import ColumnMapping, RowForm, find, require
from .row_values import (
    expect_domain,
    or_default,
    read_answers,
    read_level,
    read_question,
    read_strings,
    read_text,
    read_whole,
)
from .tasks import CodeTest, Domain, Task, TestKind
from .trajectory_rows import fireact_task, search_r1_task, strategyqa_task

TEST_FIELDS = ("kind", "function", "arguments", "stdin", "expected", "source")
_CALCULATION = re.compile(r"<<[^<>]*>>")


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
        case RowForm.STRATEGYQA:
            return strategyqa_task(row, domain, mapping, fallback_id)
        case RowForm.FIREACT:
            return fireact_task(row, domain, mapping, fallback_id)
        case RowForm.SEARCH_R1:
            return search_r1_task(row, domain, mapping, fallback_id)
        case RowForm.PLAIN:
            return _plain(row, domain, mapping, fallback_id)


def _plain(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str) -> Task:
    trace = find(row, mapping.trace)
    is_code = domain is Domain.CODE
    return Task(
        task_id=str(or_default(find(row, mapping.task_id), task_id)),
        question=read_question(require(row, mapping.question, "question")),
        answers=() if is_code else read_answers(require(row, mapping.answers, "answers")),
        tests=_input_output_tests(require(row, mapping.tests, "tests")) if is_code else (),
        domain=domain,
        expert_trace=ExpertTrace.from_text(read_text(trace, "trace")) if trace else None,
        entities=read_strings(or_default(find(row, mapping.entities), []), "entities"),
        gold_passages=read_strings(
            or_default(find(row, mapping.gold_passages), []), "gold_passages"
        ),
        entry_point=read_text(or_default(find(row, mapping.entry_point), ""), "entry_point"),
        level=read_level(or_default(find(row, mapping.level), 0)),
        split=read_text(or_default(find(row, mapping.split), ""), "split"),
    )


def _gsm8k(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str) -> Task:
    expect_domain(domain, Domain.MATH, "GSM8K")
    solution = read_text(require(row, mapping.answers, "answers"), "answers")
    steps, marker, last = solution.rpartition("####")
    gold = last.strip().replace(",", "")
    if not marker or not gold:
        raise ValueError(f"answers: no `#### n` line at the end of {solution[-60:]!r}.")
    steps = _CALCULATION.sub("", steps).strip()
    thoughts = [TraceTurn(kind=TurnKind.THOUGHT, text=steps)] if steps else []
    return Task(
        task_id=str(or_default(find(row, mapping.task_id), task_id)),
        question=read_question(require(row, mapping.question, "question")),
        answers=(gold,),
        domain=domain,
        expert_trace=ExpertTrace(turns=(*thoughts, TraceTurn(kind=TurnKind.ANSWER, text=gold))),
        split=read_text(or_default(find(row, mapping.split), ""), "split"),
    )


def _humaneval(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping) -> Task:
    expect_domain(domain, Domain.CODE, "HumanEval")
    prompt = read_text(require(row, mapping.question, "question"), "question")
    entry_point = read_text(require(row, mapping.entry_point, "entry_point"), "entry_point")
    test = read_text(require(row, mapping.tests, "tests"), "tests")
    solution = find(row, mapping.trace)
    return Task(
        task_id=str(require(row, mapping.task_id, "task_id")),
        question=prompt,
        domain=domain,
        tests=(CodeTest(kind=TestKind.ASSERT, source=f"{test}\n\ncheck({entry_point})\n"),),
        expert_trace=_fenced(prompt + read_text(solution, "trace")) if solution else None,
        entry_point=entry_point,
        prompt=prompt,
    )


def _mbpp(row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping) -> Task:
    expect_domain(domain, Domain.CODE, "MBPP")
    statements = read_strings(require(row, mapping.tests, "tests"), "tests")
    setup = or_default(find(row, mapping.test_setup), "")
    setup = setup if isinstance(setup, str) else "\n".join(read_strings(setup, "test_setup"))
    code = find(row, mapping.trace)
    # The function's name stands in the tests only, so the question shows the first, as the paper
    # does.
    text = read_text(require(row, mapping.question, "question"), "question")
    first = statements[0] if statements else ""
    called = re.findall(r"(\w+)\s*\(", first.removeprefix("assert"))
    own = [
        name for name in called if not hasattr(builtins, name)
    ]  # `assert int(lobb_num(5, 3)) == 35`
    tests = tuple(
        CodeTest(kind=TestKind.ASSERT, source=f"{setup}\n{statement}\n".lstrip())
        for statement in statements
    )
    return Task(
        task_id=f"mbpp-{require(row, mapping.task_id, 'task_id')}",
        question=f"{text}\nYour code must satisfy: {first}" if first else text,
        domain=domain,
        tests=tests,
        public_tests=tests[:1],
        expert_trace=_fenced(read_text(code, "trace").replace("\r\n", "\n")) if code else None,
        entry_point=next(iter([*own, *called]), ""),
    )


def _own(row: Mapping[str, Any], domain: Domain) -> Task:
    own_domain = Domain.from_name(str(or_default(row.get("domain"), domain)))
    if own_domain is not domain:
        raise ValueError(f"domain: the row says {own_domain.value!r}, the caller {domain.value!r}.")
    trace = row.get("expert_trace")
    return Task(
        task_id=read_text(require(row, "task_id", "task_id"), "task_id"),
        question=read_text(require(row, "question", "question"), "question"),
        answers=read_strings(or_default(row.get("answers"), []), "answers"),
        domain=domain,
        tests=tuple(_own_test(test) for test in or_default(row.get("tests"), [])),
        public_tests=tuple(_own_test(test) for test in or_default(row.get("public_tests"), [])),
        expert_trace=_own_trace(trace) if trace is not None else None,
        entities=read_strings(or_default(row.get("entities"), []), "entities"),
        gold_passages=read_strings(or_default(row.get("gold_passages"), []), "gold_passages"),
        level=read_whole(or_default(row.get("level"), 0), "level"),
        split=read_text(or_default(row.get("split"), ""), "split"),
        entry_point=read_text(or_default(row.get("entry_point"), ""), "entry_point"),
        prompt=read_text(or_default(row.get("prompt"), ""), "prompt"),
    )


def _own_test(test: object) -> CodeTest:
    unknown = set(test) - set(TEST_FIELDS) if isinstance(test, Mapping) else {"(not an object)"}
    if unknown or not isinstance(test, Mapping):
        raise ValueError(f"tests: unknown {', '.join(sorted(unknown))}; there are {TEST_FIELDS}.")
    try:
        kind = TestKind(str(test.get("kind")))
    except ValueError:
        raise ValueError(
            f"tests: kind is {test.get('kind')!r}; use call, stdio or assert."
        ) from None
    values = {
        name: read_text(or_default(test.get(name), ""), f"tests.{name}") for name in TEST_FIELDS[1:]
    }
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
        tool = read_text(or_default(turn.get("tool"), ""), "expert_trace.tool")
        turns.append(
            TraceTurn(kind=kind, text=read_text(turn["text"], "expert_trace.text"), tool=tool)
        )
    return ExpertTrace(turns=tuple(turns))


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
