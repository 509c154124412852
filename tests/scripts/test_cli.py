"""The command line: what a newcomer reads, what an error looks like, what the exit status says."""

import argparse
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gymnasium
import pytest

import maskgym
from maskgym.scripts import cli, console

Run = Callable[[argparse.Namespace], int]
NAMES = [command.name for command in cli.COMMANDS]


@contextmanager
def command(run: Run) -> Iterator[None]:
    """Puts a command with one option and the given `run` in the place of `maskgym mask`."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--policy", default="all", help="mask policy")

    module = types.ModuleType("maskgym.scripts.mask")
    module.__dict__.update(
        SUMMARY="hide things",
        EXAMPLES="  maskgym mask --policy all",
        add_arguments=add_arguments,
        run=run,
    )
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module
    try:
        yield
    finally:
        del sys.modules[module.__name__]
        if before is not None:
            sys.modules[module.__name__] = before


def raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def maskgym_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "maskgym", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )


def test_the_overview_names_every_command_with_its_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for entry in cli.COMMANDS:
        assert f"  {entry.name:<8}{entry.summary}\n" in shown
    assert cli.main([]) == 0
    assert capsys.readouterr().out == shown
    assert max(map(len, shown.splitlines())) <= 100


def test_the_overview_is_fast_because_it_imports_no_command() -> None:
    code = (
        "import sys; from maskgym.scripts.cli import main; main(['--help']);"
        "sys.exit(any(name in sys.modules for name in"
        f" {['torch', *(f'maskgym.scripts.{name}' for name in NAMES)]!r}))"
    )
    assert (
        subprocess.run([sys.executable, "-P", "-c", code], check=False, timeout=60).returncode == 0
    )


@pytest.mark.parametrize("name", NAMES)
def test_each_command_says_what_the_overview_says(name: str) -> None:
    module = importlib.import_module(f"maskgym.scripts.{name}")
    summary = next(entry.summary for entry in cli.COMMANDS if entry.name == name)
    assert cli.as_sentence(summary) == cli.as_sentence(module.SUMMARY)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_explains_itself_with_examples_that_parse(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: maskgym {name}")
    text = re.sub(r"\\\n\s*", "", shown.partition("examples:")[2])  # a shell joins such lines
    lines = [line.strip() for line in text.splitlines()]
    examples = [line for line in lines if line.startswith("maskgym ")]
    assert examples
    for example in examples:
        words = shlex.split(re.split(r"\s{2,}|\s#", example)[0])
        assert words[1] == name
        parser = cli.build_parser(name, cli.load_command(name))
        parser.parse_args(words[2:])


def test_the_installed_command_and_the_module_are_the_same() -> None:
    result = maskgym_process("--version")
    assert (result.returncode, result.stdout) == (0, f"maskgym {maskgym.__version__}\n")
    installed = Path(sys.executable).with_name("maskgym")
    if not installed.is_file():
        pytest.skip("maskgym is not installed beside this Python")
    other = subprocess.run([installed, "--version"], capture_output=True, text=True, check=True)
    assert other.stdout == result.stdout


def test_an_unknown_command_offers_the_nearest() -> None:
    result = maskgym_process("trian")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "maskgym: error: no command 'trian'. Did you mean 'train'?"
        " `maskgym --help` lists all commands.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [(["--versoin"], "--version"), (["mask", "--polcy", "none"], "--policy")],
)
def test_an_unknown_option_offers_the_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with command(lambda args: 0):
        try:
            status: object = cli.main(arguments)
        except SystemExit as left:
            status = left.code
    assert status == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert f" Did you mean {nearest!r}? `maskgym" in shown


def test_an_abbreviated_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with command(lambda args: 0), pytest.raises(SystemExit):
        cli.main(["mask", "--pol", "none"])
    assert "no argument '--pol'" in capsys.readouterr().err


def test_arguments_and_status_pass_through() -> None:
    seen = []

    def run(args: argparse.Namespace) -> int:
        seen.append(args.policy)
        return 7

    with command(run):
        assert cli.main(["mask", "--policy", "none"]) == 7
        assert cli.main(["--debug", "mask"]) == 7
    assert seen == ["none", "all"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("level is 9; 1 to 3 are valid."), "level is 9; 1 to 3 are valid."),
        (KeyError("No task 'x'."), "No task 'x'."),
        (LookupError("No policy 'al'."), "No policy 'al'."),
        (FileExistsError("runs/a exists. Choose another."), "runs/a exists. Choose another."),
        (
            FileNotFoundError(2, "No such file or directory", "rows.jsonl"),
            "No such file or directory: 'rows.jsonl'",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "No module named 'torch'. Install it with: pip install 'maskgym[train]'",
        ),
        (
            ImportError("Parquet needs pip install 'maskgym[parquet]'."),
            "Parquet needs pip install 'maskgym[parquet]'.",
        ),
        (ValueError(), "ValueError"),
        (gymnasium.error.NameNotFound("No Echo-v0."), "No Echo-v0."),
    ],
)
def test_a_users_error_is_one_line_that_says_what_to_do(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with command(raising(error)):
        assert cli.main(["mask"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"maskgym: error: {line}\n"
    assert captured.out == ""


@pytest.mark.parametrize("arguments", [["--debug", "mask"], ["mask", "--debug"]])
def test_debug_shows_where_an_error_came_from(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with command(raising(ValueError("bad level"))):
        assert cli.main(arguments) == 2
    shown = capsys.readouterr().err
    assert "Traceback (most recent call last)" in shown
    assert shown.endswith("maskgym: error: bad level\n")


def test_our_own_bugs_are_not_dressed_up_as_a_users_error() -> None:
    with command(raising(AssertionError("impossible"))), pytest.raises(AssertionError):
        cli.main(["mask"])


def test_an_interrupt_has_its_own_status(capsys: pytest.CaptureFixture[str]) -> None:
    with command(raising(KeyboardInterrupt())):
        assert cli.main(["mask"]) == 130
    assert capsys.readouterr().err == "maskgym: interrupted\n"


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = (
        "import sys, types; from maskgym.scripts import cli;"
        "m = types.ModuleType('m'); m.SUMMARY = 's'; m.add_arguments = lambda p: None;"
        "m.run = lambda a: [print('x' * 1000) for _ in range(1000)] and 0;"
        "sys.modules['maskgym.scripts.mask'] = m; sys.exit(cli.main(['mask']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 141


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_goes_only_to_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console.paint("EM", console.Style.BOLD, stream=Terminal()) == "\x1b[1mEM\x1b[0m"
    assert console.paint("EM", console.Style.BOLD, stream=io.StringIO()) == "EM"
    monkeypatch.setenv("NO_COLOR", "1")
    assert console.paint("EM", console.Style.BOLD, stream=Terminal()) == "EM"


def test_a_table_aligns_numbers_and_wide_characters() -> None:
    table = console.format_table(
        ["question", "EM", "note"], [["日本", 0.5, None], ["two\nlines", 10.25, "ok"]], decimals=2
    )
    assert table.splitlines() == [
        "question      EM  note",
        "---------  -----  ----",
        "日本        0.50  -",
        "two lines  10.25  ok",
    ]


def test_a_table_is_cut_to_the_terminal() -> None:
    table = console.format_table(["id", "text"], [["a", "x" * 200]], max_width=40)
    assert max(map(len, table.splitlines())) == 40
    assert table.endswith("x…")
    assert console.format_table(["id", "text"], []).splitlines() == ["id  text", "--  ----"]


def test_a_table_with_a_short_row_is_refused() -> None:
    with pytest.raises(ValueError, match="1 cells for 2 headers"):
        console.format_table(["id", "text"], [["a"]])
