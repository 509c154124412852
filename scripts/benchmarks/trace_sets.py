"""Trace sets: a folder of public data in, tasks with expert traces out, one set after the other.

The formats (GSM8K solutions, MINT messages, FireAct and Search-R1 trajectories) are read here by a
reader of their own, so that the benchmark does not depend on what it measures.
"""

from __future__ import annotations

import ast
import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maskgym.envs import CodeTest, Domain, Task, TestKind
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind

MODELS = ("gpt-4-0613", "claude-2", "gpt-3.5-turbo-0613")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One trace to mask."""

    task: Task
    trace: ExpertTrace
    program: str = ""
    """Code: the expert's own program, which must not be seen."""

    def as_text(self, *, has_results: bool) -> str:
        """What a masker of plain text is given: the turns as one text, Python calls in fences."""
        lines: list[str] = []
        for turn in self.trace.turns:
            is_program = turn.tool == "python" and turn.kind is TurnKind.TOOL_CALL
            is_solution = self.task.domain is Domain.CODE and turn.kind is TurnKind.ANSWER
            if has_results or turn.kind is not TurnKind.TOOL_RESULT:
                is_fenced = is_program or is_solution
                lines.append(f"```python\n{turn.text}\n```" if is_fenced else turn.text)
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class TraceSet:
    """A named set of traces, read when it is asked for."""

    name: str
    read: Callable[[], Iterator[Case]]
    tool_results: str = "drop"
    """How the scaffold treats results of tools: "drop" or "mask"."""


def trace_sets(data: Path) -> list[TraceSet]:
    """All math and search sets that a data folder may hold; reading one may find no file."""
    search_r1 = ("v1_nq", "v1_triviaqa", "v0_nq", "v0_triviaqa", "v0_popqa")
    sets = [
        TraceSet(name="GSM8K test", read=partial(gsm8k, data / "gsm8k" / "test.jsonl.gz")),
        TraceSet(name="GSM8K train", read=partial(gsm8k, data / "gsm8k" / "train.jsonl.gz")),
        TraceSet(
            name="GSM8K model solutions",
            read=partial(gsm8k_models, data / "gsm8k" / "example_model_solutions.jsonl.gz"),
        ),
        TraceSet(
            name="MATH answers in sentences",
            read=partial(math_answers, data / "math_train7474" / "math_train.json.gz"),
        ),
    ]
    for name in ("gsm8k", "math", "theoremqa", "hotpotqa"):
        sets.append(TraceSet(name=f"MINT {name}", read=partial(mint, data, name)))
    for name in ("hotpotqa", "multitask_multimethod"):
        path = data / "fireact_trajectories" / f"{name}.jsonl.gz"
        for tool_results in ("drop", "mask"):
            shown = "" if tool_results == "drop" else ", results masked"
            sets.append(
                TraceSet(
                    name=f"FireAct {name}{shown}",
                    read=partial(fireact, path),
                    tool_results=tool_results,
                )
            )
    for name in search_r1:
        sets.append(TraceSet(name=f"Search-R1 {name}", read=partial(search_r1_turns, data, name)))
    for name in search_r1[:2]:
        sets.append(
            TraceSet(
                name=f"Search-R1 {name}, results masked",
                read=partial(search_r1_turns, data, name),
                tool_results="mask",
            )
        )
    return sets


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl or .json file, also gzipped; lines end at a line feed only."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="\n") as file:
        if ".jsonl" in path.name:
            for line in file:
                yield json.loads(line)
        else:
            yield from json.load(file)


def text_case(task: Task, text: str, program: str = "") -> Case:
    """A case whose trace is one text."""
    return Case(task=task, trace=ExpertTrace.from_text(text), program=program)


def gsm8k(path: Path) -> Iterator[Case]:
    """Solutions with their ``<<3+4=7>>`` and the last line ``#### 7``."""
    for index, row in enumerate(rows_of(path)):
        gold = row["answer"].rpartition("####")[2].strip().replace(",", "")
        task = Task(task_id=f"gsm8k-{index}", question=row["question"], answers=(gold,))
        yield text_case(task, row["answer"])


def gsm8k_models(path: Path) -> Iterator[Case]:
    """Right solutions by models: those of the largest model that solved the problem."""
    for index, row in enumerate(rows_of(path)):
        gold = row["ground_truth"].rpartition("A:")[2].strip().replace(",", "")
        for model in ("175b_verification", "175b_finetuning", "6b_verification", "6b_finetuning"):
            if row[model]["is_correct"]:
                task_id = f"gsm8k-{model}-{index}"
                task = Task(task_id=task_id, question=row["question"], answers=(gold,))
                yield text_case(task, row[model]["solution"])
                break


_SENTENCES = (
    "We simplify both sides and compare them. So we get $GOLD$.",
    "Collecting the terms gives $x = GOLD$.\n\nThe answer is \\boxed{GOLD}.",
    "We check the borders as well, nothing changes. The final answer is GOLD.",
    "Substituting back,\n\\[GOLD\\]\nas desired.",
    "It follows that the value is \\(GOLD\\). Both ways agree.",
    "Step 1: Rewrite the condition.\nStep 2: Solve it, which leaves $$GOLD$$\nAnswer: GOLD",
)


