"""In: what one process may use. Out: the same as resource limits on this process, for good."""

import os
import resource
from dataclasses import dataclass

_MIB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessLimits:
    """Resource limits of one sandboxed process; None leaves what the process has."""

    memory_mb: int | None = None
    """Address space, in MiB, the loaded libraries included."""
    cpu_s: int | None = None
    """CPU seconds; SIGXCPU then, SIGKILL a second later."""
    max_file_mb: int | None = None
    """Size of the largest file that it may write, in MiB."""
    max_disk_mb: int | None = None
    """Size of all files of the working directory together, in MiB, where it can be a mount."""
    max_open_files: int | None = None
    """Open file descriptors."""
    max_processes: int | None = None
    """Processes and threads of this user, absolute; the kernel does not hold root to it."""


def apply(limits: ProcessLimits) -> None:
    """Sets each limit hard, never above what the process was already held to."""
    # Where crashes are piped to a program of the system, 0 is taken for "no limit" and 1 for "none".
    _lower(resource.RLIMIT_CORE, 1)
    _lower(resource.RLIMIT_MEMLOCK, 0)
    _lower(resource.RLIMIT_MSGQUEUE, 0)
    _lower(resource.RLIMIT_SIGPENDING, 4096)
    if limits.memory_mb is not None:
        _lower(resource.RLIMIT_AS, limits.memory_mb * _MIB)
    if limits.cpu_s is not None:
        _lower(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)
    if limits.max_file_mb is not None:
        _lower(resource.RLIMIT_FSIZE, limits.max_file_mb * _MIB)
    if limits.max_open_files is not None:
        _lower(resource.RLIMIT_NOFILE, limits.max_open_files)
    if limits.max_processes is not None and os.geteuid() != 0:
        _lower(resource.RLIMIT_NPROC, limits.max_processes)


def _lower(which: int, soft: int, hard: int | None = None) -> None:
    hard = soft if hard is None else hard
    ceiling = resource.getrlimit(which)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(which, (soft, hard))
