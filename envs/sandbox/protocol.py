"""In: nothing. Out: `Sandbox`, the protocol of what runs untrusted Python, and its records."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable


class ExecStatus(StrEnum):
    """How a run ended."""

    OK = "ok"
    """The program ended by itself with exit code 0."""
    ERROR = "error"
    """An exception, a syntax error or another exit code."""
    TIMEOUT = "timeout"
    """The wall clock or CPU limit was reached."""
    OOM = "oom"
    """A `MemoryError` under the memory limit."""
    OUTPUT_LIMIT = "output_limit"
    """More output than allowed; the program was stopped and the beginning kept."""
    KILLED = "killed"
    """A signal ended the program: a crash in native code, or something else killed it."""
    SANDBOX_ERROR = "sandbox_error"
    """The sandbox itself failed. Says nothing about the program and is never scored as wrong."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SandboxLimits:
    """What one run may use."""

    wall_s: float = 10.0
    """Seconds from the first line of the program to its end; starting Python does not count."""
    memory_mb: int = 1024
    """Address space of each process, in MiB."""
    cpu_s: int | None = None
    """CPU seconds of each process; None: `wall_s`, rounded up, plus one."""
    max_output_bytes: int = 1_000_000
    """Bytes kept of standard output and of standard error; one byte more ends the run."""
    max_file_mb: int = 64
    """Size of the largest file the program may write, in MiB."""
    max_open_files: int = 256
    """Open file descriptors of each process."""
    max_processes: int = 64
    """Processes and threads beside those the user already runs; not enforced for root."""

    def __post_init__(self) -> None:
        for name in ("wall_s", "memory_mb", "max_output_bytes", "max_file_mb", "max_processes"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.max_open_files < 16:
            raise ValueError(f"max_open_files is {self.max_open_files}; Python needs at least 16.")
        if self.cpu_s is not None and self.cpu_s < 1:
            raise ValueError(f"cpu_s is {self.cpu_s}; use 1 or more, or None to follow wall_s.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExecResult:
    """What one run brought."""

    status: ExecStatus
    stdout: str = ""
    stderr: str = ""
    is_truncated: bool = False
    """Whether output was cut at the limit."""
    wall_s: float = 0.0
    """Measured time; never put it into an `info`, which must be equal on every machine."""


@runtime_checkable
class Sandbox(Protocol):
    """Runs one Python program at a time per call; calls may come from any thread at once."""

    @property
    def tier(self) -> str:
        """From "T0" (limits only) to "T3" (namespaces, Landlock and seccomp)."""
        ...

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        """Runs `code` as a script of its own; never raises on the program's account."""
        ...

    def report(self) -> dict[str, str]:
        """Each kind of protection and what provides it, "none" where nothing does."""
        ...

    def close(self) -> None:
        """Ends what still runs; calling it twice is harmless."""
        ...
