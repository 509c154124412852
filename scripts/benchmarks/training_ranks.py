"""One rank against two: the same global batch, the same losses, gradients and weights.

python -m torch.distributed.run --nproc-per-node 2 -m maskgym.scripts.benchmarks.training_ranks
    MODEL_FOLDER SAMPLES.pkl OUT.pt
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from maskgym.agents.distributed import World, open_world
from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.sample import Sample

from .tables import Table
from .training_cases import make_samples, relative, worst_difference
from .training_env import Workload, make_model

NUM_STEPS = 3
LIMIT = 1e-5
_BUDGET = 400
# Rewards of a group are half zeros: the ranks have different numbers of sequences and micro-batches.
_WORKLOAD = Workload(num_tasks=3, group_size=4, max_tokens=16)


def measure_ranks() -> list[Table]:
    """The table of one rank against two on this machine, by torchrun and gloo."""
    with tempfile.TemporaryDirectory(prefix="maskgym-ranks-") as name:
        folder = Path(name)
        model_dir = make_model(folder / "model", _WORKLOAD)
        return [compare(model_dir, make_samples(model_dir, _WORKLOAD), folder)]


def compare(model_dir: Path, samples: Sequence[Sample], folder: Path) -> Table:
    """Trains in this process and in two, and compares.

    Raises:
        RuntimeError: If the ranks fail; the message holds their last words.
    """
    alone = train(World(device="cpu"), model_dir, samples)
    given, out = folder / "samples.pkl", folder / "out.pt"
    given.write_bytes(pickle.dumps(list(samples)))
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    module = "maskgym.scripts.benchmarks.training_ranks"
    done = subprocess.run(
        [sys.executable, *launcher, "-m", module, str(model_dir), str(given), str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    if done.returncode:
        raise RuntimeError(f"The ranks failed:\n{done.stderr[-2000:]}")
    both = torch.load(out, weights_only=True)
    table = Table(
        title="Correctness gate: 1 rank and 2 ranks with the same global batch (gloo, FSDP2, float32)",
        columns=("what", "value", "limit", "passed"),
    )
    for name in ("losses", "norms"):
        worst = max(relative(a, b) for a, b in zip(alone[name], both[name], strict=True))
        add_gate(table, f"{name} of {NUM_STEPS} steps, relative difference", worst, LIMIT)
    worst = worst_difference(alone["weights"], both["weights"])
    add_gate(table, f"weights after {NUM_STEPS} steps, relative difference", worst, LIMIT)
    table.notes.append(
        f"Sequences of the ranks: {both['shares']}; micro-batches of {_BUDGET} tokens: {both['batches']}."
    )
    return table


def add_gate(
    table: Table, what: str, value: float, limit: float, *, at_least: bool = False
) -> None:
    """Adds a row: a number, its limit (the most, or with `at_least` the least), and whether it holds."""
    is_passed = value >= limit if at_least else value <= limit
    shown = f"{'>=' if at_least else '<='} {limit:.3g}"
    table.add(what, value, shown, "yes" if is_passed else "NO")


def train(world: World, model_dir: Path, samples: Sequence[Sample]) -> dict[str, Any]:
    """Some steps on this rank's groups: the first two thirds of them on rank 0 where there are two."""
    from maskgym.agents.learning.packing import micro_batches

    groups = list(dict.fromkeys(sample.group for sample in samples))
    cut = -(-2 * len(groups) // 3)
    mine = set(groups)
    if world.size > 1:
        mine = set(groups[:cut] if world.rank == 0 else groups[cut:])
    own = [sample for sample in samples if sample.group in mine]
    config = LearnerConfig(lr=1e-3, max_grad_norm=0.05, micro_batch_tokens=_BUDGET)
    learner = Learner(load_model(model_dir, device="cpu"), config, world=world)
    stats = [learner.policy_update(own) for _ in range(NUM_STEPS)]
    return {
        "losses": [s.loss for s in stats],
        "norms": [s.grad_norm for s in stats],
        "weights": {name: weight.clone() for name, weight in learner.named_weights()},
        "shares": world.gather(len(own)),
        "batches": world.gather(len(micro_batches(own, max_tokens=config.micro_batch_tokens))),
    }


def main(arguments: Sequence[str]) -> int:
    """What each rank does."""
    torch.set_num_threads(1)
    model_dir, given, out = map(Path, arguments)
    samples = pickle.loads(given.read_bytes())
    with open_world("cpu", timeout_s=120) as world:
        result = train(world, model_dir, samples)
        if world.is_main:
            torch.save(result, out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
