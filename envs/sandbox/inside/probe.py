"""In: layers to try and things outside to try them on. Out: for each protection, whether it held.

A process of its own enters the jail and does what untrusted code must not, each attempt made so
that it harms nothing if it succeeds. A kernel's version proves nothing: backports, containers and
security modules take away what the version promises. The answer is JSON:
`{"wall": {name: held}, "jail": {name: held}}`, or `{"error": text}` where no jail could be made.
"""

import errno
import fcntl
import json
import mmap
import os
import resource
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import jail, kernel
from .rlimits import ProcessLimits

MEMORY_MB, DISK_MB = 512, 4
_CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What lies outside: a file of this user, a port that listens, the numbers of processes."""

    file: str
    port: int
    namespace: str
    """Of process numbers, as the link in /proc names it."""


def main() -> None:
    """Reads a request from standard input, tries everything, writes the answer."""
    request: dict[str, Any] = json.load(sys.stdin)
    target = Target(**request["target"])
    try:
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # as the server that will do this in earnest
        prepared = jail.prepare(jail.JailConfig(**request["jail"]))
        answer: dict[str, object] = {
            "wall": try_wall(target),
            "jail": _in_child(prepared, request["workdir"], target),
        }
    except Exception:  # the answer is that it does not work here, and why
        answer = {"error": traceback.format_exc()}
    json.dump(answer, sys.stdout)


def try_wall(target: Target) -> dict[str, bool]:
    """What namespaces around this process keep from it, before any other layer."""
    return {
        "paths": not os.path.exists(target.file),
        # Not by number: a pool's own process may bear that of its host, 1 in a container.
        "processes": process_namespace() != target.namespace,
        "network": _is_refused(lambda: _connect(target.port)),
    }


def process_namespace() -> str:
    """Which namespace of process numbers this process is in."""
    return os.readlink("/proc/self/ns/pid")


def try_jail(target: Target) -> dict[str, bool]:
    """What the layers keep from this process, which has entered the jail."""
    parent = os.getppid()
    return {
        "work": _can_work(),
        "read": _is_refused(lambda: _touch(target.file, os.O_RDONLY)),
        "write": _is_refused(lambda: _touch(f"{target.file}.new", os.O_WRONLY | os.O_CREAT)),
        "truncate": _is_refused(lambda: os.truncate(target.file, 0)),
        "environment": _is_refused(lambda: _touch(f"/proc/{parent}/environ", os.O_RDONLY)),
        "modes": not _can_change_mode(target.file),
        "processes": _is_refused(_fork),
        "programs": _is_refused(lambda: os.execv("/nonexistent", ["x"]), errno.EPERM),
        "network": _is_refused(lambda: _connect(target.port)),
        "sockets": _is_refused(lambda: socket.socket(socket.AF_UNIX).close()),
        "datagrams": _is_refused(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)),
        "signals": _is_refused(lambda: os.kill(parent, 0)),
        "owners": _is_refused(lambda: _own(parent)),
        "namespaces": _is_refused(lambda: kernel.unshare(_CLONE_NEWUSER)),
        "memory": _is_refused(lambda: mmap.mmap(-1, MEMORY_MB << 20)),
        "limits": not _can_raise_limit(),
        "disk": not _can_overfill(),
    }


def _in_child(prepared: jail.Prepared, workdir: str, target: Target) -> dict[str, bool]:
    """Forks the process that tries, since a jail is for good."""
    limits = ProcessLimits(memory_mb=MEMORY_MB, cpu_s=10, max_file_mb=64, max_disk_mb=DISK_MB)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            jail.enter(prepared, workdir, limits)
            answer: object = try_jail(target)
        except BaseException:
            answer = traceback.format_exc()
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    os.waitpid(child, 0)
    result = json.loads(data or '"The trying process was killed."')
    if isinstance(result, str):
        raise RuntimeError(result)
    return dict(result)


def _is_refused(attempt: Callable[[], object], *reasons: int) -> bool:
    """Whether the attempt fails with an OSError, of one of the `reasons` if any are given."""
    try:
        attempt()
    except OSError as error:
        return not reasons or error.errno in reasons
    return False


def _can_work() -> bool:
    """What must not be refused: files of its own, threads, signals to itself."""
    with open("own", "w+") as file:
        file.write("own")
    os.rename("own", "mine")
    os.unlink("mine")
    thread = threading.Thread(target=os.getpid)
    thread.start()
    thread.join()
    os.kill(os.getpid(), 0)
    return True


def _touch(path: str, flags: int) -> None:
    os.close(os.open(path, flags, 0o600))


def _can_change_mode(path: str) -> bool:
    try:
        os.chmod(path, 0o640)
        return os.stat(path).st_mode & 0o777 == 0o640
    except OSError:
        return False


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=1.0).close()


def _own(process: int) -> None:
    """A file's owner gets signals on its account, of any kind that the file asks for."""
    left, right = socket.socketpair()
    with left, right:
        fcntl.fcntl(left, fcntl.F_SETOWN, process)


def _can_raise_limit() -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (2 * MEMORY_MB << 20, 2 * MEMORY_MB << 20))
    except (ValueError, OSError):
        return False
    return True


def _can_overfill() -> bool:
    try:
        with open("full", "wb") as file:
            for _ in range(DISK_MB + 1):
                file.write(bytes(1 << 20))
    except OSError:
        return False
    finally:
        if os.path.exists("full"):
            os.unlink("full")
    return True
