"""In: cells on the channel. Out: each is run in one lasting namespace; a letter says how it went.

Output goes to the standard streams. They are flushed before the letter is sent, so that the host,
having the letter, finds all output in the pipes.
"""

import ast
import signal
import sys
from types import FrameType

from . import program
from .frames import read_frame, write_frame

OK, ERROR, INTERRUPTED = b"o", b"e", b"i"
LETTERS = {1: ERROR, program.OOM_EXIT: b"m", program.FILE_EXIT: b"f", program.DISK_EXIT: b"d"}


class _Interrupts:
    """Turns SIGINT into `KeyboardInterrupt` while a cell runs, and into nothing between cells."""

    def __init__(self) -> None:
        self.is_armed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.is_armed:
            raise KeyboardInterrupt


def serve(source: bytes, channel: int) -> int:
    """Runs cells until the host closes the channel; `source` is run before the first."""
    namespace = program.fresh_main("main.py").__dict__
    del namespace["__file__"]
    interrupts = _Interrupts()
    if source:
        _run_cell(source, "<setup>", namespace, interrupts)
    number = 0
    while (cell := read_frame(channel)) is not None:
        number += 1
        signal.signal(signal.SIGINT, interrupts)  # a cell may have set its own
        letter = _run_cell(cell, f"<cell {number}>", namespace, interrupts)
        write_frame(channel, letter)
    return 0


def _run_cell(
    cell: bytes, name: str, namespace: dict[str, object], interrupts: _Interrupts
) -> bytes:
    try:
        try:
            interrupts.is_armed = True
            program.remember_source(cell, name)
            _run(cell, name, namespace)
            letter = OK
        finally:
            interrupts.is_armed = False
    except BaseException as error:
        interrupts.is_armed = False
        letter = _show(error)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # the cell closed or replaced it: its own affair
            continue
    return letter


def _run(cell: bytes, name: str, namespace: dict[str, object]) -> None:
    tree = compile(cell, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    if tree.body:
        program.run_code(compile(tree, name, "exec", dont_inherit=True), namespace)
    if isinstance(last, ast.Expr):
        expression = compile(ast.Expression(last.value), name, "eval", dont_inherit=True)
        sys.displayhook(eval(expression, namespace))


def _show(error: BaseException) -> bytes:
    """Prints what ended a cell; `exit()` ends the cell and keeps the session."""
    if isinstance(error, SystemExit):
        return ERROR if error.code else OK
    try:
        program.show_error(error)
    except BaseException:  # an error whose own text fails
        print(type(error).__name__, file=sys.__stderr__)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return LETTERS[program.exit_code(error)]
