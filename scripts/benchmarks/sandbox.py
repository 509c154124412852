"""Sandbox benchmark: nothing in, the tables of attacks, grader cheats, cost, sessions and soak out.

    python -m maskgym.scripts.benchmarks.sandbox --only cost
    python -m maskgym.scripts.benchmarks.sandbox --only soak --runs 100000

Ours stands beside `subprocess` and, where it is installed, beside skyrl_gym's LiveCodeBench grader.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Mapping, Sequence

from maskgym.envs.sandbox.tiers import detect

from .command import Measure, add_common_arguments, chosen_parts, print_tables, run_command
from .sandbox_attacks import tables as attack_rows
from .sandbox_cheats import tables as cheat_rows
from .sandbox_cost import measure_cost, measure_sessions
from .sandbox_soak import measure_soak
from .tables import Table

PARTS = ("attacks", "cheats", "cost", "sessions", "soak")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    add_common_arguments(parser, PARTS)
    parser.add_argument("--rounds", metavar="N", type=int, default=7, help="of cost: %(default)s")
    parser.add_argument(
        "--sessions", metavar="N", type=int, default=1000, help="%(default)s at once"
    )
    parser.add_argument("--runs", metavar="N", type=int, default=2000, help="of soak: %(default)s")


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    measures: dict[str, Measure] = {
        "attacks": _attacks,
        "cheats": _cheats,
        "cost": lambda: measure_cost(args.rounds),
        "sessions": lambda: measure_sessions(args.sessions),
        "soak": lambda: measure_soak(args.runs),
    }
    chosen = chosen_parts(args, PARTS)
    print_tables(_setting(), [measures[part] for part in PARTS if part in chosen], args.out)
    return 0


def _attacks() -> list[Table]:
    titles = ("Attacks by tier", "Attacks, in all")
    return [_of_rows(*pair) for pair in zip(titles, attack_rows(), strict=True)]


def _cheats() -> list[Table]:
    return [_of_rows("Grader cheats", rows) for rows in cheat_rows()]


def _of_rows(title: str, rows: Sequence[Mapping[str, str]]) -> Table:
    table = Table(title=title, columns=tuple(rows[0]))
    for row in rows:
        table.add(*row.values())
    return table


def _setting() -> Table:
    table = Table(title="Sandbox benchmark", columns=("protection", "provided by"))
    table.add("python", f"{platform.python_version()} {platform.machine()}")
    table.add("kernel", platform.release())
    protection = detect()
    for kind, what in protection.report.items():
        table.add(kind, what)
    table.notes += [f"No {tier}: {why}." for tier, why in protection.missing.items()]
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.sandbox`."""
    summary = (__doc__ or "").split("\n")[0]
    return run_command("sandbox", summary, add_arguments, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
