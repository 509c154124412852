"""In: questions to a module that may hang or die. Out: its replies, each within a time limit.

A question runs in a process of its own that is killed when time is up, whatever it is stuck in.
One process per pool loads the module once; workers are forked from it, so that a killed one is
replaced in milliseconds. The pool may be used from any thread, and starts anew in a forked child.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ..sandbox import tiers
from .worker_process import COMMAND, REPLY

_SCRIPT = Path(__file__).with_name("worker_process.py")
_START_TIMEOUT_S = 60.0  # SymPy takes a second, on a loaded machine many
_MAX_REPLY_BYTES = 65_536
_MAX_STARVED = 8.0  # how many time limits a worker that gets no processor may wait for


class Status(StrEnum):
    """How a question ended."""

    ANSWERED = "answered"
    LATE = "late"
    """It used up its time."""
    DIED = "died"
    """Its process ended, twice: more memory than allowed, or a crash."""
    UNAVAILABLE = "unavailable"
    """No worker could be had, or it got no processor: nothing is known about the question."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back."""

    status: Status
    content: dict[str, Any]
    """The answer; empty unless ANSWERED."""
    phase: str
    """How far the module said that it had come."""


class WorkerPool:
    """A few processes that answer questions, one at a time each."""

    def __init__(
        self,
        module: Path,
        *,
        max_processes: int | None = None,
        max_uses: int = 200,
        memory_mb: int = 1024,
        is_jailed: bool = False,
    ):
        """Nothing is started until the first question.

        Args:
            module: File with `answer(request, say)`, as worker_process.py describes; it may import
                installed packages, but nothing of this one.
            max_processes: Questions worked on at once; others wait. By default one per core, 2..8.
            max_uses: Questions after which a process is replaced.
            memory_mb: What a process may use beyond the loaded module, in MiB.
            is_jailed: Whether a process may open no file but libraries, and nothing else: for
                modules that run what a model wrote. On machines without Landlock and seccomp, limits
                alone hold it.
        """
        self._module = module
        self._max_processes = max_processes or min(8, max(2, os.cpu_count() or 2))
        self._max_uses = max_uses
        self._memory_mb = memory_mb
        self._is_jailed = is_jailed
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._max_processes)
        self._template: _Template | None = None
        self._idle: list[_Worker] = []
        atexit.register(self.close)
        os.register_at_fork(after_in_child=self._after_fork)

    def ask(self, request: Mapping[str, Any], *, timeout_s: float) -> Reply:
        """The reply to a question; never raises on the question's account.

        The time counts from when a worker takes the question. A worker that got less processor time
        than that, because the machine is busy, is given up to eight times as long.

        Raises:
            ModuleNotFoundError: If the module needs a package that is not installed.
        """
        reply = Reply(status=Status.UNAVAILABLE, content={}, phase="")
        with self._slots:
            for _ in range(2):  # one that dies may have been ended from outside at this moment
                try:
                    worker = self._take()
                except OSError:
                    continue
                is_clean = False
                try:
                    reply = worker.ask(request, timeout_s)
                    is_clean = reply.status is Status.ANSWERED
                finally:  # also after Ctrl-C: an answer still to come would be the next one's
                    self._give_back(worker, is_clean)
                if reply.status is not Status.DIED:
                    break
        return reply

    def close(self) -> None:
        """Ends all processes; a later question starts new ones."""
        with self._lock:
            if self._template is not None:
                self._template.close()
            self._template, self._idle = None, []

    def _after_fork(self) -> None:
        """In a forked child: what runs belongs to the parent, and its locks may be held."""
        for worker in self._idle:
            worker.close()
        if self._template is not None:
            self._template.forget()
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(self._max_processes)
        self._template, self._idle = None, []

    def _take(self) -> _Worker:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            for is_last in (False, True):
                if self._template is None:
                    self._template = _Template(self._module, self._memory_mb, self._is_jailed)
                try:
                    return self._template.fork()
                except OSError:  # something outside ended it
                    self._template.close()
                    self._template = None
                    if is_last:
                        raise
            raise AssertionError("unreachable")

    def _give_back(self, worker: _Worker, is_clean: bool) -> None:
        with self._lock:
            if worker.template is not self._template:  # closed, or ended, meanwhile
                worker.close()
            elif is_clean and worker.num_uses < self._max_uses:
                self._idle.append(worker)
            else:
                worker.close()
                with contextlib.suppress(OSError):
                    self._template.kill(worker.pid)


