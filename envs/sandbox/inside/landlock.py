"""In: folders and files. Out: a Landlock domain on this process, which can open nothing else.

Rules name paths that may be read, and one working directory that may also be written; no file may
be executed, no device or socket made. Newer kernels add TCP ports (none allowed), abstract sockets
and signals (none leave the domain). Landlock does not cover `stat`, `chmod`, `chown`, `utime`.
Source: Linux Documentation/userspace-api/landlock.rst (the ABI table and `struct` layouts).
"""

import ctypes
import errno
import os
import stat
from dataclasses import dataclass

from . import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_RULE_PATH_BENEATH = 1
_VERSION_FLAG = 1
_LOG_NOTHING = 1
"""Else every refused attempt of every program is a line in the machine's audit log."""

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REGULAR, _MAKE_SYMLINK = 1 << 7, 1 << 8, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15
_FIRST_ABI = (1 << 13) - 1
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEVICE

_READ = _READ_FILE | _READ_DIR
_WRITE = (
    _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REGULAR | _MAKE_SYMLINK
) | (_REFER | _TRUNCATE)
_DEVICE = _READ_FILE | _WRITE_FILE


class _Attributes(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What a domain will handle and the open paths that it will allow to read."""

    abi: int
    """Of the features that the kernel accepts, which may be fewer than the version it claims."""
    attributes: bytes
    readable: tuple[int, ...]
    devices: tuple[int, ...]

    @property
    def covers_truncate(self) -> bool:
        """Whether files outside cannot be cut by their names (Linux 6.2 and later)."""
        return self.abi >= 3


def claimed_abi() -> int:
    """The version that the kernel claims; 0 without Landlock."""
    try:
        return kernel.syscall("landlock", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def prepare(readable: tuple[str, ...], devices: tuple[str, ...]) -> Rules:
    """Opens the paths once for every process forked later; paths that do not exist are left out.

    Raises:
        OSError: If the kernel accepts no ruleset at all.
    """
    # RHEL 9 claims versions whose features its kernel refuses (sandlock pull request 71).
    for abi in range(claimed_abi(), -1, -1):
        attributes = _attributes(abi)
        try:
            if not abi:
                raise OSError(errno.ENOSYS, "This kernel offers no Landlock.")
            os.close(_create(attributes))
        except OSError as error:
            if abi and error.errno == errno.EINVAL:
                continue
            raise
        break
    return Rules(
        abi=abi, attributes=attributes, readable=_open_all(readable), devices=_open_all(devices)
    )


def enter(rules: Rules, workdir: str) -> None:
    """Binds this process for good to `rules` and the folder `workdir`. Needs no_new_privs."""
    handled = int.from_bytes(rules.attributes[:8], "little")
    # A ruleset is one object even across a fork: adding this run's folder to a shared one would
    # open it to every later run. So the ruleset is made here and only the paths are shared.
    ruleset = _create(rules.attributes)
    try:
        for paths, access in ((rules.readable, _READ), (rules.devices, _DEVICE)):
            for path in paths:
                _add(ruleset, path, access & handled)
        folder = os.open(workdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _add(ruleset, folder, _WRITE & handled)
        finally:
            os.close(folder)
        _restrict(ruleset, _LOG_NOTHING if rules.abi >= 7 else 0)
    finally:
        os.close(ruleset)


def _restrict(ruleset: int, flags: int) -> None:
    try:
        kernel.syscall("landlock_restrict_self", _RESTRICT_SELF, ruleset, flags)
    except OSError as error:
        if not flags or error.errno != errno.EINVAL:
            raise
        _restrict(ruleset, 0)


def _attributes(abi: int) -> bytes:
    files = _FIRST_ABI
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE)):
        files |= right if abi >= since else 0
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    return bytes(_Attributes(files, 0b11, 0b11))[:size]


def _create(attributes: bytes) -> int:
    return kernel.syscall(
        "landlock_create_ruleset", _CREATE_RULESET, attributes, len(attributes), 0
    )


def _add(ruleset: int, path: int, access: int) -> None:
    if not stat.S_ISDIR(os.fstat(path).st_mode):
        access &= _OF_FILES
    rule = ctypes.byref(_PathBeneath(access, path))
    kernel.syscall("landlock_add_rule", _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)


def _open_all(paths: tuple[str, ...]) -> tuple[int, ...]:
    found = []
    for path in paths:
        try:
            found.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
        except FileNotFoundError:
            continue
    return tuple(found)
