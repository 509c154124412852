"""In: untrusted Python. Out: `LocalSandbox`, which runs it in jailed processes forked from a warm one.

What the jail gives and what it does not: `inside/jail.py`. What a tier is: `tiers.py`.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from .candidate import ChannelCandidate
from .fork_server import (
    ForkServer,
    ForkServerLostError,
    Mode,
    ServerConfig,
    WarmUp,
    cpu_seconds,
    shared_server,
)
from .inside.jail import JailConfig, default_readable
from .jailed_process import JailedProcess
from .local_session import LocalSession
from .protocol import CallResult, ExecResult, ExecStatus, SandboxLimits, SandboxTierError
from .tiers import Protection, at_least, detect
from .turns import turn

_SCIENTIFIC = re.compile(r"^[ \t]*(?:import|from)\b[^#\n]*\b(?:numpy|sympy|mpmath)\b", re.M)


class LocalCandidate(ChannelCandidate):
    """A candidate whose calls wait for their turn."""

    def call(
        self,
        function: str,
        arguments: Sequence[Any],
        *,
        wall_s: float,
        keywords: Mapping[str, Any] | None = None,
    ) -> CallResult:
        """Calls one function; never raises on the candidate's account."""
        with turn():
            return super().call(function, arguments, wall_s=wall_s, keywords=keywords)


