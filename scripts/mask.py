"""In: a file of tasks with expert traces. Out: the same rows with scaffold, spans and audit."""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

import maskgym
from maskgym.envs import Domain, LocalSandbox
from maskgym.envs.mappings import MAPPINGS, guess_mapping, mapping_by_name
from maskgym.envs.mask_checks import mask_checks
from maskgym.masking import DETECTORS, RenderConfig, policy_by_name
from maskgym.masking.audit import LeakLevel
from maskgym.masking.trace_formats import FORMATS
from maskgym.masking.workers import map_in_order

from .console import format_table
from .mask_examples import painted
from .mask_files import (
    OUT_SUFFIXES,
    BatchWriter,
    RowBatch,
    arrow_schema,
    arrow_table,
    complete_or_absent,
    count_rows,
    read_batches,
    require_pyarrow,
    row_of,
    sha256_of,
)
from .mask_report import report_page
from .mask_rows import RowMasker
from .mask_totals import Totals

SUMMARY = "Mask the expert traces of a file and report what they still give away."

EXAMPLES = """\
  maskgym mask gsm8k.jsonl masked.jsonl --mapping gsm8k --report page.html --jobs all
  maskgym mask traces.jsonl masked.parquet --domain search --policy all_keep_given --show 3
  maskgym mask traces.jsonl masked.jsonl --policy critical_keep_given --max-leak L3 --check
  maskgym mask traces.jsonl half.jsonl.gz --policy 'prefix(0.5)'

OUT has the rows of IN with all their fields and four more:
  scaffold        what is left of the trace, as text
  scaffold_turns  the same for each action of the expert; empty where there is but one
  spans           the hidden pieces: turn, start, end, kind, value, is_given, detector
  audit           level of the leak, shares hidden, the policy applied and the one asked for
A row without a trace has an empty scaffold and no audit. Beside OUT stands OUT.json: what was
masked and how, and the audit of the whole."""

