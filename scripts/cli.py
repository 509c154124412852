"""The command `maskgym`: arguments come in, one subcommand runs, an exit status goes out."""

import argparse
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol, cast

import gymnasium

import maskgym

from .console import Style, paint

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

EXTRA_OF_MODULE = {
    "faiss": "dense",
    "jnius": "lucene",
    "matplotlib": "train",
    "pyarrow": "parquet",
    "pyserini": "lucene",
    "safetensors": "train",
    "skyrl_gym": "skyrl",
    "spacy": "ner",
    "tokenizers": "train",
    "torch": "train",
    "transformers": "train",
    "uvicorn": "serve",
    "vllm": "vllm",
}
"""Which extra of pyproject.toml brings a module that may be missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """A subcommand as `maskgym --help` shows it; `maskgym.scripts.<name>` does the work."""

    name: str
    group: str
    summary: str
    """As the module's SUMMARY; repeated here so that the overview imports no module."""
    example: str
    """Shown by `maskgym <name> --help` where the module has no EXAMPLES of its own."""


COMMANDS = (
    Command(
        name="demo",
        group="try it",
        summary="mask, warm up, train and evaluate a small model from nothing, in minutes on a CPU",
        example="maskgym demo --quick",
    ),
    Command(
        name="play",
        group="try it",
        summary="play an episode of an environment by hand in the terminal",
        example="maskgym play search --scaffold all",
    ),
    Command(
        name="check",
        group="try it",
        summary="check environments against the contract, their rewards, or what the sandbox protects",
        example="maskgym check math my_module:my/Env-v0",
    ),
    Command(
        name="mask",
        group="data",
        summary="mask the expert traces of a file and report what they still give away",
        example="maskgym mask traces.jsonl masked.jsonl --report page.html",
    ),
    Command(
        name="grade",
        group="data",
        summary="grade stored responses with the verifiers of the environments",
        example="maskgym grade solutions.jsonl graded.jsonl --env math",
    ),
    Command(
        name="index",
        group="data",
        summary="build an index of passages, or search one",
        example="maskgym index passages.jsonl indexes/wiki",
    ),
    Command(
        name="search",
        group="data",
        summary="search an index, several at once or a service for a file of queries",
        example="maskgym search indexes/wiki --queries questions.jsonl --out hits.jsonl",
    ),
    Command(
        name="serve",
        group="data",
        summary="serve an index over HTTP, as Search-R1, verl and SkyRL ask for it",
        example="maskgym serve indexes/wiki",
    ),
    Command(
        name="train",
        group="agent",
        summary="train an agent with GRPO on masked expert traces",
        example="maskgym train --help",
    ),
    Command(
        name="eval",
        group="agent",
        summary="evaluate an agent without any scaffold",
        example="maskgym eval --help",
    ),
)

OVERVIEW_EXAMPLES = """\
  maskgym demo                        the whole path once; ends with the place of its report
  maskgym play search                 answer a multi-hop question yourself
  maskgym train --help                everything that a command can do"""


class CommandModule(Protocol):
    """What a module of `maskgym.scripts` offers. EXAMPLES (str) may be there as well."""

    SUMMARY: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and offers the nearest option instead."""

    def __init__(
        self,
        *,
        prog: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Leaves with one line on stderr: what is wrong, the nearest option, where help is."""
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            option = unknown.split()[0].split("=")[0]
            message = f"no argument {option!r}.{_did_you_mean(option, self._option_string_actions)}"
        end = "" if message.endswith(("?", ".")) else "."
        fail(f"{message}{end} `{self.prog} --help` explains.", prog=self.prog)


def fail(message: str, *, prog: str = "maskgym") -> NoReturn:
    """Prints the message as maskgym's errors look and exits with EXIT_ERROR."""
    print_error(message, prog=prog)
    raise SystemExit(EXIT_ERROR)


def print_error(message: str, *, prog: str = "maskgym") -> None:
    """Prints `<prog>: error: <message>` on stderr."""
    label = paint("error:", Style.BOLD, Style.RED, stream=sys.stderr)
    print(f"{prog}: {label} {message}", file=sys.stderr)


