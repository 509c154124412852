"""SubprocessSandbox: its tier, the processes of a run and their end."""

from pathlib import Path

import pytest

from maskgym.envs.sandbox import ExecStatus, SandboxFeatureError, SandboxLimits, SubprocessSandbox

SANDBOX = SubprocessSandbox()


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_is_a_sandbox_of_the_lowest_tier() -> None:
    assert SANDBOX.tier == SANDBOX.report()["tier"] == "T0"
    assert SANDBOX.report()["files"] == SANDBOX.report()["network"] == "none"


def test_processes_are_limited_beside_those_the_user_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 54321)  # somebody who runs nothing yet
    sandbox = SubprocessSandbox(SandboxLimits(max_processes=40))
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC))"
    assert sandbox.run(code).stdout == "(40, 40)\n"
    assert sandbox.report()["processes"] == "rlimit, per user"


@pytest.mark.parametrize(
    "spawn",
    [
        "subprocess.Popen(['sleep', '61.5'])",
        "subprocess.Popen(['sleep', '61.5'], start_new_session=True, stdout=-3, stderr=-3)",
        "subprocess.Popen(['sh', '-c', 'setsid sleep 61.5 & setsid sleep 61.5 & sleep 61.5'], env={})",
    ],
)
@pytest.mark.parametrize("ending", ["pass", "while True: pass", "os._exit(1)"])
def test_no_process_outlives_a_run(spawn: str, ending: str) -> None:
    code = f"""
import os, subprocess, time
child = {spawn}
time.sleep(0.1)
pids = [int(p) for p in os.listdir('/proc') if p.isdigit()]
mine = []
for pid in pids:
    try: text = open(f'/proc/{{pid}}/cmdline').read()
    except OSError: continue
    if text.startswith('sleep') and '61.5' in text: mine.append(pid)
print(*mine, flush=True)
{ending}
"""
    result = SANDBOX.run(code, limits=SandboxLimits(wall_s=1.0))
    pids = [int(word) for word in result.stdout.split()]
    assert pids, result
    assert not any(_is_running(pid) for pid in pids)


def test_a_launcher_that_cannot_start_is_a_sandbox_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    result = SANDBOX.run("print(1)")
    assert result.status is ExecStatus.SANDBOX_ERROR
    assert "nonexistent" in result.stderr


@pytest.mark.parametrize("feature", ["session", "candidate"])
def test_what_it_cannot_do_names_who_can(feature: str) -> None:
    arguments = [] if feature == "session" else ["x = 1"]
    with pytest.raises(SandboxFeatureError, match="LocalSandbox"):
        getattr(SANDBOX, feature)(*arguments)


def test_a_program_that_kills_its_supervisor_ends_its_own_run() -> None:
    result = SANDBOX.run("import os; os.kill(os.getppid(), 9); input()")
    assert result.status is ExecStatus.KILLED
