"""In: a process about to run untrusted code. Out: the same process, unable to leave its folder.

`prepare` runs once in the fork server, `enter` in each child, as the last thing before untrusted
code. The layers: resource limits, no capabilities, no new privileges, Landlock, seccomp.

What this does NOT protect against:
- A kernel bug reachable through an allowed system call: the filter is a deny-list. For code written
  by an attacker with such a bug, use a virtual machine.
- Learning which paths exist outside (Landlock does not cover `stat`; namespaces do, at T3), the
  machine's load, kernel and hardware, and what timing of the shared CPU and caches tells.
- Reading anything in the readable folders: never put answers or secrets into site-packages.
- Use of CPU and memory up to the limits, by as many runs as the host starts at once.
- What the kernel counts for nobody and the fork server watches instead, a few times a second: threads
  where the host runs as root, and disk space below T3. A program may pass such a limit for a moment.
- A trusted program that reads or runs what a run left in its folder, or obeys what it printed.
- Anything at all after an error of `enter`: the caller must end the process without running code.
Without Landlock (T1) every file of the user can be read and written, and without seccomp (T0) there
is no isolation: `scripts/benchmarks/sandbox.py --only attacks` shows what works at each tier.
"""

import ctypes
import os
import sys
import sysconfig
from dataclasses import dataclass

from . import kernel, landlock, namespaces, rlimits, seccomp
from .rlimits import ProcessLimits

DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")

_PACKAGE_FOLDERS = ("site-packages", "dist-packages")
_CAPABILITY_VERSION_3 = 0x20080522
_CAPSET = {"x86_64": 126, "aarch64": 91}


def library_folders() -> tuple[str, ...]:
    """Where packages are installed, the user's own folder and PYTHONPATH's `site-packages` included."""
    paths = sysconfig.get_paths()
    found = [paths["purelib"], paths["platlib"]]
    found += [path for path in sys.path if os.path.basename(path) in _PACKAGE_FOLDERS]
    return tuple(dict.fromkeys(path for path in found if os.path.isdir(path)))


def default_readable() -> tuple[str, ...]:
    """What Python and compiled packages read while they run: the libraries, never a home folder."""
    paths = sysconfig.get_paths()
    found = {
        *(paths["stdlib"], paths["platstdlib"], *library_folders()),
        *(os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)),
        *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"),
        *("/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache"),
    }
    real = {os.path.realpath(path) for path in found if os.path.exists(path)}
    return tuple(
        sorted(path for path in real if not any(path.startswith(f"{outer}/") for outer in real))
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class JailConfig:
    """The layers of every child of one fork server."""

    readable: tuple[str, ...]
    """Folders and files that programs may read; `default_readable()` is enough for most."""
    has_landlock: bool = True
    """Restrict files to `readable` and the working directory."""
    has_seccomp: bool = True
    """Refuse processes, network, foreign signals and the rest of the list in `seccomp.py`."""
    has_mounts: bool = False
    """Make the working directory a file system of `max_disk_mb`; needs namespaces around the pool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What `enter` needs, made once; forked children inherit it."""

    rules: landlock.Rules | None
    compiled: seccomp.Filter | None
    has_mounts: bool

    @property
    def descriptors(self) -> tuple[int, ...]:
        """Open files that must stay open until `enter`, which closes them."""
        return () if self.rules is None else (*self.rules.readable, *self.rules.devices)


def prepare(config: JailConfig) -> Prepared:
    """Opens and compiles what is the same for every child.

    Raises:
        OSError: If the kernel has no Landlock and `config` asks for it.
        NotImplementedError: If there is no filter for this machine and `config` asks for one.
    """
    rules = landlock.prepare(config.readable, DEVICES) if config.has_landlock else None
    refuses_truncate = rules is not None and not rules.covers_truncate
    return Prepared(
        rules=rules,
        compiled=seccomp.build(refuses_truncate=refuses_truncate) if config.has_seccomp else None,
        has_mounts=config.has_mounts,
    )


def enter(prepared: Prepared, workdir: str, limits: ProcessLimits) -> None:
    """Binds this process for good; it may then write to `workdir` alone, and is there.

    The process must have a single thread. Where this raises (OSError), no untrusted code may run.
    """
    # The server is not dumpable, and who is not may not even write to its own files in /proc.
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
    if prepared.has_mounts and limits.max_disk_mb is not None:
        namespaces.mount_folder(workdir, limits.max_disk_mb)
    os.chdir(workdir)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    _be_first_when_memory_ends()
    if prepared.rules is not None:
        landlock.enter(prepared.rules, workdir)
    else:  # a sibling of the same user could read this process through /proc
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    for descriptor in prepared.descriptors:
        os.close(descriptor)
    _drop_capabilities()
    if prepared.compiled is not None:
        seccomp.install(prepared.compiled)
    # Last, so that a memory limit below what Python already uses fails in the program, not here.
    rlimits.apply(limits)


def _be_first_when_memory_ends() -> None:
    """Where the machine itself runs out of memory, a program is to be killed, not its host."""
    try:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
            file.write(b"1000")
    except OSError:  # no /proc here: the kernel chooses by size, as ever
        pass


def _drop_capabilities() -> None:
    """Root without capabilities can raise no limit, mount nothing and bypass no file mode."""
    number = _CAPSET.get(os.uname().machine)
    if number is not None:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        kernel.syscall("capset", number, ctypes.byref(header), (ctypes.c_uint32 * 6)())