TRACE_FORMATS = ("text", "auto", *FORMATS)
_NUM_REPORT_EXAMPLES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym mask`."""
    add = parser.add_argument
    add("input", metavar="IN", type=Path, help="rows: .jsonl, .json (also .gz), .parquet")
    add("output", metavar="OUT", type=Path, help="what to write: .jsonl, .jsonl.gz or .parquet")
    add("--policy", default="all", help="what to hide, such as all or prefix(0.5); default: all")
    add("--domain", default="math", help="math, code or search; default: math")
    add("--mapping", metavar="PRESET", help="which columns hold what; default: guess from the rows")
    add("--trace", default="", metavar="COLUMN", help="column of the trace, if the preset errs")
    add(
        "--trace-format",
        default="text",
        metavar="FORMAT",
        help=f"how a trace is written: {', '.join(TRACE_FORMATS)}; default: text",
    )
    add(
        "--report", metavar="PAGE", type=Path, help="write a page of the leaks and examples (.html)"
    )
    add("--show", metavar="N", type=int, default=0, help="print N examples before and after")
    add("--jobs", metavar="N", default="1", help="processes, or all for every core; default: 1")
    add("--max-leak", metavar="LEVEL", help="worst leak allowed (L3, L2, L1): mask harder, or drop")
    add("--check", action="store_true", help="let the environment's own verifier audit as well")
    add("--indexed", action="store_true", help="number the placeholders, so that equals are seen")
    add(
        "--tool-results",
        choices=("drop", "mask", "keep"),
        default="drop",
        help="what becomes of the results of the expert's tools; default: drop",
    )
    add(
        "--on-bad-row",
        choices=("stop", "skip"),
        default="stop",
        help="at a row that cannot be read: stop, or leave it out and count it; default: stop",
    )
    add("--force", action="store_true", help="replace OUT and PAGE if they are there")


def run(args: argparse.Namespace) -> int:
    """Masks every row; OUT, its record and the page appear only when all of them are done."""
    num_workers = _num_workers(args.jobs)
    record_path = args.output.with_name(f"{args.output.name}.json")
    _check_outputs(args, record_path)
    masker = _row_masker(args)
    totals = Totals(num_examples=max(args.show, _NUM_REPORT_EXAMPLES if args.report else 0))
    # OUT comes last: where it stands, its record does.
    paths = [path for path in (args.report, record_path, args.output) if path]
    with complete_or_absent(*paths) as partials:
        _write(args, masker, totals, partials[-1], num_workers)
        if not totals.num_rows:
            raise ValueError(f"{args.input} holds no good row. Give a file with at least one.")
        if totals.num_rows == totals.num_without_trace:
            raise ValueError(
                f"{args.input}: none of the {totals.num_rows} rows has a trace where the preset "
                "looks for one; name its column with --trace COLUMN."
            )
        record = _record(args, masker, totals, partials[-1])
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        partials[-2].write_text(text, encoding="utf-8", errors="backslashreplace")
        if args.report:
            page = report_page(totals, record)
            partials[0].write_text(page, encoding="utf-8", errors="backslashreplace")
    _print(totals)
    return 0


def _num_workers(jobs: str) -> int:
    if jobs == "all":
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not jobs.isdecimal() or int(jobs) < 1:
        raise ValueError(f"--jobs is {jobs!r}; give a number of processes from 1, or all.")
    return int(jobs)


def _check_outputs(args: argparse.Namespace, record_path: Path) -> None:
    output = args.output
    if not output.name.lower().endswith(OUT_SUFFIXES):
        raise ValueError(f"{output} is no name of an output; end it in {', '.join(OUT_SUFFIXES)}.")
    if args.report and not args.report.name.lower().endswith((".html", ".htm")):
        raise ValueError(f"--report {args.report} is no name of a page; end it in .html.")
    for path in (output, record_path, args.report):
        if path and path.is_dir():
            raise ValueError(f"{path} is a folder; give the name of a file.")
        if path and path.exists() and args.input.exists() and path.samefile(args.input):
            raise ValueError(
                f"{path} is the input as well; give the masked rows a file of their own."
            )
    for path in (output, args.report):
        if path and path.exists() and not args.force:
            raise ValueError(f"{path} is there already; choose another name or add --force.")
    if args.show < 0:
        raise ValueError(f"--show is {args.show}; give the number of examples to print, or 0.")
    if args.trace_format not in TRACE_FORMATS:
        near = difflib.get_close_matches(args.trace_format, TRACE_FORMATS, n=1, cutoff=0.0)[0]
        raise ValueError(f"--trace-format is {args.trace_format!r}. Did you mean {near!r}?")


def _row_masker(args: argparse.Namespace) -> RowMasker:
    """The options as a worker needs them; refuses unknown names before anything is masked."""
    policy_by_name(args.policy)
    domain = Domain.from_name(args.domain)
    sandbox = LocalSandbox() if args.check and domain is Domain.CODE else None
    masker = RowMasker(
        path=args.input,
        domain=domain,
        mapping=mapping_by_name(args.mapping) if args.mapping else MAPPINGS["maskgym"],
        policy=args.policy,
        render=RenderConfig(indexed=args.indexed, tool_results=args.tool_results),
        max_leak=LeakLevel.from_name(args.max_leak) if args.max_leak else None,
        checks_of=partial(mask_checks, sandbox=sandbox) if args.check else None,
        trace=args.trace,
        trace_format=args.trace_format,
        on_bad_row=args.on_bad_row,
        is_reported=args.report is not None,
    )
    first = next(_good_rows(args.input), None)
    if first is not None and not args.mapping:
        try:
            masker = replace(masker, mapping=MAPPINGS[guess_mapping(first)])
        except ValueError as error:
            raise ValueError(f"{args.input}: {error} (--mapping PRESET)") from None
    if args.output.name.lower().endswith(".parquet"):
        require_pyarrow(args.output)
        masker = replace(masker, schema=arrow_schema(args.input))
    return masker


def _good_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows that can be read; what is wrong with the others is told when they are masked."""
    for batch in read_batches(path):
        if batch.table:
            yield from arrow_table(batch.table).to_pylist()
        for _, line in batch.lines:
            try:
                yield row_of(line)
            except ValueError:
                continue


def _write(
    args: argparse.Namespace, masker: RowMasker, totals: Totals, partial: Path, num_workers: int
) -> None:
    """Masks the batches in their order and writes them, a few in memory at a time."""
    schema = None if masker.schema is None else masker.out_schema()
    batches = map_in_order(masker, _wanting(args.input, totals), num_workers=num_workers)
    num_rows = count_rows(args.input)
    with (
        BatchWriter(partial, name=args.output.name, schema=schema) as writer,
        tqdm(total=num_rows, desc="masking", unit="row", leave=False, disable=None) as bar,
        closing(batches),
    ):
        for batch in batches:
            writer.write(batch.rows)
            num_shown = len(totals.examples)
            for example in totals.add(batch)[: max(args.show - num_shown, 0)]:
                with tqdm.external_write_mode():
                    print(painted(example))
            bar.update(batch.num_rows + len(batch.problems))


def _wanting(path: Path, totals: Totals) -> Iterator[RowBatch]:
    """The batches of a file, each told how many examples are still wanted."""
    for batch in read_batches(path):
        yield replace(batch, num_examples=totals.num_examples - len(totals.examples))


def _record(
    args: argparse.Namespace, masker: RowMasker, totals: Totals, partial: Path
) -> dict[str, Any]:
    """What was masked and how: the same for equal input and options, wherever and whenever."""
    presets = {id(mapping): name for name, mapping in MAPPINGS.items()}
    return {
        "maskgym": maskgym.__version__,
        "input": {"name": args.input.name, "sha256": sha256_of(args.input)},
        "output": {"name": args.output.name, "sha256": sha256_of(partial)},
        "policy": args.policy,
        "domain": masker.domain.value,
        "mapping": presets[id(masker.mapping)],
        "trace": args.trace,
        "trace_format": args.trace_format,
        "render": asdict(masker.render),
        "max_leak": None if masker.max_leak is None else masker.max_leak.label,
        "is_checked": args.check,
        "on_bad_row": args.on_bad_row,
        "detectors": list(DETECTORS),
        "audit": totals.record(),
    }


def _print(totals: Totals) -> None:
    rows = [(name, text, count, f"{share:.1%}") for name, text, count, share in totals.leak_rows()]
    print(format_table(("leak", "what it says", "traces", "share"), rows))
    if totals.audit.num_dropped or totals.audit.num_escalated:
        num_harder = sum(totals.audit.num_escalated.values())
        print(f"{num_harder} masked harder to keep --max-leak, {totals.audit.num_dropped} dropped")
    for problem in totals.problems[:10]:
        print(f"left out: {problem}", file=sys.stderr)
    print(totals.line())
