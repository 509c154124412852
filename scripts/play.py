"""In: an environment id and turns typed by hand. Out: the episode, its verdict and reward."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any, TextIO

import gymnasium

from maskgym.envs import ENV_IDS, TextEnv, expert_actions, find_env_id, gold_answer

SUMMARY = "Play an episode of an environment by hand in the terminal."

_HELP = """Type a turn; it ends with </search>, </python> or </answer>, or with an empty line.
  :hint   what the expert would play now
  :help   this text
  :quit   leave"""
_COLOURS = {"scaffold": "33", "text": "36", "note": "2", "good": "1;32", "bad": "1;31"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym play`."""
    parser.add_argument(
        "env_id",
        nargs="?",
        default=ENV_IDS[-1],
        help="environment id, short (search) or full (default: %(default)s)",
    )
    parser.add_argument(
        "--tasks", help='a file of tasks, or "testbed:level=3,split=test" (default: the testbed)'
    )
    parser.add_argument(
        "--scaffold",
        default="",
        help="mask policy of the scaffold, such as all (default: none shown)",
    )
    parser.add_argument("--index", help="folder of an index, for search tasks from a file")
    parser.add_argument("--task", help="id of the task, or its number from 0 (default: drawn)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the draw (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Plays one episode."""
    settings: dict[str, Any] = {"scaffold": args.scaffold}
    if args.tasks:
        settings["tasks"] = args.tasks
    if args.index:
        settings["retriever"] = args.index
    env = gymnasium.make(find_env_id(args.env_id), **settings)
    try:
        return _play(env, args, sys.stdin)
    finally:
        env.close()


def _play(env: gymnasium.Env[Any, Any], args: argparse.Namespace, stdin: TextIO) -> int:
    options: dict[str, Any] = {}
    if args.task is not None:
        options["task"] = int(args.task) if args.task.isdecimal() else args.task
    observation, info = env.reset(seed=args.seed, options=options)
    base = env.unwrapped
    if not isinstance(base, TextEnv):
        raise ValueError(f"{args.env_id} is not played in text; `play` needs a TextEnv.")
    print(_paint(f"{info['task_id']}   (:help for commands)", "note"))
    _show(observation)
    for turn in _turns(stdin, base.stop_strings):
        match turn.strip():
            case ":quit":
                return 0
            case ":help":
                print(_HELP)
            case ":hint":
                print(_paint(_hint(base, info["turn"]), "note"))
            case command if command.startswith(":"):
                print(_paint(f"No command {command!r}; :help lists them.", "note"))
            case _:
                observation, reward, terminated, truncated, info = env.step(turn)
                _show(observation)
                if terminated or truncated:
                    _show_end(float(reward), info)
                    return 0
    print(_paint("The input ended before the episode.", "note"))
    return 0


def _turns(stdin: TextIO, stop_strings: tuple[str, ...]) -> Iterator[str]:
    """What was typed: a command, or the lines up to an empty one or to a complete action."""
    is_terminal = stdin.isatty()
    lines: list[str] = []
    while True:
        if is_terminal:
            print("... " if lines else "> ", end="", flush=True)
        line = stdin.readline()
        text = line.rstrip("\n")
        if not lines and text.startswith(":"):
            yield text
        elif text:
            lines.append(text)
        if lines and (not text or text.rstrip().endswith(stop_strings)):
            yield "\n".join(lines)
            lines = []
        if not line:
            return


def _hint(env: TextEnv, turn: int) -> str:
    task = env.task
    if task is None or task.expert_trace is None:
        return "This task has no expert trace."
    actions = expert_actions(task.expert_trace, env.protocol, gold_answer(task))
    return actions[turn] if turn < len(actions) else "The expert would have answered by now."


def _show(observation: dict[str, str]) -> None:
    for name in ("scaffold", "text"):
        if observation[name]:
            print(_paint(observation[name], name))


def _show_end(reward: float, info: dict[str, Any]) -> None:
    verdict = info["verdict"] or "no answer"
    reason = f" ({info['verdict_reason']})" if info["verdict_reason"] else ""
    is_good = info["verdict"] == "correct"
    summary = f"{verdict}{reason}   reward {reward:g}   end: {info['end_reason']}"
    print(_paint(summary, "good" if is_good else "bad"))


def _paint(text: str, name: str) -> str:
    return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if sys.stdout.isatty() else text
