"""Code traces: HumanEval and MBPP reference solutions in, traces in many styles of writing out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from maskgym.envs import Domain, Task, load_tasks

from .trace_sets import Case, TraceSet, mint, rows_of, text_case

_BEFORE = "Let me think about the cases first. We go over the input once and keep what we need.\n\n"
_AFTER = "\n\nThis looks at every element once, and the empty input is fine as well."


def _around(code: str) -> str:
    return f"{_BEFORE}{code}{_AFTER}"


def _inline(program: str) -> str:
    lines = [line for line in program.split("\n") if line.strip()]
    return "\n".join(f"{index}. Write `{line.strip()}`." for index, line in enumerate(lines, 1))


def _list_item(program: str) -> str:
    item = textwrap.indent(f"```python\n{program}\n```", "  ")
    return f"- First the idea, as above.\n- Then the program:\n{item}\n- Last, the cost."


STYLES: dict[str, Callable[[str], str]] = {
    "```python": lambda program: _around(f"```python\n{program}\n```"),
    "~~~": lambda program: _around(f"~~~python\n{program}\n~~~"),
    "unterminated": lambda program: f"{_BEFORE}```python\n{program}",
    "````md nested": lambda program: _around(f"````md\n```python\n{program}\n```\n````"),
    "indented": lambda program: _around(textwrap.indent(program, "    ")),
    "inline": lambda program: _around(_inline(program)),
    "bare": _around,
    "<code>": lambda program: _around(f"<code>\n{program}\n</code>"),
    "list item": lambda program: _around(_list_item(program)),
    "no language": lambda program: _around(f"```\n{program}\n```"),
    "fence in prose": lambda program: f"So the program is ```python\n{program}\n``` and done.",
}
"""How models write a program into a text, by name."""


def code_sets(data: Path) -> list[TraceSet]:
    """Reference solutions in every style, and MINT's own code traces."""
    sets = [
        TraceSet(name=f"{name}, {style}", read=partial(read, data, style))
        for name, read in (("HumanEval", humaneval), ("MBPP", mbpp))
        for style in STYLES
    ]
    for name in ("humaneval", "mbpp"):
        sets.append(TraceSet(name=f"MINT {name}", read=partial(mint, data, name)))
        sets.append(TraceSet(name=f"MINT {name}, as one text", read=partial(mint_text, data, name)))
    return sets


def humaneval(data: Path, style: str) -> Iterator[Case]:
    """HumanEval's reference solutions, signature and docstring included, in one style."""
    path = data / "humaneval" / "HumanEval.jsonl.gz"
    tasks = load_tasks(path, domain=Domain.CODE, mapping="humaneval")
    for row, task in zip(rows_of(path), tasks, strict=True):
        yield _styled(task, (row["prompt"] + row["canonical_solution"]).strip("\n"), style)


def mbpp(data: Path, style: str) -> Iterator[Case]:
    """MBPP's reference solutions in one style."""
    path = data / "mbpp" / "mbpp.jsonl.gz"
    tasks = load_tasks(path, domain=Domain.CODE, mapping="mbpp")
    for row, task in zip(rows_of(path), tasks, strict=True):
        yield _styled(task, row["code"].replace("\r\n", "\n").strip("\n"), style)


def mint_text(data: Path, name: str) -> Iterator[Case]:
    """MINT's messages as one text: code between ``<execute>`` tags, as the model wrote it."""
    tags = {"thought": "thought", "tool_call": "execute", "answer": "solution"}
    for case in mint(data, name):
        text = "\n".join(
            f"<{tags[turn.kind]}>\n{turn.text}\n</{tags[turn.kind]}>"
            for turn in case.trace.turns
            if turn.kind in tags
        )
        yield text_case(case.task, text, case.program)


def _styled(task: Task, program: str, style: str) -> Case:
    return text_case(task, STYLES[style](program), program)
