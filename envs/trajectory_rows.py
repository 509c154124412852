"""In: rows that hold a worked search, or its steps. Out: tasks with that as their expert trace.

StrategyQA (decompositions), FireAct (ReAct trajectories) and rollouts as Search-R1 and FlashRAG store
them. A trajectory whose answer is wrong is no expert's, so such a task gets no trace.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..masking import ExpertTrace, TraceTurn, TurnKind, parse_trace
from .mappings import ColumnMapping, find, require
from .row_values import (
    expect_domain,
    or_default,
    read_answers,
    read_question,
    read_strings,
    read_text,
)
from .tasks import Domain, Task
from .verdicts import Verdict
from .verifiers import verify_search

_INSTRUCTION = re.compile(r"### Instruction:\s*(.*?)\s*### Response:", re.DOTALL)
_PAYMENT = re.compile(r"Episode finished, reward = (\w+)")
_PAID = ("True", "1")
_TRUTH = {"true": "yes", "false": "no"}


def strategyqa_task(
    row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str
) -> Task:
    """The steps into which people took the question apart are thoughts of the expert."""
    expect_domain(domain, Domain.SEARCH, "StrategyQA")
    value = require(row, mapping.answers, "answers")
    values = value if isinstance(value, list) else [value]
    answers = read_answers([_TRUTH.get(str(v).lower(), v) for v in values])
    steps = read_strings(or_default(find(row, mapping.trace), []), "trace")
    turns = [TraceTurn(kind=TurnKind.THOUGHT, text=step) for step in steps if step.strip()]
    answer = TraceTurn(kind=TurnKind.ANSWER, text=answers[0])
    return Task(
        task_id=str(or_default(find(row, mapping.task_id), task_id)),
        question=read_question(require(row, mapping.question, "question")),
        answers=answers,
        domain=domain,
        expert_trace=ExpertTrace(turns=(*turns, answer)) if turns else None,
    )


def fireact_task(
    row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str
) -> Task:
    """Where the row names no gold answer, that of a trajectory which was paid is the gold."""
    expect_domain(domain, Domain.SEARCH, "FireAct")
    source = require(row, mapping.question, "question")
    trace = _answered(source)
    if mapping.answers and find(row, mapping.answers) is not None:
        answers = read_answers(find(row, mapping.answers))
    else:
        payment = _PAYMENT.findall(source if isinstance(source, str) else json.dumps(source[-1:]))
        if not payment or payment[-1] not in _PAID or trace is None:
            raise ValueError(
                "answers: the trajectory was not paid (no `Episode finished, reward = True` at its "
                "end), so its answer is no gold answer. Leave such rows out: "
                'on_bad_row="skip", --skip-bad-rows.'
            )
        answers = (trace.turns[-1].text,)
    return Task(
        task_id=str(or_default(find(row, mapping.task_id), task_id)),
        question=_asked(source),
        answers=answers,
        domain=domain,
        expert_trace=_if_right(trace, answers),
    )


def search_r1_task(
    row: Mapping[str, Any], domain: Domain, mapping: ColumnMapping, task_id: str
) -> Task:
    """A rollout that never answers, or says what is no trajectory at all, gives no trace."""
    expect_domain(domain, Domain.SEARCH, "Search-R1")
    answers = read_answers(require(row, mapping.answers, "answers"))
    response = find(row, mapping.trace)
    trace = _answered(read_text(response, "trace"), "search_r1") if response else None
    return Task(
        task_id=str(or_default(find(row, mapping.task_id), task_id)),
        question=read_question(require(row, mapping.question, "question")),
        answers=answers,
        domain=domain,
        expert_trace=_if_right(trace, answers),
    )


def _answered(source: object, format: str = "auto") -> ExpertTrace | None:
    """A trajectory up to its answer; None if it never answers."""
    if not isinstance(source, str | list) or not source:
        raise ValueError(f"trace: expected text or messages, found {source!r:.60}.")
    turns = parse_trace(source, format).turns
    end = next((i for i, turn in enumerate(turns) if turn.kind is TurnKind.ANSWER), None)
    return None if end is None else ExpertTrace(turns=turns[: end + 1])


def _if_right(trace: ExpertTrace | None, answers: tuple[str, ...]) -> ExpertTrace | None:
    """The trace, if its answer is right: otherwise it is no expert's."""
    if trace is None:
        return None
    is_right = verify_search(trace.turns[-1].text, answers).verdict is Verdict.CORRECT
    return trace if is_right else None


def _asked(source: object) -> str:
    """The question of a trajectory: its first user message, or what stands under Instruction."""
    if isinstance(source, str):
        found = _INSTRUCTION.search(source)
        text = found[1] if found else ""
    else:
        assert isinstance(source, list)
        users = (m for m in source if isinstance(m, Mapping) and m.get("role") == "user")
        text = read_text(next(users, {}).get("content", ""), "question")
    return read_question(text.strip().removeprefix("Question:").strip())
