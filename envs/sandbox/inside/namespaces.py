"""In: a process. Out: the same one in namespaces of its own, or with a folder of fixed size.

`main` is a wall around a pool for machines that allow namespaces but have no bubblewrap: it sees
the named paths under their own names, read-only, one writable folder, and nothing else; it has its
own processes, an own network without any device, and own names. Where the kernel lets the pool
have its own mounts, `mount_folder` gives each run a file system in memory of fixed size, seen by
that run alone and gone with it.
Source: the man pages namespaces(7), user_namespaces(7), pivot_root(2).
"""

import os
import platform
import sys
from typing import NoReturn

from . import kernel, syscalls_aarch64, syscalls_x86_64

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_CLONE_NEWCGROUP, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x02000000, 0x04000000, 0x08000000
_CLONE_NEWNET = 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_RELATIME = 1 << 12, 1 << 14, 1 << 18, 1 << 21
_MNT_DETACH = 2
_PR_CAPBSET_DROP, _CAP_SYS_ADMIN = 24, 21
_SIGKILL = 9
_BYTES_PER_FILE = 32768
_DEVICES = ("null", "zero", "full", "random", "urandom")
_DEVICE_LINKS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}


def main() -> NoReturn:
    """Runs `-c WRITABLE READABLE... -- COMMAND...`; ends as the command ends."""
    separator = sys.argv.index("--")
    writable, *readable = sys.argv[1:separator]
    command = sys.argv[separator + 1 :]
    others = _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS | _CLONE_NEWCGROUP
    _own_user_namespace(_CLONE_NEWNS | others)
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os._exit(code if code >= 0 else 128 - code)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, _SIGKILL)
    _build_root(writable, readable)
    for capability in range(_last_capability() + 1):  # root keeps its own ones across an exec
        if capability != _CAP_SYS_ADMIN:
            kernel.prctl(_PR_CAPBSET_DROP, capability)
    os.execv(command[0], command)


def mount_folder(path: str, size_mb: int) -> None:
    """Puts an empty file system of `size_mb` MiB over `path`, for this process and its children.

    Raises:
        OSError: If this process may not have mounts of its own.
    """
    size = size_mb << 20
    try:
        kernel.unshare(_CLONE_NEWNS)
    except PermissionError:
        _own_user_namespace(_CLONE_NEWNS)
    kernel.mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    options = f"size={size},nr_inodes={max(256, size // _BYTES_PER_FILE)},mode=0700"
    kernel.mount("tmpfs", path, "tmpfs", _MS_NOSUID | _MS_NODEV, options)


def _own_user_namespace(others: int) -> None:
    """A user namespace gives the right to the others; inside it is the same user as outside."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(_CLONE_NEWUSER | others)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _build_root(writable: str, readable: list[str]) -> None:
    """A root folder that holds only what is named, and leaves no way to the former one."""
    links = {path: os.readlink(path) for path in ("/lib", "/lib64", "/bin") if os.path.islink(path)}
    # Resolved before the former root moves away from under absolute links.
    sources = {
        path: os.path.realpath(path) for path in (*readable, writable) if os.path.exists(path)
    }
    kernel.mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    # Any folder does as the place of the new root: once it is the root, nothing is hidden by it.
    kernel.mount("tmpfs", writable, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
    os.chdir(writable)
    os.mkdir("former")
    tables = {"aarch64": syscalls_aarch64, "x86_64": syscalls_x86_64}
    number = tables[platform.machine()].NUMBERS["pivot_root"]
    kernel.syscall("pivot_root", number, b".", b"former")
    os.chdir("/")
    for path, target in links.items():
        os.symlink(target, path)
    for path in sorted(sources, key=len):
        _bind(sources[path], path, is_writable=path == writable)
    for name in _DEVICES:
        _bind(f"/dev/{name}", f"/dev/{name}", is_writable=True)
    for name, target in _DEVICE_LINKS.items():
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    os.makedirs("/tmp", exist_ok=True)
    os.mkdir("/proc")
    kernel.mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV)
    kernel.umount("/former", _MNT_DETACH)
    os.rmdir("/former")


def _bind(source: str, path: str, *, is_writable: bool) -> None:
    source = f"/former{source}"
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    kernel.mount(source, path, "", _MS_BIND | _MS_REC)
    if not is_writable:
        # Flags of the original mount must be named again: a namespace may not take them away.
        has = os.statvfs(path).f_flag
        kept = has & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME)
        kept |= _MS_RELATIME if has & os.ST_RELATIME else 0
        kernel.mount("none", path, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY | kept)


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())
