"""In: programs. Out: `ForkServer`, which gives each a jailed process forked from a warm one.

The process itself is `inside/fork_server.py`. One server serves every sandbox of this process that
asks for the same kind; `shared_server` keeps them. A fork of this process makes servers of its own.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import errno
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Literal

from .child import Child
from .inside.jail import JailConfig, library_folders
from .inside.rlimits import ProcessLimits
from .inside.workdir import clear, remove
from .protocol import SandboxLimits
from .user_tasks import count_user_tasks
from .walls import Wall
from .walls import command as wall_command

Mode = Literal["script", "session", "candidate"]
WarmUp = Literal["bare", "sci"]

_OWN_FOLDER = str(Path(__file__).parent)
_START = (
    f"import sys; sys.path.insert(0, {_OWN_FOLDER!r}); "
    "from inside import fork_server; fork_server.main()"
)
# No user site, no path of its own, no `site`, no byte code written. Not -I: it would ignore
# PYTHONHASHSEED, and equal programs would print unequal sets.
_FLAGS = ("-s", "-P", "-S", "-B", "-X", "utf8")
_MAX_START_S = 120.0  # a loaded machine is slow to import SymPy
_MAX_SEND_S = 60.0
_MAX_CLEAR_S = 0.2
_MAX_DYING_S = 2.0
_PREFIX = "maskgym-sandbox-"
_LEFTOVER_AGE_S = 3600.0
_LONG_LIVED = 100
"""How many times the CPU seconds of one run a session, or a candidate, may use in its life."""


class ForkServerLostError(OSError):
    """The fork server cannot be started, or has ended; nothing is known about the program."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What all children of a fork server have in common."""

    warm_up: WarmUp
    """What is imported before the forks: common modules, or NumPy and SymPy too."""
    jail: JailConfig
    """The layers of each child."""
    wall: Wall = Wall.NONE
    """What surrounds the server and all of its children."""


