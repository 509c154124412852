"""In: nothing but the machine's kind. Out: a system-call filter, installed on this process for good.

A deny-list: what reaches other processes, the network, the kernel's settings, or memory that no
limit counts is refused; everything else is allowed, so a kernel bug behind an allowed call is not
covered. Verdicts are of three kinds, chosen so that libraries do the sensible thing: EPERM, ENOSYS
where they have a fallback, and success without effect for owners, modes and times of files, which
Landlock does not cover and programs set without need.
Source: Linux Documentation/userspace-api/seccomp_filter.rst; system calls from the kernel's tables.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from dataclasses import dataclass

from . import bpf, kernel, syscalls_aarch64, syscalls_x86_64

_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_SECCOMP_SET_MODE_FILTER = 1

_LAST_KNOWN_CALL = 452
"""Calls are numbered alike on every architecture up here; a later kernel's are unknown to us."""
_X32_BIT = 0x40000000
"""Numbers of the x32 interface, a second door to the same calls."""

_REFUSED = {
    "programs": "fork vfork execve execveat",
    "signals": "rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_open pidfd_getfd",
    "other processes": "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp"
    " perf_event_open setpriority ioprio_set sched_setscheduler sched_setparam sched_setattr"
    " sched_setaffinity move_pages migrate_pages",
    "network": "socket connect bind listen accept accept4 setsockopt",
    "namespaces and mounts": "unshare setns mount umount2 pivot_root chroot open_tree move_mount fsopen"
    " fsconfig fsmount fspick mount_setattr open_by_handle_at name_to_handle_at",
    "memory that no limit counts": "shmget shmat shmctl shmdt semget semop semctl semtimedop"
    " msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"
    " memfd_secret add_key request_key keyctl",
    "watching other files": "inotify_init inotify_init1 inotify_add_watch fanotify_init fanotify_mark",
    "the kernel itself": "bpf userfaultfd init_module finit_module delete_module kexec_load kexec_file_load"
    " reboot swapon swapoff acct quotactl quotactl_fd syslog settimeofday clock_settime adjtimex"
    " clock_adjtime sethostname setdomainname vhangup personality ioperm iopl modify_ldt uselib"
    " nfsservctl lookup_dcookie seccomp landlock_create_ruleset landlock_add_rule"
    " landlock_restrict_self capset",
}
_ABSENT = "clone3 memfd_create io_uring_setup io_uring_enter io_uring_register io_setup"
"""C libraries fall back: clone for clone3, threads for io_uring. A memfd is memory outside RLIMIT_AS."""
_WITHOUT_EFFECT = (
    "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utime utimes futimesat"
    " setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr sync syncfs"
)

_REFUSED_BY_ARGUMENT = {
    # F_SETOWN, F_SETSIG and F_SETOWN_EX send any signal to any process of the user;
    # F_SETLEASE stalls whoever opens the file; F_NOTIFY; F_SETPIPE_SZ grows uncounted memory.
    "fcntl": (1, (8, 10, 15, 1024, 1026, 1031)),
    # TIOCSCTTY, TIOCSTI, TIOCLINUX type into terminals.
    "ioctl": (1, (0x540E, 0x5412, 0x541C)),
    # PR_SET_PDEATHSIG would outlive the server; PR_SCHED_CORE reaches other processes.
    "prctl": (0, (1, 62)),
}

_SOCKET_COMMANDS = (0xFFFFFF00, 0x8900)
"""Mask and value: on any socket these tell the machine's addresses; two are F_SETOWN again."""
_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020080
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPE_MASK = 1, 1, 0xF


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """A compiled filter with holes for the number of the process that it will bind."""

    program: bytes
    pid_offsets: tuple[int, ...]

    def for_process(self, pid: int) -> bytes:
        """The program that lets a process signal itself, `pid`, and nobody else."""
        program = bytearray(self.program)
        for offset in self.pid_offsets:
            struct.pack_into("<I", program, offset, pid)
        return bytes(program)


def build(machine: str = "", *, refuses_truncate: bool = False) -> Filter:
    """The filter for a machine as `platform.machine()` names it; without a name, for this one.

    Args:
        machine: Its name.
        refuses_truncate: Whether files may not be cut by their names, where nothing else forbids it
            for files outside; open files still may.

    Raises:
        NotImplementedError: If we have no table of this machine's calls.
    """
    machine = machine or platform.machine()
    tables = {"x86_64": syscalls_x86_64, "aarch64": syscalls_aarch64}
    if machine not in tables or sys.byteorder != "little":
        raise NotImplementedError(
            f"No seccomp filter for {machine!r} ({sys.byteorder}-endian); there is one for "
            f"{' and '.join(tables)}, little-endian."
        )
    table = tables[machine]
    builder = _Builder(table.NUMBERS)
    builder.start(table.AUDIT_ARCH)
    # What programs call most comes first; allowed calls without a rule are cached by the kernel.
    builder.refuse_range("ioctl", 1, *_SOCKET_COMMANDS)
    for name, (index, values) in _REFUSED_BY_ARGUMENT.items():
        builder.refuse_values(name, index, values)
    builder.only_threads("clone")
    builder.only_unix_streams("socketpair")
    for name, index in (("kill", 0), ("tgkill", 0), ("tkill", 0)):
        builder.only_itself(name, index, is_zero_itself=False)
    builder.only_itself("prlimit64", 0, is_zero_itself=True)
    builder.pretend_times("utimensat", 2)
    truncate = ["truncate"] if refuses_truncate else []
    builder.answer(" ".join([*_REFUSED.values(), *truncate]), _ERRNO | errno.EPERM)
    builder.answer(_ABSENT, _ERRNO | errno.ENOSYS)
    builder.answer(_WITHOUT_EFFECT, _ERRNO)
    return builder.finish()


