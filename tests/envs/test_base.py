import json
from typing import Any

import pytest
from gymnasium.error import ResetNeeded

from maskgym.envs import EpisodeConfig, Grade, MathEnv, Task, TextEnv, ToolResult, Verdict
from maskgym.masking import ExpertTrace, Scaffold, TraceTurn, TurnKind, mask

TRACE = ExpertTrace(
    turns=(
        TraceTurn(kind=TurnKind.THOUGHT, text="6 * 7 = 42"),
        TraceTurn(kind=TurnKind.TOOL_CALL, text="look 42", tool="echo"),
        TraceTurn(kind=TurnKind.TOOL_RESULT, text="42", tool="echo"),
        TraceTurn(kind=TurnKind.ANSWER, text="42"),
    )
)
TASKS = [
    Task(task_id="six", question="What is 6 * 7 ?", answers=("42",), expert_trace=TRACE),
    Task(task_id="one", question="What is 0 + 1 ?", answers=("1",)),
]


class Echo:
    name = "echo"
    description = "Says it again."

    def __init__(self) -> None:
        self.calls: list[str] = []

    def call(self, argument: str) -> ToolResult:
        self.calls.append(argument)
        if argument == "raise":
            raise ConnectionError("refused")
        return ToolResult(text=argument, details=(("passage_id", "p1"), ("passage_id", "p2")))


class EqualEnv(TextEnv):
    def grade(self, task: Task, answer: str) -> Grade | bool:
        if answer == "crash":
            raise OSError("verifier is down")
        return answer in task.answers


def make(**settings: Any) -> EqualEnv:
    return EqualEnv(**{"tasks": TASKS, "tools": [Echo()], **settings})


def test_an_episode_goes_from_question_over_tool_to_verdict() -> None:
    env = make()
    observation, info = env.reset(options={"task": "six"})
    assert observation["text"].endswith("You have 6 turns.\n\nWhat is 6 * 7 ?")
    assert observation["scaffold"] == ""
    observation, reward, terminated, truncated, info = env.step("<echo> hello </echo>")
    assert observation["text"] == "<result>\nhello\n</result>"
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert (info["action"], info["turn"], info["num_tool_calls"]) == ("echo", 1, 1)
    assert info["passage_ids"] == ("p1", "p2")
    observation, reward, terminated, truncated, info = env.step(
        "<think>7*6</think><answer>42</answer>"
    )
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert (info["answer"], info["verdict"], info["end_reason"]) == ("42", "correct", "answered")
    assert info["passage_ids"] == ()


def test_infos_have_the_same_keys_and_can_be_written_as_json() -> None:
    env = make()
    _, first = env.reset()
    infos = [env.step(action)[4] for action in ("<echo> a </echo>", "what?", "<answer>1</answer>")]
    assert all(list(info) == list(first) for info in infos)
    json.dumps(infos)


def test_stepping_needs_a_running_episode() -> None:
    env = make()
    with pytest.raises(ResetNeeded, match="has not begun: call reset"):
        env.step("<answer>1</answer>")
    env.reset()
    env.step("<answer>1</answer>")
    with pytest.raises(ResetNeeded, match="is over: call reset"):
        env.step("<answer>1</answer>")


def test_an_action_that_is_no_text_is_refused_and_costs_no_turn() -> None:
    env = make()
    env.reset()
    with pytest.raises(TypeError, match="str; found list"):
        env.step([1, 2])  # type: ignore[arg-type]
    assert env.step("<echo> a </echo>")[4]["turn"] == 1


def test_an_overlong_action_is_cut_and_invalid_even_with_an_answer_in_it() -> None:
    env = make(config=EpisodeConfig(max_action_chars=100))
    env.reset(options={"task": "one"})
    observation, reward, terminated, _, info = env.step("<answer>1</answer>" + "x" * 100)
    assert "118 characters long; write at most 100" in observation["text"]
    assert (reward, terminated, info["action"]) == (0.0, False, "invalid")
    assert len(env.transcript.model_text(1)) == 100


def test_lone_surrogates_reach_nobody() -> None:
    env = make()
    env.reset()
    observation = env.step("<echo> a\ud800b </echo>")[0]
    observation["text"].encode()
    assert "a\ufffdb" in observation["text"]
    assert isinstance(env.tools[0], Echo)
    assert env.tools[0].calls == ["a\ufffdb"]


@pytest.mark.parametrize("action", ["<answer></answer>", "<answer> \n </answer>"])
def test_a_blank_answer_is_wrong_whatever_the_verifier_would_say(action: str) -> None:
    class Generous(EqualEnv):
        def grade(self, task: Task, answer: str) -> bool:
            return True

    env = Generous(tasks=TASKS)
    env.reset()
    _, reward, terminated, _, info = env.step(action)
    assert (reward, terminated, info["verdict"]) == (0.0, True, "wrong")


