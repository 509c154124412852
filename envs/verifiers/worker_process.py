"""In: requests of worker.py, as lines of JSON. Out: answers, from children that may be killed.

Started as a script; imports nothing of the package but one module, and such neighbours as that
needs. It loads it once, then forks a child for each worker that is asked for, so that replacing a
killed one takes milliseconds and not the second that SymPy needs. The module offers
`answer(request, say)`, where `say(phase)` tells how far it has come, and may offer `warm()`.

A child is limited in memory, starts no process and writes nothing into files. Where the module runs
what a model wrote, each child also enters the sandbox's jail, as far as the machine has one.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable
from types import ModuleType
from typing import Any

COMMAND = struct.Struct("!cq")  # "F" fork, or "K" kill; a process id
REPLY = struct.Struct("!q")  # the process id; -1 if there is none
_PR_SET_PDEATHSIG = 1
_PACKAGE = "verifiers"


def main(control: socket.socket) -> None:
    """Loads the module, then forks and kills until the other side is gone."""
    with control.makefile("rwb") as stream:
        start = json.loads(stream.readline())
        sys.path[:] = start["path"]
        try:
            module = _load(start["module"])
            confine = _confinement(start)
        except Exception as error:
            stream.write(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode() + b"\n")
            stream.flush()
            return
        gc.collect()
        gc.freeze()  # pages shared with the children stay shared
        stream.write(b'{"ready": true}\n')
        stream.flush()
    children: set[int] = set()
    try:
        _serve(control, module, confine, children)
    finally:
        for child in children:
            _end(child)


def _serve(
    control: socket.socket, module: ModuleType, confine: Callable[[], None], children: set[int]
) -> None:
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, COMMAND.size, 1)
        if len(message) < COMMAND.size:
            return
        command, pid = COMMAND.unpack(message)
        if command == b"F":
            with socket.socket(fileno=descriptors[0]) as channel:
                pid = _fork()
                if pid == 0:
                    _live(control, channel, module, confine)
            if pid > 0:
                children.add(pid)
        elif pid in children:
            children.discard(pid)
            _end(pid)
        control.sendall(REPLY.pack(pid))


def _end(child: int) -> None:
    """Only its parent can kill it without a risk: until waited for, its number is its own."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _fork() -> int:
    try:
        return os.fork()
    except OSError:
        return -1


def _live(
    control: socket.socket, channel: socket.socket, module: ModuleType, confine: Callable[[], None]
) -> None:
    """The life of a child; never returns."""
    code = 1
    try:
        control.close()
        confine()
        with channel.makefile("rwb") as stream:

            def send(content: dict[str, Any]) -> None:
                stream.write(json.dumps(content).encode() + b"\n")
                stream.flush()

            for line in stream:
                request = json.loads(line)
                try:
                    reply = module.answer(request, lambda phase: send({"phase": phase}))
                except Exception as error:
                    reply = {"error": type(error).__name__}
                send({"answer": reply})
        code = 0
    finally:
        os._exit(code)


def _confinement(start: dict[str, Any]) -> Callable[[], None]:
    """What each child does first: limits, and the jail if there is one."""
    memory_mb, layers = start["memory_mb"], start["jail"]
    if not layers:
        return lambda: _limit(_address_space(memory_mb))
    sys.path.insert(0, layers.pop("folder"))
    jail = importlib.import_module("inside.jail")
    rlimits = importlib.import_module("inside.rlimits")
    del sys.path[0]
    readable = (*jail.default_readable(), *filter(os.path.isdir, sys.path))
    prepared = jail.prepare(jail.JailConfig(readable=readable, **layers))
    folder = tempfile.mkdtemp(prefix="maskgym-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    def confine() -> None:
        space = _address_space(memory_mb)
        jail.enter(prepared, folder, rlimits.ProcessLimits())
        _limit(space)

    return confine


def _address_space(memory_mb: int) -> int | None:
    """The limit that leaves as much beyond what is loaded, where the system tells; dies with us."""
    if sys.platform != "linux":
        return None
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize() + memory_mb * 2**20


def _limit(address_space: int | None) -> None:
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NPROC: 0}
    limits[resource.RLIMIT_NOFILE] = (
        64  # not none: SymPy imports parts of itself when it needs them
    )
    if address_space is not None:
        limits[resource.RLIMIT_AS] = address_space
    for kind, value in limits.items():
        with contextlib.suppress(OSError, ValueError):  # a lower limit is set already
            resource.setrlimit(kind, (value, value))


def _load(path: str) -> ModuleType:
    folder, file = os.path.split(path)
    package = ModuleType(_PACKAGE)
    package.__path__ = [folder]  # so that the module can import its neighbours
    sys.modules[_PACKAGE] = package
    module = importlib.import_module(f"{_PACKAGE}.{file.removesuffix('.py')}")
    if hasattr(module, "warm"):
        module.warm()
    return module


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as channel_to_host:
        main(channel_to_host)
