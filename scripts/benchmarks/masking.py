"""Masking benchmark: a folder of public data in, every table of what masking must reach out.

    python -m maskgym.scripts.benchmarks.masking --out tables.md

Ours stands beside the released SMEPO masker's behaviour in one run. What is not there (a data file, an
outside library, a policy) is named beneath the tables and left out.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from maskgym.envs import LocalSandbox

from .code_probe import CodeProbe
from .code_traces import code_sets
from .command import Measure, add_common_arguments, chosen_parts, print_tables, run_command
from .masking_adversarial import INPUTS, SIZES, measure_adversarial, measure_released_adversarial
from .masking_compat import measure_compat
from .masking_leaks import LeakMeasurement
from .masking_speed import measure_aliases, measure_speed
from .outside_libraries import missing_libraries
from .released_masker import RELEASED_BEHAVIOUR, ReleasedMasker, load_released_masker
from .tables import Table
from .trace_sets import trace_sets

PARTS = ("leaks", "structure", "speed", "aliases", "adversarial", "compat")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_common_arguments(parser, PARTS)
    parser.add_argument(
        "--limit", metavar="N", type=int, help="take N traces of each set, and smaller inputs"
    )
    parser.add_argument(
        "--sets", metavar="TEXT", default="", help="only sets whose name holds this, such as MINT"
    )
    parser.add_argument(
        "--released",
        metavar="FILE.py",
        type=Path,
        help="your own copy of the released semantic_masking.py; default: its behaviour, rewritten",
    )


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    parts = chosen_parts(args, PARTS)
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}; give 1 or more, or leave it out.")
    released = load_released_masker(args.released) if args.released else RELEASED_BEHAVIOUR
    print_tables(_setting(args, released), _measures(parts, args, released), args.out)
    return 0


def _measures(
    parts: Sequence[str], args: argparse.Namespace, released: ReleasedMasker
) -> list[Measure]:
    measures: list[Measure] = []
    if "speed" in parts:
        measures.append(lambda: measure_speed(args.data, released, args.limit))
    if "aliases" in parts:
        measures.append(lambda: measure_aliases(args.data, args.limit))
    if "compat" in parts:
        measures.append(lambda: measure_compat(args.data, released, args.limit))
    if "leaks" in parts or "structure" in parts:
        measures.append(lambda: _leaks(parts, args, released))
    if "adversarial" in parts:
        sizes = SIZES if args.limit is None else tuple(size // 50 for size in SIZES)
        measures.append(lambda: measure_released_adversarial(released))
        measures.append(lambda: measure_adversarial(sizes, INPUTS))
    return measures


def _leaks(parts: Sequence[str], args: argparse.Namespace, released: ReleasedMasker) -> list[Table]:
    """Leaks and structure come from the same scaffolds; tables that were not asked for are left out."""
    sets = [*trace_sets(args.data), *code_sets(args.data)]
    sets = [each for each in sets if args.sets.casefold() in each.name.casefold()]
    sandbox = LocalSandbox()
    try:
        measurement = LeakMeasurement(released=released, probe=CodeProbe(sandbox), limit=args.limit)
        tables = measurement.tables(sets)
    finally:
        sandbox.close()
    wanted = {"structure": "structure" in parts}
    return [
        table
        for table in tables
        if wanted.get(table.title.partition(" ")[0].lower(), "leaks" in parts)
    ]


def _setting(args: argparse.Namespace, released: ReleasedMasker) -> Table:
    table = Table(
        title="Masking benchmark",
        columns=("python", "machine", "data", "released masker"),
        notes=missing_libraries(),
    )
    table.add(
        platform.python_version(), platform.machine(), str(args.data.is_dir()), released.source
    )
    if not args.data.is_dir():
        table.notes.append(
            f"{args.data} is no folder: real traces are left out. Set MASKGYM_DATA or give --data."
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.masking`."""
    summary = __doc__.split("\n")[0]
    return run_command("masking", summary, add_arguments, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
