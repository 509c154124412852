"""In: a program's source. Out: it runs as `__main__` with streams of its own; an exit code.

What scripts, sessions and candidates have in common inside of their process.
"""

import atexit
import builtins
import errno
import importlib
import io
import linecache
import os
import sys
import traceback
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import BinaryIO, Literal, NoReturn

OOM_EXIT, FILE_EXIT, DISK_EXIT = 86, 87, 88
"""Our own exit codes: an uncaught `MemoryError`, "file too large", "no space left"."""

_OWN_FOLDER = os.path.dirname(__file__)
# Nothing that imports threading: its own work after a fork costs each child a tenth of its time.
_COMMON = (
    "argparse array ast bisect calendar cmath collections collections.abc contextlib copy csv "
    "dataclasses datetime decimal enum fractions functools heapq inspect io itertools json keyword "
    "math numbers operator pprint random re statistics string struct textwrap time types typing "
    "unicodedata warnings"
)


def warm_up(kind: str) -> None:
    """Imports what programs of this kind commonly need, once for all of them.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind not in ("bare", "sci"):
        raise ValueError(f"warm_up is {kind!r}; use bare or sci.")
    for name in _COMMON.split():
        importlib.import_module(name)
    try:  # `site`, which defines these, is not loaded
        from _sitebuiltins import Quitter

        builtins.exit = Quitter("exit", "Ctrl-D")
        builtins.quit = Quitter("quit", "Ctrl-D")
    except ImportError:
        pass
    if kind == "sci":
        numpy, sympy = (importlib.import_module(name) for name in ("numpy", "sympy"))
        numpy.linalg.solve(numpy.eye(2), numpy.ones(2))
        x = sympy.Symbol("x")  # SymPy imports and caches most of itself on first use
        sympy.solve(x**2 - x - 1, x)
        sympy.simplify(sympy.sin(x) ** 2 + sympy.cos(x) ** 2)
        sympy.integrate(x * sympy.exp(x), x)
        sympy.latex(sympy.sqrt(x) / 2)
        sympy.factorint(360)


def open_streams() -> None:
    """New standard streams on the descriptors 0, 1 and 2, as Python itself makes them.

    The fork server does this once, for descriptors that every child replaces by its own.
    """
    escape = "surrogateescape"
    sys.stdin = io.TextIOWrapper(_raw(0, "rb"), encoding="utf-8", errors=escape)
    sys.stdout = io.TextIOWrapper(_raw(1, "wb"), encoding="utf-8", errors=escape)
    sys.stderr = io.TextIOWrapper(
        _raw(2, "wb"), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, f"__{name}__", getattr(sys, name))


def _raw(fd: int, mode: Literal["rb", "wb"]) -> BinaryIO:
    return open(fd, mode, closefd=False)


def fresh_main(file_name: str) -> ModuleType:
    """An empty `__main__`, with the arguments and the path that a script finds."""
    main = ModuleType("__main__")
    main.__file__ = file_name
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv = [file_name]
    sys.path.insert(0, os.getcwd())
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:  # else every program would draw the numbers of the fork server
        numpy_random.seed()
    return main


def remember_source(source: bytes, file_name: str) -> None:
    """Lets tracebacks and `inspect` show lines of a program that is in no file."""
    text = source.decode("utf-8", "replace")
    linecache.cache[file_name] = (len(source), None, text.splitlines(keepends=True), file_name)


def execute(source: bytes, file_name: str, namespace: dict[str, object]) -> int:
    """Runs a whole program; gives its exit code. Only `SystemExit` leaves it."""
    try:
        remember_source(source, file_name)
        run_code(compile(source, file_name, "exec", dont_inherit=True), namespace)
    except SystemExit:
        raise
    except BaseException as error:
        show_error(error)
        return exit_code(error)
    return 0


def run_code(code: CodeType, namespace: dict[str, object]) -> None:
    """Runs compiled code in a namespace."""
    exec(code, namespace)


def show_error(error: BaseException) -> None:
    """Prints a traceback without our own frames: the model sees its program and nothing else."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    error.__traceback__ = trace
    if sys.excepthook is not sys.__excepthook__:
        sys.excepthook(type(error), error, trace)
        return
    # The built-in hook looks for the source in files only, and an interrupt has a frame of ours.
    report = traceback.TracebackException.from_exception(error, compact=True)
    report.stack[:] = [frame for frame in report.stack if not _is_ours(frame.filename)]
    print("".join(report.format()), end="", file=sys.stderr)


def _is_ours(file_name: str) -> bool:
    return file_name.startswith(_OWN_FOLDER)


def exit_code(error: BaseException) -> int:
    """Which of our exit codes says what stopped a program."""
    if isinstance(error, MemoryError):
        return OOM_EXIT
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return FILE_EXIT
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DISK_EXIT
    return 1


def leave(serve: Callable[[bytes, int], int], source: bytes, channel: int) -> NoReturn:
    """Runs to the end and leaves the way Python does, short of taking every module apart."""
    code = 1
    try:
        try:
            code = serve(source, channel)
        except SystemExit as error:
            code = _code_of(error)
        threading = sys.modules.get("threading")
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BaseException as error:
        code = code or exit_code(error)
    finally:
        os._exit(code & 0xFF)


def _code_of(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code
    print(error.code, file=sys.stderr)
    return 1
