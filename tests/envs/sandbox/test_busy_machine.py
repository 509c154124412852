"""A limit on wall time is fair: what a program waits for a processor is not held against it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits
from maskgym.envs.sandbox.turns import num_processors

_WORK = "import time\nwhile time.process_time() < 0.5: pass\n"
_LIMITS = SandboxLimits(wall_s=0.9)


@pytest.fixture
def busy() -> Iterator[None]:
    """Four programs beside ours for each processor."""
    burn = [sys.executable, "-c", "while True: pass"]
    # Sessions of their own: the kernel may share the processors out among sessions.
    others = [subprocess.Popen(burn, start_new_session=True) for _ in range(4 * num_processors())]
    yield
    for other in others:
        other.kill()
        other.wait()


@pytest.fixture
def sandbox() -> Iterator[LocalSandbox]:
    with closing(LocalSandbox()) as made:
        made.run("")
        yield made


@pytest.mark.skipif(not os.path.exists("/proc/self/schedstat"), reason="the kernel does not count")
@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_work_that_fits_its_limit_is_not_too_slow_on_a_busy_machine(sandbox: LocalSandbox) -> None:
    assert sandbox.run(_WORK, limits=_LIMITS).status is ExecStatus.OK
    with closing(sandbox.session(limits=_LIMITS)) as session:
        assert session.run_cell(_WORK).status is ExecStatus.OK
    program = f"def f():\n    {_WORK.replace(chr(10), chr(10) + '    ')}\n    return 1"
    with closing(sandbox.candidate(program, limits=_LIMITS)) as candidate:
        result = candidate.call("f", [], wall_s=0.9)
    assert (result.status, result.value) == (ExecStatus.OK, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("busy")
def test_what_never_ends_and_what_sleeps_is_stopped_on_a_busy_machine_too(
    sandbox: LocalSandbox,
) -> None:
    limits = SandboxLimits(wall_s=0.3)
    for program in ("while True: pass", "import time; time.sleep(60)"):
        assert sandbox.run(program, limits=limits).status is ExecStatus.TIMEOUT
