"""`maskgym demo`: nothing comes in, a trained small agent and its report go out, in minutes on a CPU.

The whole path once, on the fictional-world testbed: index, masked traces, a Qwen3-architecture model from
scratch, a supervised warm start on short questions, GRPO on longer ones, bare evaluation before and after.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Style, paint
from .interrupts import stop_on_interrupt

if TYPE_CHECKING:
    from maskgym.agents.experiment import ExperimentConfig
    from maskgym.agents.warm_start import WarmStartConfig
    from maskgym.envs.testbed import FictionalWorld

SUMMARY = "mask, warm up, train and evaluate a small model from nothing, in minutes on a CPU"
EXAMPLES = """\
  maskgym demo                         the full run; the last line says where its report is
  maskgym demo --quick                 the same path in about two minutes, too short to learn much
  maskgym demo --seed 1 --planner bare --run runs/bare"""

LEVEL = 2
MICRO_BATCH_TOKENS = 2048  # small ones hold episodes of like length, so that little is padding


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Sizes of the demo."""

    seed: int = 0
    """Fixes worlds, weights, task order and samples."""

    num_steps: int = 30
    """GRPO steps."""

    tasks_per_step: int = 16
    """Questions in a GRPO step."""

    group_size: int = 8
    """Rollouts of a question that share a baseline."""

    lr: float = 1e-4
    """Learning rate of GRPO."""

    temperature: float = 0.8
    """Of the training rollouts; evaluations are greedy."""

    num_eval_tasks: int = 256
    """Held-out questions of the bare evaluations."""

    planner: str = "rescue"
    """Who sees a scaffold; see `GuidanceConfig`."""

    train_on: str = "bare"
    """Prompt of the loss; see `GuidanceConfig`."""

    engine: str = "auto"
    """What samples: vLLM where it is installed."""

    is_quick: bool = False
    """Whether the warm start only shows that it works."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `maskgym demo`."""
    add = parser.add_argument
    add(
        "--run",
        default="runs/demo",
        metavar="FOLDER",
        help="run folder (a number is added if taken)",
    )
    add("--seed", type=int, default=0, metavar="N", help="worlds, weights and samples")
    add("--quick", action="store_true", help="a short run that only shows that everything works")
    add(
        "--planner",
        default=DemoConfig.planner,
        choices=("bare", "always", "mixed", "rescue"),
        help="who sees a masked scaffold",
    )
    add(
        "--train-on",
        default=DemoConfig.train_on,
        choices=("guided", "bare"),
        help="prompt of the loss",
    )
    add("--steps", type=int, metavar="N", help="GRPO steps")
    add("--lr", type=float, metavar="RATE", help="learning rate of GRPO")
    add(
        "--engine",
        default=DemoConfig.engine,
        choices=("auto", "vllm", "transformers"),
        help="what samples",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo; 0 at the end, 130 when interrupted."""
    # One thread, before torch starts: tensors this small gain a third from a second one on an idle
    # machine, and are several times slower with it on a busy one, where OpenMP's threads wait spinning.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from maskgym.agents.experiment import open_trainer
    from maskgym.agents.run_folder import RunFolder
    from maskgym.agents.warm_start import make_warm_model

    started_s = time.perf_counter()
    config = _config(args)
    path = _free_folder(Path(args.run))
    experiment = _experiment(config, path)
    folder = RunFolder.create(path, experiment)
    stage = _Stages(5)
    before: dict[int, str] = {}
    after: dict[int, str] = {}
    message = "Stopping after the work in hand; what is there stays. Ctrl-C again stops at once."
    with stop_on_interrupt(message) as should_stop:
        stage("building two fictional worlds and their search indexes")
        _build_indexes(config, path)
        stage("masking expert traces")
        _mask_traces(_world(config, LEVEL, "train"), path)
        stage("making a small model from scratch and warming it up on short questions")
        is_done = make_warm_model(
            experiment, _warm_start(config), report=_say, should_stop=should_stop
        )
        if is_done:
            stage(
                f"training with GRPO on questions of 1 to {LEVEL} hops ({_guidance_text(config)})"
            )
            with open_trainer(experiment, folder, report=_say, should_stop=should_stop) as trainer:
                before = _accuracies(config, experiment, trainer)
                is_done = trainer.run()
                after = _accuracies(config, experiment, trainer) if is_done else {}
    if not folder.metrics():
        return 130
    stage("writing the report")
    page = _write_report(folder, config, before, after, time.perf_counter() - started_s)
    _say(f"Report: {paint(str(page.resolve()), Style.BOLD, stream=sys.stdout)}")
    return 0 if is_done else 130


def _config(args: argparse.Namespace) -> DemoConfig:
    given = {"seed": args.seed, "planner": args.planner, "train_on": args.train_on}
    given |= {"engine": args.engine}
    if args.quick:
        given |= {"is_quick": True, "num_steps": 3, "num_eval_tasks": 64}
    if args.steps is not None:
        given["num_steps"] = args.steps
    if args.lr is not None:
        given["lr"] = args.lr
    return DemoConfig(**given)


def _experiment(config: DemoConfig, path: Path) -> "ExperimentConfig":
    from maskgym.agents.experiment import ExperimentConfig
    from maskgym.agents.guidance.config import GuidanceConfig
    from maskgym.agents.learning.learner import LearnerConfig
    from maskgym.agents.rollouts.chat import ChatConfig
    from maskgym.agents.rollouts.rollout import RolloutConfig
    from maskgym.agents.trainer_config import TrainerConfig
    from maskgym.envs import EpisodeConfig, SearchConfig, XMLProtocol

    # Short questions stay in the training set: with long ones alone the policy learns to count hops
    # instead of reading the question, and forgets the rest.
    levels = range(1, LEVEL + 1)
    train_tasks = "+".join(f"testbed:level={n},seed={config.seed},split=train" for n in levels)
    return ExperimentConfig(
        env_id="maskgym/Search-v0",
        model=str(path / "warm-start"),
        train_tasks=train_tasks,
        eval_tasks=f"testbed:level={LEVEL},seed={config.seed},split=test",
        num_eval_tasks=config.num_eval_tasks,
        index=str(path / "indexes" / "train"),
        eval_index=str(path / "indexes" / "test"),
        # A model this small reads no instructions: they would only lengthen every prompt.
        episode=EpisodeConfig(max_turns=LEVEL + 2, instructions="", last_turn_notice=""),
        protocol=XMLProtocol(block_separator=" "),
        search=SearchConfig(top_k=1, passage_format="plain", timeout_s=None),
        engine=config.engine,
        max_model_len=512,
        max_num_seqs=128,
        chat=ChatConfig(scaffold_template="Example: {scaffold}\n{text}"),
        learner=LearnerConfig(lr=config.lr, warmup_steps=5, micro_batch_tokens=MICRO_BATCH_TOKENS),
        trainer=TrainerConfig(
            num_steps=config.num_steps,
            tasks_per_step=config.tasks_per_step,
            seed=config.seed,
            eval_every=5,
            checkpoint_every=20,
            trajectories_every=5,
            trackers=(),
            guidance=GuidanceConfig(
                planner=config.planner, train_on=config.train_on, group_size=config.group_size
            ),
            # Inline environments: they answer in microseconds, and the run is a function of its seed.
            rollout=RolloutConfig(
                max_tokens_per_turn=24, temperature=config.temperature, num_env_workers=0
            ),
        ),
    )


def _warm_start(config: DemoConfig) -> "WarmStartConfig":
    from maskgym.agents.warm_start import WarmStartConfig

    warm_start = WarmStartConfig(seed=config.seed)
    return replace(warm_start, reading_steps=60, lesson_steps=40) if config.is_quick else warm_start


def _world(config: DemoConfig, level: int, split: str) -> "FictionalWorld":
    from maskgym.envs.testbed import FictionalWorld

    return FictionalWorld(level=level, split=split, seed=config.seed)


def _build_indexes(config: DemoConfig, path: Path) -> None:
    from maskgym.retrieval import BM25Index

    for split in ("train", "test"):
        passages = _world(config, LEVEL, split).passages()
        folder = path / "indexes" / split
        folder.parent.mkdir(exist_ok=True)
        BM25Index.build(passages).save(folder)
        _say(f"  {split}: {len(passages)} pages, e.g. {passages[0].text}")


def _mask_traces(world: "FictionalWorld", path: Path) -> None:
    from maskgym.envs import task_to_row
    from maskgym.masking import mask
    from maskgym.retrieval import write_rows

    rows, num_visible = [], 0
    for task in world[:200]:
        assert task.expert_trace is not None
        scaffold = mask(task.expert_trace, task, "all")
        num_visible += scaffold.audit.is_answer_visible
        rows.append({**task_to_row(task), "scaffold": scaffold.text})
        if len(rows) == 1:
            _say(f"  question: {task.question}\n  scaffold: {scaffold.text!r}")
    write_rows(path / "masked.jsonl", rows)
    _say(f"  target still visible in {num_visible} of {len(rows)} scaffolds")


def _accuracies(config: DemoConfig, experiment: "ExperimentConfig", trainer: Any) -> dict[int, str]:
    """Bare accuracy on held-out questions of each number of hops."""
    from maskgym.agents.evaluation.evaluate import evaluate

    found = {}
    for level in range(1, LEVEL + 1):
        tasks = _world(config, level, "test")[: config.num_eval_tasks]
        rollout = replace(trainer.config.rollout, temperature=0.0)
        evaluation, _ = evaluate(trainer.engine, trainer.chat, trainer.eval_envs, tasks, rollout)
        found[level] = str(evaluation.accuracy)
    return found


def _write_report(
    folder: Any, config: DemoConfig, before: dict[int, str], after: dict[int, str], wall_s: float
) -> Path:
    from maskgym.agents.report import write_report

    rows = [row for row in folder.metrics() if "eval/accuracy" in row]
    first, last = rows[0], rows[-1]
    _say("")
    lead = []
    for label, row in (("before", first), ("after", last)):
        low, high = 100 * row["eval/accuracy_low"], 100 * row["eval/accuracy_high"]
        lead.append(
            f"Bare accuracy {label} GRPO, {row['eval/num_tasks']} held-out questions of {LEVEL} hops: "
            f"{100 * row['eval/accuracy']:.1f}% [{low:.1f}, {high:.1f}] (95% interval)."
        )
    gain = 100 * (last["eval/accuracy"] - first["eval/accuracy"])
    lead.append(
        f"{gain:+.1f} points in {last['num_rollouts']} rollouts; {wall_s / 60:.1f} minutes in all. "
        f"Guidance: {_guidance_text(config)}. Evaluation shows no scaffold."
    )
    table: Sequence[Sequence[str]] = [
        ("hops", "warm start, bare", "after GRPO, bare"),
        *((str(level), before[level], after[level]) for level in after),
    ]
    for line in (*lead, *(f"  {a:>5}  {b:<22}  {c}" for a, b, c in table)):
        _say(line)
    steps = sorted(path.stem for path in (folder.path / "trajectories").glob("step-*.jsonl"))
    evals = sorted(path.stem for path in (folder.path / "trajectories").glob("eval-*.jsonl"))
    samples = {}
    for heading, name in (
        ("Before: bare evaluation", evals[0]),
        ("During: training rollouts", steps[0] if steps else evals[0]),
        ("After: bare evaluation", evals[-1]),
    ):
        chosen = list(folder.trajectories(name))
        guided = [t for t in chosen if t.is_guided][:4]
        samples[heading] = [*guided, *[t for t in chosen if not t.is_guided][: 8 - len(guided)]]
    page: Path = write_report(
        folder,
        title="maskgym demo: a search agent from nothing",
        lead=lead,
        table=table if after else (),
        samples=samples,
    )
    return page


def _guidance_text(config: DemoConfig) -> str:
    who = {
        "bare": "no rollout sees a scaffold",
        "always": "every rollout sees a masked scaffold",
        "mixed": "half of the rollouts see a masked scaffold",
        "rescue": "a masked scaffold where all bare rollouts of a question fail",
    }[config.planner]
    if config.planner == "bare":
        return who
    return f"{who}; loss on the {config.train_on} prompt"


def _free_folder(path: Path) -> Path:
    """The folder, or the first of path-2, path-3, ... that is free."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_name(f"{path.name}-{number}")
        number += 1
    return candidate


class _Stages:
    """Says what begins, with its number and the time since the start."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.number = 0
        self.started_s = time.perf_counter()

    def __call__(self, what: str) -> None:
        self.number += 1
        elapsed = time.perf_counter() - self.started_s
        head = f"[{self.number}/{self.total}] {elapsed:4.0f} s  {what}"
        _say(paint(head, Style.BOLD, stream=sys.stdout))


def _say(line: str) -> None:
    print(line, flush=True)