def math_answers(path: Path) -> Iterator[Case]:
    """Every fifth final answer of the MATH training set, in a sentence as solutions end with."""
    for index, row in enumerate(rows_of(path)):
        if index % 5 == 0 and str(row["answer"]).strip():
            gold = str(row["answer"]).strip()
            task = Task(task_id=f"math-{index}", question=row["problem"], answers=(gold,))
            sentence = _SENTENCES[index // 5 % len(_SENTENCES)]
            yield text_case(task, sentence.replace("GOLD", gold))


_TAGS = re.compile(r"<(thought|execute|solution)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_KINDS = {
    "thought": TurnKind.THOUGHT,
    "execute": TurnKind.TOOL_CALL,
    "solution": TurnKind.ANSWER,
}


def mint(data: Path, name: str) -> Iterator[Case]:
    """MINT traces that came to the right answer, with their Python calls and observations."""
    domain = {"hotpotqa": Domain.SEARCH, "humaneval": Domain.CODE, "mbpp": Domain.CODE}.get(name)
    for model in MODELS:
        for row in rows_of(data / "mint_traces" / f"{model}_{name}.jsonl.gz"):
            problem = row["task"]
            problem = ast.literal_eval(problem) if isinstance(problem, str) else problem
            turns = mint_turns(row["state"]["history"])
            solutions = [turn.text for turn in turns if turn.kind is TurnKind.ANSWER]
            if not row["state"]["success"] or not solutions:
                continue
            gold, question = str(problem["reference"]), problem["prompt"].strip()
            is_code = domain is Domain.CODE
            prefix = question.removeprefix("Complete the following code:").lstrip("\n")
            task = Task(
                task_id=f"{model}-{problem['task_id']}",
                question=question,
                answers=() if is_code else (gold.removesuffix(".0"),),
                domain=domain or Domain.MATH,
                tests=(CodeTest(kind=TestKind.ASSERT, source=gold),) if is_code else (),
                prompt=prefix + "\n" if name == "humaneval" else "",
            )
            trace = ExpertTrace(turns=tuple(turns))
            yield Case(task=task, trace=trace, program=solutions[-1] if is_code else "")


def mint_turns(history: list[dict[str, str]]) -> list[TraceTurn]:
    """The turns behind the prompt; what stands outside of all tags is a thought."""
    turns: list[TraceTurn] = []
    for message in history[1:]:
        text = message["content"]
        if message["role"] == "user":
            text = text.removeprefix("Observation:\n")
            turns.append(TraceTurn(kind=TurnKind.TOOL_RESULT, tool="python", text=text))
            continue
        at = 0
        for match in _TAGS.finditer(text):
            turns += _thoughts(text[at : match.start()])
            kind = _KINDS[match[1]]
            tool = "python" if kind is TurnKind.TOOL_CALL else ""
            turns.append(TraceTurn(kind=kind, tool=tool, text=match[2].strip()))
            at = match.end()
        turns += _thoughts(text[at:])
    return turns


def _thoughts(text: str) -> list[TraceTurn]:
    text = re.sub(r"Assistant[:\uff1a]", "", text).strip()
    return [TraceTurn(kind=TurnKind.THOUGHT, text=text)] if text else []


def fireact(path: Path) -> Iterator[Case]:
    """GPT-4 trajectories with thoughts, searches, observations and ``finish[...]``."""
    for index, row in enumerate(rows_of(path)):
        turns: list[TraceTurn] = []
        answer = ""
        for message in row["messages"][1:]:
            text = message["content"]
            if message["role"] == "user":
                text = text.removeprefix("Observation: ")
                turns.append(TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text=text))
                continue
            thought, _, action = text.rpartition("Action: ")
            name, _, argument = action.strip().removesuffix("]").partition("[")
            turns += _thoughts(thought)
            if name == "finish":
                answer = argument.strip()
                turns.append(TraceTurn(kind=TurnKind.ANSWER, text=answer))
                break
            turns.append(TraceTurn(kind=TurnKind.TOOL_CALL, tool=name, text=argument))
        if answer:
            task = Task(
                task_id=f"fireact-{index}",
                question=row["messages"][0]["content"],
                answers=(answer,),
                domain=Domain.SEARCH,
            )
            yield Case(task=task, trace=ExpertTrace(turns=tuple(turns)))


_SEARCH_TAGS = re.compile(
    r"<(think|search|information|answer)>(.*?)(?:</\1>|(?=<(?:think|search|information|answer)>)|\Z)",
    re.DOTALL,
)
_SEARCH_KINDS = {
    "think": TurnKind.THOUGHT,
    "search": TurnKind.TOOL_CALL,
    "information": TurnKind.TOOL_RESULT,
    "answer": TurnKind.ANSWER,
}


def search_r1_turns(data: Path, name: str) -> Iterator[Case]:
    """Search-R1 rollouts, right or wrong; the target is the data set's, with all its aliases."""
    for path in sorted((data / "search_r1_rollouts").glob(f"{name}_*.json.gz")):
        for row in rows_of(path):
            turns: list[TraceTurn] = []
            text, at = row["output"]["final_response"], 0
            for match in _SEARCH_TAGS.finditer(text):
                turns += _thoughts(text[at : match.start()])
                kind = _SEARCH_KINDS[match[1]]
                is_tool = kind in (TurnKind.TOOL_CALL, TurnKind.TOOL_RESULT)
                tool = "search" if is_tool else ""
                turns.append(TraceTurn(kind=kind, tool=tool, text=match[2].strip()))
                at = match.end()
            turns += _thoughts(text[at:])
            task = Task(
                task_id=row["id"],
                question=row["question"],
                answers=tuple(row["golden_answers"]),
                domain=Domain.SEARCH,
            )
            turns = [turn for turn in turns if turn.text]
            yield Case(task=task, trace=ExpertTrace(turns=tuple(turns)))
