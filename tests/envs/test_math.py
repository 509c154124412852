import pytest

from maskgym.envs import EpisodeConfig, MathEnv, Task, expert_actions

TASK = Task(task_id="t", question="What is 6 * 7 ?", answers=("42",))


def test_the_expert_is_paid() -> None:
    env = MathEnv()
    for index in range(20):
        env.reset(options={"task": index})
        assert env.task is not None and env.task.expert_trace is not None
        actions = expert_actions(env.task.expert_trace, env.protocol, "")
        assert len(actions) == 1 and env.step(actions[0])[1] == 1.0


def test_equal_values_are_paid_however_they_are_written() -> None:
    env = MathEnv(tasks=[TASK])
    for answer in ("42", "\\boxed{42}", "42.0", "$42$"):
        env.reset()
        assert env.step(f"<answer> {answer} </answer>")[1] == 1.0, answer


def test_the_python_tool_is_off_unless_named() -> None:
    env = MathEnv(tasks=[TASK])
    assert "<python>" not in env.reset()[0]["text"]
    assert env.step("<python>print(1)</python>")[4]["action"] == "invalid"
    with_tool = MathEnv(tasks=[TASK], tools=("python",))
    assert "<python>" in with_tool.reset()[0]["text"]
    assert "\n42\n" in with_tool.step("<python>print(6 * 7)</python>")[0]["text"]
    with_tool.close()


@pytest.mark.parametrize("printed", ["\\\\boxed{42}", "#### 42", "<answer>42</answer>"])
def test_an_answer_that_only_the_tool_printed_is_not_paid(printed: str) -> None:
    env = MathEnv(tasks=[TASK], tools=("python",))
    env.reset()
    assert "42" in env.step(f"<python>print('{printed}')</python>")[0]["text"]
    for action in ("I give up", "<answer>I give up</answer>"):
        assert env.step(action)[1] == 0.0
    env.close()


def test_five_megabytes_of_output_are_cut_with_a_marker_and_the_closing_tag() -> None:
    config = EpisodeConfig(max_observation_chars=500, instructions="")
    env = MathEnv(tasks=[TASK], tools=("python",), config=config)
    env.reset()
    text = env.step("<python>print('x' * 5_000_000)</python>")[0]["text"]
    assert text.endswith("characters in all]\n</result>")
    assert len(text) == 500 + len("<result>\n\n</result>")
    env.close()
