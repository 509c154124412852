"""Soak: how many runs in. Out: a table of what the process holds as they go by; nothing may grow."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits, Session

from .sandbox_cost import descendants
from .tables import Table

_LIMITS = SandboxLimits(wall_s=5.0, max_output_bytes=20_000, max_disk_mb=4)
_SHORT = SandboxLimits(wall_s=0.05, max_output_bytes=20_000, max_disk_mb=4)
_PROGRAMS = (
    ("print(input())", _LIMITS, ExecStatus.OK),
    ("import numpy\nprint(numpy.arange(9).sum())", _LIMITS, ExecStatus.OK),
    ("open('f', 'w').write('x' * 9999)", _LIMITS, ExecStatus.OK),
    ("import random\nprint(random.random())", _LIMITS, ExecStatus.OK),
    ("1 / 0", _LIMITS, ExecStatus.ERROR),
    ("print('x' * 99_999)", _LIMITS, ExecStatus.OUTPUT_LIMIT),
    ("x = bytearray(8 << 30)", _LIMITS, ExecStatus.OOM),
    ("import os\nos.abort()", _LIMITS, ExecStatus.KILLED),
    ("while True: pass", _SHORT, ExecStatus.TIMEOUT),
)
_RARE = 50  # one round in so many is of the slow kinds: cells and calls, time running out
_NUM_THREADS = 8
_BATCH = 200


def measure_soak(num_runs: int) -> list[Table]:
    """Runs programs of every ending from several threads, sessions and candidates among them.

    Raises:
        ValueError: If there are fewer than 100 runs.
    """
    if num_runs < 100:
        raise ValueError(f"--runs is {num_runs}; a soak shows something from 100 runs on.")
    table = Table(
        title=f"Soak: {num_runs:,} runs from {_NUM_THREADS} threads",
        columns=(
            "runs",
            "s",
            "resident MB",
            "server MB",
            "descriptors",
            "server descriptors",
            "threads",
            "processes",
            "folders",
        ),
    )
    endings: Counter[str] = Counter()
    begun = time.monotonic()
    with contextlib.closing(LocalSandbox("T0", _LIMITS)) as sandbox:
        marks = _marks(num_runs)
        with ThreadPoolExecutor(_NUM_THREADS) as pool:
            numbers = iter(range(num_runs))
            done = 0
            for mark in marks:
                while done < mark:  # a few at a time: what waits in the pool takes memory too
                    batch = list(islice(numbers, min(_BATCH, mark - done)))
                    endings.update(pool.map(lambda number: _one(sandbox, number), batch))
                    done += len(batch)
                table.add(done, time.monotonic() - begun, *_held(sandbox))
                print(f"{done:,} runs, {table.rows[-1]}", file=sys.stderr, flush=True)
    wrong = endings.pop("wrong", 0)
    table.notes.append(f"Endings other than expected: {wrong}. " + ", ".join(_shown(endings)))
    table.notes.append(_growth(table))
    return [table]


def _one(sandbox: LocalSandbox, number: int) -> str:
    """One run; "wrong" if it did not end as this program must."""
    if number % _RARE == 0:
        return "session" if _has_state(sandbox.session()) else "wrong"
    if number % _RARE == 1:
        with contextlib.closing(sandbox.candidate("def f(x): return x + 1")) as candidate:
            return "candidate" if candidate.call("f", [1], wall_s=5.0).value == 2 else "wrong"
    programs = _PROGRAMS if number % _RARE == 2 else _PROGRAMS[:-1]
    code, limits, expected = (
        programs[-1] if number % _RARE == 2 else programs[number % len(programs)]
    )
    result = sandbox.run(code, stdin="word\n", limits=limits)
    return str(expected) if result.status is expected else "wrong"


def _has_state(session: Session) -> bool:
    with contextlib.closing(session):
        session.run_cell("x = 41")
        session.run_cell("while True: pass", wall_s=0.02)
        return session.run_cell("x + 1").stdout == "42\n"


def _marks(num_runs: int) -> list[int]:
    """When to look: soon, and then at every tenth of the way."""
    return sorted({max(50, num_runs // 100), *(num_runs * tenth // 10 for tenth in range(1, 11))})


def _held(sandbox: LocalSandbox) -> Iterator[int | float]:
    servers = {sandbox.server(code) for code in ("", "import numpy")}
    pids = sorted({pid for server in servers for pid in descendants(server.pid)})
    yield _resident_mb(os.getpid())
    yield sum(map(_resident_mb, pids))
    yield _num_fds(os.getpid())
    yield sum(map(_num_fds, pids))
    yield threading.active_count()
    yield len(descendants(os.getpid()))
    yield sum(len(os.listdir(server.folder)) for server in servers)


def _growth(table: Table) -> str:
    """What was there at the end and not at the second look, when every thread had begun."""
    early, late = table.rows[1], table.rows[-1]
    names = table.columns[2:]
    changes = [
        f"{name} {float(after) - float(before):+.3g}"  # type: ignore[arg-type]
        for name, before, after in zip(names, early[2:], late[2:], strict=True)
        if before != after
    ]
    return f"From {early[0]:,} runs to {late[0]:,}: {', '.join(changes) or 'nothing grew'}."


def _shown(endings: Counter[str]) -> list[str]:
    return [f"{name} {num:,}" for name, num in endings.most_common()]


def _resident_mb(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _num_fds(pid: int) -> int:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0
