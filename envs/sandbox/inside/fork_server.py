"""In: requests on a socket, each with its descriptors. Out: for each one a forked, jailed child.

Started once with an empty environment; it imports what programs commonly need, and from then on
only forks, signals and reaps. It never reads a program: the code waits in a memory file that only
the child opens, so that no program can find another one's text in the memory it was forked with.

Each child has a *leash*, a socket between this server and whoever asked for the child. Words from
the host: `K` kill, `I` interrupt (answered `I` once the signal is pending), `W` (answered `W...`: how
long the program has waited for a processor); its end of file kills.
Words to the host: `S` the program begins, `X...` the jail could not be made, `E...` the program
ended. The child gives its copy of the leash away before the program begins, so no program can
forge one.
"""

import array
import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any, NoReturn

from . import candidate, huge_pages, jail, program, script, session, workdir
from .rlimits import ProcessLimits
from .unlinked import unlinked_bytes

ENDING = struct.Struct("=iddqc")
"""Wait status, user and system CPU seconds, largest resident size in KiB, which limit was passed."""
WAITED = struct.Struct("=d")
"""Seconds that a program was ready to run and another one had the processor."""
NOTHING, DISK, THREADS = b"-", b"d", b"t"
"""Limits that the kernel does not keep for us, so that this server watches them."""
CHANNEL = 3
"""The descriptor of a child's channel to the host."""
_MAX_REQUEST_BYTES = 1 << 16
_MAX_FDS = 6
_NUM_KEPT = 4  # standard streams and the channel
_WATCH_S = 0.1
_MAX_WATCH_SHARE = 0.05  # of this server's time, which looking at many or full folders may take
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 1, 4, 36


def _serve_candidate(source: bytes, channel: int) -> int:
    candidate.serve(source.decode("utf-8", "surrogatepass"), socket.socket(fileno=channel))
    return 0


_MODES = {"script": script.serve, "session": session.serve, "candidate": _serve_candidate}


class _Child:
    """A running child: its process, a descriptor that tells of its end, its leash, its folder."""

    def __init__(
        self, *, pid: int, pid_fd: int, leash: int, stdin_bytes: int, request: dict[str, Any]
    ) -> None:
        self.pid = pid
        self.pid_fd = pid_fd
        self.leash = leash
        self.is_leashed = True
        self.passed = NOTHING
        self._stdin_bytes = stdin_bytes
        self._folder: str = request["workdir"]
        self._max_disk: int = request["max_disk"]
        self._max_threads: int = request["max_threads"]

    def look(self, *, has_ended: bool = False) -> bytes:
        """Which watched limit it has passed; kept once found."""
        if self.passed == NOTHING:
            size = workdir.size_on_disk(self._folder, self._max_disk)
            if not has_ended:
                size += max(0, unlinked_bytes(self.pid) - self._stdin_bytes)
            if size > self._max_disk:
                self.passed = DISK
            elif not has_ended and _num_threads(self.pid) > self._max_threads:
                self.passed = THREADS
        return self.passed


