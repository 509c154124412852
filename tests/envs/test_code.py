from maskgym.envs import CodeEnv, CodeTest, Domain, Task, TestKind, expert_actions

TASK = Task(
    task_id="double",
    question="Write double(x).",
    domain=Domain.CODE,
    entry_point="double",
    tests=tuple(
        CodeTest(kind=TestKind.CALL, function="double", arguments=f"[{x}]", expected=str(2 * x))
        for x in (0, 3, -5)
    ),
)


def test_the_expert_is_paid() -> None:
    env = CodeEnv(tasks="testbed:level=2,size=3")
    for index in range(3):
        env.reset(options={"task": index})
        assert env.task is not None and env.task.expert_trace is not None
        actions = expert_actions(env.task.expert_trace, env.protocol, "")
        assert env.step(actions[-1])[1] == 1.0
    env.close()


def test_code_can_be_tried_before_it_is_answered() -> None:
    env = CodeEnv(tasks=[TASK])
    env.reset()
    observation, _, _, _, info = env.step(
        "<python>\ndef double(x):\n    return 2 * x\n\nprint(double(4))\n</python>"
    )
    assert observation["text"] == "<result>\n8\n</result>"
    assert info["tool_details"] == (("status", "ok"), ("tier", env.sandbox.tier))
    _, reward, terminated, _, _ = env.step("<answer>\ndef double(x):\n    return 2 * x\n</answer>")
    assert (reward, terminated) == (1.0, True)
    env.close()


def test_wrong_code_and_no_code_are_not_paid() -> None:
    env = CodeEnv(tasks=[TASK])
    for answer in ("def double(x):\n    return x", "I give up", "print('<answer>')", ""):
        env.reset()
        assert env.step(f"<answer>\n{answer}\n</answer>")[1] == 0.0
    env.close()


def test_the_tool_can_be_taken_away() -> None:
    env = CodeEnv(tasks=[TASK], tools=())
    env.reset()
    assert env.step("<python>print(1)</python>")[4]["action"] == "invalid"
    env.close()


def test_a_task_without_tests_is_an_error_of_the_verifier_and_not_a_pass() -> None:
    env = CodeEnv(tasks=[Task(task_id="none", question="?", domain=Domain.CODE)])
    env.reset()
    _, reward, _, _, info = env.step("<answer>x = 1</answer>")
    assert (reward, info["verdict"]) == (0.0, "verifier_error")
    env.close()
