"""Verifier benchmark: a folder of public data in, agreement with labels and peers, and cost, out.

    python -m maskgym.scripts.benchmarks.verifiers --only math,search

Every case on which a verdict differs from what was stored is listed with the reason.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from maskgym.agents.evaluation.replay import read_answers, replay

from . import verifiers_code, verifiers_math
from .command import Measure, add_common_arguments, chosen_parts, print_tables, run_command
from .tables import Table
from .verifiers_peers import measure_peers

PARTS = ("math", "code", "search", "peers", "cost")
_SCORED = ("qa_em_scored/flashrag_em_f1.jsonl.gz", "qa_em_scored/fireact_hotpot_em_f1.jsonl")
_NUM_RESAMPLES = 100  # the intervals are not shown


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    measures: dict[str, Measure] = {
        "math": lambda: verifiers_math.measure_agreement(args.data),
        "code": lambda: verifiers_code.measure_agreement(args.data),
        "search": lambda: _measure_search(args.data),
        "peers": lambda: measure_peers(args.data),
        "cost": lambda: verifiers_math.measure_cost(args.data),
    }
    chosen = chosen_parts(args, PARTS)
    setting = Table(title="Verifier benchmark", columns=("python", "machine", "data"))
    setting.add(platform.python_version(), platform.machine(), str(args.data.is_dir()))
    print_tables(setting, [measures[part] for part in PARTS if part in chosen], args.out)
    return 0


def _measure_search(data: Path) -> list[Table]:
    """Stored scores of search answers that our scorer gives as well, row by row."""
    table = Table(
        title="Search verifier: stored scores reproduced",
        columns=("file", "answers", "mode", "metric", "rows with a score", "rows that differ"),
    )
    rollouts = sorted((data / "search_r1_rollouts").glob("v*.json.gz"))
    for path in [*(data / name for name in _SCORED), *rollouts]:
        if not path.is_file():
            table.notes.append(f"No file {path.name}; left out.")
            continue
        found = replay(read_answers(path), num_resamples=_NUM_RESAMPLES)
        for mode, metric in dict.fromkeys((each.mode, each.metric) for each in found):
            some = [each for each in found if (each.mode, each.metric) == (mode, metric)]
            if num_stored := sum(each.num_stored for each in some):
                num_answers = sum(each.num_answers for each in some)
                num_differing = sum(len(each.differences) for each in some)
                table.add(path.name, num_answers, mode, metric, num_stored, num_differing)
    return [table]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.verifiers`."""
    summary = (__doc__ or "").split("\n")[0]
    return run_command(
        "verifiers",
        summary,
        lambda parser: add_common_arguments(parser, PARTS),
        run,
        arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