class ForkServer:
    """A warm interpreter that forks jailed children. Safe from any thread."""

    def __init__(self, config: ServerConfig) -> None:
        """Starts the process and waits until it is warm.

        Raises:
            ForkServerLostError: If it does not start; the message holds what it said.
        """
        self.config = config
        self._numbers = itertools.count()
        self._clean_folders: list[str] = []
        self._is_lost = False
        with ExitStack() as undo:
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.enter_context(self._control)
            with theirs, tempfile.TemporaryFile() as said:
                self._null = os.open(os.devnull, os.O_RDONLY)
                undo.callback(os.close, self._null)
                _remove_leftovers()
                self.folder = tempfile.mkdtemp(prefix=_PREFIX)
                """Holds the working directories; the server removes it when it ends."""
                undo.callback(remove, self.folder)
                self._process = self._start(theirs, said)
                theirs.close()
                answer = self._configure()
                undo.pop_all()
                if answer != b"R":
                    self.close()
                    said.seek(0)
                    words = (answer[1:] or said.read()[-4000:]).decode("utf-8", "replace")
                    raise ForkServerLostError(f"the fork server did not start: {words.strip()}")

    def _start(self, control: socket.socket, said: IO[bytes]) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._wall_command(), sys.executable, *_FLAGS, "-c", _START],
                stdin=control.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=said,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise ForkServerLostError(f"no process: {error}") from error

    @property
    def pid(self) -> int:
        """Its process id, or that of the wall around it."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return not self._is_lost and self._process.poll() is None

    def note_lost_child(self) -> None:
        """Finds out whether it is dying, which takes a moment to show after a child was lost."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_MAX_DYING_S)

    def make_workdir(self) -> str:
        """An empty folder for one child; whoever asked gives it back once the child has ended.

        Raises:
            ForkServerLostError: If something has removed the folder of them all.
        """
        with contextlib.suppress(IndexError):
            while not os.path.isdir(folder := self._clean_folders.pop()):
                pass
            return folder
        folder = f"{self.folder}/{next(self._numbers)}"
        try:
            os.mkdir(folder, 0o700)
        except FileNotFoundError as error:  # a cleaner of /tmp, say
            self._is_lost = True
            raise ForkServerLostError(f"{self.folder} is gone: {error}") from error
        return folder

    def take_back(self, folder: str) -> None:
        """Empties a folder, for the next child: on some disks making one costs milliseconds."""
        if clear(folder, max_s=_MAX_CLEAR_S):
            self._clean_folders.append(folder)
        else:  # thousands of folders: whoever asked for the run does not wait for that
            threading.Thread(target=remove, args=(folder,), daemon=True).start()

    def spawn(
        self, mode: Mode, code: str, *, stdin: bytes = b"", limits: SandboxLimits, workdir: str
    ) -> Child:
        """Has a child forked that runs `code` in `mode`; `workdir` is its own until it has ended.

        Raises:
            ForkServerLostError: If the server has ended.
            OSError: If this process has no descriptor left.
        """
        try:
            return self._spawn(mode, code, stdin, limits, workdir)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            text = "No descriptor left: each run, session or candidate takes 4. Raise `ulimit -n`"
            raise OSError(errno.EMFILE, text) from error

    def _spawn(
        self, mode: Mode, code: str, stdin: bytes, limits: SandboxLimits, workdir: str
    ) -> Child:
        with ExitStack() as ours, ExitStack() as theirs:
            # The leash first: if the server runs out of descriptors it can still say so there.
            leash, their_leash = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.enter_context(leash)
            named = {"leash": theirs.enter_context(their_leash).fileno()}
            named["code"] = _memory_file(code, theirs)
            named["stdin"] = _memory_file(stdin, theirs) if stdin else self._null
            outputs = []
            for name in ("stdout", "stderr"):
                read, write = os.pipe()
                ours.callback(os.close, read)
                theirs.callback(os.close, write)
                outputs.append(read)
                named[name] = write
            channel = None
            if mode != "script":
                channel, their_channel = socket.socketpair()
                ours.enter_context(channel)
                named["channel"] = theirs.enter_context(their_channel).fileno()
            request = {
                "mode": mode,
                "workdir": workdir,
                "limits": asdict(_process_limits(limits, mode, self.config)),
                "max_disk": limits.max_disk_mb << 20,
                "max_threads": limits.max_processes,
                "fds": list(named),
            }
            self._send(json.dumps(request).encode(), list(named.values()))
            child = Child(
                leash=leash,
                stdout_fd=outputs[0],
                stderr_fd=outputs[1],
                channel=channel,
                max_output_bytes=limits.max_output_bytes,
            )
            ours.pop_all()
            return child

    def close(self) -> None:
        """Ends the server and with it every child; calling it twice is harmless."""
        if self._control.fileno() < 0:
            return
        self._release()
        try:
            self._process.wait(10.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        remove(self.folder)

    def let_go(self) -> None:
        """Closes this process's copies of the server's descriptors; the server lives on."""
        if self._control.fileno() >= 0:
            self._release()

    def _release(self) -> None:
        self._is_lost = True
        self._control.close()
        os.close(self._null)

    def _wall_command(self) -> list[str]:
        readable = (*self.config.jail.readable, *library_folders(), _OWN_FOLDER)
        command = wall_command(self.config.wall, writable=self.folder, readable=readable)
        if command is None:
            raise OSError(f"{self.config.wall} is not installed")
        return command

    def _configure(self) -> bytes:
        config = {
            "own_folder": _OWN_FOLDER,
            "folder": self.folder,
            "warm_up": self.config.warm_up,
            "library_folders": library_folders(),
            "jail": asdict(self.config.jail),
        }
        self._control.settimeout(_MAX_START_S)
        try:
            self._control.send(json.dumps(config).encode())
            answer = self._control.recv(1 << 13)
        except OSError:  # it has ended; what it said before says why
            answer = b"X"
        self._control.settimeout(_MAX_SEND_S)
        return answer

    def _send(self, request: bytes, fds: list[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        deadline = time.monotonic() + _MAX_SEND_S
        while True:
            try:
                self._control.sendmsg([request], rights)
                return
            except OSError as error:
                # The kernel bounds the descriptors under way; the server takes them soon.
                if error.errno == errno.ETOOMANYREFS and time.monotonic() < deadline:
                    time.sleep(0.005)
                    continue
                self._is_lost = True  # its process may still be on its way out
                raise ForkServerLostError(f"the fork server is gone: {error}") from error


def cpu_seconds(limits: SandboxLimits, mode: Mode) -> int:
    """The limit on CPU seconds of one process."""
    if limits.cpu_s is not None:
        return limits.cpu_s
    one_run = math.ceil(limits.wall_s) + 1
    return one_run if mode == "script" else one_run * _LONG_LIVED


def _process_limits(limits: SandboxLimits, mode: Mode, config: ServerConfig) -> ProcessLimits:
    # Where no process can be started the fork server counts the threads: RLIMIT_NPROC is for the
    # user as a whole, and root is exempt.
    is_counted = not config.jail.has_seccomp and os.geteuid() != 0
    return ProcessLimits(
        memory_mb=limits.memory_mb,
        cpu_s=cpu_seconds(limits, mode),
        max_file_mb=limits.max_file_mb,
        max_disk_mb=limits.max_disk_mb,
        max_open_files=limits.max_open_files,
        max_processes=count_user_tasks() + limits.max_processes if is_counted else None,
    )


def _remove_leftovers() -> None:
    """Removes old empty folders: behind a wall, a server whose host was killed leaves its own.

    One that is still used, and has been empty for as long, is missed at its next run and replaced.
    """
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another user's, not empty, or gone
                is_ours = entry.name.startswith(_PREFIX) and entry.is_dir(follow_symlinks=False)
                if is_ours and time.time() - entry.stat().st_mtime > _LEFTOVER_AGE_S:
                    os.rmdir(entry.path)


def _memory_file(content: str | bytes, stack: ExitStack) -> int:
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    fd = os.memfd_create("maskgym")
    stack.callback(os.close, fd)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _environment() -> dict[str, str]:
    """Everything a program sees of an environment; nothing of the host's."""
    return {
        "HOME": ".",  # the working directory, whichever it is
        "TMPDIR": "./",  # `tempfile` makes it absolute
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # equal programs print equal sets
        "MALLOC_ARENA_MAX": "2",  # each thread's own would take 64 MiB of the limit
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",  # each BLAS thread reserves memory against the limit
        "MKL_NUM_THREADS": "1",
    }


_lock = threading.Lock()
_servers: dict[ServerConfig, ForkServer] = {}


def shared_server(config: ServerConfig) -> ForkServer:
    """The server of this kind in this process; started when first asked for, or when it was lost."""
    with _lock:
        server = _servers.get(config)
        if server is None or not server.is_alive:
            if server is not None:
                server.close()
            server = _servers[config] = ForkServer(config)
        return server


def close_servers() -> None:
    """Ends the servers of this process; the next run starts new ones."""
    with _lock:
        while _servers:
            _servers.popitem()[1].close()


def _after_fork() -> None:
    """A forked process keeps no hold on its parent's servers, whose end tells them to stop."""
    global _lock
    _lock = threading.Lock()
    while _servers:
        _servers.popitem()[1].let_go()


atexit.register(close_servers)
os.register_at_fork(after_in_child=_after_fork)
