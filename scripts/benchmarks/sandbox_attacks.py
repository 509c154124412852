"""In: a sandbox and the attack programs of the test suite. Out: which of them it stopped.

Every program is bounded: where it succeeds it takes a canary's life, a file made for it, or memory
for a second. Whether it succeeded is judged from outside where that can be seen there, since a
refused call may be answered as if it had been obeyed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from maskgym.envs.sandbox import ExecResult, ExecStatus, LocalSandbox, SandboxLimits
from maskgym.envs.sandbox.tiers import TIERS, at_least, detect

PROGRAMS = Path(__file__).parents[2] / "tests" / "envs" / "sandbox" / "attacks"

LIMITS = SandboxLimits(
    wall_s=4.0, memory_mb=256, max_disk_mb=16, max_file_mb=16, max_processes=24, max_open_files=64
)
"""Small, so that a hole in a limit costs the machine little."""
MAX_GROWTH_MB = 50
"""Of this process while an attack runs."""
_ENDLESS = {"endless_loop", "endless_loop_in_c", "endless_sleep", "deep_recursion"}
_ENDLESS_LIMITS = dataclasses.replace(LIMITS, wall_s=0.4)
_SENT = b"escaped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How one attack on one sandbox went."""

    attack: str
    tier: str
    is_stopped: bool
    status: ExecStatus
    growth_mb: float
    """By how much this process grew while the program ran."""
    detail: str = ""
    """The end of what the program said."""


def attack_names() -> list[str]:
    """Every program of the suite.

    Raises:
        ValueError: If this is not a checkout of the repository.
    """
    names = sorted(path.stem for path in PROGRAMS.glob("*.py"))
    if not names:
        raise ValueError(f"No programs in {PROGRAMS}; run this from a checkout of maskgym.")
    return names


def stopped_from(attack: str) -> str:
    """The lowest tier that promises to stop an attack."""
    if attack in _STOPPED_BY_LIMITS:
        return "T0"
    return "T2" if attack in _STOPPED_BY_LANDLOCK else "T1"


_STOPPED_BY_LIMITS = {
    *("environment", "inherited_descriptors", "memory_bomb", "memory_raise_limit", "background"),
    *("endless_loop", "endless_loop_in_c", "endless_sleep", "endless_output", "endless_errors"),
    *("deep_recursion", "deep_recursion_in_c", "symlink_cleanup", "thread_bomb"),
    *("disk_fill", "disk_fill_small"),
    *("other_root", "become_other_user"),
}
_STOPPED_BY_LANDLOCK = {
    *("read_system_file", "read_user_file", "read_other_run", "read_other_process_files"),
    *("read_server_files", "list_folder", "read_command_lines", "environment_of_others"),
    *("write_file", "change_file", "truncate_file", "delete_file", "move_file", "hard_link"),
    *("symlink_read", "special_files", "memory_of_process", "memory_in_shared_folder"),
    "disk_fill_unlinked",  # elsewhere the server may not look at what a process has open
}


