import errno
import os
import platform
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.envs.sandbox.inside import seccomp, syscalls_aarch64, syscalls_x86_64

from .bpf_machine import AARCH64, I386, X86_64, verdict

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, ABSENT, IGNORED = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS, 0x50000
ME = 4321

MACHINES = {
    "x86_64": (X86_64, syscalls_x86_64.NUMBERS),
    "aarch64": (AARCH64, syscalls_aarch64.NUMBERS),
}
PROGRAMS = {name: seccomp.build(name).for_process(ME) for name in MACHINES}
READ = {"x86_64": 0, "aarch64": 63}


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def say(machine: str, call: str, *arguments: int) -> int:
    architecture, numbers = MACHINES[machine]
    return verdict(PROGRAMS[machine], architecture, numbers[call], arguments)


def test_ordinary_calls_are_allowed(machine: str) -> None:
    architecture, _ = MACHINES[machine]
    assert verdict(PROGRAMS[machine], architecture, READ[machine]) == ALLOW


@pytest.mark.parametrize(
    "call",
    [
        *("execve", "socket", "connect", "ptrace", "bpf", "unshare", "setns"),
        *("mount", "keyctl", "shmget", "pidfd_open"),
    ],
)
def test_what_reaches_others_is_refused(machine: str, call: str) -> None:
    assert say(machine, call) == REFUSED


@pytest.mark.parametrize("call", ["clone3", "memfd_create", "io_uring_setup"])
def test_what_libraries_can_do_without_is_absent(machine: str, call: str) -> None:
    assert say(machine, call) == ABSENT


@pytest.mark.parametrize("call", ["fchmod", "fchmodat", "fchmodat2", "fchownat", "setxattr"])
def test_what_programs_do_to_files_without_need_has_no_effect(machine: str, call: str) -> None:
    assert say(machine, call) == IGNORED


def test_times_of_files_are_ignored_but_now_is_refused(machine: str) -> None:
    assert say(machine, "utimensat", 3, 0, 0x7FFF00000000) == IGNORED
    assert say(machine, "utimensat", 3, 0, 0xFF) == IGNORED
    assert say(machine, "utimensat", 3, 0, 0) == REFUSED


@pytest.mark.parametrize("call", ["kill", "tgkill", "tkill"])
def test_a_process_signals_itself_alone(machine: str, call: str) -> None:
    assert say(machine, call, ME, 9) == ALLOW
    for other in (ME + 1, 1, 0, -1, -ME):
        assert say(machine, call, other, 9) == REFUSED


def test_files_are_cut_by_name_only_where_landlock_watches(machine: str) -> None:
    architecture, numbers = MACHINES[machine]
    strict = seccomp.build(machine, refuses_truncate=True).for_process(ME)
    assert say(machine, "truncate") == ALLOW
    assert verdict(strict, architecture, numbers["truncate"]) == REFUSED


def test_limits_of_others_stay_as_they_are(machine: str) -> None:
    assert say(machine, "prlimit64", 0, 7) == ALLOW
    assert say(machine, "prlimit64", ME, 7) == ALLOW
    assert say(machine, "prlimit64", ME + 1, 7) == REFUSED


def test_clone_makes_threads_only(machine: str) -> None:
    thread = 0x3D0F00  # what pthread_create asks for
    assert say(machine, "clone", thread) == ALLOW
    assert say(machine, "clone", 0x4111) == REFUSED  # posix_spawn
    assert say(machine, "clone", 17) == REFUSED  # fork
    assert say(machine, "clone", thread | 0x10000000) == REFUSED  # with a user namespace


def test_socket_pairs_are_unix_streams(machine: str) -> None:
    stream = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    assert say(machine, "socketpair", socket.AF_UNIX, stream) == ALLOW
    assert say(machine, "socketpair", socket.AF_UNIX, socket.SOCK_DGRAM) == REFUSED
    assert say(machine, "socketpair", socket.AF_UNIX, socket.SOCK_SEQPACKET) == REFUSED
    assert say(machine, "socketpair", socket.AF_INET, socket.SOCK_STREAM) == REFUSED