class LocalSandbox:
    r"""Runs each program in a jailed process of its own. Safe from any thread.

    A process forked from a warm interpreter costs a few milliseconds. Interpreters are started when
    first needed and shared by all sandboxes of this process.

    >>> LocalSandbox().run("print(1 + 1)").stdout
    '2\n'
    """

    def __init__(
        self,
        require: str = "T2",
        limits: SandboxLimits | None = None,
        processes: Literal["deny"] = "deny",
        *,
        at_most: str = "T3",
    ) -> None:
        """Refuses to be made where the machine protects less than demanded.

        Args:
            require: The lowest tier that will do; below it nothing is run.
            limits: Where a run names none of its own.
            processes: Programs may not start others. That stops fork bombs, processes that outlive a
                run and memory bombs over several processes without help from the system.
            at_most: Use no layer of a higher tier than this, to see what it adds.

        Raises:
            SandboxTierError: If the machine gives less than `require`; the message says what to do.
            ValueError: If a setting is unknown.
        """
        if not sys.platform.startswith("linux"):
            raise SandboxTierError(
                f"LocalSandbox needs Linux; this is {sys.platform}. Run code environments in a Linux "
                "container or virtual machine, or name a service: sandbox=HTTPSandbox(url)."
            )
        if processes != "deny":
            raise ValueError(
                f"processes is {processes!r}; LocalSandbox knows 'deny' only. Programs that must start "
                "others need SubprocessSandbox(), which protects from nothing."
            )
        self.require: str = require
        self.limits = limits or SandboxLimits()
        self.at_most: str = at_most
        self._protection = _demand(require, at_most)
        # Without a lock, which a fork could leave taken: adding, discarding and copying are atomic.
        self._running: set[JailedProcess] = set()
        self._configs: dict[WarmUp, ServerConfig] = {}
        self._is_closed = False

    def __reduce__(self) -> tuple[Callable[..., LocalSandbox], tuple[str, SandboxLimits]]:
        make = functools.partial(LocalSandbox, at_most=self.at_most)
        return make, (self.require, self.limits)

    @property
    def tier(self) -> str:
        """From "T0" (limits only) to "T3" (namespaces, Landlock and seccomp)."""
        return self._protection.tier

    def report(self) -> dict[str, str]:
        """Each kind of protection and what provides it, "none" where nothing does."""
        return {
            **self._protection.report,
            "output": "capped while reading",
            "wall clock": "kill by the host",
        }

    def run(self, code: str, *, stdin: str = "", limits: SandboxLimits | None = None) -> ExecResult:
        """Runs `code` as a script of its own and waits for its end."""
        limits = limits or self.limits
        result = self._run_once(code, stdin, limits)
        if result.status is ExecStatus.SANDBOX_ERROR and not self._is_closed:
            return self._run_once(code, stdin, limits)  # the fork server may have been lost
        return result

    def session(self, *, limits: SandboxLimits | None = None) -> LocalSession:
        """Starts a process that keeps its state from cell to cell.

        Raises:
            OSError: If no process can be started.
        """
        warm_up: WarmUp = "sci" if _has_scientific_libraries() else "bare"
        return LocalSession(self._start("session", "", "", limits or self.limits, warm_up))

    def candidate(self, code: str, *, limits: SandboxLimits | None = None) -> LocalCandidate:
        """Loads `code` so that its functions can be called one by one.

        Raises:
            OSError: If no process can be started.
        """
        limits = limits or self.limits
        with turn():
            process = self._start("candidate", code, "", limits, warm_up_for(code))
            return LocalCandidate(process, load_s=limits.wall_s)

    def server(self, code: str = "") -> ForkServer:
        """The server from which a program such as `code` is forked; started if need be.

        Raises:
            ForkServerLostError: If it does not start.
        """
        return self._server(warm_up_for(code))

    def close(self) -> None:
        """Ends what still runs here; later runs give a sandbox error."""
        self._is_closed = True
        for process in list(self._running):
            process.recall()

    def _run_once(self, code: str, stdin: str, limits: SandboxLimits) -> ExecResult:
        with turn():
            try:
                process = self._start("script", code, stdin, limits, warm_up_for(code))
            except OSError as error:  # no server, descriptor or disk: not the program's fault
                return ExecResult(status=ExecStatus.SANDBOX_ERROR, stderr=f"sandbox: {error}")
            with process:
                process.await_end(wall_s=limits.wall_s)
                return process.result()

    def _start(
        self, mode: Mode, code: str, stdin: str, limits: SandboxLimits, warm_up: WarmUp
    ) -> JailedProcess:
        """A process whose program has begun, if that was possible."""
        try:
            process = self._spawn_started(mode, code, stdin, limits, warm_up)
            if not process.child.is_lost or process.child.started_at is not None:
                return process
            process.close()
        except ForkServerLostError:
            if self._is_closed:
                raise
        # Nothing was run yet, so that a new server may do it.
        return self._spawn_started(mode, code, stdin, limits, warm_up)

    def _spawn_started(
        self, mode: Mode, code: str, stdin: str, limits: SandboxLimits, warm_up: WarmUp
    ) -> JailedProcess:
        process = self._spawn(mode, code, stdin, limits, warm_up)
        try:
            process.await_start()
        except BaseException:  # the user's own interrupt
            process.close()
            raise
        return process

    def _spawn(
        self, mode: Mode, code: str, stdin: str, limits: SandboxLimits, warm_up: WarmUp
    ) -> JailedProcess:
        if self._is_closed:
            raise ForkServerLostError("it was closed")
        server = self._server(warm_up)
        folder = server.make_workdir()
        try:
            data = stdin.encode("utf-8", "surrogatepass")
            child = server.spawn(mode, code, stdin=data, limits=limits, workdir=folder)
        except OSError:
            server.take_back(folder)
            raise
        process = JailedProcess(
            child,
            folder=folder,
            limits=limits,
            cpu_s=cpu_seconds(limits, mode),
            on_close=functools.partial(self._forget, server),
        )
        self._running.add(process)
        if self._is_closed:
            process.recall()
        return process

    def _server(self, warm_up: WarmUp) -> ForkServer:
        config = self._configs.get(warm_up)
        if config is None:
            config = self._configs[warm_up] = _server_config(self._protection, warm_up)
        return shared_server(config)

    def _forget(self, server: ForkServer, process: JailedProcess) -> None:
        self._running.discard(process)
        if process.child.is_lost:
            server.note_lost_child()
        server.take_back(process.folder)


def _demand(require: str, at_most: str) -> Protection:
    protection = detect(at_most)
    if not at_least(require, protection.tier):
        reasons = "; ".join(f"no {tier}: {why}" for tier, why in protection.missing.items())
        raise SandboxTierError(
            f"This machine gives {protection.tier}, and {require} is demanded ({reasons or at_most}). "
            "Allow Landlock and seccomp here (Linux 5.13 or later; in a container, its default seccomp "
            "profile); to run without these protections ask for them by name: "
            f"sandbox=LocalSandbox(require={protection.tier!r}) or sandbox=SubprocessSandbox()."
        )
    return protection


def _server_config(protection: Protection, warm_up: WarmUp) -> ServerConfig:
    layers = JailConfig(
        readable=default_readable(),
        has_landlock=protection.has_landlock,
        has_seccomp=protection.has_seccomp,
        has_mounts=protection.has_mounts,
    )
    return ServerConfig(warm_up=warm_up, jail=layers, wall=protection.wall)


def warm_up_for(code: str) -> WarmUp:
    """Which fork server suits a program: a plain one forks in half the time."""
    return "sci" if _SCIENTIFIC.search(code) and _has_scientific_libraries() else "bare"


@functools.cache
def _has_scientific_libraries() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("numpy", "sympy"))
