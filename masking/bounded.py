"""Bounded predicate: a yes/no function in, one whose every call ends out (True, False or None).

Three ways to run a call:
- `timeout_s=None`: as it is, in this thread; for functions that bound their own time.
- A function that can be pickled runs in a worker process that stays warm and is killed when time is
  up, whatever it hangs in. The worker is a fresh interpreter, not a fork, so threads and CUDA of
  this process do no harm, and it never runs the caller's main script.
- Any other function (a lambda, a closure, one of the main script) runs in a daemon thread. That
  bound is weaker: a thread cannot be killed, so a hanging one goes on using its core until this
  process ends, and one that hangs in C without giving the interpreter back cannot be left at all.
"""

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

_SCRIPT = Path(__file__).with_name("bounded_worker.py")
_LOAD_TIMEOUT_S = 60.0  # starting Python and importing the verifier; SymPy takes seconds
_MAX_IDLE = 4
_MAX_STUCK = 4
_REPLIES = {b"1": True, b"0": False, b"?": None}


class BoundedPredicate:
    """A yes/no function that may raise, hang or die; calling this one does none of it."""

    def __init__(self, function: Callable[..., object], timeout_s: float | None):
        self._function = function
        self._timeout_s = timeout_s
        self._payload = _pickled(function) if timeout_s is not None else None
        self._num_stuck = 0
        self.num_late = 0
        """Calls that took too long so far."""

    def __call__(self, *arguments: str) -> bool | None:
        """What the function says; None if it raised, took too long, or ended its process."""
        if self._timeout_s is None:
            return _asked(self._function, arguments)
        if self._payload is not None:
            try:
                return _WORKERS.ask(self._payload, arguments, self._timeout_s)
            except TimeoutError:
                self.num_late += 1
                return None
            except _NotLoadedError:
                self._payload = None
        return self._ask_in_thread(arguments, self._timeout_s)

    def _ask_in_thread(self, arguments: tuple[str, ...], timeout_s: float) -> bool | None:
        if self._num_stuck >= _MAX_STUCK:
            return None  # each hanging thread takes a core's time from all others
        replies: list[bool | None] = []

        def run() -> None:
            replies.append(_asked(self._function, arguments))

        thread = threading.Thread(target=run, name="maskgym-verifier", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if replies:
            return replies[0]
        self._num_stuck += 1
        self.num_late += 1
        return None


def _asked(function: Callable[..., object], arguments: tuple[str, ...]) -> bool | None:
    try:
        return bool(function(*arguments))
    except (Exception, SystemExit):  # a verifier may raise anything on odd input; counted as None
        return None


def _pickled(function: Callable[..., object]) -> bytes | None:
    """The function for a worker; None if it cannot travel there."""
    try:
        payload = pickle.dumps(function)
    except Exception:  # whatever its parts raise: it stays here
        return None
    return None if b"__main__" in payload else payload  # the worker has another main script


class _NotLoadedError(Exception):
    """The worker could not import the function."""


class _Worker:
    """One process that answers questions to the function it was last given."""

    def __init__(self) -> None:
        self._channel, theirs = Pipe()
        self._process = subprocess.Popen(
            # -P: the script's folder holds modules named like some of the standard library
            [sys.executable, "-P", str(_SCRIPT), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the caller; and killing takes its children too
        )
        theirs.close()
        self.payload = b""
        self._send("path", list(sys.path))

    def load(self, payload: bytes) -> bool | None:
        """Gives it a function: True if it has it, None if it cannot be imported there."""
        if payload == self.payload:
            return True
        self._send("load", payload)
        is_loaded = self._reply(_LOAD_TIMEOUT_S)
        self.payload = payload if is_loaded else b""
        return is_loaded

    def ask(self, arguments: tuple[str, ...], timeout_s: float) -> bool | None:
        """What the function says of these arguments.

        Raises:
            TimeoutError: If nothing came back in time; kill the worker then.
            EOFError, OSError: If it died.
        """
        self._send("call", (timeout_s, arguments))
        return self._reply(timeout_s)

    def is_alive(self) -> bool:
        """Whether its process runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Ends it and what it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._channel.close()

    def forget(self) -> None:
        """Lets go of it in a forked child, where it belongs to the parent."""
        self._process.returncode = 0  # else the child's Popen would wait for the parent's process
        self._channel.close()

    def _send(self, kind: str, content: Any) -> None:
        self._channel.send_bytes(pickle.dumps((kind, content)))

    def _reply(self, timeout_s: float) -> bool | None:
        if not self._channel.poll(timeout_s):
            raise TimeoutError
        return _REPLIES[self._channel.recv_bytes()]


class _Workers:
    """Idle workers of this process; each call takes one for itself, so threads do not meet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def ask(self, payload: bytes, arguments: tuple[str, ...], timeout_s: float) -> bool | None:
        """What the pickled function says; None if it raised or its process died.

        Raises:
            TimeoutError: If it took too long; its process is ended then.
            _NotLoadedError: If a worker cannot import it.
        """
        worker = self._loaded(payload)
        if worker is None:
            return None
        is_clean = False
        try:
            reply = worker.ask(arguments, timeout_s)
            is_clean = True
        except TimeoutError:
            raise
        except (EOFError, OSError):
            return None
        finally:  # also after Ctrl-C: an answer still to come would be taken for the next one
            self._give_back(worker, is_clean)
        return reply

    def close(self) -> None:
        """Ends all idle workers."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    def after_fork(self) -> None:
        """Starts anew in a forked child; the workers stay the parent's."""
        for worker in self._idle:
            worker.forget()
        self.__init__()  # type: ignore[misc]  # the lock may have been held by a thread not copied

    def _loaded(self, payload: bytes) -> _Worker | None:
        """A worker with this function; None if its import takes for ever or ends the process."""
        for _ in range(2):  # the first may be ended from outside at this very moment
            worker = self._take(payload)
            is_clean = False
            try:
                is_loaded = worker.load(payload)
                is_clean = True
            except (TimeoutError, EOFError, OSError):
                continue
            finally:
                if not is_clean:
                    worker.kill()
            if is_loaded:
                return worker
            self._give_back(worker, is_clean=True)
            raise _NotLoadedError
        return None

    def _take(self, payload: bytes) -> _Worker:
        with self._lock:
            while self._idle:
                same = (i for i, worker in enumerate(self._idle) if worker.payload == payload)
                worker = self._idle.pop(next(same, -1))
                if worker.is_alive():  # something outside may have ended it
                    return worker
                worker.kill()
        return _Worker()

    def _give_back(self, worker: _Worker, is_clean: bool) -> None:
        if is_clean:
            with self._lock:
                if len(self._idle) < _MAX_IDLE:
                    self._idle.append(worker)
                    return
        worker.kill()


_WORKERS = _Workers()
atexit.register(_WORKERS.close)
os.register_at_fork(after_in_child=_WORKERS.after_fork)