class _Template:
    """The process that has the module loaded, and forks workers."""

    def __init__(self, module: Path, memory_mb: int, is_jailed: bool):
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                # -P: the script's folder holds modules named like some of the standard library
                [sys.executable, "-P", "-s", str(_SCRIPT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # No secret of ours; and the order of sets, hence what SymPy finds, never varies.
                env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C is for the caller
            )
        try:
            self._control.settimeout(_START_TIMEOUT_S)
            start = {
                "path": list(sys.path),
                "module": str(module),
                "memory_mb": memory_mb,
                "jail": _layers() if is_jailed else None,
            }
            self._control.sendall(json.dumps(start).encode() + b"\n")
            with self._control.makefile("rb") as stream:
                line = stream.readline()
            ready = json.loads(line) if line.endswith(b"\n") else {"error": "it ended at once"}
        except BaseException:
            self.close()
            raise
        if "error" in ready:
            self.close()
            if ready["error"].startswith(("ModuleNotFoundError", "ImportError")):
                raise ModuleNotFoundError(f"{module.stem} cannot be loaded: {ready['error']}")
            raise OSError(f"{module.stem} could not be started: {ready['error']}")

    def fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [COMMAND.pack(b"F", 0)], [theirs.fileno()])
                pid = self._reply()
            if pid < 0:
                raise OSError("no process could be forked for a verifier")
        except BaseException:
            ours.close()
            raise
        return _Worker(self, pid, ours)

    def kill(self, pid: int) -> None:
        self._control.sendall(COMMAND.pack(b"K", pid))
        self._reply()

    def close(self) -> None:
        """Ends it, and with it its children."""
        self._control.close()  # which it takes as the end
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forget(self) -> None:
        """Lets go of it in a forked child, where it belongs to the parent."""
        self._control.close()
        self._process.returncode = 0  # else the child's Popen would wait for the parent's process

    def _reply(self) -> int:
        data = b""
        while len(data) < REPLY.size:
            part = self._control.recv(REPLY.size - len(data))
            if not part:
                raise ConnectionResetError("the process that forks verifiers has ended")
            data += part
        pid: int = REPLY.unpack(data)[0]
        return pid


class _Worker:
    """One process, and the channel to it."""

    def __init__(self, template: _Template, pid: int, channel: socket.socket):
        self.template = template
        self.pid = pid
        self.num_uses = 0
        self._channel = channel
        channel.setblocking(False)

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> Reply:
        self.num_uses += 1
        phase, data = "", b""
        started_s, cpu_before_s = time.monotonic(), _cpu_s(self.pid)
        deadline_s = started_s + timeout_s
        try:
            self._send(json.dumps(request).encode() + b"\n", deadline_s)
            while True:
                if not self._wait(select.POLLIN, deadline_s):
                    now_s = time.monotonic()
                    cpu_s = _cpu_s(self.pid)
                    left_s = 0.0 if cpu_s < 0 else 0.9 * timeout_s - (cpu_s - cpu_before_s)
                    if left_s <= 0:
                        return Reply(status=Status.LATE, content={}, phase=phase)
                    if now_s > started_s + _MAX_STARVED * timeout_s:
                        return Reply(status=Status.UNAVAILABLE, content={}, phase=phase)
                    deadline_s = now_s + left_s
                    continue
                part = self._channel.recv(4096)
                data += part
                if not part or len(data) > _MAX_REPLY_BYTES:
                    return Reply(status=Status.DIED, content={}, phase=phase)
                *lines, data = data.split(b"\n")
                for line in lines:
                    message = json.loads(line)
                    if "answer" in message:
                        answer = dict(message["answer"])
                        return Reply(status=Status.ANSWERED, content=answer, phase=phase)
                    phase = str(message["phase"])
        except (OSError, ValueError, TypeError, KeyError):
            return Reply(status=Status.DIED, content={}, phase=phase)

    def close(self) -> None:
        self._channel.close()

    def _send(self, data: bytes, deadline_s: float) -> None:
        while data:
            if not self._wait(select.POLLOUT, deadline_s):
                raise OSError("the worker does not read")
            data = data[self._channel.send(data) :]

    def _wait(self, event: int, deadline_s: float) -> bool:
        poll = select.poll()  # not select: descriptors above 1023 are common in servers
        poll.register(self._channel, event)
        return bool(poll.poll(max(0.0, deadline_s - time.monotonic()) * 1000))


def _layers() -> dict[str, Any] | None:
    """What of the sandbox's jail works here, for worker_process.py."""
    protection = tiers.detect("T2")
    if not (protection.has_landlock or protection.has_seccomp):
        return None
    return {
        "folder": str(Path(tiers.__file__).parent),
        "has_landlock": protection.has_landlock,
        "has_seccomp": protection.has_seccomp,
    }


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far; -1 where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return -1.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
