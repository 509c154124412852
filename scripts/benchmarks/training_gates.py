"""The correctness gate: what has to hold before a speed means anything, each with its number and limit."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskgym.agents.alarms import AlarmConfig, alarms_of
from maskgym.agents.engines.engine import Engine, Request, SamplingParams, open_engine
from maskgym.agents.engines.engine import EngineConfig as AnyEngineConfig
from maskgym.agents.learning.model_folder import load_model
from maskgym.agents.learning.packing import micro_batches
from maskgym.agents.learning.sample import Sample

from .tables import Table
from .training_cases import SMALL, fields_of, make_samples, relative, update, worst_difference
from .training_env import make_model
from .training_ours import OurSetting, OurTrainer, samples_of
from .training_parity import add_parity
from .training_ranks import add_gate

LIMIT = 1e-5
GAP_LIMIT = 1e-4
"""Mean |trainer - engine| of a float32 run, nats a token."""

_SMALL_BUDGET = 300
_NUM_UPDATES = 3
_NUM_PROMPTS = 4
_NUM_GREEDY = 32


def measure_gates() -> list[Table]:
    """The table of gates; those of several ranks are `training_ranks`'."""
    table = Table(title="Correctness gate", columns=("what", "value", "limit", "passed"))
    with tempfile.TemporaryDirectory(prefix="maskgym-gates-") as name:
        model_dir = make_model(Path(name) / "model", SMALL)
        samples = make_samples(model_dir)
        add_batching(table, model_dir, samples)
        if find_spec("trl"):
            add_parity(table, model_dir, samples)
        else:
            table.notes.append("TRL is not installed: pip install 'maskgym[peers]'.")
        add_engines(table, model_dir)
        add_stale_weights(table, model_dir)
    table.notes.append(
        f"{len(samples)} trajectories of a tiny Qwen3, float32, ratios spread by 0.3 nats; gradients are "
        "those of the whole optimiser step, relative to the largest."
    )
    return [table]


def add_batching(table: Table, model_dir: Path, samples: Sequence[Sample]) -> None:
    """One micro-batch and several, packed and padded, prompts shared and not: one result."""
    whole = update(model_dir, samples, micro_batch_tokens=100_000)
    num_parts = len(micro_batches([s for s in samples if s.advantage], max_tokens=_SMALL_BUDGET))
    assert num_parts > 1, "nothing is split; the gate could not fail"
    others: dict[str, dict[str, Any]] = {
        f"1 micro-batch against {num_parts}": {"micro_batch_tokens": _SMALL_BUDGET},
        "packed against padded": {"packing": "padded", "micro_batch_tokens": 100_000},
        "shared prompts against repeated ones": {"share_prompts": False},
        "head in chunks of 64 tokens against whole": {"head_chunk_tokens": 64},
        "gradient checkpointing against none": {"gradient_checkpointing": True},
    }
    for name, settings in others.items():
        other = update(model_dir, samples, **settings)
        difference = relative(whole.stats.loss, other.stats.loss)
        add_gate(table, f"{name}: loss, relative difference", difference, LIMIT)
        worst = worst_difference(whole.gradients, other.gradients)
        add_gate(table, f"{name}: gradients, relative difference", worst, LIMIT)


def add_engines(table: Table, model_dir: Path) -> None:
    """Greedy tokens of every engine after each of several weight updates, against plain `generate`."""
    names = ("vllm", "transformers") if find_spec("vllm") else ("transformers",)
    prompts = [[(31 * i + 7 * j) % 900 + 300 for j in range(40)] for i in range(_NUM_PROMPTS)]
    for name in names:
        model: Any = load_model(model_dir, device="cpu")
        num_equal = num_changed = 0
        before: list[list[int]] = []
        with closing(_engine(model_dir, name)) as engine:
            for version in range(1, _NUM_UPDATES + 1):
                _disturb(model, seed=version)
                engine.update_weights(_weights(model), version=version)
                expected = [_greedy_of(model, prompt) for prompt in prompts]
                found = _greedy(engine, prompts, version)
                num_equal += sum(
                    a == b
                    for x, y in zip(expected, found, strict=True)
                    for a, b in zip(x, y, strict=True)
                )
                num_changed += expected != before
                before = expected
        total = _NUM_UPDATES * _NUM_PROMPTS * _NUM_GREEDY
        what = f"{name}: greedy tokens equal to generate's after {_NUM_UPDATES} updates, of {total}"
        add_gate(table, what, num_equal, total, at_least=True)
        assert num_changed == _NUM_UPDATES, "the updates change nothing; the gate could not fail"


def add_stale_weights(table: Table, model_dir: Path) -> None:
    """The gap between engine and trainer: small with updates, an alarm when one was left out."""
    name = "vllm" if find_spec("vllm") else "transformers"
    setting = OurSetting(engine=name, lr=1e-2, workload=fields_of(SMALL))
    with closing(OurTrainer(model_dir, setting)) as trainer:
        gaps = [float(trainer.step().parts["logprob_gap"]) for _ in range(3)]
        add_gate(
            table, f"{name}: gap to the trainer over 3 steps, nats a token", max(gaps), GAP_LIMIT
        )
        trainer.learner.policy_update(
            samples_of(trainer.play(seed=9))
        )  # and no update of the engine
        gap = trainer.learner.policy_update(samples_of(trainer.play(seed=10))).logprob_gap
    limit = AlarmConfig().max_logprob_gap
    add_gate(table, f"{name}: gap after a skipped update, nats a token", gap, limit, at_least=True)
    num_alarms = len(alarms_of({"train/logprob_gap": gap}, AlarmConfig()))
    add_gate(table, f"{name}: alarms after a skipped update", num_alarms, 1, at_least=True)


def _engine(model_dir: Path, name: str) -> Engine:
    return open_engine(model_dir, name=name, config=AnyEngineConfig(max_model_len=256))


def _disturb(model: torch.nn.Module, *, seed: int) -> None:
    """Moves every weight as far as some training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.2 * float(parameter.std())
            parameter.add_(spread * torch.randn(parameter.shape, generator=generator))


def _weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    return ((n, p.detach()) for n, p in model.named_parameters() if n != "lm_head.weight")


def _greedy(engine: Engine, prompts: Sequence[Sequence[int]], version: int) -> list[list[int]]:
    params = SamplingParams(max_tokens=_NUM_GREEDY, temperature=0.0, ignore_eos=True)
    for i, prompt in enumerate(prompts):
        engine.submit(Request(request_id=f"{version}.{i}", prompt_ids=tuple(prompt), params=params))
    tokens: dict[str, list[int]] = {}
    while engine.num_unfinished:
        tokens |= {done.request_id: list(done.token_ids) for done in engine.poll()}
    return [tokens[f"{version}.{i}"] for i in range(len(prompts))]


def _greedy_of(model: Any, prompt: Sequence[int]) -> list[int]:
    """The slow version: the whole forward pass again for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(_NUM_GREEDY):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]
