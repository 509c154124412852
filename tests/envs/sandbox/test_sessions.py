"""LocalSession: state from cell to cell, soft limits, hard ends, many at once."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.envs.sandbox import ExecStatus, LocalSandbox, SandboxLimits, Session

LIMITS = SandboxLimits(wall_s=5.0, max_output_bytes=10_000, max_disk_mb=4)


@pytest.fixture(scope="module", params=["T3", "T2"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[LocalSandbox]:
    sandbox = LocalSandbox("T0", LIMITS, at_most=request.param)
    yield sandbox
    sandbox.close()


@pytest.fixture
def session(sandbox: LocalSandbox) -> Iterator[Session]:
    session = sandbox.session()
    yield session
    session.close()


def test_state_is_kept_and_the_last_expression_shown(session: Session) -> None:
    assert isinstance(session, Session)
    assert session.run_cell("import math\nx = 41").stdout == ""
    assert session.run_cell("def f():\n    return x + 1\nf()").stdout == "42\n"
    assert session.run_cell("_, 'a'\n'text'").stdout == "'text'\n"
    assert session.run_cell("None").stdout == session.run_cell("").stdout == ""
    assert session.run_cell("print(math.pi)\nx").stdout == "3.141592653589793\n41\n"
    assert session.run_cell("__name__").stdout == "'__main__'\n"


def test_an_error_shows_the_cell_alone_and_keeps_the_state(session: Session) -> None:
    session.run_cell("x = 1\ndef f():\n    raise ValueError('fail')")
    result = session.run_cell("x = 2\nprint('before')\nf()")
    assert (result.status, result.stdout) == (ExecStatus.ERROR, "before\n")
    assert [line for line in result.stderr.splitlines() if "File" in line] == [
        '  File "<cell 2>", line 3, in <module>',
        '  File "<cell 1>", line 3, in f',
    ]
    assert "    raise ValueError('fail')" in result.stderr
    assert session.run_cell("x").stdout == "2\n"


@pytest.mark.parametrize("cell", ["def f(:", "x = (", "\ud800", "1\0"])
def test_a_cell_that_is_no_python_keeps_the_session(session: Session, cell: str) -> None:
    assert session.run_cell(cell).status is ExecStatus.ERROR
    assert session.run_cell("1").stdout == "1\n"


def test_leaving_a_cell_keeps_the_session(session: Session) -> None:
    assert session.run_cell("x = 1\nexit()").status is ExecStatus.OK
    assert session.run_cell("raise SystemExit(3)").status is ExecStatus.ERROR
    assert session.run_cell("x").stdout == "1\n"


def test_a_cell_that_runs_out_of_time_is_interrupted_and_the_state_kept(session: Session) -> None:
    result = session.run_cell("x = 41\nprint('here')\nwhile True: x += 0", wall_s=0.2)
    assert (result.status, result.stdout) == (ExecStatus.TIMEOUT, "here\n")
    assert "KeyboardInterrupt" in result.stderr
    assert session.is_alive
    assert session.run_cell("x + 1").stdout == "42\n"
    assert session.run_cell("import time\ntime.sleep(9)", wall_s=0.2).status is ExecStatus.TIMEOUT
    assert session.run_cell("x + 2").stdout == "43\n"


def test_an_interrupt_never_reaches_the_next_cell(session: Session) -> None:
    for _ in range(10):  # each ends about when its time is up
        session.run_cell("import time\ntime.sleep(0.02)", wall_s=0.02)
        assert session.run_cell("sum(range(100_000))").stdout == "4999950000\n"


def test_a_cell_that_ignores_the_interrupt_ends_the_session(session: Session) -> None:
    ignore = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)"
    cell = f"{ignore}\nprint('here', flush=True)\nwhile True: pass"
    result = session.run_cell(cell, wall_s=0.2)
    assert (result.status, result.stdout) == (ExecStatus.TIMEOUT, "here\n")
    assert "state is lost" in result.stderr
    assert not session.is_alive
    late = session.run_cell("1")
    assert late.status is ExecStatus.ENDED
    assert "timeout" in late.stderr


def test_too_much_output_is_cut_and_the_state_kept(session: Session) -> None:
    session.run_cell("x = 1")
    result = session.run_cell("while True: print('y' * 100)")
    assert (result.status, result.is_truncated) == (ExecStatus.OUTPUT_LIMIT, True)
    assert result.stdout.startswith("yyyy")
    assert len(result.stdout) == 10_000
    assert session.run_cell("x").stdout == "1\n"
    short = session.run_cell("print('y' * 10_001)")  # has ended by itself
    assert (short.status, len(short.stdout)) == (ExecStatus.OUTPUT_LIMIT, 10_000)
    assert session.run_cell("x").stdout == "1\n"


def test_running_out_of_memory_keeps_the_session(session: Session) -> None:
    session.run_cell("x = 1")
    assert session.run_cell("y = bytearray(8 << 30)").status is ExecStatus.OOM
    assert session.run_cell("x").stdout == "1\n"


def test_filling_the_disk_is_named(session: Session) -> None:
    result = session.run_cell(
        "for i in range(9):\n    with open(f'f{i}', 'wb') as f: f.write(bytes(1 << 20))"
    )
    assert result.status is ExecStatus.DISK_LIMIT


@pytest.mark.parametrize(
    ("cell", "status"),
    [
        ("import os\nos._exit(0)", ExecStatus.ERROR),
        ("import os\nos.abort()", ExecStatus.KILLED),
        ("import os\nos.closerange(0, 64)", ExecStatus.ERROR),
        ("import os\nos.write(3, b'\\xff' * 99)", ExecStatus.ERROR),
    ],
)
def test_a_process_that_ends_or_lies_ends_the_session(
    session: Session, cell: str, status: ExecStatus
) -> None:
    assert session.run_cell(cell).status is status
    late = session.run_cell("1")
    assert (late.status, session.is_alive) == (ExecStatus.ENDED, False)
    assert "open a new one" in late.stderr


def test_an_answer_that_nobody_asked_for_ends_the_session(session: Session) -> None:
    session.run_cell("import os\nos.write(3, b'\\0\\0\\0\\1o' * 2)\nwhile True: pass")
    result = session.run_cell("print('never run')")
    assert (result.status, result.stdout) == (ExecStatus.ERROR, "")
    assert session.run_cell("1").status is ExecStatus.ENDED


def test_files_stay_while_the_session_lives(sandbox: LocalSandbox) -> None:
    session = sandbox.session()
    session.run_cell("open('f', 'w').write('kept')")
    assert session.run_cell("open('f').read()").stdout == "'kept'\n"
    folder = session.run_cell("import os\nprint(os.getcwd())").stdout.strip()
    session.close()
    session.close()
    assert not Path(folder, "f").exists()
    assert session.run_cell("1").status is ExecStatus.ENDED


def test_closing_ends_a_cell_that_runs(sandbox: LocalSandbox) -> None:
    session = sandbox.session()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run_cell, "while True: pass", wall_s=60.0)
        time.sleep(0.2)
        session.close()
        assert running.result(timeout=10).status is ExecStatus.SANDBOX_ERROR


def test_an_interrupt_of_the_host_ends_the_session_and_leaves_nothing(
    sandbox: LocalSandbox,
) -> None:
    sandbox.session().close()
    sandbox.run("pass")  # so that every server has been started
    before = len(os.listdir("/proc/self/fd"))
    session = sandbox.session()
    for work in (session.run_cell, sandbox.run):
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            work("while True: pass")
        timer.join()
    assert session.run_cell("1").status is ExecStatus.SANDBOX_ERROR
    assert len(os.listdir("/proc/self/fd")) == before


def test_fifty_sessions_at_once_do_not_mix_and_leave_nothing(sandbox: LocalSandbox) -> None:
    sandbox.session().close()
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    sessions = [sandbox.session() for _ in range(50)]
    for number, session in enumerate(sessions):
        session.run_cell(f"x = {number}")
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda session: session.run_cell("x").stdout, sessions))
    assert results == [f"{number}\n" for number in range(50)]
    for session in sessions:
        session.close()
    assert len(os.listdir("/proc/self/fd")) == before[0]


def test_cells_run_beside_an_event_loop(sandbox: LocalSandbox) -> None:
    async def play(number: int) -> str:
        session = await asyncio.to_thread(sandbox.session)
        await asyncio.to_thread(session.run_cell, f"x = {number}")
        try:
            return (await asyncio.to_thread(session.run_cell, "x")).stdout
        finally:
            await asyncio.to_thread(session.close)

    async def play_all() -> list[str]:
        return await asyncio.gather(*(play(number) for number in range(8)))

    assert asyncio.run(play_all()) == [f"{number}\n" for number in range(8)]
