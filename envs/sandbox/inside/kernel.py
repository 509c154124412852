"""In: system call numbers and arguments. Out: their results, failures raised as OSError."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38


def syscall(what: str, number: int, *arguments: object) -> int:
    """Makes the call; `what` names it in the error. Integers are passed as 64 bits."""
    wide = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    result: int = _libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        raise _error(what)
    return result


def prctl(option: int, value: int) -> None:
    """Sets one attribute of this process."""
    if _libc.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0))) != 0:
        raise _error(f"prctl({option}, {value})")


def unshare(flags: int) -> None:
    """Moves this process into new namespaces."""
    if _libc.unshare(flags) != 0:
        raise _error(f"unshare({flags:#x})")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mounts `source` on `target` in this process's mount namespace."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    if _libc.mount(*words, ctypes.c_ulong(flags), os.fsencode(options)) != 0:
        raise _error(f"mount {target}")


def umount(target: str, flags: int) -> None:
    """Takes the mount at `target` away."""
    if _libc.umount2(os.fsencode(target), flags) != 0:
        raise _error(f"umount {target}")


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
