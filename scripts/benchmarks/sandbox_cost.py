"""Cost: how many rounds in. Out: tables of CPU and wall time per run, cell and graded program.

Every way of running the same program takes turns with the others, in this one process, so that what
else the machine does disturbs all alike. CPU time is that of this process, of its fork servers and of
every process that they or it started.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits, SubprocessSandbox
from maskgym.envs.sandbox.tiers import at_least, detect

from .tables import Table

_BARE = "print(1 + 1)"
_SCIENTIFIC = "import numpy\nimport sympy\nprint(numpy.arange(3).sum() + sympy.Integer(1))"
_FUNCTION = "def add(a, b):\n    return a + b\n"
_CALLS = ((1, 2), (30, 4), (-5, 6))
_RIVAL = "skyrl_gym LiveCodeBench grader"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Way:
    """One way of doing the work, and what its rounds have cost."""

    name: str
    work: Callable[[], None]
    num: int
    """Times that it is done in a round."""
    target_ms: float | None = None
    """CPU that it may take."""
    ballast_mb: int = 0
    """Memory that this process uses meanwhile, as a trainer does: what forks it pays for that."""
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Does one round."""
        gc.collect()
        ballast = bytearray(self.ballast_mb << 20)
        ballast[::4096] = b"x" * len(range(0, len(ballast), 4096))
        cpu_s, begun = _cpu_s(), time.perf_counter()
        for _ in range(self.num):
            self.work()
        wall_s, cpu_s = time.perf_counter() - begun, _cpu_s() - cpu_s
        self.cpu_ms.append(1e3 * cpu_s / self.num)
        self.wall_ms.append(1e3 * wall_s / self.num)


def measure_cost(num_rounds: int) -> list[Table]:
    """Runs, cells, graded programs and many sessions; each table with its targets.

    Raises:
        ValueError: If there are fewer than 1 rounds.
    """
    if num_rounds < 1:
        raise ValueError(f"{num_rounds} rounds measure nothing; use 1 or more.")
    with contextlib.ExitStack() as stack:
        runs, cells, graders = _runs(stack), _cells(stack), _graders(stack)
        for way in (*runs, *cells, *graders):
            way.work()  # starts what is started once
        for _ in range(num_rounds):
            for way in (*runs, *cells, *graders):
                way.measure()
    note = (
        f"{num_rounds} rounds in which the rows take turns; `best`: the round that other processes "
        f"disturbed least. {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the end."
    )
    return [
        _table("One run of a program, hardened by tier", runs, note),
        _table("The next cell of a session", cells, note),
        _table("Three function-call tests of a program", graders, note, rival=_RIVAL),
    ]


