import argparse

import gymnasium
import pytest

from maskgym.envs import LocalSandbox, Task, TextEnv
from maskgym.scripts import check


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(words))


class GenerousEnv(TextEnv):
    def sample_task(self) -> Task:
        return Task(task_id="t", question="?", answers=("a",))

    def grade(self, task: Task, answer: str) -> bool:
        return True


def test_each_environment_gets_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" (")[0] for line in lines] == [
        "maskgym/Math-v0: passed",
        "maskgym/Code-v0: passed",
        "maskgym/Search-v0: passed",
    ]


def test_a_violation_is_shown_with_its_remedy_and_fails_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gymnasium.register("checked/Generous-v0", entry_point=GenerousEnv)  # type: ignore[arg-type]
    assert run("checked/Generous-v0") == 1
    out = capsys.readouterr().out
    assert "checked/Generous-v0: FAILED" in out and "remedy:" in out


def test_an_unknown_id_offers_the_nearest() -> None:
    with pytest.raises(LookupError, match="Did you mean 'maskgym/Search-v0'"):
        run("serach")


def test_the_sandbox_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sandbox") == 0
    rows = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert ["tier", LocalSandbox().tier] in rows
    assert any(row[0] == "network" and row[1] != "none" for row in rows)


def test_each_trick_gets_a_line_and_one_that_pays_fails_the_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("reward", "search") == 0
    out = capsys.readouterr().out
    assert "an answer that stands in a tool's result" in out and "PAID" not in out
    gymnasium.register("paying/Generous-v0", entry_point=GenerousEnv)  # type: ignore[arg-type]
    assert run("reward", "search", "paying/Generous-v0") == 1
    assert "PAID: " in capsys.readouterr().out