class Outside:
    """What attacks are aimed at: files, sockets, a process, another run; all made for them."""

    def __init__(self, sandbox: LocalSandbox) -> None:
        self.secret = secrets.token_hex(16)
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="maskgym-attacks-"))
        self._files = {
            name: Path(folder, name) for name in ("secret_file", "new_file", "mode_file")
        }
        unix_path, datagram_path = Path(folder, "stream"), Path(folder, "datagram")
        unix_name = f"maskgym-{secrets.token_hex(16)}"
        self.shared_file = Path("/dev/shm", unix_name)
        self._sockets = [
            self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            self._listen(socket.AF_UNIX, socket.SOCK_STREAM, str(unix_path)),
            self._listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + unix_name),
            self._listen(socket.AF_UNIX, socket.SOCK_DGRAM, str(datagram_path)),
        ]
        code = f"import os\nopen('secret', 'w').write({self.secret!r})\nwhere = os.getcwd"
        sibling = self._stack.enter_context(contextlib.closing(sandbox.candidate(code)))
        where = sibling.call("where", [], wall_s=10.0)
        assert where.status is ExecStatus.OK, where
        self._canary: subprocess.Popen[bytes] | None = None
        self._aims: dict[str, Any] = {
            "sibling_file": f"{where.value}/secret",
            **{name: str(path) for name, path in self._files.items()},
            "tcp_port": self._sockets[0].getsockname()[1],
            "udp_port": self._sockets[1].getsockname()[1],
            "unix_path": str(unix_path),
            "unix_name": unix_name,
            "datagram_path": str(datagram_path),
            "memory_mb": LIMITS.memory_mb,
            "max_processes": LIMITS.max_processes,
            "max_disk_mb": LIMITS.max_disk_mb,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_canary()
        self.shared_file.unlink(missing_ok=True)
        self._stack.close()

    def renew(self) -> str:
        """Puts everything back; gives what a program gets to know, as JSON."""
        self._files["secret_file"].write_text(self.secret)
        self._files["mode_file"].write_text("")
        self._files["mode_file"].chmod(0o600)
        self._files["new_file"].unlink(missing_ok=True)
        self.shared_file.unlink(missing_ok=True)
        if self._canary is None or self.was_reached():
            self._end_canary()
            self._canary = self._start_canary()
        return json.dumps({**self._aims, "process": self._canary.pid})

    def was_reached(self) -> str:
        """What an attack changed or learned here; "" if nothing."""
        for listener in self._sockets:
            if _has_received(listener):
                return "sent to a socket"
        secret_file, mode_file = self._files["secret_file"], self._files["mode_file"]
        if not secret_file.exists() or secret_file.read_text() != self.secret:
            return "changed a file"
        if self._files["new_file"].exists() or self.shared_file.exists():
            return "made a file"
        info = mode_file.stat()
        if info.st_mode & 0o777 != 0o600 or info.st_mtime < 1000:
            return "changed a file's mode or times"
        assert self._canary is not None
        if self._canary.poll() is not None or _has_pending_signal(self._canary.pid):
            return "killed a process"
        if resource.prlimit(self._canary.pid, resource.RLIMIT_NOFILE)[0] == 17:
            return "changed a process's limits"
        return ""

    def _listen(self, family: int, kind: int, address: Any) -> socket.socket:
        listener = self._stack.enter_context(socket.socket(family, kind))
        listener.bind(address)
        listener.setblocking(False)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        return listener

    def _start_canary(self) -> subprocess.Popen[bytes]:
        """A process of this user that holds the secret in its environment and its memory of files."""
        with tempfile.TemporaryFile() as held:
            held.write(self.secret.encode())
            held.seek(0)
            return subprocess.Popen(["sleep", "600"], stdin=held, env={"SECRET": self.secret})

    def _end_canary(self) -> None:
        if self._canary is not None:
            self._canary.kill()
            self._canary.wait()


def run_attack(sandbox: LocalSandbox, outside: Outside, attack: str) -> Outcome:
    """Runs one program and judges it."""
    aims = outside.renew()
    code = (PROGRAMS / f"{attack}.py").read_text()
    with _secret_in_environment(outside.secret):
        before_mb = _reset_peak_mb()
        started = time.monotonic()
        limits = _ENDLESS_LIMITS if attack in _ENDLESS else LIMITS
        result = sandbox.run(code, stdin=aims, limits=limits)
        wall_s = time.monotonic() - started
        growth_mb = max(0.0, _peak_mb() - before_mb)
    reached = outside.was_reached() or _succeeded_inside(attack, outside.secret, result, wall_s)
    if not reached and sandbox.run("print('alive')").stdout != "alive\n":
        reached = "broke the sandbox"
    if growth_mb >= MAX_GROWTH_MB:
        reached = reached or f"grew the host by {growth_mb:.0f} MB"
    last_words = (result.stderr.strip().splitlines() or [""])[-1]
    return Outcome(
        attack=attack,
        tier=sandbox.tier,
        is_stopped=not reached,
        status=result.status,
        growth_mb=growth_mb,
        detail=reached or last_words[:80],
    )


def run_attacks(tier: str, attacks: list[str] | None = None) -> list[Outcome]:
    """Runs the suite, or part of it, on a sandbox of exactly this tier.

    Raises:
        SandboxTierError: If this machine does not give the tier.
    """
    sandbox = LocalSandbox(require=tier, at_most=tier)
    with contextlib.closing(sandbox), Outside(sandbox) as outside:
        return [run_attack(sandbox, outside, name) for name in attacks or attack_names()]


def tables() -> Iterator[list[dict[str, str]]]:
    """A row per attack with what each tier that this machine gives did about it; a row per tier."""
    have = [tier for tier in reversed(TIERS) if at_least(tier, detect().tier)]
    outcomes = {tier: {o.attack: o for o in run_attacks(tier)} for tier in have}
    yield [
        {
            "attack": attack,
            "what it does": _purpose(attack),
            "stopped from": stopped_from(attack),
            **{tier: _verdict(outcomes[tier][attack]) for tier in have},
        }
        for attack in attack_names()
    ]
    yield [
        {
            "tier": tier,
            "attacks": str(len(of_tier)),
            "stopped": str(sum(o.is_stopped for o in of_tier.values())),
            "promised": str(sum(at_least(stopped_from(name), tier) for name in of_tier)),
            "largest growth of the host, MB": f"{max(o.growth_mb for o in of_tier.values()):.1f}",
        }
        for tier, of_tier in outcomes.items()
    ]


def _purpose(attack: str) -> str:
    return (PROGRAMS / f"{attack}.py").read_text().split('"""')[1]


def _verdict(outcome: Outcome) -> str:
    return "stopped" if outcome.is_stopped else "WORKS"


def _succeeded_inside(attack: str, secret: str, result: ExecResult, wall_s: float) -> str:
    """What a program's output and its end give away."""
    if "ESCAPED" in result.stdout:
        return "said so: " + result.stdout[:60].strip()
    if secret in result.stdout or secret in result.stderr:
        return "printed the secret"
    if attack == "read_system_file" and "root:" in result.stdout:
        return "printed the file"
    if attack == "background" and "PID" in result.stdout:
        return _end_background(int(result.stdout.split()[1]))
    if attack in _ENDLESS and wall_s > LIMITS.wall_s + 5.0:
        return f"ran for {wall_s:.0f} s"
    if result.status is ExecStatus.SANDBOX_ERROR:
        return "broke the sandbox: " + result.stderr[-60:].strip()
    return ""


def _end_background(process: int) -> str:
    time.sleep(0.1)
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return ""
    return "left a process behind"


def _has_pending_signal(process: int) -> bool:
    """Whether a signal is under way: on a busy machine the killed process may not have ended yet."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return True
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    is_dead = fields["State"].startswith(("Z", "X"))
    return is_dead or int(fields["SigPnd"], 16) > 0 or int(fields["ShdPnd"], 16) > 0


def _has_received(listener: socket.socket) -> bool:
    try:
        if listener.type != socket.SOCK_STREAM:
            return listener.recv(64) == _SENT
        with listener.accept()[0]:
            return True
    except BlockingIOError:
        return False


@contextlib.contextmanager
def _secret_in_environment(secret: str) -> Iterator[None]:
    os.environ["MASKGYM_SECRET"] = secret
    try:
        yield
    finally:
        del os.environ["MASKGYM_SECRET"]


def _reset_peak_mb() -> float:
    """Forgets the largest size so far; gives the size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_mb()


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