def measure_sessions(num_sessions: int) -> list[Table]:
    """What so many live sessions take; raises the soft limit on descriptors for the time."""
    table = Table(
        title=f"{num_sessions:,} live sessions",
        columns=("tier", "start, s", "private MB", "MB each", "descriptors each", "kept state"),
        notes=[
            "Private memory and page tables of every process and the fork server. Target: 4 GB."
        ],
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        for tier in _tiers():
            with contextlib.closing(LocalSandbox("T0", at_most=tier)) as sandbox:
                table.add(tier, *_live(sandbox, num_sessions))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return [table]


def _live(sandbox: LocalSandbox, num_sessions: int) -> tuple[float, float, float, float, str]:
    sandbox.session().close()
    num_fds = len(os.listdir("/proc/self/fd"))
    begun = time.monotonic()
    sessions = []
    try:
        for number in range(num_sessions):
            sessions.append(sandbox.session())
            sessions[-1].run_cell(f"x = {number}")
        took_s = time.monotonic() - begun
        pids = descendants(sandbox.server("import numpy").pid)
        private_mb = sum(map(_private_mb, pids))
        fds_each = (len(os.listdir("/proc/self/fd")) - num_fds) / num_sessions
        kept = sum(s.run_cell("x").stdout == f"{n}\n" for n, s in enumerate(sessions))
    finally:
        for session in sessions:
            session.close()
    return took_s, private_mb, private_mb / num_sessions, fds_each, f"{kept}/{num_sessions}"


def _tiers() -> list[str]:
    """Those of T2 and T3 that this machine gives."""
    return [tier for tier in ("T2", "T3") if at_least(tier, detect().tier)]


def _runs(stack: contextlib.ExitStack) -> list[Way]:
    ways = [
        Way("subprocess: python -c", lambda: _run_subprocess(_BARE), 20),
        Way("SubprocessSandbox (T0)", _run_in(SubprocessSandbox(), _BARE, "2\n"), 20),
    ]
    has_libraries = find_spec("numpy") is not None and find_spec("sympy") is not None
    if has_libraries:
        ways.append(
            Way("subprocess, NumPy + SymPy", lambda: _run_subprocess(_SCIENTIFIC), 2),
        )
    for tier in _tiers():
        sandbox = LocalSandbox(tier, at_most=tier)
        stack.callback(sandbox.close)
        ways.append(Way(f"LocalSandbox {tier}", _run_in(sandbox, _BARE, "2\n"), 100, 6.0))
        if has_libraries:
            name = f"LocalSandbox {tier}, NumPy + SymPy"
            ways.append(Way(name, _run_in(sandbox, _SCIENTIFIC, "4\n"), 100, 8.0))
    return ways


def _cells(stack: contextlib.ExitStack) -> list[Way]:
    ways = []
    for tier in _tiers():
        sandbox = LocalSandbox(tier, at_most=tier)
        session = sandbox.session()
        stack.callback(session.close)
        session.run_cell("x = 1")

        def work(run_cell: Callable[[str], object] = session.run_cell) -> None:
            run_cell("x + 1")

        ways.append(Way(f"LocalSandbox {tier}", work, 2000, 0.2))
    return ways


def _graders(stack: contextlib.ExitStack) -> list[Way]:
    ways = []
    for tier in _tiers():
        sandbox = LocalSandbox(tier, at_most=tier)
        stack.callback(sandbox.close)

        def work(sandbox: LocalSandbox = sandbox) -> None:
            candidate = sandbox.candidate(_FUNCTION, limits=SandboxLimits(wall_s=6.0))
            for pair in _CALLS:
                assert candidate.call("add", pair, wall_s=6.0).value == sum(pair)
            candidate.close()

        ways.append(Way(f"LocalSandbox {tier}", work, 50, 15.0))
        if tier == "T2":
            name = f"LocalSandbox {tier}, in a process of 1 GiB"
            ways.append(Way(name, work, 50, 15.0, ballast_mb=1024))
    if find_spec("skyrl_gym") is not None:
        grade = _rival_grader()
        ways.append(Way(_RIVAL, grade, 3))
        ways.append(Way(f"{_RIVAL}, in a process of 1 GiB", grade, 3, ballast_mb=1024))
    return ways


def _rival_grader() -> Callable[[], None]:
    compute_score = import_module("skyrl_gym.envs.lcb.livecodebench").compute_score
    metadata = {"func_name": "add"}
    tests = [
        {
            "input": "\n".join(map(str, pair)),
            "output": str(sum(pair)),
            "testtype": "functional",
            "metadata": metadata,
        }
        for pair in _CALLS
    ]
    answer = f"```python\n{_FUNCTION}```"

    def work() -> None:
        with open(os.devnull, "w") as quiet, contextlib.redirect_stdout(quiet):
            assert compute_score(answer, tests)[1] == 1.0

    return work


def _run_in(
    sandbox: LocalSandbox | SubprocessSandbox, code: str, expected: str
) -> Callable[[], None]:
    def work() -> None:
        result = sandbox.run(code)
        assert (result.status, result.stdout) == (ExecStatus.OK, expected), result

    return work


def _run_subprocess(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def _table(title: str, ways: Sequence[Way], note: str, *, rival: str = "") -> Table:
    columns = ["", "CPU ms, best", "CPU ms, median", "wall ms, best", "target, CPU ms"]
    table = Table(title=title, columns=(*columns, "cheaper") if rival else tuple(columns))
    table.notes.append(note)
    costs = {way.name: min(way.cpu_ms) for way in ways}
    for way in ways:
        other = way.name.replace(way.name.partition(",")[0], rival)  # in a process as large
        is_ours = bool(rival) and other in costs and not way.name.startswith(rival)
        times = f"{costs[other] / costs[way.name]:.1f}x" if is_ours else None
        numbers = (min(way.cpu_ms), median(way.cpu_ms), min(way.wall_ms), way.target_ms)
        table.add(way.name, *numbers, *([times] if rival else []))
    if rival and rival not in costs:
        table.notes.append(f"{rival}: not installed (`pip install skyrl-gym`). Target: 10x.")
    return table


def _cpu_s() -> float:
    """CPU seconds so far of this process and of all that it started."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (
        sum(usage.ru_utime + usage.ru_stime for usage in usages)
        + sum(_ticks(pid) for pid in descendants(os.getpid())[1:]) / _TICKS_PER_S
    )


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(_fields(path)[1]), []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found.extend(parents.get(each, ()))
    return found


def _ticks(pid: int) -> int:
    try:
        return sum(map(int, _fields(Path(f"/proc/{pid}/stat"))[11:15]))
    except OSError:
        return 0


def _fields(path: Path) -> list[str]:
    return path.read_text().rpartition(")")[2].split()


def _private_mb(pid: int) -> float:
    size_kb = 0
    with contextlib.suppress(OSError):
        for name in ("smaps_rollup", "status"):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(("Private_Dirty:", "VmPTE:")):
                    size_kb += int(line.split()[1])
    return size_kb / 1024