def format_overview() -> str:
    """What `maskgym --help` prints: the purpose, the commands in groups, where to start."""
    lines = [
        "usage: maskgym [--version] [--debug] COMMAND ...",
        "",
        "Environments in which a language model works on math, code and search problems in several",
        "turns, with masked expert traces as scaffolds, and a GRPO agent that trains on them.",
    ]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        lines += ["", f"{paint(group, Style.BOLD, stream=sys.stdout)}:"]
        lines += [f"  {c.name:<8}{c.summary}" for c in COMMANDS if c.group == group]
    lines += ["", f"{paint('examples', Style.BOLD, stream=sys.stdout)}:", OVERVIEW_EXAMPLES]
    return "\n".join(lines)


def as_sentence(summary: str) -> str:
    """The summary with a capital letter and a full stop.

    >>> as_sentence("mask a trace")
    'Mask a trace.'
    """
    return f"{summary[:1].upper()}{summary[1:].rstrip('.')}."


def describe_error(error: BaseException) -> str:
    """One line (or the error's own lines) that tells a user what is wrong and what to do."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        extra = EXTRA_OF_MODULE.get(error.name.partition(".")[0])
        if extra and f"[{extra}]" not in str(error):
            return f"{error}. Install it with: pip install 'maskgym[{extra}]'"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {os.fspath(error.filename)!r}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])  # str() of a KeyError puts the message in quotes
    return str(error) or type(error).__name__


def load_command(name: str) -> CommandModule:
    """The module of a subcommand, imported now.

    Raises:
        LookupError: If there is none of that name; the message offers the nearest.
    """
    names = [command.name for command in COMMANDS]
    if name not in names:
        hint = _did_you_mean(name, names)
        raise LookupError(f"no command {name!r}.{hint} `maskgym --help` lists all commands.")
    return cast(CommandModule, importlib.import_module(f"{__package__}.{name}"))


def build_parser(name: str, module: CommandModule) -> Parser:
    """The argument parser of a subcommand, with its examples at the end of the help."""
    fallback = next(f"  {command.example}" for command in COMMANDS if command.name == name)
    examples = str(getattr(module, "EXAMPLES", "")).strip("\n") or fallback
    parser = Parser(
        prog=f"maskgym {name}",
        description=as_sentence(module.SUMMARY),
        epilog=f"examples:\n{examples}",
    )
    module.add_arguments(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `maskgym` with these arguments (default: the process's); returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_debugging = "--debug" in words
    try:
        status = _dispatch(words)
        sys.stdout.flush()  # a reader that has gone shows itself here, not at exit
        return status
    except KeyboardInterrupt:
        if is_debugging:
            traceback.print_exc()
        print("maskgym: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `maskgym ... | head`: nobody is left to read a complaint
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_BROKEN_PIPE
    except (
        ValueError,
        LookupError,
        OSError,
        ImportError,
        FloatingPointError,  # a loss that is not finite; the message names the step
        gymnasium.error.Error,
    ) as error:
        if is_debugging:
            traceback.print_exc()
        print_error(describe_error(error))
        return EXIT_ERROR


def _dispatch(words: Sequence[str]) -> int:
    position = next((i for i, word in enumerate(words) if not word.startswith("-")), len(words))
    own_options = ["-h", "--help", "--version", "--debug"]
    for word in words[:position]:
        if word not in own_options:
            hint = _did_you_mean(word, own_options)
            raise LookupError(f"no option {word!r}.{hint} `maskgym --help` explains.")
    if "--version" in words[:position]:
        print(f"maskgym {maskgym.__version__}")
        return 0
    if position == len(words) or {"-h", "--help"} & set(words[:position]):
        print(format_overview())
        return 0
    name, rest = words[position], words[position + 1 :]
    module = load_command(name)
    return module.run(build_parser(name, module).parse_args(rest))


def _did_you_mean(word: str, known: Sequence[str] | dict[str, argparse.Action]) -> str:
    nearest = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {nearest[0]!r}?" if nearest else ""
