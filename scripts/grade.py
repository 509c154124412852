"""`maskgym grade`: rows with a model's responses come in, the same rows with their grades go out."""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maskgym.envs import Domain
from maskgym.envs.grading import STRICT
from maskgym.envs.mappings import guess_mapping, mapping_by_name
from maskgym.masking.workers import map_in_order
from maskgym.retrieval.rows import LocatedRow, read_located_rows

from .console import format_table
from .grade_rows import ADDED_FIELD, RowGrader, accuracy
from .mask_files import count_rows, sha256_of

SUMMARY = "grade stored responses with the verifiers of the environments"
EXAMPLES = """\
  maskgym grade solutions.jsonl graded.jsonl --env math --jobs 2
  maskgym grade samples.jsonl graded.jsonl --env code --response completion
  maskgym grade rollouts.jsonl graded.jsonl --env search --mode compat:search-r1 --response pred

A row is a task in any schema that maskgym reads, with a response: text, or a list of samples.
OUT has the rows of IN and one field more, `grade`: the number of the row, verdict (correct, wrong,
verifier_error), reward (null where the verifier failed) and the reason. The same command again
goes on where it stopped. Beside OUT stands OUT.json: what was graded and how."""

_BATCH_ROWS = 8
_RESPONSE_COLUMNS = "response|completion|output|prediction|pred"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym grade`."""
    add = parser.add_argument
    add("input", metavar="IN", type=Path, help="rows: .jsonl, .json (also .gz), .parquet")
    add("output", metavar="OUT", type=Path, help="what to write or to go on with: .jsonl")
    add("--env", required=True, choices=[each.value for each in Domain], help="whose verifier")
    add("--mode", default=STRICT, help="strict, or a peer's own grading: compat:NAME")
    add("--mapping", metavar="PRESET", help="which columns hold what (default: guessed)")
    add(
        "--response",
        default=_RESPONSE_COLUMNS,
        metavar="COLUMN",
        help=f"column of the response (default: {_RESPONSE_COLUMNS.replace('|', ', ')})",
    )
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--tier", default="T2", metavar="TIER", help="what the sandbox must reach (default: T2)")
    add("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")


def run(args: argparse.Namespace) -> int:
    """Grades what is not graded yet; 130 if Ctrl-C ended it, with everything so far in OUT."""
    if not args.output.name.endswith(".jsonl"):
        raise ValueError(f"{args.output} is no name of an output; end it in .jsonl.")
    if args.output.exists() and args.output.samefile(args.input):
        raise ValueError(
            f"{args.output} is the input as well; give the grades a file of their own."
        )
    grader, settings = _grader(args)
    last_row, verdicts = _resume(args.output, settings)
    problems: list[str] = []
    results = map_in_order(grader, _batches(args, last_row), num_workers=args.jobs)
    is_stopped = False
    with (
        open(args.output, "ab") as file,
        tqdm(
            total=count_rows(args.input),
            initial=last_row,
            desc="grading",
            unit="row",
            disable=None,
        ) as bar,
        closing(results),
    ):
        try:
            for graded in results:
                file.write(graded.lines)
                file.flush()
                verdicts += graded.verdicts
                problems += graded.problems
                bar.update(graded.lines.count(b"\n") + len(graded.problems))
        except KeyboardInterrupt:
            is_stopped = True
    if not verdicts and not is_stopped:
        raise ValueError(f"{args.input} holds no row that could be graded. {problems[:1]}")
    for problem in problems[:10]:
        print(f"left out: {problem}", file=sys.stderr)
    _print(verdicts, len(problems))
    if is_stopped:
        print("Stopped; the same command again goes on from here.", file=sys.stderr)
    return 130 if is_stopped else 0


def _grader(args: argparse.Namespace) -> tuple[RowGrader, dict[str, Any]]:
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}; give 1 or more.")
    first = next(iter(_rows(args)), None)
    if first is None:
        raise ValueError(f"{args.input} holds no row. Give a file with at least one.")
    try:
        mapping = args.mapping or guess_mapping(first.row)
    except ValueError as error:
        raise ValueError(f"{first.where}: {error} (--mapping PRESET)") from None
    grader = RowGrader(
        domain=Domain(args.env),
        mapping=mapping_by_name(mapping),
        response=args.response,
        mode=args.mode,
        tier=args.tier,
        skips_bad_rows=args.skip_bad_rows,
    )
    settings = {
        "input": args.input.name,
        "sha256": sha256_of(args.input),
        "env": args.env,
        "mode": args.mode,
        "mapping": mapping,
        "response": args.response,
    }
    return grader, settings


def _rows(args: argparse.Namespace) -> Iterator[LocatedRow]:
    return read_located_rows(args.input, on_bad_row="skip" if args.skip_bad_rows else "raise")


def _batches(args: argparse.Namespace, last_row: int) -> Iterator[list[LocatedRow]]:
    """The rows behind `last_row`, a few at a time."""
    todo = (row for row in _rows(args) if row.number > last_row)
    while batch := list(islice(todo, _BATCH_ROWS)):
        yield batch


def _resume(output: Path, settings: dict[str, Any]) -> tuple[int, Counter[str]]:
    """The number of the last row that OUT has and the verdicts so far; a torn line is cut off.

    Raises:
        ValueError: If OUT was made from another input or with other settings.
    """
    record = output.with_name(f"{output.name}.json")
    verdicts: Counter[str] = Counter()
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        return 0, verdicts
    known = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    if changed := [name for name in settings if settings[name] != known.get(name)]:
        raise ValueError(
            f"{output} is there already and was made with another {', '.join(changed)}. "
            "Choose another name, or remove it."
        )
    last_row, num_bytes = 0, 0
    with output.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            grade = json.loads(line)[ADDED_FIELD]
            last_row, num_bytes = grade["row"], num_bytes + len(line)
            found = grade["verdict"]
            verdicts.update([found] if isinstance(found, str) else found)
    os.truncate(output, num_bytes)
    return last_row, verdicts


def _print(verdicts: Counter[str], num_bad: int) -> None:
    rows = [(name, verdicts[name]) for name in ("correct", "wrong", "verifier_error")]
    print(format_table(("verdict", "responses"), [*rows, ("bad rows left out", num_bad)]))
    print(f"accuracy of the graded ones: {accuracy(verdicts):.1%}")
