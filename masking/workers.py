"""Ordered map: a function and a stream in, its results in the stream's order out, on all cores."""

import atexit
import contextlib
import multiprocessing
import pickle
import signal
import time
import traceback
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAX_AHEAD = 4
"""Items per worker that may be taken from the stream before the oldest result is handed out."""

_GRACE_S = 2.0
"""Seconds that all workers together have for their `finally` blocks, such as removing a sandbox's folder."""


def map_in_order(
    function: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int = 1
) -> Generator[Result, None, None]:
    """Results of `function` on each item, in order; the stream is never held whole.

    With several workers, each is a process that is started afresh (spawn), so neither threads nor
    an open GPU of this one are copied. No worker outlives the iterator: exhausting or closing it,
    an error and Ctrl-C end them all; a killed parent takes them along after their current item.

    Args:
        function: Must pickle: defined at the top level of a module, or an object of such a class.
        items: Taken as needed, a few ahead of the results.
        num_workers: Processes; 1 stays in this one.

    Raises:
        ValueError: If `num_workers` is below 1, or `function` does not pickle.
        ChildProcessError: If a worker dies.
        Exception: Whatever `function` raises on an item, when it is that item's turn.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; give 1 or more.")
    if num_workers == 1:
        return (function(item) for item in items)
    try:
        pickle.dumps(function)
    except Exception as error:  # a pickling error has no common class
        raise ValueError(
            f"{function!r} cannot be sent to worker processes ({error}). Define it at the top "
            "level of a module, or use num_workers=1."
        ) from error
    return _map_in_processes(function, items, num_workers)


def _map_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Generator[Result, None, None]:
    workers: dict[Connection, BaseProcess] = {}
    busy: dict[Connection, int] = {}  # the index of the item that a worker has
    done: dict[int, tuple[Result | None, Exception | None]] = {}
    stream = enumerate(items)
    is_exhausted = False
    next_index = 0
    stop = _stopper(workers)
    atexit.register(stop)  # before multiprocessing's own, which would wait for ever
    try:
        while True:
            for ready in wait(list(busy), timeout=0):
                _receive(cast(Connection, ready), workers, busy, done)
            while not is_exhausted and len(busy) + len(done) < _MAX_AHEAD * num_workers:
                connection = next((free for free in workers if free not in busy), None)
                if connection is None and len(workers) == num_workers:
                    break
                index, item = next(stream, (-1, None))
                if index < 0:
                    is_exhausted = True
                    break
                connection = connection or _start(function, workers)
                _send(connection, item, workers)
                busy[connection] = index
            if next_index in done:
                result, error = done.pop(next_index)
                if error is not None:
                    raise error
                next_index += 1
                yield result  # type: ignore[misc]  # None is a result like any other
            elif busy:
                wait(list(busy))
            else:
                return
    finally:
        stop()
        atexit.unregister(stop)


def _start(function: Callable[[Any], Any], workers: dict[Connection, BaseProcess]) -> Connection:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), name="maskgym-worker")
    # Ctrl-C goes to the whole group of the terminal; this process alone decides what becomes of it.
    signals = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    theirs.close()  # else a dead worker would not show as the end of the pipe
    workers[ours] = process
    return ours


def _send(connection: Connection, item: Any, workers: dict[Connection, BaseProcess]) -> None:
    try:
        connection.send(item)
    except (BrokenPipeError, ConnectionResetError):
        raise _death(workers[connection]) from None


def _receive(
    connection: Connection,
    workers: dict[Connection, BaseProcess],
    busy: dict[Connection, int],
    done: dict[int, tuple[Any, Exception | None]],
) -> None:
    try:
        done[busy[connection]] = connection.recv()
    except (EOFError, ConnectionResetError):
        raise _death(workers[connection]) from None
    del busy[connection]


def _death(process: BaseProcess) -> ChildProcessError:
    process.join(timeout=1)
    return ChildProcessError(
        f"A worker process died (exit code {process.exitcode}; -9 is mostly too little memory). "
        "Use fewer workers; a script that starts them needs `if __name__ == '__main__':`."
    )


def _stopper(workers: dict[Connection, BaseProcess]) -> Callable[[], None]:
    def stop() -> None:
        for connection, process in workers.items():
            process.terminate()
            connection.close()
        deadline = time.monotonic() + _GRACE_S
        for process in workers.values():
            process.join(max(deadline - time.monotonic(), 0))
            process.kill()
            process.join()
        workers.clear()

    return stop


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    """A worker process, until the pipe ends or the parent stops it."""
    # A handler, not SIG_IGN: a program that the verifier starts would inherit that.
    signal.signal(signal.SIGINT, lambda signum, frame: None)
    # An interrupt, not SystemExit: a verifier that exits is caught, so that would be caught as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with contextlib.suppress(KeyboardInterrupt):
        _answer_all(connection, function)


def _answer_all(connection: Connection, function: Callable[[Any], Any]) -> None:
    """Answers each item with its result or its error."""
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        try:
            answer: tuple[Any, Exception | None] = (function(item), None)
        except Exception as error:
            answer = (None, _portable(error))
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionResetError):
            return  # the parent is gone


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with the worker's traceback as a note."""
    note = "".join(traceback.format_exception(error))
    try:
        copy = pickle.loads(pickle.dumps(error))
    except Exception:  # an error class may refuse in any way; its text still arrives
        copy = RuntimeError(f"{type(error).__name__}: {error}")
    copy.add_note(f"In a worker process:\n{note}")
    return copy if isinstance(copy, Exception) else RuntimeError(str(error))
