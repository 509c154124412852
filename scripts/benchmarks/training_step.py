"""A training step of ours beside one of TRL's GRPOTrainer: same model, episodes, group size and optimiser."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .tables import Cell, Table
from .training_arms import Arm, ArmStep, median, rounds, spread
from .training_env import Workload, make_model

ASKED_RATIO = 1.5
OURS = "ours, vLLM"
BATCHES = (8, 16, 32, 64)
_COLUMNS = (
    "arm",
    "step s",
    "CPU s",
    "rollout s",
    "training s",
    "sync s",
    "sampled tokens",
    "computed tokens",
    "padding",
    "ours faster (wall)",
    "ours faster (CPU)",
)


def measure_step(*, num_rounds: int = 5, batches: Sequence[int] = BATCHES) -> list[Table]:
    """Two tables: TRL by micro-batch size, then all arms in turn with TRL at its best size.

    Args:
        num_rounds: Steps of each arm that count, after two that do not.
        batches: Micro-batch sizes to look for TRL's best in, in sequences; they divide the episodes.
    """
    workload = Workload()
    with tempfile.TemporaryDirectory(prefix="maskgym-step-") as folder:
        model_dir = make_model(Path(folder) / "model", workload)
        engine = "vllm" if find_spec("vllm") else "transformers"
        if not find_spec("trl"):
            table = Table(title="Training step", columns=("step",))
            table.notes.append("TRL is not installed: pip install trl==1.16.0 accelerate datasets.")
            return [table]
        sizes, best, longest = _best_batch(model_dir, engine, batches, num_rounds=3)
        makers = {
            name: partial(_arm, model_dir, module, setting)
            for name, (module, setting) in _arms(engine, best, best * longest).items()
        }
        times, failures = rounds(makers, num_rounds=num_rounds)
    return [sizes, _table(workload, times, failures, best, best * longest)]


def _arms(engine: str, batch: int, budget: int) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every arm by its name: the module that runs it and its setting."""
    ours, trl = "training_ours", "training_trl"
    arms: dict[str, tuple[str, dict[str, Any]]] = {}
    if engine == "vllm":
        arms[OURS] = (ours, {"engine": "vllm", "micro_batch_tokens": budget})
        arms["TRL, vLLM"] = (trl, {"engine": "vllm", "per_device_batch": batch})
        arms["TRL, vLLM, importance correction as shipped"] = (
            trl,
            {"engine": "vllm", "per_device_batch": batch, "importance_sampling": True},
        )
        arms["ours, vLLM, old log-probabilities recomputed"] = (
            ours,
            {"engine": "vllm", "micro_batch_tokens": budget, "old_logprobs": "trainer"},
        )
    arms["ours, Transformers"] = (ours, {"engine": "transformers", "micro_batch_tokens": budget})
    arms["TRL, Transformers"] = (trl, {"engine": "transformers", "per_device_batch": batch})
    return arms


def _arm(model_dir: Path, module: str, setting: Mapping[str, Any]) -> Arm:
    return Arm(module, [str(model_dir), json.dumps(setting)])


def _best_batch(
    model_dir: Path, engine: str, batches: Sequence[int], *, num_rounds: int
) -> tuple[Table, int, int]:
    """TRL's table by micro-batch size, its best size, and the length that it pads to."""
    makers = {
        str(batch): partial(
            _arm, model_dir, "training_trl", {"engine": engine, "per_device_batch": batch}
        )
        for batch in batches
    }
    times, failures = rounds(makers, num_rounds=num_rounds)
    table = Table(
        title=f"TRL's GRPOTrainer ({engine}) by micro-batch size",
        columns=("sequences", "step s", "CPU s", "rollout s", "training s"),
    )
    for name, steps in times.items():
        table.add(
            int(name), *(median(steps, n) for n in ("total_s", "cpu_s", "rollout_s", "train_s"))
        )
    table.notes += [f"{name} failed: {_last_line(words)}" for name, words in failures.items()]
    if not times:
        return table, batches[0], 1
    best = min(times, key=lambda name: median(times[name], "cpu_s"))
    table.notes.append(f"Best by CPU time, and used below: {best}.")
    one = times[best][0]
    return table, int(best), one.num_computed // one.num_episodes


def _table(
    workload: Workload,
    times: Mapping[str, Sequence[ArmStep]],
    failures: Mapping[str, str],
    batch: int,
    budget: int,
) -> Table:
    table = Table(title="Training step, arms in turn", columns=_COLUMNS)
    for name, steps in times.items():
        ours = times.get(OURS if "vLLM" in name else "ours, Transformers", ())
        last = steps[-1]
        ratios: list[Cell] = [None, None]
        if name.startswith("TRL") and ours:
            ratios = [median(steps, n) / median(ours, n) for n in ("total_s", "cpu_s")]
        table.add(
            name,
            *(median(steps, n) for n in ("total_s", "cpu_s", "rollout_s", "train_s", "sync_s")),
            last.num_sampled,
            last.num_computed,
            f"{max(0.0, 1 - last.num_real / last.num_computed):.0%}",
            *ratios,
        )
        low, high = spread(steps, "total_s")
        table.notes.append(f"{name}: steps of {low:.2f} to {high:.2f} s")
    table.notes += [f"{name} failed: {_last_line(words)}" for name, words in failures.items()]
    table.notes += [
        f"{workload.num_episodes} episodes of {workload.min_turns}-{workload.max_turns} turns of "
        f"{workload.min_tokens}-{workload.max_tokens} tokens, {workload.num_action_tokens} sampled "
        f"tokens, tools of {1e3 * workload.tool_s:.0f} ms, groups of {workload.group_size}; one "
        "thread, float32, AdamW, no KL term, one optimiser step.",
        f"TRL: micro-batches of {batch} sequences; ours: {budget} tokens, which are as many. "
        "Computed tokens of ours are fewer than there are where a group shares its prompt.",
        *check_same_work(workload, times),
    ]
    return table


def check_same_work(workload: Workload, times: Mapping[str, Sequence[ArmStep]]) -> list[str]:
    """One line that says whether every arm sampled and trained on the same tokens, and earned the same.

    Raises:
        AssertionError: If one did not: the comparison would mean nothing.
    """
    wanted = workload.num_action_tokens
    for name, steps in times.items():
        for step in steps:
            found = (step.num_sampled, step.num_trained, step.num_episodes, step.reward)
            expected = (wanted, wanted, workload.num_episodes, 0.5)
            assert found == expected, f"{name} did other work: {found}, not {expected}"
    return [f"Every arm sampled and trained on {wanted} tokens in every step (checked)."]


def _last_line(words: str) -> str:
    lines = [line for line in words.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no words"