def test_a_verifier_that_raises_is_neither_right_nor_wrong() -> None:
    env = make()
    env.reset()
    _, reward, terminated, _, info = env.step("<answer>crash</answer>")
    assert (reward, terminated, info["verdict"]) == (0.0, True, Verdict.VERIFIER_ERROR)
    assert info["verdict_reason"] == "OSError: verifier is down"


def test_a_tool_that_raises_is_an_observation_and_the_episode_goes_on() -> None:
    env = make()
    env.reset(options={"task": "one"})
    observation, _, terminated, truncated, info = env.step("<echo> raise </echo>")
    assert "The echo tool failed: ConnectionError: refused" in observation["text"]
    assert "ConnectionError" in info["tool_error"]
    assert not terminated and not truncated
    assert env.step("<echo> fine </echo>")[4]["tool_error"] == ""
    assert env.step("<answer>1</answer>")[1] == 1.0


def test_the_model_is_told_of_its_last_turn_and_no_tool_runs_on_it() -> None:
    env = make(config=EpisodeConfig(max_turns=2))
    env.reset()
    observation = env.step("<echo> a </echo>")[0]
    assert observation["text"].endswith("\nThis is your last turn: only an answer counts now.")
    observation, reward, terminated, truncated, info = env.step("<echo> b </echo>")
    assert "not carried out" in observation["text"]
    assert (reward, terminated, truncated, info["end_reason"]) == (0.0, False, True, "max_turns")
    assert isinstance(env.tools[0], Echo)
    assert env.tools[0].calls == ["a"]


def test_the_notices_and_instructions_can_be_switched_off() -> None:
    env = make(config=EpisodeConfig(max_turns=2, last_turn_notice="", instructions=""))
    assert env.reset(options={"task": "one"})[0]["text"] == "What is 0 + 1 ?"
    assert env.step("<echo> a </echo>")[0]["text"] == "<result>\na\n</result>"


def test_an_answer_on_the_last_turn_counts() -> None:
    env = make(config=EpisodeConfig(max_turns=2))
    env.reset(options={"task": "one"})
    env.step("<echo> a </echo>")
    assert env.step("<answer>1</answer>")[1:4] == (1.0, True, False)


def test_an_episode_that_ends_on_its_first_turn_is_terminated() -> None:
    env = make(config=EpisodeConfig(max_turns=1))
    env.reset()
    assert env.step("nothing")[2:4] == (True, False)


def test_tool_calls_have_a_budget_of_their_own() -> None:
    env = make(config=EpisodeConfig(max_tool_calls=1))
    env.reset()
    env.step("<echo> a </echo>")
    observation, _, terminated, truncated, info = env.step("<echo> b </echo>")
    assert "all 1 tool calls are used" in observation["text"]
    assert not terminated and not truncated and info["num_tool_calls"] == 1


def test_invalid_actions_have_a_budget_and_a_price() -> None:
    env = make(config=EpisodeConfig(max_invalid_actions=2, invalid_action_penalty=0.25))
    env.reset()
    assert env.step("huh")[1:4] == (-0.25, False, False)
    _, reward, terminated, truncated, info = env.step("huh")
    assert (reward, terminated, truncated) == (-0.25, False, True)
    assert info["end_reason"] == "max_invalid_actions"


def test_characters_of_observation_have_a_budget() -> None:
    env = make(config=EpisodeConfig(max_total_observation_chars=60))
    env.reset()
    assert not env.step("<echo> a </echo>")[3]
    _, _, _, truncated, info = env.step(f"<echo> {'b' * 60} </echo>")
    assert truncated and info["end_reason"] == "max_total_observation_chars"


def test_wall_time_ends_an_episode_but_a_late_answer_is_graded() -> None:
    env = make(config=EpisodeConfig(max_wall_time_s=30))
    for action, outcome in (("<echo> a </echo>", "wall_time"), ("<answer>1</answer>", "answered")):
        env.reset(options={"task": "one"})
        env.step("<echo> early </echo>")
        env._budget.started_s -= 31
        assert env.step(action)[4]["end_reason"] == outcome
    assert isinstance(env.tools[0], Echo)
    assert "a" not in env.tools[0].calls


