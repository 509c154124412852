from collections.abc import Iterator
from contextlib import closing

import pytest

from maskgym.envs import CodeEnv, LocalSandbox, MathEnv, SandboxLimits, SearchEnv, Task
from maskgym.envs.tools import EpisodeTool, PythonSessionTool, PythonTool

TASK = Task(task_id="t", question="6 times 7?", answers=("42",))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LocalSandbox]:
    with closing(LocalSandbox()) as made:
        yield made


@pytest.fixture
def tool(sandbox: LocalSandbox) -> Iterator[PythonSessionTool]:
    with closing(PythonSessionTool(sandbox, SandboxLimits(wall_s=1))) as made:
        made.begin(TASK)
        yield made


def test_variables_stay_from_call_to_call_and_the_last_value_is_shown(
    tool: PythonSessionTool,
) -> None:
    assert tool.call("x = 6").text == "The program printed nothing."
    assert tool.call("print('so')\nx * 7").text == "so\n42"
    assert tool.call("```python\ndef f():\n    return x\nf()\n```").text == "6"


def test_nothing_stays_from_one_episode_to_the_next(tool: PythonSessionTool) -> None:
    tool.call("x = 6")
    tool.begin(TASK)
    result = tool.call("x")
    assert "NameError" in result.text and not result.is_error


def test_an_exception_is_a_result_and_keeps_what_was_made(tool: PythonSessionTool) -> None:
    result = tool.call("x = 6\n1 / 0")
    assert "ZeroDivisionError" in result.text and not result.is_error
    assert tool.call("x").text == "6"


def test_a_cell_that_runs_out_of_time_keeps_the_variables(tool: PythonSessionTool) -> None:
    tool.call("x = 6")
    result = tool.call("while True: pass")
    assert "ran out of time" in result.text and result.is_error
    assert tool.call("x").text == "6"


def test_a_session_that_died_is_started_anew_and_said_so(tool: PythonSessionTool) -> None:
    tool.call("x = 6")
    tool.call("import os; os._exit(3)")
    text = tool.call("print('x' in globals())").text
    assert text == "Python was started anew; no variable is left.\nFalse"


def test_a_closed_sandbox_is_an_error_of_the_tool() -> None:
    sandbox = LocalSandbox()
    sandbox.close()
    env = MathEnv(tasks=[TASK], tools=(PythonSessionTool(sandbox),))
    env.reset()
    observation, _, terminated, _, info = env.step("<python>1</python>")
    assert info["tool_error"] and not terminated
    assert env.step("<answer>42</answer>")[1] == 1.0
    assert "failed" in observation["text"]


def test_an_environment_keeps_one_session_an_episode() -> None:
    env = MathEnv(tasks=[TASK], tools=("python_session",))
    env.reset()
    env.step("<python>x = 6 * 7</python>")
    assert env.step("<python>x</python>")[0]["text"] == "<result>\n42\n</result>"
    env.reset()
    assert "NameError" in env.step("<python>x</python>")[0]["text"]
    env.close()


def test_only_tools_that_keep_something_are_told_of_episodes(sandbox: LocalSandbox) -> None:
    assert isinstance(PythonSessionTool(sandbox), EpisodeTool)
    assert not isinstance(PythonTool(sandbox), EpisodeTool)


@pytest.mark.parametrize("tools", [("python", "search"), ("search", "python_session")])
def test_of_two_tools_one_that_fails_is_an_observation_and_never_an_answer(
    tools: tuple[str, ...],
) -> None:
    env = SearchEnv(tools=tools)
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step("<python>1/0</python>")
    assert "ZeroDivisionError" in observation["text"]
    assert (reward, terminated, truncated, info["action"]) == (0.0, False, False, "python")
    assert env.step("<search>nobody</search>")[4]["action"] == "search"
    env.close()


def test_code_revised_after_a_failing_public_test_is_paid() -> None:
    env = CodeEnv(tasks="testbed:level=1,size=3", tools=("run_tests", "python_session"))
    observation, _ = env.reset(seed=0)
    assert "Your program must pass:" in observation["text"]
    assert env.task is not None and env.task.expert_trace is not None
    observation, reward, *_ = env.step("<run_tests>\ndef solve(values):\n    pass\n</run_tests>")
    assert "failed" in observation["text"] and reward == 0.0
    solution = env.task.expert_trace.turns[-1].text
    observation, reward, *_ = env.step(f"<run_tests>\n{solution}\n</run_tests>")
    assert observation["text"].count("passed") == len(env.task.public_tests) and reward == 0.0
    assert env.step(f"<answer>\n{solution}\n</answer>")[1] == 1.0
    env.close()
