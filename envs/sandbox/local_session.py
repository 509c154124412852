"""In: cells of code. Out: `LocalSession`, which runs them one after another in one jailed process."""

from __future__ import annotations

import threading
import time

from .child import ChildGoneError
from .inside import session as inside
from .inside.program import DISK_EXIT, FILE_EXIT, OOM_EXIT
from .jailed_process import JailedProcess
from .protocol import ExecResult, ExecStatus
from .turns import turn

_GRACE_S = 1.0
"""For a cell to heed an interrupt, before its process is killed."""
_STATUSES = {
    inside.OK: ExecStatus.OK,
    inside.ERROR: ExecStatus.ERROR,
    inside.INTERRUPTED: ExecStatus.ERROR,
    inside.LETTERS[OOM_EXIT]: ExecStatus.OOM,
    inside.LETTERS[FILE_EXIT]: ExecStatus.FILE_LIMIT,
    inside.LETTERS[DISK_EXIT]: ExecStatus.DISK_LIMIT,
}


class LocalSession:
    """A jailed Python process that keeps its state from cell to cell. Safe from any thread."""

    def __init__(self, process: JailedProcess) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._epitaph = ""
        """Why no cell can run any more; "" while one can."""
        self._late_status = ExecStatus.ENDED
        """What cells give after the end."""

    @property
    def is_alive(self) -> bool:
        """Whether another cell can run, as far as is known."""
        return not self._epitaph and not self._process.child.has_ended

    def run_cell(self, code: str, *, wall_s: float | None = None) -> ExecResult:
        """Runs a cell and shows the value of its last expression; never raises on its account.

        A cell that runs out of time or prints too much is interrupted and the state is kept; only
        one that does not heed the interrupt ends the session, and its result says so.

        Args:
            code: Python; what earlier cells defined is there.
            wall_s: Seconds for this cell; None for the limit of the session.
        """
        if not self._process.is_ours:
            text = (
                "This session belongs to the process that this one was forked from; open a new one."
            )
            return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr=text)
        with turn(), self._lock:
            if self._epitaph:
                return ExecResult(status=self._late_status, stderr=self._epitaph)
            if not self._process.await_start():
                return self._bury(ExecStatus.SANDBOX_ERROR, 0.0)
            try:
                return self._run(code, wall_s or self._process.limits.wall_s)
            except BaseException:  # the user's own interrupt: what the cell does is unknown now
                self._epitaph = "The host was interrupted during a cell; open a new session."
                self._late_status = ExecStatus.SANDBOX_ERROR
                self._process.close()
                raise

    def close(self) -> None:
        """Ends the process, a running cell included; calling it twice is harmless."""
        if not self._process.is_ours:
            return
        self._process.recall()
        with self._lock:
            self._epitaph = self._epitaph or "The session was closed; open a new one."
            self._process.close()

    def _run(self, code: str, wall_s: float) -> ExecResult:
        child = self._process.child
        begun = time.monotonic()
        stopped_as = None
        try:
            cell = code.encode("utf-8", "surrogatepass")
            deadline = begun + wall_s
            letter = child.exchange(cell, deadline)
            while letter is None and not child.is_output_over:
                if not (extra_s := self._process.grant(wall_s)):
                    break
                deadline += extra_s
                letter = child.await_message(deadline)
            if letter is None:
                stopped_as = ExecStatus.OUTPUT_LIMIT if child.is_output_over else ExecStatus.TIMEOUT
                letter = self._interrupt()
                if letter is None:
                    self._process.stop(stopped_as)
        except ChildGoneError:
            letter = None
            if child.wait(_GRACE_S) is None:  # it lives, and says what is no answer
                self._process.stop(ExecStatus.ERROR)
        if letter is None:
            return self._bury(stopped_as, time.monotonic() - begun)
        ended = time.monotonic()
        child.drain()
        status = _STATUSES.get(letter, ExecStatus.ERROR)  # a letter of its own making: its fault
        if stopped_as is not None:
            status = stopped_as
        elif child.is_output_over:
            status = ExecStatus.OUTPUT_LIMIT
        elif self._process.is_over_disk():
            self._process.stop(ExecStatus.DISK_LIMIT)
            return self._bury(ExecStatus.DISK_LIMIT, ended - begun)
        return ExecResult(
            status=status,
            is_truncated=child.is_output_over,
            stdout=child.stdout.take(),
            stderr=child.stderr.take(),
            wall_s=ended - begun,
        )

    def _interrupt(self) -> bytes | None:
        """Interrupts the cell, twice if need be; its letter, or None if it does not heed."""
        child = self._process.child
        for _ in range(2):
            if not child.interrupt():
                return None
            deadline = time.monotonic() + _GRACE_S / 2
            while (letter := child.message()) is None:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                child.poll(remaining)
            if letter is not None:
                return letter
        return None

    def _bury(self, status: ExecStatus | None, wall_s: float) -> ExecResult:
        """The last result: what the cell printed, and that the session has ended and why."""
        process = self._process
        process.await_end()
        last = process.result()
        status = status or last.status
        if status is ExecStatus.OK:  # the process left by itself
            status = ExecStatus.ERROR
        if status is ExecStatus.SANDBOX_ERROR:
            self._late_status = status
        self._epitaph = f"The session has ended ({status}) and its state is lost; open a new one."
        process.close()
        return ExecResult(
            status=status,
            stdout=last.stdout,
            stderr="\n".join(filter(None, (last.stderr.rstrip("\n"), self._epitaph))),
            is_truncated=last.is_truncated,
            wall_s=wall_s,
        )
