"""In: a program as text. Out: `SubprocessSandbox`, which runs it in a process under rlimits.

What tier T0 gives: an own session and process group, a scrubbed environment, a fresh working
directory removed afterwards, limits on address space, CPU, file size, descriptors and (not for
root) processes, a wall clock, capped output, and no process left behind.

What it does NOT give: the program runs as the same user with the same file system and network. It
can read and write every file that the user can, open connections, signal the user's other
processes, fill the disk, and use the memory limit once per process that it starts. Use it for code
you would run yourself.
"""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .launcher import FILE_EXIT, OOM_EXIT
from .output import Output
from .protocol import ExecResult, ExecStatus, SandboxLimits, ScriptsOnly
from .user_tasks import count_user_tasks

_LAUNCHER = Path(__file__).with_name("launcher.py")
_MAX_START_S = 60.0  # a loaded machine is slow to start Python; that is not the program's time
_GRACE_S = 2.0  # for the launcher to end what it watches, before its group is killed over its head
_MIB = 1 << 20


class SubprocessSandbox(ScriptsOnly):
    r"""Runs each program in a new process under rlimits; tier "T0". Safe from any thread.

    >>> SubprocessSandbox().run("print(1 + 1)").stdout
    '2\n'
    """

    def __init__(self, limits: SandboxLimits | None = None) -> None:
        """Runs under `limits` where a run names none of its own."""
        if not sys.platform.startswith("linux"):
            raise OSError(
                f"SubprocessSandbox needs Linux; this is {sys.platform}. "
                "Run code environments in a Linux container or virtual machine."
            )
        self.limits = limits or SandboxLimits()
        self._lock = threading.Lock()
        self._leashes: set[int] = set()
        self._is_closed = False
        paths = sysconfig.get_paths()
        self._library_folders = list(dict.fromkeys((paths["purelib"], paths["platlib"])))

    def __reduce__(self) -> tuple[Callable[..., SubprocessSandbox], tuple[SandboxLimits]]:
        return SubprocessSandbox, (self.limits,)

    @property
    def tier(self) -> str:
        """Always "T0": limits, no isolation."""
        return "T0"

    def report(self) -> dict[str, str]:
        """Each kind of protection and what provides it."""
        is_root = os.geteuid() == 0
        return {
            "tier": self.tier,
            "files": "none",
            "network": "none",
            "signals": "none",
            "environment": "scrubbed",
            "memory": "rlimit, per process",
            "cpu": "rlimit, per process",
            "processes": "none (root is exempt from the rlimit)" if is_root else "rlimit, per user",
            "orphans": "killed through a supervising parent",
            "disk": "rlimit, per file",
            "output": "capped while reading",
            "wall clock": "kill of all descendants",
        }

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        """Runs `code` as a script of its own and waits for its end."""
        limits = limits or self.limits
        folder = tempfile.mkdtemp(prefix="maskgym-")
        try:
            Path(folder, "main.py").write_bytes(code.encode("utf-8", "surrogatepass"))
            with tempfile.TemporaryFile() as stdin_file:
                stdin_file.write(stdin.encode("utf-8", "surrogatepass"))
                stdin_file.seek(0)
                return self._run_in(folder, stdin_file, limits)
        except OSError as error:  # no process, no descriptor, no disk: ours, not the program's
            return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr=f"sandbox: {error}")
        finally:
            _remove(folder)

    def close(self) -> None:
        """Ends what still runs; later runs give a sandbox error."""
        with self._lock:
            self._is_closed = True
            for leash in self._leashes:
                _pull(leash)

    def _run_in(self, folder: str, stdin_file: IO[bytes], limits: SandboxLimits) -> ExecResult:
        with contextlib.ExitStack() as stack:
            leash_read, leash = _pipe(stack)
            status_read, status_write = _pipe(stack)
            process = subprocess.Popen(
                self._command(leash_read.fd, status_write.fd, limits),
                stdin=stdin_file,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd=folder,
                env=_environment(folder),
                pass_fds=(leash_read.fd, status_write.fd),
                start_new_session=True,
            )
            assert process.stdout is not None and process.stderr is not None
            run = _Run(
                stdout=Output(process.stdout.fileno(), limits.max_output_bytes),
                stderr=Output(process.stderr.fileno(), limits.max_output_bytes),
                status=Output(status_read.fd, 64),
                leash_fd=leash.fd,
                wall_s=limits.wall_s,
            )
            try:
                leash_read.close()
                status_write.close()
                with self._lock:
                    self._leashes.add(leash.fd)
                    if self._is_closed:
                        _pull(leash.fd)
                run.follow()
            finally:
                with self._lock:
                    self._leashes.discard(leash.fd)
                    is_closed = self._is_closed
                _kill_group(process.pid)  # not reaped yet, so the number is still its own
                process.wait()
                run.finish()
                process.stdout.close()
                process.stderr.close()
        return run.result(is_closed)

    def _command(self, leash_fd: int, status_fd: int, limits: SandboxLimits) -> list[str]:
        # -s -P -S: no user site, no path of this script, no `site` (slow, and it would make an
        # editable maskgym importable); not -I, which would ignore PYTHONHASHSEED and make outputs
        # vary.
        start = [sys.executable, "-s", "-P", "-S", "-B", "-X", "utf8", str(_LAUNCHER)]
        cpu_s = limits.cpu_s or math.ceil(limits.wall_s) + 1
        processes = 0 if os.geteuid() == 0 else count_user_tasks() + limits.max_processes
        numbers = (
            leash_fd,
            status_fd,
            limits.memory_mb * _MIB,
            cpu_s,
            limits.max_file_mb * _MIB,
            limits.max_open_files,
            processes,
        )
        return [*start, *map(str, numbers), *self._library_folders]


