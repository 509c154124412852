"""In: nothing. Out: `Sandbox`, the protocol of what runs untrusted Python, and its records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn, Protocol, runtime_checkable


class ExecStatus(StrEnum):
    """How a run, a cell or a call ended."""

    OK = "ok"
    """The program ended by itself with exit code 0."""
    ERROR = "error"
    """An exception, a syntax error or another exit code."""
    TIMEOUT = "timeout"
    """The wall clock limit was reached."""
    CPU_LIMIT = "cpu_limit"
    """The limit on CPU seconds was reached."""
    OOM = "oom"
    """A `MemoryError` under the memory limit."""
    OUTPUT_LIMIT = "output_limit"
    """More output than allowed; the program was stopped and the beginning kept."""
    FILE_LIMIT = "file_limit"
    """A file grew to the largest size allowed, and the program did not handle that error."""
    DISK_LIMIT = "disk_limit"
    """The files together were larger than allowed; the program was stopped."""
    KILLED = "killed"
    """A signal ended the program: a crash in native code, or something else killed it."""
    ENDED = "ended"
    """Nothing was run: the session, or the candidate, had ended before."""
    SANDBOX_ERROR = "sandbox_error"
    """The sandbox itself failed. Says nothing about the program and is never scored as wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """What one run may use; a session, or a candidate, may use it over its whole life."""

    wall_s: float = 10.0
    """Seconds from the first line of the program to its end, or of each cell of a session; starting
    Python does not count."""
    memory_mb: int = 1024
    """Address space of each process, in MiB."""
    cpu_s: int | None = None
    """CPU seconds of each process; None: `wall_s`, rounded up, plus one, and for a session or a
    candidate 100 times that."""
    max_output_bytes: int = 1_000_000
    """Bytes kept of standard output and of standard error; one byte more ends the run."""
    max_file_mb: int = 64
    """Size of the largest file the program may write, in MiB."""
    max_disk_mb: int = 256
    """Size of all files in the working directory together, in MiB; each counts at least 32 KiB."""
    max_open_files: int = 64
    """Open file descriptors of each process."""
    max_processes: int = 64
    """Processes and threads beside those the user already runs; not enforced for root."""

    def __post_init__(self) -> None:
        for name in (
            "wall_s",
            "memory_mb",
            "max_output_bytes",
            "max_file_mb",
            "max_disk_mb",
            "max_processes",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.max_open_files < 16:
            raise ValueError(f"max_open_files is {self.max_open_files}; Python needs at least 16.")
        if self.cpu_s is not None and self.cpu_s < 1:
            raise ValueError(f"cpu_s is {self.cpu_s}; use 1 or more, or None to follow wall_s.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecResult:
    """What one run, or one cell, brought."""

    status: ExecStatus
    stdout: str = ""
    stderr: str = ""
    is_truncated: bool = False
    """Whether output was cut at the limit."""
    wall_s: float = 0.0
    """Measured time; never put it into an `info`, which must be equal on every machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CallResult:
    """What one call of a candidate's function brought."""

    status: ExecStatus
    value: Any = None
    """What the function returned, as plain Python values; None unless `status` is OK."""
    error: str = ""
    """The end of the traceback, or what else went wrong."""
    stdout: str = ""


class SandboxTierError(RuntimeError):
    """This machine does not give the protections that were demanded; nothing was run."""


class SandboxFeatureError(RuntimeError):
    """This kind of sandbox cannot do what was asked; the message names one that can."""


@runtime_checkable
class Session(Protocol):
    """A Python process that keeps its state from cell to cell; one cell at a time."""

    @property
    def is_alive(self) -> bool:
        """Whether another cell can run."""
        ...

    def run_cell(self, code: str, *, wall_s: float | None = None) -> ExecResult:
        """Runs a cell and shows the value of its last expression; never raises on its account.

        A cell that runs out of time or prints too much is interrupted and the state is kept; only
        one that does not heed the interrupt ends the session. After the end every cell gives
        `ExecStatus.ENDED`, or `SANDBOX_ERROR` if it was the sandbox that failed.
        """
        ...

    def close(self) -> None:
        """Ends the process; calling it twice is harmless."""
        ...


@runtime_checkable
class Candidate(Protocol):
    """A program that was loaded once and whose functions can be called one by one."""

    @property
    def load(self) -> ExecResult:
        """How loading the program went."""
        ...

    def call(self, function: str, arguments: Sequence[Any], *, wall_s: float) -> CallResult:
        """Calls one function; never raises on the candidate's account."""
        ...

    def close(self) -> None:
        """Ends the process; calling it twice is harmless."""
        ...


@runtime_checkable
class Sandbox(Protocol):
    """Runs untrusted Python; calls may come from any thread at once."""

    @property
    def tier(self) -> str:
        """From "T0" (limits only) to "T3" (namespaces, Landlock and seccomp)."""
        ...

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        """Runs `code` as a script of its own; never raises on the program's account."""
        ...

    def session(self, *, limits: SandboxLimits | None = None) -> Session:
        """Starts a process that keeps its state from cell to cell."""
        ...

    def candidate(self, code: str, *, limits: SandboxLimits | None = None) -> Candidate:
        """Loads `code` so that its functions can be called one by one."""
        ...

    def report(self) -> dict[str, str]:
        """Each kind of protection and what provides it, "none" where nothing does."""
        ...

    def close(self) -> None:
        """Ends what still runs; calling it twice is harmless."""
        ...


class ScriptsOnly:
    """Base of sandboxes that run scripts and nothing else; says so for the rest."""

    def session(self, *, limits: SandboxLimits | None = None) -> NoReturn:
        """Refuses: there are no sessions here."""
        raise SandboxFeatureError(f"{type(self).__name__} has no sessions; use LocalSandbox().")

    def candidate(self, code: str, *, limits: SandboxLimits | None = None) -> NoReturn:
        """Refuses: there are no candidates here."""
        raise SandboxFeatureError(
            f"{type(self).__name__} cannot call a program's functions; use LocalSandbox()."
        )
