"""`maskgym train`: an environment, tasks and a model in, a run folder with the trained model out."""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .console import Style, paint
from .interrupts import stop_on_interrupt

SUMMARY = "train an agent with GRPO on masked expert traces"
EXAMPLES = """\
  maskgym train --env math --tasks gsm8k/train.jsonl.gz --eval-tasks gsm8k/test.jsonl.gz \\
      --model Qwen3-0.6B --run runs/gsm8k
  maskgym train --env search --tasks testbed:level=2 --eval-tasks testbed:level=2,split=test \\
      --model new --run runs/world --steps 5
  maskgym train --run runs/gsm8k --resume"""

NEW_MODEL = "new"
_NO_PATHS = ("testbed", "bench:", "http://", "https://", "pyserini:")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `maskgym train`."""
    add = parser.add_argument
    add("--run", required=True, metavar="FOLDER", help="run folder: made new, or resumed")
    add("--resume", action="store_true", help="go on from the last checkpoint of the run folder")
    add(
        "--env",
        default="search",
        metavar="ID",
        help="environment: search, math, code, or a full id",
    )
    add(
        "--tasks",
        metavar="TASKS",
        help="file of rows, a benchmark such as bench:nq, or a testbed such as testbed:level=2",
    )
    add("--eval-tasks", metavar="TASKS", help="tasks of the bare evaluations (default: --tasks)")
    add(
        "--mapping",
        default="",
        metavar="NAME",
        help="column mapping of the files (default: guessed)",
    )
    add("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")
    add("--num-tasks", type=int, metavar="N", help="use only the first N training tasks")
    add("--num-eval-tasks", type=int, default=256, metavar="N", help="evaluate on N tasks")
    add("--index", default="", metavar="FOLDER", help="search index of the training tasks")
    add("--eval-index", default="", metavar="FOLDER", help="search index of the evaluation tasks")
    add(
        "--model",
        metavar="FOLDER",
        help=f'model folder; "{NEW_MODEL}" makes a small untrained one with its own tokenizer',
    )
    add("--engine", default="auto", choices=("auto", "vllm", "transformers"), help="what samples")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="precision")
    add("--steps", type=int, default=100, metavar="N", help="optimiser steps")
    add("--tasks-per-step", type=int, default=16, metavar="N", help="tasks played in each step")
    add("--group-size", type=int, default=8, metavar="N", help="rollouts that share a baseline")
    add(
        "--planner",
        default="always",
        choices=("bare", "always", "mixed", "rescue"),
        help="who sees a scaffold: nobody, every rollout, a share, or where the bare group failed",
    )
    add("--policy", default="all", metavar="POLICY", help="mask policy of the scaffolds")
    add("--train-on", default="guided", choices=("guided", "bare"), help="prompt of the loss")
    add("--lr", type=float, default=1e-6, metavar="RATE", help="learning rate")
    add("--temperature", type=float, default=1.0, metavar="T", help="sampling temperature")
    add("--max-tokens", type=int, default=256, metavar="N", help="most tokens of one action")
    add("--max-model-len", type=int, default=2048, metavar="N", help="most tokens of an episode")
    add("--eval-every", type=int, default=20, metavar="N", help="steps between evaluations")
    add("--checkpoint-every", type=int, default=10, metavar="N", help="steps between checkpoints")
    add("--seed", type=int, default=0, metavar="N", help="fixes task order and samples")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting by its dotted name, such as episode.max_turns=4",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when it got to the last step, 130 when it was interrupted."""
    from maskgym.agents.experiment import load_experiment, open_trainer
    from maskgym.agents.run_folder import RunFolder

    if args.resume:
        folder = RunFolder.open(args.run)
        config = load_experiment(folder.config)
        folder.last_checkpoint()
    else:
        config = config_from_arguments(args)
        folder = RunFolder.create(args.run, config)
        if config.model == NEW_MODEL:
            config = replace(config, model=str(_make_new_model(config, folder.path / "model")))
            folder.write_json("config.json", config)
    message = "Stopping after the work in hand; the run can be resumed. Ctrl-C again stops at once."
    with (
        stop_on_interrupt(message) as should_stop,
        open_trainer(
            config, folder, is_resumed=args.resume, report=_print, should_stop=should_stop
        ) as trainer,
    ):
        is_done = trainer.run()
    page = _write_report(folder, config.trainer.num_steps) if folder.metrics() else None
    if not is_done:
        _print(
            f"Stopped at step {trainer.step}. `maskgym train --run {args.run} --resume` goes on."
        )
        return 130
    _print(f"Report: {paint(str(page), Style.BOLD, stream=sys.stdout)}")
    return 0


