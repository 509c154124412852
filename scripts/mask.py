"""In: a file of tasks with expert traces. Out: the same rows with scaffold, spans and audit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskgym.envs import Domain, Task, load_tasks
from maskgym.masking import ExpertTrace, RenderConfig, Scaffold, mask, policy_by_name
from maskgym.masking.spans import PLACEHOLDER
from maskgym.retrieval import read_rows, write_rows

from .console import Style, paint

SUMMARY = "Mask the expert traces of a file and report what they still give away."

EXAMPLES = """\
  maskgym mask gsm8k.jsonl masked.jsonl --mapping gsm8k
  maskgym mask traces.jsonl masked.parquet --domain search --policy all_keep_given --show 3
  maskgym mask traces.jsonl half.jsonl.gz --policy 'prefix(0.5)'"""

_ADDED = ("scaffold", "spans", "audit")
_OUT_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@dataclass(slots=True)
class Totals:
    """What one run has masked so far."""

    num_rows: int = 0
    num_without_trace: int = 0
    num_visible: int = 0
    num_characters: int = 0
    num_hidden: int = 0

    def line(self) -> str:
        """The last line that the command prints."""
        num_masked = self.num_rows - self.num_without_trace
        visible = self.num_visible / num_masked if num_masked else 0.0
        hidden = self.num_hidden / self.num_characters if self.num_characters else 0.0
        return (
            f"{self.num_rows} rows, {self.num_without_trace} without a trace; target still visible "
            f"in {visible:.1%}; {self.num_hidden} characters hidden ({hidden:.1%})"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym mask`."""
    parser.add_argument(
        "input",
        metavar="IN",
        type=Path,
        help="tasks with traces: .jsonl, .json (also .gz), .parquet",
    )
    parser.add_argument(
        "output", metavar="OUT", type=Path, help="where to write: .jsonl, .jsonl.gz or .parquet"
    )
    parser.add_argument(
        "--policy", default="all", help="what to hide, such as all or prefix(0.5); default: all"
    )
    parser.add_argument(
        "--domain", default="math", help="what the tasks are: math, code or search; default: math"
    )
    parser.add_argument(
        "--mapping", metavar="PRESET", help="which columns hold what; default: guess from the rows"
    )
    parser.add_argument(
        "--show", metavar="N", type=int, default=0, help="print N examples before and after"
    )
    parser.add_argument(
        "--indexed", action="store_true", help="number the placeholders, so that equals are seen"
    )
    parser.add_argument(
        "--tool-results",
        choices=("drop", "mask", "keep"),
        default="drop",
        help="what becomes of the results of the expert's tools; default: drop",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")


def run(args: argparse.Namespace) -> int:
    """Masks every row; OUT appears only when all of them are done."""
    policy_by_name(args.policy)  # refuses an unknown name before anything is read
    config = RenderConfig(indexed=args.indexed, tool_results=args.tool_results)
    _check_output(args.input, args.output, is_forced=args.force)
    if args.show < 0:
        raise ValueError(f"--show is {args.show}; give the number of examples to print, or 0.")
    tasks = load_tasks(args.input, domain=Domain.from_name(args.domain), mapping=args.mapping)
    totals = Totals()
    rows = _masked_rows(args, tasks, config, totals)
    write_rows(args.output, tqdm(rows, total=len(tasks), desc="masking", unit="row", leave=False))
    print(totals.line())
    return 0


def _check_output(source: Path, output: Path, *, is_forced: bool) -> None:
    if not output.name.endswith(_OUT_SUFFIXES):
        raise ValueError(f"{output} is no name of an output; end it in {', '.join(_OUT_SUFFIXES)}.")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(
            f"{output} is the input as well; give the masked rows a file of their own."
        )
    if output.exists() and not is_forced:
        raise ValueError(f"{output} is there already; choose another name or add --force.")


def _masked_rows(
    args: argparse.Namespace, tasks: Sequence[Task], config: RenderConfig, totals: Totals
) -> Iterator[dict[str, Any]]:
    num_shown = 0
    for row, task in zip(read_rows(args.input), tasks, strict=True):
        taken = [name for name in _ADDED if name in row]
        if taken:
            raise ValueError(
                f"{args.input}: the rows have a field {taken[0]!r} already; rename it, or mask the "
                "file that this one was made from."
            )
        totals.num_rows += 1
        if task.expert_trace is None:
            totals.num_without_trace += 1
            yield {**row, "scaffold": "", "spans": [], "audit": None}
            continue
        scaffold = mask(task.expert_trace, task, args.policy, render=config)
        _count(scaffold, totals)
        if num_shown < args.show:
            num_shown += 1
            with tqdm.external_write_mode():
                print(_example(task, task.expert_trace, scaffold))
        yield {
            **row,
            "scaffold": scaffold.text,
            "spans": [span._asdict() for span in scaffold.spans],
            "audit": {**_audit_row(scaffold), "policy": scaffold.policy},
        }


def _count(scaffold: Scaffold, totals: Totals) -> None:
    totals.num_visible += scaffold.audit.is_answer_visible
    totals.num_hidden += sum(span.end - span.start for span in scaffold.spans)
    totals.num_characters += scaffold.audit.num_characters


def _audit_row(scaffold: Scaffold) -> dict[str, Any]:
    """The audit as plain values; shares by kind as a list, so that Parquet rows have one type."""
    audit = asdict(scaffold.audit)
    shares = audit.pop("hidden_share_by_kind")
    audit["hidden_share_by_kind"] = [{"kind": kind, "share": shares[kind]} for kind in shares]
    return audit


def _example(task: Task, trace: ExpertTrace, scaffold: Scaffold) -> str:
    """One trace with what is hidden in red, and its scaffold with the placeholders in green."""
    out = sys.stdout
    before: list[str] = []
    for index, turn in enumerate(trace.turns):
        at = 0
        text = ""
        for span in scaffold.spans:
            if span.turn == index:
                text += turn.text[at : span.start]
                text += paint(span.value, Style.RED, stream=out)
                at = span.end
        before.append(text + turn.text[at:])
    after = PLACEHOLDER.sub(lambda match: paint(match[0], Style.GREEN, stream=out), scaffold.text)
    title = paint(f"=== {task.task_id}", Style.BOLD, stream=out)
    names = [paint(name, Style.DIM, stream=out) for name in ("--- before", "--- after")]
    return "\n".join([title, task.question, names[0], *before, names[1], after, ""])