class ForkServer:
    """Forks a child for each request until the host goes away."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self._control = control
        self._libc = ctypes.CDLL(None, use_errno=True)
        jail_config = jail.JailConfig(**config["jail"])
        self._prepared = jail.prepare(jail_config)
        self._denies_processes = jail_config.has_seccomp
        self._children: dict[int, _Child] = {}
        self._poll = select.epoll()
        self._poll.register(control.fileno(), select.EPOLLIN)
        self._highest_fd = max([63, *self._prepared.descriptors])

    def run(self) -> None:
        """Serves until the host closes the control socket; every child dies with the server."""
        control_fd = self._control.fileno()
        watch_at = 0.0
        while True:
            timeout_s = max(0.0, watch_at - time.monotonic()) if self._children else None
            ready = [fd for fd, _ in self._poll.poll(timeout_s)]
            for child, fd in [(self._children[fd], fd) for fd in ready if fd != control_fd]:
                if fd == child.leash and child.is_leashed:
                    self._obey(child)
            for child, fd in [(self._children[fd], fd) for fd in ready if fd in self._children]:
                if fd == child.pid_fd:
                    self._reap(child)
            # Last: a new child may get the number of a descriptor that was closed just now.
            if control_fd in ready and not self._accept():
                return
            if self._children and time.monotonic() >= watch_at:
                watch_at = self._watch()

    def end(self) -> None:
        """Kills and reaps every child."""
        for child in self._each_child():
            os.kill(child.pid, signal.SIGKILL)
            self._reap(child)

    def _each_child(self) -> list[_Child]:
        return [child for fd, child in self._children.items() if fd == child.pid_fd]

    def _watch(self) -> float:
        """Kills who passed a limit; gives the time at which to look again."""
        begun = time.monotonic()
        for child in self._each_child():
            if child.look() != NOTHING:
                signal.pidfd_send_signal(child.pid_fd, signal.SIGKILL)
        now = time.monotonic()
        return now + max(_WATCH_S, (now - begun) / _MAX_WATCH_SHARE)

    def _accept(self) -> bool:
        data, ancillary, _, _ = self._control.recvmsg(
            _MAX_REQUEST_BYTES, socket.CMSG_SPACE(_MAX_FDS * array.array("i").itemsize)
        )
        if not data:
            return False
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        request = json.loads(data)
        named = dict(zip(request["fds"], fds, strict=False))
        self._highest_fd = max([self._highest_fd, *fds])
        try:
            if len(fds) < len(request["fds"]):
                raise OSError("the fork server has no descriptor left")
            self._fork(request, named)
        except OSError as error:  # no process or descriptor left: said so, and the server lives
            if "leash" in named:
                _tell(named["leash"], b"X" + f"no process: {error}".encode())
                os.close(named["leash"])
        finally:
            for name, fd in named.items():
                if name != "leash":
                    os.close(fd)
        return True

    def _fork(self, request: dict[str, Any], named: dict[str, int]) -> None:
        server = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(request, named, server)
        try:
            pid_fd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        self._highest_fd = max(self._highest_fd, pid_fd)
        child = _Child(
            pid=pid,
            pid_fd=pid_fd,
            leash=named["leash"],
            stdin_bytes=os.fstat(named["stdin"]).st_blocks * 512,
            request=request,
        )
        for fd in (pid_fd, child.leash):
            self._children[fd] = child
            self._poll.register(fd, select.EPOLLIN)

    def _become(self, request: dict[str, Any], named: dict[str, int], server: int) -> NoReturn:
        """The child's way from the fork to the program's first line."""
        leash = named["leash"]
        try:
            os.setsid()
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != server:  # it ended before it could be told of
                os._exit(0)
            code = _read_all(named["code"])
            for fd, name in enumerate(("stdin", "stdout", "stderr", "channel")):
                if name in named:
                    os.dup2(named[name], fd)
            folder = request["workdir"]
            jail.enter(self._prepared, folder, ProcessLimits(**request["limits"]))
            first = _NUM_KEPT if "channel" in named else CHANNEL
            os.closerange(first, leash)
            os.closerange(leash + 1, self._highest_fd + 64)
            os.write(leash, b"S")
            os.close(leash)
        except BaseException:
            _tell(leash, b"X" + traceback.format_exc()[-4000:].encode("utf-8", "replace"))
            os._exit(1)
        program.leave(_MODES[request["mode"]], code, CHANNEL)

    def _obey(self, child: _Child) -> None:
        """Does what the host says on the leash; a host that let go of it wants the child dead."""
        try:
            word = os.read(child.leash, 16)
        except OSError:
            word = b""
        if word == b"I":
            signal.pidfd_send_signal(child.pid_fd, signal.SIGINT)
            _tell(child.leash, b"I")
            return
        if word == b"W":
            _tell(child.leash, b"W" + WAITED.pack(_waited_s(child.pid)))
            return
        signal.pidfd_send_signal(child.pid_fd, signal.SIGKILL)
        if not word:
            self._poll.unregister(child.leash)
            del self._children[child.leash]
            os.close(child.leash)
            child.is_leashed = False

    def _reap(self, child: _Child) -> None:
        if not self._denies_processes:
            _kill_group(child.pid)  # before it is reaped, while the number is still its own
        _, status, usage = os.wait4(child.pid, 0)
        if not self._denies_processes:
            self._end_strays()
        self._poll.unregister(child.pid_fd)
        del self._children[child.pid_fd]
        os.close(child.pid_fd)
        if child.is_leashed:
            cpu_s = usage.ru_utime, usage.ru_stime
            ending = ENDING.pack(status, *cpu_s, usage.ru_maxrss, child.look(has_ended=True))
            _tell(child.leash, b"E" + ending)
            self._poll.unregister(child.leash)
            del self._children[child.leash]
            os.close(child.leash)

    def _end_strays(self) -> None:
        """Ends what a child left behind: such processes are handed to this one."""
        known = {child.pid for child in self._each_child()}
        while strays := [pid for pid in _children_of(os.getpid()) if pid not in known]:
            for pid in strays:
                _kill_group(pid)
                os.kill(pid, signal.SIGKILL)
            for pid in strays:
                os.waitpid(pid, 0)


def _tell(leash: int, word: bytes) -> None:
    with contextlib.suppress(OSError):  # the host has let go, or never reads: its own affair
        os.write(leash, word)


def _read_all(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    return os.pread(fd, size, 0) if size else b""


def _num_threads(pid: int) -> int:
    """As root the kernel limits the memory of threads and not their number."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return int(file.read(1024).rpartition(b")")[2].split()[17])
    except OSError:  # it was reaped
        return 0


def _waited_s(pid: int) -> float:
    """The longest that a thread of a process has waited; 0.0 where the kernel does not count it."""
    longest_ns = 0
    with contextlib.suppress(OSError, IndexError, ValueError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", "rb", buffering=0) as file:
                longest_ns = max(longest_ns, int(file.read(256).split()[1]))
    return longest_ns / 1e9


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _children_of(parent: int) -> list[int]:
    children = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[1]) == parent:
                children.append(int(name))
    return children


def main() -> None:
    """Reads the configuration, warms up, says so, and serves. Standard input is the control socket."""
    control = socket.socket(fileno=os.dup(0))
    config = json.loads(control.recv(_MAX_REQUEST_BYTES))
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.dup2(quiet, CHANNEL if control.fileno() != CHANNEL else quiet)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[:] = [folder for folder in sys.path if folder != config["own_folder"]]
    sys.path.extend(config["library_folders"])
    server = None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # children of the same user cannot read its memory
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        most_fds = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_fds, most_fds))
        program.open_streams()
        program.warm_up(config["warm_up"])
        server = ForkServer(control, config)
        package = __name__.partition(".")[0]
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]  # `import inside` shall find nothing
        gc.collect()
        gc.freeze()
        if config["warm_up"] == "sci":
            huge_pages.collapse()
    except BaseException:
        control.send(b"X" + traceback.format_exc()[-4000:].encode("utf-8", "replace"))
        raise
    control.send(b"R")
    try:
        server.run()
    finally:
        server.end()
        workdir.remove(config["folder"])  # the host may have died without doing so
