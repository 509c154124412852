"""mask() as a whole: properties on made-up traces, leaks on real ones."""

import gzip
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Domain, Task
from maskgym.masking import (
    ExpertTrace,
    RenderConfig,
    Scaffold,
    TraceTurn,
    TurnKind,
    mask,
)

PIECES = st.sampled_from(
    (
        *(
            "Step 1: ",
            "3",
            "4.5",
            "+",
            "=",
            "-",
            " ",
            "\n",
            "x_1",
            "x",
            "k",
            "one ",
            "1. ",
            "Steps 2",
        ),
        *(
            "\\frac{1}{2}",
            "\\boxed{",
            "}",
            "{",
            "```python\n",
            "```",
            "~~~",
            "#### ",
            "50%",
            "10^6",
        ),
        *(
            "[NUMBER]",
            "[CODE_3]",
            "New York City",
            "new york",
            "\u00e9",
            "(B)",
            "B",
            "<answer>",
            "km",
        ),
    )
)
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=30).map("".join)
TASK = Task(
    task_id="t",
    question="How far is 3 km from New York?",
    answers=("4.5", "B", "km"),
    entities=("New York City",),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TEXTS, st.sampled_from(["all", "answer_only", "none"]))
def test_masking_what_is_masked_changes_nothing(text: str, policy: str) -> None:
    once = mask(text, TASK, policy)
    twice = mask(once.text, TASK, policy)
    assert twice.text == once.text


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.sampled_from(["all", "answer_only", "all_keep_given", "random_matched(1)"]))
def test_what_is_not_hidden_stays_as_it_is(text: str, policy: str) -> None:
    scaffold = mask(text, TASK, policy)
    pieces, at = [], 0
    for span in scaffold.spans:
        assert span.start >= at and text[span.start : span.end] == span.value
        pieces.append(re.escape(text[at : span.start]) + r"\[[A-Z]+\]")
        at = span.end
    assert re.fullmatch("".join(pieces) + re.escape(text[at:]), scaffold.text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_the_target_is_never_visible_when_all_is_hidden(text: str) -> None:
    assert not mask(text, TASK, "all").audit.is_answer_visible


def test_the_readme_example_holds_and_a_scaffold_travels() -> None:
    scaffold = mask("Step 1: 3+4=7", TASK)
    assert scaffold.text == "Step 1: [NUMBER]+[NUMBER]=[NUMBER]"
    assert scaffold.turns == (scaffold.text,)
    assert scaffold.policy == "all"
    assert pickle.loads(pickle.dumps(scaffold)) == scaffold


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield json.loads(line)


def gsm8k(shared_data: Path) -> Iterator[tuple[str, Task]]:
    for index, row in enumerate(rows_of(shared_data / "gsm8k" / "test.jsonl.gz")):
        answer = row["answer"].rpartition("#### ")[2].strip()
        yield row["answer"], Task(task_id=f"{index}", question=row["question"], answers=(answer,))


def test_no_gsm8k_solution_gives_its_answer_away(shared_data: Path) -> None:
    num_rows = 0
    for text, task in gsm8k(shared_data):
        scaffold = mask(text, task)
        assert not scaffold.audit.is_answer_visible
        assert scaffold.audit.kept_structure == 1
        assert not re.search(r"\d", scaffold.text)
        for operator in "+*/=\n":
            assert scaffold.text.count(operator) == text.count(operator)
        num_rows += 1
    assert num_rows == 1319


def fireact(shared_data: Path) -> Iterator[tuple[ExpertTrace, Task]]:
    """ReAct trajectories by GPT-4: thought and action in one message, then an observation."""
    for index, row in enumerate(
        rows_of(shared_data / "fireact_trajectories" / "hotpotqa.jsonl.gz")
    ):
        turns: list[TraceTurn] = []
        answer = ""
        for message in row["messages"][1:]:
            text = message["content"]
            if message["role"] == "user":
                turns.append(TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text=text))
                continue
            thought, _, action = text.rpartition("Action: ")
            name, _, argument = action.strip().removesuffix("]").partition("[")
            turns.append(TraceTurn(kind=TurnKind.THOUGHT, text=thought.strip()))
            if name == "finish":
                answer = argument
                turns.append(TraceTurn(kind=TurnKind.ANSWER, text=argument))
                break
            turns.append(TraceTurn(kind=TurnKind.TOOL_CALL, tool=name, text=argument))
        if answer:
            question = row["messages"][0]["content"]
            task = Task(
                task_id=f"{index}", question=question, answers=(answer,), domain=Domain.SEARCH
            )
            yield ExpertTrace(turns=tuple(turns)), task


def test_no_fireact_trajectory_gives_its_answer_away(shared_data: Path) -> None:
    num_rows = num_visible_before = 0
    for trace, task in fireact(shared_data):
        for config in (RenderConfig(), RenderConfig(tool_results="mask")):
            scaffold = mask(trace, task, render=config)
            assert not scaffold.audit.is_answer_visible
            shown = " ".join(re.sub(r"\[[A-Z]+\]", "_", scaffold.text).casefold().split())
            if len(task.answers[0]) > 1:
                answer = re.escape(" ".join(task.answers[0].casefold().split()))
                assert not re.search(rf"(?<!\w){answer}(?!\w)", shown)
            assert len(scaffold.turns) == len(trace.actions)
        num_visible_before += mask(trace, task, "none").audit.is_answer_visible
        num_rows += 1
    assert num_rows > 400 and num_visible_before == num_rows


def mint(path: Path) -> Iterator[tuple[ExpertTrace, Task]]:
    """MINT solutions: <thought>, <execute> (Python) and <solution> in one message."""
    tag = re.compile(r"<(thought|execute|solution)>(.*?)</\1>", re.DOTALL)
    kinds = {
        "thought": TurnKind.THOUGHT,
        "execute": TurnKind.TOOL_CALL,
        "solution": TurnKind.ANSWER,
    }
    for index, row in enumerate(rows_of(path)):
        turns = [
            TraceTurn(
                kind=kinds[match[1]],
                text=match[2].strip(),
                tool="python" if match[1] == "execute" else "",
            )
            for message in row["state"]["history"]
            if message["role"] == "assistant"
            for match in tag.finditer(message["content"])
        ]
        question = row["state"]["history"][0]["content"].rpartition("Task:\n")[2]
        answers = [turn.text for turn in turns if turn.kind is TurnKind.ANSWER]
        if answers:
            yield (
                ExpertTrace(turns=tuple(turns)),
                Task(task_id=f"{index}", question=question, answers=(answers[-1],)),
            )


@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_no_mint_trace_gives_its_answer_or_its_code_away(shared_data: Path, name: str) -> None:
    scaffolds: list[Scaffold] = []
    for trace, task in mint(shared_data / "mint_traces" / f"gpt-4-0613_{name}.jsonl.gz"):
        scaffold = mask(trace, task)
        assert not scaffold.audit.is_answer_visible
        assert scaffold.audit.kept_structure == 1
        calls = re.findall(r"^python: (.*)$", scaffold.text, re.MULTILINE)
        assert set(calls) <= {"[CODE]"}
        scaffolds.append(scaffold)
    assert len(scaffolds) > 30
    assert any("python: [CODE]" in scaffold.text for scaffold in scaffolds)