def install(compiled: Filter) -> None:
    """Binds this process, which must have no other thread, for good. Needs no_new_privs."""
    program = compiled.for_process(os.getpid())
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // bpf.INSTRUCTION_BYTES, ctypes.addressof(buffer))
    numbers = syscalls_aarch64 if platform.machine() == "aarch64" else syscalls_x86_64
    number = numbers.NUMBERS["seccomp"]
    kernel.syscall("seccomp", number, _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(header))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class _Builder:
    """Appends one rule after the other; each re-uses the call's number in the accumulator."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self._numbers = numbers
        self._instructions: list[bytes] = []
        self._pid_indices: list[int] = []

    def start(self, architecture: int) -> None:
        self._instructions += [
            bpf.load(bpf.ARCH_OFFSET),
            bpf.if_equal(architecture, 1, 0),
            bpf.give(_KILL_PROCESS),
            bpf.load(bpf.NUMBER_OFFSET),
            bpf.if_at_least(_X32_BIT, 0, 1),
            bpf.give(_KILL_PROCESS),
            bpf.if_greater(_LAST_KNOWN_CALL, 0, 1),
            bpf.give(_ERRNO | errno.ENOSYS),
        ]

    def answer(self, names: str, verdict: int) -> None:
        """The same verdict for each call, whatever its arguments; runs of numbers share a rule."""
        numbers = sorted(self._numbers[name] for name in names.split() if name in self._numbers)
        while numbers:
            first = last = numbers.pop(0)
            while numbers and numbers[0] == last + 1:
                last = numbers.pop(0)
            if first == last:
                self._instructions += [bpf.if_equal(first, 0, 1), bpf.give(verdict)]
            else:
                self._instructions += [
                    bpf.if_at_least(first, 0, 2),
                    bpf.if_greater(last, 1, 0),
                    bpf.give(verdict),
                ]

    def refuse_values(self, name: str, index: int, values: tuple[int, ...]) -> None:
        body = [bpf.load(bpf.argument_offset(index))]
        body += [bpf.if_equal(value, len(values) - i, 0) for i, value in enumerate(values)]
        body += [bpf.give(_ALLOW), bpf.give(_ERRNO | errno.EPERM)]
        self._rule(name, body)

    def refuse_range(self, name: str, index: int, mask: int, value: int) -> None:
        """Refuses the call where the argument's bits under `mask` are `value`; else asks on."""
        body = [
            bpf.load(bpf.argument_offset(index)),
            bpf.keep_bits(mask),
            bpf.if_equal(value, 0, 1),
            bpf.give(_ERRNO | errno.EPERM),
            bpf.load(bpf.NUMBER_OFFSET),
        ]
        self._rule(name, body)

    def only_threads(self, name: str) -> None:
        body = [
            bpf.load(bpf.argument_offset(0)),
            bpf.if_any_bit(_CLONE_NAMESPACES, 2, 0),
            bpf.if_any_bit(_CLONE_THREAD, 0, 1),
            bpf.give(_ALLOW),
            bpf.give(_ERRNO | errno.EPERM),
        ]
        self._rule(name, body)

    def only_unix_streams(self, name: str) -> None:
        """A datagram pair could send to any socket of the file system."""
        body = [
            bpf.load(bpf.argument_offset(0)),
            bpf.if_equal(_AF_UNIX, 0, 4),
            bpf.load(bpf.argument_offset(1)),
            bpf.keep_bits(_SOCK_TYPE_MASK),
            bpf.if_equal(_SOCK_STREAM, 0, 1),
            bpf.give(_ALLOW),
            bpf.give(_ERRNO | errno.EPERM),
        ]
        self._rule(name, body)

    def pretend_times(self, name: str, index: int) -> None:
        """Success without effect, but for "now": `Path.touch` takes that for a file that exists."""
        low = bpf.argument_offset(index)
        body = [
            bpf.load(low),
            bpf.if_equal(0, 0, 2),
            bpf.load(low + 4),
            bpf.if_equal(0, 1, 0),
            bpf.give(_ERRNO),
            bpf.give(_ERRNO | errno.EPERM),
        ]
        self._rule(name, body)

    def only_itself(self, name: str, index: int, *, is_zero_itself: bool) -> None:
        body = [bpf.load(bpf.argument_offset(index))]
        if is_zero_itself:
            body.append(bpf.if_equal(0, 1, 0))
        pid_index = len(body)
        body += [bpf.if_equal(0, 0, 1), bpf.give(_ALLOW), bpf.give(_ERRNO | errno.EPERM)]
        self._pid_indices.append(len(self._instructions) + 1 + pid_index)
        self._rule(name, body)

    def _rule(self, name: str, body: list[bytes]) -> None:
        """`body` decides about the call `name`; a path without verdict loads the number again."""
        self._instructions += [bpf.if_equal(self._numbers[name], 0, len(body)), *body]

    def finish(self) -> Filter:
        self._instructions.append(bpf.give(_ALLOW))
        operand = bpf.INSTRUCTION_BYTES - 4
        return Filter(
            program=b"".join(self._instructions),
            pid_offsets=tuple(i * bpf.INSTRUCTION_BYTES + operand for i in self._pid_indices),
        )