def test_tasks_are_chosen_by_record_number_or_id() -> None:
    env = make()
    other = Task(task_id="other", question="?", answers=("x",))
    assert env.reset(options={"task": other})[1]["task_id"] == "other"
    assert env.reset(options={"task": 1})[1]["task_id"] == "one"
    assert env.reset(options={"task": "six"})[1]["task_id"] == "six"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"scafold": "all"}, ValueError, "Did you mean 'scaffold'"),
        ({"task": "sixx"}, LookupError, "Did you mean 'six'"),
        ({"task": 2}, LookupError, "has 2 tasks"),
        ({"scaffold": "al"}, LookupError, "all"),
    ],
)
def test_a_wrong_option_raises_with_the_nearest_name(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises((error, ValueError), match=message):
        make().reset(options={"task": "six", **options})


def test_a_misspelt_setting_of_the_constructor_raises() -> None:
    with pytest.raises(TypeError, match="scafold"):
        make(scafold="all")
    with pytest.raises((LookupError, ValueError), match="all"):
        make(scaffold="al")
    with pytest.raises(LookupError, match='Use "python"'):
        make(tools=["pythn"])


@pytest.mark.parametrize("name", ["answer", "think", "two words", "echo"])
def test_a_tool_needs_a_name_of_its_own(name: str) -> None:
    class Other(Echo):
        pass

    other = Other()
    other.name = name
    with pytest.raises(ValueError, match=f"called '{name}'"):
        make(tools=[Echo(), other])


def test_an_environment_without_grade_or_tasks_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match=r"define grade\(\)"):
        TextEnv(tasks=TASKS)
    with pytest.raises(LookupError, match=r"pass tasks=, or define sample_task\(\)"):
        EqualEnv().reset()
    with pytest.raises(ValueError, match="no tasks"):
        EqualEnv(tasks=[])


def test_the_testbed_is_named_as_text() -> None:
    env = MathEnv(tasks="testbed:level=3,split=test,seed=1,size=50")
    assert (len(env.tasks), env.tasks[0].level, env.tasks[0].split) == (50, 3, "test")
    with pytest.raises(ValueError, match=r"'levl=3'.*no setting"):
        MathEnv(tasks="testbed:levl=3")
    with pytest.raises(ValueError, match="whole number"):
        MathEnv(tasks="testbed:level=three")


def test_a_scaffold_is_shown_apart_from_the_text() -> None:
    env = make(scaffold="all")
    observation, info = env.reset(options={"task": "six"})
    assert "42" not in observation["scaffold"] and "NUMBER" in observation["scaffold"]
    assert "NUMBER" not in observation["text"]
    assert (info["has_scaffold"], info["scaffold_policy"]) == (True, "all")
    assert env.step("<echo> a </echo>")[0]["scaffold"] == ""


def test_a_task_without_a_trace_is_played_bare() -> None:
    observation, info = make(scaffold="all").reset(options={"task": "one"})
    assert (observation["scaffold"], info["has_scaffold"]) == ("", False)


def test_reset_overrides_the_scaffold_of_the_constructor() -> None:
    env = make(scaffold="all")
    assert env.reset(options={"task": "six", "scaffold": ""})[0]["scaffold"] == ""
    assert "42" in env.reset(options={"task": "six", "scaffold": "none"})[0]["scaffold"]
    ready: Scaffold = mask(TRACE, TASKS[0], "none")
    assert env.reset(options={"task": "one", "scaffold": ready})[0]["scaffold"] == ready.text


def test_a_scaffold_can_come_turn_by_turn() -> None:
    env = make(scaffold="none", config=EpisodeConfig(scaffold_timing="per_turn"))
    first = env.reset(options={"task": "six"})[0]["scaffold"]
    second = env.step("<echo> a </echo>")[0]["scaffold"]
    third = env.step("<echo> a </echo>")[0]["scaffold"]
    assert "6 * 7" in first and "6 * 7" not in second
    assert "42" in second and third == ""
    assert [str(s.kind) for s in env.transcript.segments if s.text == second] == ["scaffold"]


def test_a_scaffold_that_holds_the_answer_is_never_scored() -> None:
    text = "so the answer is \\boxed{42} <answer>42</answer>"
    ready = mask(ExpertTrace.from_text(text), TASKS[0], "none")
    env = make(scaffold=ready)
    for action in ("I give up", "<answer>I give up</answer>", "<answer></answer>"):
        env.reset(options={"task": "six"})
        assert env.step(action)[1] == 0.0


def test_the_transcript_is_typed() -> None:
    env = make(scaffold="all", render_mode="ansi")
    env.reset(options={"task": "six"})
    env.step("<echo> a </echo>")
    env.step("what?")
    kinds = [str(segment.kind) for segment in env.transcript.segments]
    assert kinds == ["system", "scaffold", "question", "model", "tool_result", "model", "notice"]
    assert env.render() == str(env.transcript)


def test_stop_strings_close_each_action() -> None:
    assert make().stop_strings == ("</echo>", "</answer>")
