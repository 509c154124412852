"""What the benchmark commands share: their options and measurements in, tables printed and written out."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .tables import Table

Measure = Callable[[], list[Table]]

_ROOT = Path(__file__).resolve().parents[2]
_SUFFIXES = (".md", ".json")


def add_common_arguments(parser: argparse.ArgumentParser, parts: Sequence[str]) -> None:
    """Where the data is, which parts to measure, where the tables go."""
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, default=default_data(), help="default: %(default)s"
    )
    parser.add_argument(
        "--only", metavar="PARTS", default=",".join(parts), help="of %(default)s; default: all"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="also write the tables there: .md or .json"
    )


def default_data() -> Path:
    """$MASKGYM_DATA, else `../shared/data` beside the repository."""
    return Path(os.environ.get("MASKGYM_DATA") or _ROOT.parent / "shared" / "data")


def chosen_parts(args: argparse.Namespace, parts: Sequence[str]) -> list[str]:
    """The parts that ``--only`` names.

    Raises:
        ValueError: If it names one that there is not, or ``--out`` has another ending.
    """
    chosen = [part.strip() for part in args.only.split(",") if part.strip()]
    unknown = sorted(set(chosen) - set(parts))
    if unknown:
        raise ValueError(f"--only {unknown[0]!r} is no part; there are: {', '.join(parts)}.")
    if args.out is not None and args.out.suffix not in _SUFFIXES:
        raise ValueError(f"--out {args.out} is neither .md nor .json; choose one of them.")
    return chosen


def print_tables(setting: Table, measures: Iterable[Measure], out: Path | None) -> None:
    """Prints each table as it is done, after the one that tells the setting."""
    tables = [setting]
    print(setting.to_markdown(), flush=True)
    for measure in measures:
        started = time.monotonic()
        for table in measure():
            print(table.to_markdown(), flush=True)
            tables.append(table)
        print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if out is not None:
            _write(out, tables)  # after every part: a long run may be ended early


def run_command(
    name: str,
    summary: str,
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
) -> int:
    """Runs ``python -m maskgym.scripts.benchmarks.NAME``; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"python -m maskgym.scripts.benchmarks.{name}", description=summary
    )
    add_arguments(parser)
    try:
        return run(parser.parse_args(arguments))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _write(path: Path, tables: Sequence[Table]) -> None:
    if path.suffix == ".json":
        text = json.dumps([table.to_json() for table in tables], indent=1, ensure_ascii=False)
    else:
        text = "\n".join(table.to_markdown() for table in tables)
    path.write_text(text, encoding="utf-8")


def library_version(library: str) -> str | None:
    """The version of an installed library; None where it is not installed."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None
