import argparse
import io
import json
from pathlib import Path

import pytest

from maskgym.envs import SearchEnv, expert_actions
from maskgym.scripts import play

TASKS = "testbed:level=1,size=3"


def run(typed: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    parser = argparse.ArgumentParser()
    play.add_arguments(parser)
    return play.run(parser.parse_args(words))


def expert(index: int) -> list[str]:
    env = SearchEnv(tasks=TASKS)
    env.reset(options={"task": index})
    assert env.task is not None and env.task.expert_trace is not None
    return expert_actions(env.task.expert_trace, env.protocol, "")


def test_an_episode_is_played_from_piped_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    search, answer = expert(1)
    typed = f"{search}\n{answer}\n"
    assert run(typed, "search", "--tasks", TASKS, "--task", "1", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "Who is the" in out and "<information>" in out
    assert out.splitlines()[-1] == "correct (exact match)   reward 1   end: answered"
    assert "\x1b[" not in out  # no colours into a pipe


def test_a_turn_of_several_lines_ends_with_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = "I think\naloud\n\n<answer>\nnobody\n</answer>\n"
    assert run(typed, "search", "--tasks", TASKS, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "No action was found." in out
    assert "wrong" in out.splitlines()[-1] and "reward 0" in out.splitlines()[-1]


def test_commands_help_hint_and_quit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ":help\n:hint\n:hnit\n:quit\n<answer>never read</answer>\n"
    words = ("search", "--tasks", TASKS, "--task", "0", "--scaffold", "none")
    assert run(typed, *words, monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "what the expert would play now" in out
    assert expert(0)[0] in out
    assert "No command ':hnit'" in out
    assert "reward" not in out


def test_input_that_ends_early_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("half a thought", "math", monkeypatch=monkeypatch) == 0
    out = capsys.readouterr().out
    assert "No action was found." in out
    assert out.splitlines()[-1] == "The input ended before the episode."


def test_tasks_of_a_file_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({"question": "What is 6 * 7 ?", "answer": "#### 42"}) + "\n")
    assert run("<answer>42</answer>\n", "math", "--tasks", str(path), monkeypatch=monkeypatch) == 0
    assert "correct (equals 42)   reward 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("serach",), "maskgym/Search-v0"),
        (("math", "--scaffold", "al"), "all"),
        (("math", "--task", "nobody"), "chains-"),
    ],
)
def test_a_wrong_name_raises_with_the_nearest(
    words: tuple[str, ...], nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((LookupError, ValueError), match=nearest):
        run("", *words, monkeypatch=monkeypatch)
