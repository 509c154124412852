"""`maskgym train`: an environment, tasks and a model in, a run folder with the trained model out."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .cli import print_error
from .console import LiveLine, Style, paint
from .interrupts import stop_on_interrupt
from .ranks import is_rank, start_ranks

SUMMARY = "train an agent with GRPO on masked expert traces"
EXAMPLES = """\
  maskgym train --env math --tasks gsm8k/train.jsonl.gz --eval-tasks gsm8k/test.jsonl.gz \\
      --model Qwen3-0.6B --method smepo --run runs/gsm8k
  maskgym train --recipe qwen3-4b-8gpu --model Qwen3-4B --run runs/gsm8k-4b --set trainer.num_steps=200
  maskgym train --recipe testbed-cpu --run runs/world
  maskgym train --run runs/gsm8k --resume"""

NEW_MODEL = "new"
_CHANGEABLE = ("steps", "ranks")  # on resumption
ENGINE_CHOICES = ("auto", "vllm", "transformers", "remote")
_NO_PATHS = ("testbed", "bench:", "env:", "http://", "https://", "pyserini:")
_SETTINGS = {  # flag -> the setting that it stands for
    "env": "env_id",
    "tasks": "train_tasks",
    "eval_tasks": "eval_tasks",
    "mapping": "mapping",
    "skip_bad_rows": "skip_bad_rows",
    "num_tasks": "num_train_tasks",
    "num_eval_tasks": "num_eval_tasks",
    "index": "index",
    "eval_index": "eval_index",
    "model": "model",
    "engine": "engine",
    "dtype": "dtype",
    "steps": "trainer.num_steps",
    "tasks_per_step": "trainer.tasks_per_step",
    "group_size": "trainer.guidance.group_size",
    "planner": "trainer.guidance.planner",
    "policy": "trainer.guidance.policy",
    "train_on": "trainer.guidance.train_on",
    "lr": "learner.lr",
    "temperature": "trainer.rollout.temperature",
    "max_tokens": "trainer.rollout.max_tokens_per_turn",
    "max_model_len": "max_model_len",
    "eval_every": "trainer.eval_every",
    "checkpoint_every": "trainer.checkpoint_every",
    "seed": "trainer.seed",
    "ranks": "num_ranks",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `maskgym train`."""
    add = parser.add_argument
    # torchrun takes "--run" for a short form of its own options, also behind our name: hence the other.
    add(
        "--run",
        "--run-folder",
        required=True,
        metavar="FOLDER",
        help="run folder: made new, or resumed",
    )
    add("--resume", action="store_true", help="go on from the last checkpoint of the run folder")
    add(
        "--recipe",
        metavar="NAME",
        help="settings to begin with: a TOML file, or one that comes with maskgym (--list-recipes)",
    )
    add(
        "--method", metavar="NAME", help="a published method: grpo, dapo, smepo, ... (its settings)"
    )
    add("--list-recipes", action=_ListRecipes, nargs=0, help="list recipes and methods, and end")
    add("--env", metavar="ID", help="environment: search (default), math, code, or a full id")
    add(
        "--tasks",
        metavar="TASKS",
        help="file of rows, a benchmark (bench:nq), a testbed (testbed:level=2), or what the "
        "environment makes up itself (env)",
    )
    add("--eval-tasks", metavar="TASKS", help="tasks of the bare evaluations (default: --tasks)")
    add("--mapping", metavar="NAME", help="column mapping of the files (default: guessed)")
    add(
        "--skip-bad-rows",
        action="store_true",
        default=None,
        help="leave bad rows out instead of stopping",
    )
    add("--num-tasks", type=int, metavar="N", help="use only the first N training tasks")
    add("--num-eval-tasks", type=int, metavar="N", help="evaluate on N tasks (default: 256)")
    add("--index", metavar="FOLDER", help="search index of the training tasks")
    add("--eval-index", metavar="FOLDER", help="search index of the evaluation tasks")
    add(
        "--model",
        metavar="FOLDER",
        help=f'model folder; "{NEW_MODEL}" makes a small untrained one with its own tokenizer',
    )
    add("--engine", choices=ENGINE_CHOICES, help="what samples (default: auto)")
    add("--dtype", choices=("float32", "bfloat16"), help="precision of engine and trainer")
    add("--ranks", type=int, metavar="N", help="processes, one a GPU, that share the work")
    add("--steps", type=int, metavar="N", help="optimiser steps (default: 100)")
    add("--tasks-per-step", type=int, metavar="N", help="tasks played in each step (default: 16)")
    add("--group-size", type=int, metavar="N", help="rollouts that share a baseline (default: 8)")
    add("--planner", metavar="NAME", help="who sees a scaffold: bare, always, mixed, rescue, ...")
    add("--policy", metavar="POLICY", help="mask policy of the scaffolds (default: all)")
    add("--train-on", metavar="PROMPT", help="prompt of the loss: guided, bare, or handover")
    add("--lr", type=float, metavar="RATE", help="learning rate (default: 1e-6)")
    add("--temperature", type=float, metavar="T", help="sampling temperature (default: 1)")
    add("--max-tokens", type=int, metavar="N", help="most tokens of one action (default: 256)")
    add("--max-model-len", type=int, metavar="N", help="most tokens of an episode (default: 2048)")
    add("--eval-every", type=int, metavar="N", help="steps between evaluations (default: 20)")
    add("--checkpoint-every", type=int, metavar="N", help="steps between checkpoints (default: 10)")
    add("--seed", type=int, metavar="N", help="fixes task order and samples (default: 0)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting by its dotted name, such as episode.max_turns=4",
    )


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when it got to the last step, 130 when it was interrupted, 2 when it had to end before."""
    from maskgym.agents.checkpoints import CheckpointError
    from maskgym.agents.distributed import LostRankError
    from maskgym.agents.engines.engine import is_out_of_memory
    from maskgym.agents.engines.vllm_server import EngineServerError
    from maskgym.agents.rollouts.rollout_config import RolloutFailedError
    from maskgym.agents.trainer import NothingWorksError

    expected = (
        CheckpointError,
        EngineServerError,
        LostRankError,
        NothingWorksError,
        RolloutFailedError,
    )
    try:
        return _run(args)
    except expected as error:
        if args.debug:
            raise
        print_error(str(error))
    except (RuntimeError, MemoryError) as error:
        if args.debug or not is_out_of_memory(error):
            raise
        print_error(
            f"Memory ran out ({(str(error).splitlines() or ['MemoryError'])[0]}). Lower "
            "learner.micro_batch_tokens, max_num_seqs, max_model_len or the engine's share of it; the "
            "run resumes from its last checkpoint."
        )
    return 2


def _run(args: argparse.Namespace) -> int:
    from maskgym.agents.run_folder import RunFolder

    if args.resume:
        folder = RunFolder.open(args.run)
        config = _resumed_config(args, folder)
    else:
        config = config_from_arguments(args)
        folder = RunFolder(args.run)
        if is_rank():
            config = replace(config, num_ranks=int(os.environ["WORLD_SIZE"]))
        if not is_rank() or os.environ["RANK"] == "0":
            _begin(config, folder)
        if config.model == NEW_MODEL:
            config = replace(config, model=str(folder.path.absolute() / "model"))
    if config.num_ranks > 1 and not is_rank():
        # The ranks find everything in the folder; without a checkpoint they begin at the beginning.
        words = ["train", "--run-folder", str(folder.path), "--resume"]
        return start_ranks(words, num_ranks=config.num_ranks)
    return _train(config, folder, is_resumed=args.resume and folder.has_checkpoint())


def _begin(config: Any, folder: Any) -> None:
    """Makes the run folder, with everything that its settings name."""
    from maskgym.agents.recipe import write_recipe
    from maskgym.agents.run_folder import RunFolder

    RunFolder.create(folder.path, config)
    if config.model == NEW_MODEL:
        model = _make_new_model(config, folder.path.absolute() / "model")
        config = replace(config, model=str(model))
        folder.write_json("config.json", config)
    write_recipe(config, folder.path / "recipe.toml")


def _resumed_config(args: argparse.Namespace, folder: Any) -> Any:
    """The settings that a run began with; only its length and its ranks may change.

    Raises:
        ValueError: If other settings were given: they would not hold.
    """
    from maskgym.agents.experiment import load_experiment

    others = [name for name in _SETTINGS if name not in _CHANGEABLE] + ["recipe", "method", "set"]
    if odd := [name for name in others if getattr(args, name)]:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in odd)
        raise ValueError(
            f"--resume goes on with the settings in {str(folder.path / 'config.json')!r}, and {flags} "
            "would be ignored. Leave that out, or start a run in another folder (its --model can be "
            "this run's last checkpoint). --steps and --ranks may change."
        )
    config = load_experiment(folder.config)
    if args.steps is not None:
        config = replace(config, trainer=replace(config.trainer, num_steps=args.steps))
    num_ranks = int(os.environ["WORLD_SIZE"]) if is_rank() else args.ranks
    if num_ranks is not None:
        config = replace(config, num_ranks=num_ranks)
    if not is_rank():
        with folder.locked():  # nobody else trains in it
            folder.write_json("config.json", config)
    return config


def _train(config: Any, folder: Any, *, is_resumed: bool) -> int:
    from maskgym.agents.experiment import open_trainer

    message = "Stopping after the work in hand; the run can be resumed. Ctrl-C again stops at once."
    if os.environ.get("RANK", "0") != "0":
        message = ""
    line = LiveLine(sys.stdout)
    with (
        stop_on_interrupt(message) as should_stop,
        open_trainer(
            config,
            folder,
            is_resumed=is_resumed,
            report=line.print,
            progress=line.show,
            should_stop=should_stop,
        ) as trainer,
    ):
        if is_resumed and trainer.step >= config.trainer.num_steps:
            line.print(
                f"The run is at step {trainer.step} of {config.trainer.num_steps} already; --resume "
                f"--steps N takes it to step N."
            )
        is_done = trainer.run()
        is_main = trainer.world.is_main
    if not is_main:
        return 0 if is_done else 130
    page = _write_report(folder, config.trainer.num_steps) if folder.metrics() else None
    if not is_done:
        line.print(
            f"Stopped at step {trainer.step}. `maskgym train --run {folder.path} --resume` goes on."
        )
        return 130
    line.print(f"Report: {paint(str(page), Style.BOLD, stream=sys.stdout)}")
    return 0


def config_from_arguments(args: argparse.Namespace) -> Any:
    """The configuration that recipe, method, flags and `--set` describe; later ones win.

    Raises:
        ValueError: If a setting is missing, misspelt or has a bad value.
        FileNotFoundError: If there is no such recipe.
    """
    from maskgym.agents.config import merge_settings, set_value
    from maskgym.agents.experiment import load_experiment
    from maskgym.agents.methods import method_settings
    from maskgym.agents.recipe import read_recipe
    from maskgym.envs import find_env_id

    values: dict[str, Any] = {"env_id": "search"}
    if args.recipe:
        values = merge_settings(values, read_recipe(args.recipe, method=args.method or ""))
    elif args.method:
        values = merge_settings(values, method_settings(args.method))
    for flag, name in _SETTINGS.items():
        value = getattr(args, flag)
        if value is not None:
            set_value(values, f"{name}={json.dumps(value)}")
    if args.dtype:
        set_value(values, f"learner.precision={args.dtype}")
    for item in args.set:
        set_value(values, item)
    for name, flag in (("train_tasks", "tasks"), ("model", "model")):
        if not values.get(name):
            raise ValueError(
                f"A new run needs --{flag} (or a recipe that says it). `maskgym train --help` shows "
                "examples."
            )
    values.setdefault("eval_tasks", values["train_tasks"])
    values["env_id"] = find_env_id(values["env_id"])
    for name in ("train_tasks", "eval_tasks", "index", "eval_index"):
        values[name] = absolute(values.get(name, ""))
    if values["model"] != NEW_MODEL:
        values["model"] = absolute(values["model"])
    return load_experiment(values)


def absolute(path: str) -> str:
    """The path in a form that a resumed run finds from any folder; what is no path, as it is."""
    is_path = path and path != "env" and not path.startswith(_NO_PATHS)
    return str(Path(path).expanduser().absolute()) if is_path else path


class _ListRecipes(argparse.Action):
    """Prints the recipes and methods, and ends."""

    def __call__(self, parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        from maskgym.agents.methods import method_names
        from maskgym.agents.recipe import recipe_names

        print("recipes:", *recipe_names(), sep="\n  ")
        print("methods:", *method_names(), sep="\n  ")
        parser.exit()


def _make_new_model(config: Any, folder: Path) -> Path:
    """A small untrained model whose tokenizer is made from the tasks' own texts."""
    from maskgym.agents.play_config import task_source
    from maskgym.agents.tiny_model import make_tiny_model

    tasks = task_source(config.train_tasks, config)

    def texts() -> Iterator[str]:
        yield "user\nassistant\n"
        for task in tasks[: min(len(tasks), 2000)]:
            yield task.question
            for turn in task.expert_trace.turns if task.expert_trace is not None else ():
                yield turn.text

    tools = ("think", "search", "information", "python", "result", "answer")
    tags = tuple(f"<{slash}{name}>" for name in tools for slash in ("", "/"))
    new_model = config.new_model
    print(f"Making a small untrained model in {folder} ...", flush=True)
    return make_tiny_model(
        folder,
        texts(),
        config=replace(
            new_model,
            extra_tokens=new_model.extra_tokens or tags,
            max_position_embeddings=max(new_model.max_position_embeddings, config.max_model_len),
            seed=config.trainer.seed,
        ),
    )


def _write_report(folder: Any, num_steps: int) -> Path:
    from maskgym.agents.report import shown_samples, write_report

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
    samples = shown_samples(folder)
    last = metrics[-1]["step"]
    lead = [f"{last} of {num_steps} optimiser steps, {metrics[-1]['num_rollouts']} rollouts."]
    page: Path = write_report(
        folder, title=f"Run {folder.path.name}", lead=lead, table=table, samples=samples
    )
    return page


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