@pytest.mark.parametrize("command", [8, 10, 15, 1024, 1031])
def test_files_signal_nobody_and_pipes_stay_small(machine: str, command: int) -> None:
    assert say(machine, "fcntl", 3, command) == REFUSED
    assert say(machine, "fcntl", 3, 1 << 32 | command) == REFUSED  # the kernel reads 32 bits
    assert say(machine, "fcntl", 3, 3) == ALLOW  # F_GETFL


def test_terminals_are_not_typed_into(machine: str) -> None:
    assert say(machine, "ioctl", 0, 0x5412) == REFUSED  # TIOCSTI
    assert say(machine, "ioctl", 0, 0x5401) == ALLOW  # TCGETS, which isatty() asks


@pytest.mark.parametrize("command", [0x8901, 0x8902, 0x8912, 0x8927])
def test_sockets_neither_signal_nor_tell_addresses(machine: str, command: int) -> None:
    assert say(machine, "ioctl", 3, command) == REFUSED
    assert say(machine, "ioctl", 3, 0x541B) == ALLOW  # FIONREAD


def test_a_process_dies_with_its_server(machine: str) -> None:
    assert say(machine, "prctl", 1, 0) == REFUSED
    assert say(machine, "prctl", 15, 0) == ALLOW  # a thread's name


@pytest.mark.parametrize("architecture", [I386, X86_64, AARCH64, 0x40000028])
def test_calls_through_another_table_kill(machine: str, architecture: int) -> None:
    if architecture != MACHINES[machine][0]:
        assert verdict(PROGRAMS[machine], architecture, READ[machine]) == KILL


def test_calls_of_the_x32_interface_kill() -> None:
    assert verdict(PROGRAMS["x86_64"], X86_64, 0x40000000) == KILL


def test_calls_of_later_kernels_are_absent(machine: str) -> None:
    architecture, _ = MACHINES[machine]
    for number in (453, 463, 4000):
        assert verdict(PROGRAMS[machine], architecture, number) == ABSENT


@given(
    machine=st.sampled_from(sorted(MACHINES)),
    number=st.integers(0, 0xFFFFFFFF),
    arguments=st.lists(st.integers(0, 0xFFFFFFFFFFFFFFFF), max_size=6),
)
def test_every_call_gets_a_known_verdict(machine: str, number: int, arguments: list[int]) -> None:
    known = {ALLOW, KILL, REFUSED, ABSENT, IGNORED}
    assert verdict(PROGRAMS[machine], MACHINES[machine][0], number, arguments) in known


def test_every_named_call_is_in_each_table_or_known_to_be_missing_there() -> None:
    only_x86 = set(syscalls_x86_64.NUMBERS) - set(syscalls_aarch64.NUMBERS)
    assert only_x86 == {
        *("chmod", "chown", "fork", "futimesat", "inotify_init", "ioperm", "iopl", "lchown"),
        *("modify_ldt", "uselib", "utime", "utimes", "vfork"),
    }
    assert not set(syscalls_aarch64.NUMBERS) - set(syscalls_x86_64.NUMBERS)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the headers are of this machine")
def test_numbers_are_those_of_the_kernel_headers() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip(f"{header} is not installed")
    found = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    ours = {name: n for name, n in syscalls_x86_64.NUMBERS.items() if name in found}
    assert ours == {name: int(found[name]) for name in ours}
    assert len(ours) > 120


def test_a_machine_without_a_table_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"riscv64.*x86_64 and aarch64"):
        seccomp.build("riscv64")


def test_a_filter_knows_one_process_only() -> None:
    compiled = seccomp.build("x86_64")
    assert compiled.for_process(1) != compiled.for_process(2)
    assert compiled.for_process(os.getpid()) == compiled.for_process(os.getpid())
