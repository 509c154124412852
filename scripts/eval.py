"""`maskgym eval`: who plays and benchmarks come in, records and a table of bare results go out.

Beside playing, it compares two evaluations (`--compare`) and scores answers of others (`--replay`).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .console import Style, paint
from .interrupts import stop_on_interrupt

SUMMARY = "evaluate an agent without any scaffold"
EXAMPLES = """\
  maskgym eval --env search --tasks testbed:level=2,split=test --policy expert --out runs/expert
  maskgym eval --bench nq,hotpotqa,bamboogle --index indexes/wiki --model Qwen3-4B --out runs/qwen
  maskgym eval --bench popqa --index http://127.0.0.1:8000 --endpoint http://127.0.0.1:8001/v1 \\
      --out runs/served
  maskgym eval --env math --tasks gsm8k/test.jsonl.gz --model runs/gsm8k/checkpoints/step-000100 \\
      --out runs/gsm8k-test
  maskgym eval --compare runs/qwen runs/served
  maskgym eval --replay intermediate_data.json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `maskgym eval`."""
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--bench",
        metavar="NAMES",
        help="benchmarks by name, such as nq,hotpotqa or nq:dev; each gets a row, with a macro average",
    )
    what.add_argument(
        "--tasks",
        metavar="TASKS",
        help="file of rows, or a testbed such as testbed:level=2,split=test",
    )
    what.add_argument(
        "--compare", nargs=2, metavar="RUN", help="compare two evaluations question by question"
    )
    what.add_argument(
        "--replay",
        nargs="+",
        metavar="FILE",
        help="score stored answers: JSON or JSONL, .gz or not",
    )
    add(
        "--data",
        default="",
        metavar="FOLDER",
        help="files of the benchmarks (default: $MASKGYM_DATA or ./data)",
    )
    add("--index", default="", metavar="PLACE", help="search index, or the address of a service")
    add("--out", metavar="FOLDER", help="run folder: made new, or gone on with")
    add("--resume", action="store_true", help="go on with --out, which must be there already")
    add(
        "--retry-failed",
        action="store_true",
        help="play again what an engine, an environment, a verifier or a deadline ended",
    )
    who = parser.add_argument_group("who plays")
    who.add_argument(
        "--model", metavar="MODEL", help="folder, checkpoint, hub name, or name at the endpoint"
    )
    who.add_argument("--policy", metavar="NAME", help="scripted policy: expert, search-first")
    who.add_argument("--endpoint", metavar="URL", help="OpenAI-compatible server")
    who.add_argument(
        "--engine",
        default="auto",
        choices=("auto", "vllm", "transformers", "endpoint"),
        help="what samples",
    )
    who.add_argument(
        "--api", default="chat", choices=("chat", "completions"), help="of the endpoint"
    )
    who.add_argument(
        "--api-key-env", default="", metavar="NAME", help="environment variable with the API key"
    )
    who.add_argument(
        "--concurrency", type=int, default=32, metavar="N", help="episodes at once at the endpoint"
    )
    add(
        "--env", default="", metavar="ID", help="search, math, code, or a full id (default: search)"
    )
    add(
        "--mapping",
        default="",
        metavar="NAME",
        help="column mapping of the file (default: guessed)",
    )
    add("--skip-bad-rows", action="store_true", help="leave bad rows out instead of stopping")
    add("--num-tasks", type=int, metavar="N", help="use only the first N tasks of each benchmark")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="precision")
    add("--max-tokens", type=int, default=256, metavar="N", help="most tokens of one action")
    add("--max-model-len", type=int, default=2048, metavar="N", help="most tokens of an episode")
    add("--temperature", type=float, default=0.0, metavar="T", help="0 for greedy")
    add("--seed", type=int, default=0, metavar="N", help="fixes samples and bootstrap resamples")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="any other setting, such as episode.max_turns=4",
    )


def run(args: argparse.Namespace) -> int:
    """Plays, compares or replays; prints the table."""
    if args.compare:
        return _compare(args)
    if args.replay:
        return _replay(args)
    return _play(args)


def _play(args: argparse.Namespace) -> int:
    from .eval_config import evaluation_config

    config = evaluation_config(args)
    from maskgym.agents.evaluation.config import check_index, load_suites, open_run
    from maskgym.agents.evaluation.records import RECORDS_FILE, drop_failed, read_records
    from maskgym.agents.run_folder import RunFolder

    from .eval_players import check_player

    check_player(config)
    is_begun = (Path(args.out) / "config.json").is_file()
    if args.resume:
        RunFolder.open(args.out)
    suites = load_suites(config)
    folder = open_run(args.out, config, suites)
    if args.retry_failed:
        print(f"{drop_failed(folder.path)} failed episodes are played again.")
    has_records = (folder.path / RECORDS_FILE).is_file()
    done = {record.key for record in read_records(folder.path)} if has_records else set()
    missing = {
        name: [task for task in suite.tasks if (name, task.task_id) not in done]
        for name, suite in suites.items()
    }
    num_missing = sum(map(len, missing.values()))
    if num_missing and is_begun:
        check_index(folder, config)
    if done and num_missing:
        print(f"{len(done)} questions are done; {num_missing} are left.", flush=True)
    was_stopped = bool(num_missing) and _play_missing(config, folder, suites, missing)
    return _report(config, folder, suites, was_stopped=was_stopped)


def _play_missing(
    config: Any, folder: Any, suites: dict[str, Any], missing: dict[str, list[Any]]
) -> bool:
    """Plays what is missing and writes a record as each episode ends; whether Ctrl-C cut it short."""
    from tqdm import tqdm

    from maskgym.agents.evaluation.records import EvaluationRecord, RecordWriter
    from maskgym.agents.evaluation.scores import score_question

    from .eval_players import open_player

    message = "Stopping; the questions answered so far are kept. Ctrl-C again stops at once."
    total = sum(len(suite.tasks) for suite in suites.values())
    num_done = total - sum(map(len, missing.values()))
    with (
        RecordWriter(folder.path) as writer,
        stop_on_interrupt(message) as should_stop,
        open_player(config, should_stop) as player,
        tqdm(total=total, initial=num_done, desc="questions", unit="task", disable=None) as bar,
    ):
        for name, tasks in missing.items():
            by_id = {task.task_id: task for task in tasks}

            def keep(trajectory: Any, name: str = name, by_id: dict[str, Any] = by_id) -> None:
                scores = score_question(by_id[trajectory.task_id], trajectory)
                writer.append(
                    EvaluationRecord(benchmark=name, scores=scores, trajectory=trajectory)
                )
                bar.update(1)

            if tasks and not should_stop():
                bar.set_description(name)
                player(suites[name].source, tasks, keep)
        return should_stop()


def _report(config: Any, folder: Any, suites: dict[str, Any], *, was_stopped: bool) -> int:
    from maskgym.agents.evaluation.records import read_records
    from maskgym.agents.evaluation.table import tabulate

    records = read_records(folder.path)
    if not records:
        print("Nothing was played to the end.", file=sys.stderr)
        return 130
    expected = {name: len(suite.tasks) for name, suite in suites.items()}
    table = tabulate(records, expected=expected, seed=config.seed)
    page = table.to_markdown(who=_name_of_player(config))
    folder.write_json("evaluation.json", table.to_json())
    (folder.path / "evaluation.md").write_text(page, encoding="utf-8")
    print(page)
    print(f"Records of {len(records)} episodes, bare: {_bold(folder.path)}")
    if was_stopped:
        print(
            f"{sum(expected.values()) - len(records)} questions are left; the same command goes on."
        )
    return 130 if was_stopped else 0


def _name_of_player(config: Any) -> str:
    if config.policy:
        return f"the policy {config.policy}"
    if config.endpoint:
        return f"{config.endpoint['model']} at {config.endpoint['base_url']}"
    return Path(config.model).name


def _compare(args: argparse.Namespace) -> int:
    from maskgym.agents.evaluation.compare import compare
    from maskgym.agents.evaluation.config import check_bare, differences
    from maskgym.agents.evaluation.records import read_records
    from maskgym.agents.run_folder import RunFolder

    records = [read_records(path) for path in args.compare]
    saved = [RunFolder.open(path).config for path in args.compare]
    for config in saved:
        check_bare(config.get("evaluation", {}))
    name_a, name_b = args.compare
    found = compare(*records, seed=args.seed)
    page = found.to_markdown(name_a=name_a, name_b=name_b)
    changed = differences(
        *(
            {**c.get("evaluation", {}), "index_fingerprint": c.get("index_fingerprint")}
            for c in saved
        ),
        sides=("A", "B"),
    )
    if changed:
        page += "\n".join(["\nSettings that differ:\n", *(f"- {line}" for line in changed), ""])
    print(page)
    _write(args.out, "comparison", page, found.to_json())
    return 0


def _replay(args: argparse.Namespace) -> int:
    from maskgym.agents.evaluation.replay import (
        read_answers,
        replay,
        replay_to_json,
        replay_to_markdown,
    )

    found = replay(
        [answer for path in args.replay for answer in read_answers(path)], seed=args.seed
    )
    page = replay_to_markdown(found)
    print(page)
    _write(args.out, "replay", page, replay_to_json(found))
    return 0


def _write(out: str | None, name: str, page: str, value: dict[str, Any]) -> None:
    """The page and its JSON form in a folder, where one is named."""
    if not out:
        return
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(page, encoding="utf-8")
    text = json.dumps(value, indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(f"Written: {_bold(folder / f'{name}.md')}, {name}.json")


def _bold(path: Path) -> str:
    return paint(str(path), Style.BOLD, stream=sys.stdout)
