"""In: limits as arguments, a folder with `main.py`. Out: it runs under them; how it ended.

The first process of every `SubprocessSandbox` run. It is started as a script, never imported by the
product, and imports as little as it can, since its start is paid on every run. It forks: the child
limits itself and becomes the program; the parent waits for the child's end or a word on the leash
(or the death of the host, which is an end of file there), then kills whatever descends from the
child, however often it forked or changed its session, and says how the child ended.

A child that kills this parent ends its own run; what had by then left its process group survives.
"""

import builtins
import ctypes
import os
import resource
import select
import sys
import time
from types import ModuleType

OOM_EXIT, FILE_EXIT = 86, 87  # our own codes: an uncaught MemoryError, "file too large"
_EFBIG = 27
_SIGKILL = 9  # the signal module costs 4 ms of start-up
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def supervise(worker: int, leash_fd: int, status_fd: int) -> None:
    """Waits for the program or the leash, ends every descendant, and reports."""
    os.setpgid(worker, worker)
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    worker_fd = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(worker_fd, select.POLLIN)
    poll.register(leash_fd, select.POLLIN | select.POLLHUP)
    poll.poll()
    os.killpg(worker, _SIGKILL)  # the worker is not reaped yet, so the group is still its own
    _, raw = os.waitpid(worker, 0)
    _kill_descendants()
    code = os.waitstatus_to_exitcode(raw)
    os.write(status_fd, b"e%d" % code if code >= 0 else b"s%d" % -code)


def _kill_descendants() -> None:
    """Kills and reaps until this process, to which orphans are handed, has no child left."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                for child in _children(os.getpid()):
                    os.kill(child, _SIGKILL)
                time.sleep(0.001)
        except ChildProcessError:
            return
        except ProcessLookupError:
            continue


def _children(parent: int) -> list[int]:
    """Process ids whose parent is `parent` (not every kernel has /proc/PID/task/TID/children)."""
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


def limit(memory: int, cpu_s: int, file_size: int, open_files: int, processes: int) -> None:
    """Applies the limits to this process for good; 0 processes means no limit on them."""
    wanted = [
        (resource.RLIMIT_AS, memory, memory),
        (resource.RLIMIT_CPU, cpu_s, cpu_s + 1),
        (resource.RLIMIT_FSIZE, file_size, file_size),
        (resource.RLIMIT_NOFILE, open_files, open_files),
        (resource.RLIMIT_CORE, 0, 0),
    ]
    if processes:
        wanted.append((resource.RLIMIT_NPROC, processes, processes))
    for which, soft, hard in wanted:
        ceiling = resource.getrlimit(which)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))


def run_program(library_folders: list[str]) -> int:
    """Runs `main.py` of the working directory as `__main__`; gives the exit code."""
    main = ModuleType("__main__")
    main.__file__ = "main.py"
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv = ["main.py"]
    sys.path.insert(0, os.getcwd())
    sys.path.extend(library_folders)
    try:  # `site`, which defines these, is not loaded
        from _sitebuiltins import Quitter

        builtins.exit = Quitter("exit", "Ctrl-D")
        builtins.quit = Quitter("quit", "Ctrl-D")
    except ImportError:
        pass
    try:
        with open("main.py", "rb") as file:
            source = file.read()
        exec(compile(source, "main.py", "exec", dont_inherit=True), main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        # Without this file's own frames: the model should see its program and nothing else.
        trace = error.__traceback__.tb_next if error.__traceback__ else None
        error.__traceback__ = trace
        sys.excepthook(type(error), error, trace)
        if isinstance(error, OSError) and error.errno == _EFBIG:
            return FILE_EXIT
        return OOM_EXIT if isinstance(error, MemoryError) else 1
    return 0


def main(arguments: list[str]) -> int:
    """Forks into the supervisor and the program; both return here and exit in the usual way."""
    leash_fd, status_fd, *limits = map(int, arguments[:7])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    worker = os.fork()
    if worker:
        supervise(worker, leash_fd, status_fd)
        return 0
    libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    os.setpgid(0, 0)
    os.close(leash_fd)
    limit(*limits)
    os.write(status_fd, b"S%d\n" % os.getpid())
    os.close(status_fd)
    return run_program(arguments[7:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
