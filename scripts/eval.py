"""`maskgym eval`: a model or a scripted policy and tasks come in, a table of bare results goes out."""

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from .console import Style, paint
from .interrupts import stop_on_interrupt

SUMMARY = "evaluate an agent without any scaffold"
EXAMPLES = """\
  maskgym eval --env search --tasks testbed:level=2,split=test --policy expert --out runs/expert
  maskgym eval --env search --tasks questions.jsonl.gz --index indexes/wiki \\
      --policy search-first --out runs/search-first
  maskgym eval --env math --tasks gsm8k/test.jsonl.gz --model runs/gsm8k/checkpoints/step-000100 \\
      --out runs/gsm8k-test"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `maskgym eval`."""
    add = parser.add_argument
    add(
        "--env",
        default="search",
        metavar="ID",
        help="environment: search, math, code, or a full id",
    )
    add(
        "--tasks",
        required=True,
        metavar="TASKS",
        help="file of rows, or a testbed such as testbed:level=2,split=test",
    )
    add(
        "--mapping",
        default="",
        metavar="NAME",
        help="column mapping of the file (default: guessed)",
    )
    add("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")
    add("--num-tasks", type=int, metavar="N", help="use only the first N tasks")
    add("--index", default="", metavar="FOLDER", help="search index")
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--model", metavar="FOLDER", help="model folder, or a checkpoint of a run")
    who.add_argument("--policy", metavar="NAME", help="scripted policy: expert, search-first")
    add("--out", required=True, metavar="FOLDER", help="folder for the records: made new")
    add("--engine", default="auto", choices=("auto", "vllm", "transformers"), help="what samples")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="precision")
    add("--max-tokens", type=int, default=256, metavar="N", help="most tokens of one action")
    add("--max-model-len", type=int, default=2048, metavar="N", help="most tokens of an episode")
    add("--temperature", type=float, default=0.0, metavar="T", help="0 for greedy")
    add("--seed", type=int, default=0, metavar="N", help="fixes what is sampled above 0")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as episode.max_turns=4",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluates and prints the table."""
    from maskgym.agents.evaluation import summarise
    from maskgym.agents.experiment import task_source
    from maskgym.agents.run_folder import RunFolder

    config = _config(args)
    tasks = task_source(config.eval_tasks, config)[: config.num_eval_tasks]
    folder = RunFolder.create(args.out, config)
    message = "Stopping; the questions answered so far are kept. Ctrl-C again stops at once."
    with stop_on_interrupt(message) as should_stop:
        if args.policy:
            trajectories = _play_policy(args.policy, config, tasks, should_stop)
        else:
            trajectories = _play_model(config, tasks, should_stop)
    folder.write_trajectories("eval", trajectories)
    played = {trajectory.task_id for trajectory in trajectories}
    tasks = [task for task in tasks if task.task_id in played]
    if not tasks:
        print("Nothing was played to the end.", file=sys.stderr)
        return 130
    evaluation = summarise(tasks, trajectories)
    folder.write_json("evaluation.json", evaluation.to_row())
    table = format_evaluation(args.policy or args.model, evaluation)
    (folder.path / "evaluation.md").write_text(table + "\n", encoding="utf-8")
    print(table)
    records = paint(str(folder.path), Style.BOLD, stream=sys.stdout)
    print(f"\nRecords of {len(trajectories)} episodes, bare: {records}")
    return 130 if should_stop() else 0


def format_evaluation(name: str, evaluation: Any) -> str:
    """The result as a Markdown table."""
    recall = evaluation.retrieval_recall
    cells = {
        "policy": Path(name).name,
        "tasks": str(evaluation.num_tasks),
        "accuracy [95%]": str(evaluation.accuracy),
        "EM": f"{evaluation.exact_match:.3f}",
        "F1": f"{evaluation.f1:.3f}",
        "gold passages seen": "-" if recall is None else f"{recall:.1%}",
        "turns": f"{evaluation.mean_turns:.2f}",
        "tool errors": f"{evaluation.tool_error_share:.1%}",
        "ungraded": str(evaluation.num_verifier_errors),
    }
    lines = [cells.keys(), ["---"] * len(cells), cells.values()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _config(args: argparse.Namespace) -> Any:
    from .train import config_from_arguments

    args.model = args.model or "none"
    values = {
        "eval_tasks": args.tasks,
        "num_tasks": None,
        "num_eval_tasks": args.num_tasks,
        "eval_index": "",
        "steps": 1,
        "tasks_per_step": 1,
        "eval_every": 0,
        "checkpoint_every": 1,
        "planner": "bare",
        "policy": "all",
        "train_on": "guided",
        "group_size": 2,
        "lr": 1e-6,
    }
    merged = argparse.Namespace(**{**vars(args), **values})
    return config_from_arguments(merged)


def _play_model(config: Any, tasks: Any, should_stop: Any) -> list[Any]:
    from tqdm import tqdm

    from maskgym.agents.chat import Chat, load_tokenizer
    from maskgym.agents.engine import check_model_dir
    from maskgym.agents.env_pool import EnvPool
    from maskgym.agents.evaluation import evaluate
    from maskgym.agents.experiment import make_engine, make_env, with_stop_strings
    from maskgym.agents.rollout import RolloutInterruptedError

    check_model_dir(config.model)
    with (
        tqdm(total=len(tasks), desc="questions", unit="task", disable=None) as bar,
        closing(EnvPool(lambda: make_env(config, tasks, index=config.index))) as envs,
        closing(make_engine(config.model, config)) as engine,
    ):
        with closing(make_env(config, tasks, index=config.index)) as env:
            config = with_stop_strings(config, env)
        chat = Chat(load_tokenizer(config.model), config.chat)
        try:
            _, trajectories = evaluate(
                engine,
                chat,
                envs,
                tasks,
                config.trainer.rollout,
                seed=config.trainer.seed,
                should_stop=should_stop,
                progress=bar.update,
            )
        except RolloutInterruptedError as stop:
            trajectories = stop.trajectories
    return trajectories


def _play_policy(name: str, config: Any, tasks: Any, should_stop: Any) -> list[Any]:
    from tqdm import tqdm

    from maskgym.agents.engine import nearest_name
    from maskgym.agents.experiment import make_env
    from maskgym.agents.policies import POLICIES, play

    if name not in POLICIES:
        raise LookupError(f"No policy {name!r}. Did you mean {nearest_name(name, POLICIES)!r}?")
    trajectories = []
    with closing(make_env(config, tasks, index=config.index)) as env:
        for task in tqdm(tasks, desc=name, unit="task", disable=None):
            if should_stop():
                break
            trajectories.append(play(env, POLICIES[name](), task))
    return trajectories