def config_from_arguments(args: argparse.Namespace) -> Any:
    """The configuration that the arguments describe.

    Raises:
        ValueError: If one is missing or has a bad value.
    """
    from maskgym.agents.experiment import load_experiment
    from maskgym.envs import find_env_id

    for name in ("tasks", "model"):
        if not getattr(args, name):
            raise ValueError(f"A new run needs --{name}. `maskgym train --help` shows examples.")
    values: dict[str, Any] = {
        "env_id": find_env_id(args.env),
        "model": args.model if args.model == NEW_MODEL else absolute(args.model),
        "train_tasks": absolute(args.tasks),
        "eval_tasks": absolute(args.eval_tasks or args.tasks),
        "mapping": args.mapping,
        "skip_bad_rows": args.skip_bad_rows,
        "num_train_tasks": args.num_tasks,
        "num_eval_tasks": args.num_eval_tasks,
        "index": absolute(args.index),
        "eval_index": absolute(args.eval_index),
        "engine": args.engine,
        "dtype": args.dtype,
        "max_model_len": args.max_model_len,
        "learner": {"lr": args.lr},
        "trainer": {
            "num_steps": args.steps,
            "tasks_per_step": args.tasks_per_step,
            "seed": args.seed,
            "eval_every": args.eval_every,
            "checkpoint_every": args.checkpoint_every,
            "guidance": {
                "planner": args.planner,
                "policy": args.policy,
                "train_on": args.train_on,
                "group_size": args.group_size,
            },
            "rollout": {"max_tokens_per_turn": args.max_tokens, "temperature": args.temperature},
        },
    }
    for item in args.set:
        set_value(values, item)
    return load_experiment(values)


def absolute(path: str) -> str:
    """The path in a form that a resumed run finds from any folder; what is no path, as it is."""
    is_path = path and not path.startswith(_NO_PATHS)
    return str(Path(path).expanduser().absolute()) if is_path else path


def set_value(values: dict[str, Any], item: str) -> None:
    """Puts one `dotted.name=value` into nested settings; values are JSON, or text."""
    name, equals, text = item.partition("=")
    if not equals:
        raise ValueError(f"--set {item!r}: write it as name=value, such as episode.max_turns=4.")
    *places, last = name.split(".")
    for place in places:
        values = values.setdefault(place, {})
        if not isinstance(values, dict):
            raise ValueError(
                f"--set {item!r}: {place} is a single value and has no settings in it."
            )
    try:
        values[last] = json.loads(text)
    except json.JSONDecodeError:
        values[last] = text


def _make_new_model(config: Any, folder: Path) -> Path:
    """A small untrained model whose tokenizer is made from the tasks' own texts."""
    from maskgym.agents.play_config import task_source
    from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model

    tasks = task_source(config.train_tasks, config)

    def texts() -> Iterator[str]:
        for task in tasks[: min(len(tasks), 2000)]:
            yield task.question
            if task.expert_trace is not None:
                yield task.expert_trace.text

    extra = ("<search>", "</search>", "<python>", "</python>", "<answer>", "</answer>")
    _print(f"Making a small untrained model in {folder} ...")
    return make_tiny_model(
        folder,
        texts(),
        config=TinyModelConfig(
            tokenizer_kind="bpe",
            vocab_size=4096,
            extra_tokens=extra,
            max_position_embeddings=max(2048, config.max_model_len),
            seed=config.trainer.seed,
        ),
    )


def _write_report(folder: Any, num_steps: int) -> Path:
    from maskgym.agents.report import write_report

    metrics = folder.metrics()
    evals = [row for row in metrics if "eval/accuracy" in row]
    table: list[tuple[str, ...]] = [("step", "bare accuracy", "95% interval", "exact match", "F1")]
    for row in evals:
        low, high = row["eval/accuracy_low"], row["eval/accuracy_high"]
        table.append(
            (
                str(row["step"]),
                f"{row['eval/accuracy']:.1%}",
                f"{low:.1%} to {high:.1%}",
                *(_share(row[f"eval/{name}"]) for name in ("exact_match", "f1")),
            )
        )
    names = sorted(path.stem for path in (folder.path / "trajectories").glob("*.jsonl"))
    samples = {name: list(folder.trajectories(name))[:8] for name in names[-2:]}
    last = metrics[-1]["step"]
    lead = [f"{last} of {num_steps} optimiser steps, {metrics[-1]['num_rollouts']} rollouts."]
    page: Path = write_report(
        folder, title=f"Run {folder.path.name}", lead=lead, table=table, samples=samples
    )
    return page


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _print(line: str) -> None:
    print(line, flush=True)
