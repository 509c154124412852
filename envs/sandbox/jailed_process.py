"""In: a child of the fork server, its folder, its limits. Out: `JailedProcess`: how it ended."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from .child import Child, Ending
from .inside.fork_server import DISK, THREADS
from .inside.program import DISK_EXIT, FILE_EXIT, OOM_EXIT
from .inside.workdir import size_on_disk
from .protocol import ExecResult, ExecStatus, SandboxLimits

_MAX_START_S = 60.0  # a loaded machine is slow to fork; that is not the program's time
_MAX_STRETCH = 8.0  # times its limit that a program gets at most where others have the processors
_LEAST_STRETCH = 0.02  # of the limit; to wait for less would be to ask for ever
_GRACE_S = 5.0  # from a kill to the word that the process has ended
_BY_EXIT_CODE = {
    0: ExecStatus.OK,
    OOM_EXIT: ExecStatus.OOM,
    FILE_EXIT: ExecStatus.FILE_LIMIT,
    DISK_EXIT: ExecStatus.DISK_LIMIT,
}


class JailedProcess:
    """A child with what belongs to it; ends it and gives its folder back when closed."""

    def __init__(
        self,
        child: Child,
        *,
        folder: str,
        limits: SandboxLimits,
        cpu_s: int,
        on_close: Callable[[JailedProcess], None],
    ) -> None:
        self.child = child
        self.limits = limits
        self.stopped_as: ExecStatus | None = None
        """Which limit the host ended it for."""
        self.folder = folder
        self._cpu_s = cpu_s
        self._on_close = on_close
        self._is_recalled = False
        self._granted_s = 0.0
        self._owner = os.getpid()
        self._closing = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_ours(self) -> bool:
        """Whether this process started it, and is no fork of the one that did."""
        return os.getpid() == self._owner

    @property
    def channel(self) -> socket.socket:
        """The host's end of the stream to the loop in a candidate."""
        assert self.child.channel is not None
        return self.child.channel

    def kill(self) -> None:
        """Ends the process at once."""
        self.child.kill()

    def ending(self) -> ExecStatus:
        """How the process ended, called once its channel has closed."""
        self.await_end(wall_s=_GRACE_S)
        return self.status()

    def stop(self, status: ExecStatus) -> None:
        """Kills it for passing a limit; the first reason counts."""
        if self.stopped_as is None and not self.child.has_ended:
            self.stopped_as = status
            self.child.kill()

    def recall(self) -> None:
        """Kills it for no fault of its own, from any thread; a fork of its owner cannot."""
        if self.is_ours:
            self._is_recalled = True
            self.child.kill()

    def await_start(self) -> bool:
        """Waits until the program begins; False if it does not."""
        child, deadline = self.child, time.monotonic() + _MAX_START_S
        while child.started_at is None and not child.has_ended:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self.stop(ExecStatus.SANDBOX_ERROR)
                return False
            child.poll(remaining)
        return child.started_at is not None

    def await_end(self, *, wall_s: float | None = None) -> None:
        """Waits for the end, `wall_s` from the program's beginning at most; kills it then."""
        child = self.child
        if not child.has_ended and self.await_start() and wall_s is not None:
            deadline = (child.started_at or 0.0) + wall_s
            while not child.has_ended and not child.is_output_over:
                remaining = deadline - time.monotonic()
                if remaining > 0:
                    child.poll(remaining)
                elif (extra_s := self.grant(wall_s)) > 0:
                    deadline += extra_s
                else:
                    self.stop(ExecStatus.TIMEOUT)
                    break
            if child.is_output_over:
                self.stop(ExecStatus.OUTPUT_LIMIT)
        child.wait(_GRACE_S)
        child.drain()

    def grant(self, wall_s: float) -> float:
        """Seconds to add to a limit of `wall_s` that has passed, since others had the processors.

        A right answer is not too slow because the machine is busy. What was granted once is not
        granted again; on a machine that is not busy it is 0.0.
        """
        waited_s = min(self.child.waited_s(), (_MAX_STRETCH - 1) * wall_s)
        extra_s = waited_s - self._granted_s
        if extra_s < _LEAST_STRETCH * wall_s:
            return 0.0
        self._granted_s = waited_s
        return extra_s

    def status(self) -> ExecStatus:
        """How it ended, once it has."""
        ending = self.child.ending
        if ending is None or self.child.started_at is None or self.child.failure:
            return ExecStatus.SANDBOX_ERROR
        if self.stopped_as is not None:
            return self.stopped_as
        if ending.passed == DISK:
            return ExecStatus.DISK_LIMIT
        if ending.passed == THREADS:
            return ExecStatus.KILLED
        if self._is_recalled and ending.exit_code == -signal.SIGKILL:
            return ExecStatus.SANDBOX_ERROR
        if _is_cpu_limit(ending, self._cpu_s):
            return ExecStatus.CPU_LIMIT
        if ending.exit_code < 0:
            return ExecStatus.KILLED
        if self.child.is_output_over:
            return ExecStatus.OUTPUT_LIMIT
        return _BY_EXIT_CODE.get(ending.exit_code, ExecStatus.ERROR)

    def problem(self) -> str:
        """What to say of the end where the program itself did not say it; mostly ""."""
        ending = self.child.ending
        if self._is_recalled:
            return "sandbox: it was closed"
        if self.child.failure:
            return f"sandbox: {self.child.failure}"
        if ending is None or self.child.started_at is None:
            return "sandbox: the process ended before the program began"
        if ending.passed == THREADS:
            return f"sandbox: more than {self.limits.max_processes} threads"
        return ""

    def is_over_disk(self) -> bool:
        """Whether its files take more than it may use, right now."""
        max_bytes = self.limits.max_disk_mb << 20
        return size_on_disk(self.folder, max_bytes) > max_bytes

    def result(self) -> ExecResult:
        """What the whole run brought."""
        child, status = self.child, self.status()
        is_truncated = child.is_output_over
        stdout, stderr = child.stdout.take(), child.stderr.take()
        started_at, ended_at = child.started_at, child.ended_at
        return ExecResult(
            status=status,
            stdout=stdout,
            stderr=stderr + self.problem(),
            is_truncated=is_truncated,
            wall_s=ended_at - started_at if started_at and ended_at else 0.0,
        )

    def close(self) -> None:
        """Ends it and gives back its folder; calling it twice, or in a fork, is harmless."""
        if not self.is_ours:
            return
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        self.child.kill()
        self.child.wait(_GRACE_S)  # only what has ended cannot write into its folder any more
        self.child.close()
        self._on_close(self)


def _is_cpu_limit(ending: Ending, cpu_s: int) -> bool:
    """SIGXCPU, which a program may ignore, and SIGKILL a second later."""
    if ending.exit_code == -signal.SIGXCPU:
        return True
    return ending.exit_code == -signal.SIGKILL and ending.cpu_s >= cpu_s