@dataclass
class _Run:
    """The host's side of one run: reads, watches the clock, pulls the leash."""

    stdout: Output
    stderr: Output
    status: Output
    leash_fd: int
    wall_s: float
    stopped_as: ExecStatus | None = None
    started_at: float = 0.0
    ended_at: float = 0.0

    def follow(self) -> None:
        """Returns when the launcher has reported, or has not within the grace after a stop."""
        deadline = time.monotonic() + _MAX_START_S
        with selectors.DefaultSelector() as selector:
            for stream in (self.stdout, self.stderr, self.status):
                os.set_blocking(stream.fd, False)
                selector.register(stream.fd, selectors.EVENT_READ, stream)
            while True:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    if self.stopped_as is not None:
                        break
                    late = ExecStatus.TIMEOUT if self.started_at else ExecStatus.SANDBOX_ERROR
                    deadline = self._stop(late)
                    continue
                for key, _ in selector.select(remaining):
                    stream = key.data
                    is_open = stream.read() is not False
                    if stream is self.status:
                        if not is_open:
                            self.ended_at = time.monotonic()
                            return
                        if not self.started_at and self.status.data.startswith(b"S"):
                            self.started_at = time.monotonic()
                            if self.stopped_as is None:
                                deadline = self.started_at + self.wall_s
                    elif not is_open:
                        selector.unregister(stream.fd)
                    elif stream.is_over and self.stopped_as is None:
                        deadline = self._stop(ExecStatus.OUTPUT_LIMIT)
        self.ended_at = time.monotonic()

    def _stop(self, status: ExecStatus) -> float:
        self.stopped_as = status
        _pull(self.leash_fd)
        return time.monotonic() + _GRACE_S

    def finish(self) -> None:
        """Takes the rest of the output; kills the program's group if its supervisor was killed."""
        if self.started_at and not self._ending():
            _kill_group(int(self.status.data.partition(b"\n")[0][1:]))
        self.stdout.drain()
        self.stderr.drain()

    def _ending(self) -> str:
        return self.status.data.partition(b"\n")[2].decode()

    def result(self, is_closed: bool) -> ExecResult:
        """The record of the run."""
        is_truncated = self.stdout.is_over or self.stderr.is_over
        status = self._status(is_closed, is_truncated)
        stderr = self.stderr.data.decode("utf-8", "replace")
        if status is ExecStatus.SANDBOX_ERROR:
            why = "it was closed" if is_closed else "the launcher did not start the program"
            stderr = f"sandbox: {why}\n{stderr}"
        return ExecResult(
            status=status,
            stdout=self.stdout.data.decode("utf-8", "replace"),
            stderr=stderr,
            is_truncated=is_truncated,
            wall_s=self.ended_at - self.started_at if self.started_at else 0.0,
        )

    def _status(self, is_closed: bool, is_truncated: bool) -> ExecStatus:
        ending = self._ending()
        if not self.started_at:
            return ExecStatus.SANDBOX_ERROR
        if self.stopped_as is not None:
            return self.stopped_as
        if is_closed and ending == f"s{int(signal.SIGKILL)}":
            return ExecStatus.SANDBOX_ERROR
        if ending == f"s{int(signal.SIGXCPU)}":
            return ExecStatus.CPU_LIMIT
        if not ending.startswith("e"):
            return ExecStatus.KILLED
        if is_truncated:
            return ExecStatus.OUTPUT_LIMIT
        if ending == f"e{OOM_EXIT}":
            return ExecStatus.OOM
        if ending == f"e{FILE_EXIT}":
            return ExecStatus.FILE_LIMIT
        return ExecStatus.OK if ending == "e0" else ExecStatus.ERROR


@dataclass
class _Descriptor:
    """A file descriptor that is closed once."""

    fd: int

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _pipe(stack: contextlib.ExitStack) -> tuple[_Descriptor, _Descriptor]:
    ends = [_Descriptor(fd) for fd in os.pipe()]
    for end in ends:
        stack.callback(end.close)
    return ends[0], ends[1]


def _pull(leash_fd: int) -> None:
    """Tells the launcher to end the program."""
    with contextlib.suppress(BrokenPipeError):  # it has ended already
        os.write(leash_fd, b"x")


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _environment(folder: str) -> dict[str, str]:
    """Everything the program sees of an environment; nothing of the host's own."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # equal programs print equal sets
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # each BLAS thread reserves memory against the limit
        "MKL_NUM_THREADS": "1",
    }


def _remove(folder: str) -> None:
    """Removes the working directory, also where the program took away its own rights."""

    def allow_and_retry(function: Callable[..., Any], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            parent = os.path.dirname(path)
            if parent.startswith(folder):
                os.chmod(parent, stat.S_IRWXU)
            if os.path.isdir(path) and not os.path.islink(path):
                os.chmod(path, stat.S_IRWXU)
                shutil.rmtree(path, ignore_errors=True)
            else:
                function(path)

    shutil.rmtree(folder, onerror=allow_and_retry)
