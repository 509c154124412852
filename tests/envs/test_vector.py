from typing import Any, Literal

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from maskgym.envs import Domain, SearchEnv, Task, TextEnv, ToolResult, expert_actions, make_vec

TURNS = (
    ("<search> 日本 é 😀 </search>", "<serch>\n</serch>"),
    ("<answer>nobody</answer>", "<search> mentor </search>"),
    ("<search> spouse </search>", "lone \ud800 surrogate"),
    ("x" * 2000, "<answer></answer>"),
)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    return value


def play(env: VectorEnv[Any, Any, Any]) -> list[Any]:
    try:
        record = [plain(item) for item in env.reset(seed=3)]
        for turn in TURNS:
            record += [plain(item) for item in env.step(turn)]
        return record
    finally:
        env.close()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_processes_return_the_same_text_as_one_process(context: Literal["fork", "spawn"]) -> None:
    settings: dict[str, Any] = {"tasks": "testbed:level=2,size=20", "scaffold": "all"}
    one = play(make_vec("search", 2, "sync", **settings))
    several = play(make_vec("search", 2, "async", context=context, **settings))
    assert one == several
    texts = one[0]["text"]
    assert len(set(texts)) == 2 and all("Who is the" in text for text in texts)
    assert all(one[0]["scaffold"])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_last_info_of_an_episode_is_kept(mode: Literal["sync", "async"]) -> None:
    env = make_vec("math", 2, mode, autoreset_mode=AutoresetMode.SAME_STEP)
    observation, _ = env.reset(seed=1)
    observation, _, terminated, _, info = env.step(("<answer> none </answer>", "what?"))
    assert terminated.tolist() == [True, False]
    assert info["final_info"]["verdict"][0] == "wrong"
    assert info["final_info"]["end_reason"][0] == "answered"
    assert info["final_obs"][0] == {"text": "", "scaffold": ""}
    assert "Start with" in observation["text"][0]  # the next episode has begun
    env.close()


class Flaky:
    """A tool that fails in one of the environments."""

    name = "look"
    description = "Looks."

    def __init__(self, is_broken: bool) -> None:
        self.is_broken = is_broken

    def call(self, argument: str) -> ToolResult:
        if self.is_broken:
            raise RuntimeError("broken")
        return ToolResult(text="seen")


class LookEnv(TextEnv):
    def grade(self, task: Task, answer: str) -> bool:
        return answer == "seen"


def test_one_failing_environment_does_not_take_its_neighbours_down() -> None:
    task = Task(task_id="t", question="?", answers=("seen",))

    def maker(is_broken: bool) -> Any:
        return lambda: LookEnv(tasks=[task], tools=[Flaky(is_broken)])

    env = SyncVectorEnv([maker(index == 1) for index in range(4)])
    env.reset(seed=0)
    _, _, _, _, info = env.step(("<look> x </look>",) * 4)
    assert [bool(error) for error in info["tool_error"]] == [False, True, False, False]
    _, rewards, terminated, _, _ = env.step(("<answer>seen</answer>",) * 4)
    assert rewards.tolist() == [1.0] * 4 and terminated.all()


def test_tasks_travel_to_spawned_workers() -> None:
    task = Task(task_id="t", question="Was?", answers=("ja",), domain=Domain.SEARCH)
    env = make_vec("math", 1, "async", context="spawn", tasks=[task])
    observation, info = env.reset(seed=0)
    assert observation["text"][0].endswith("Was?") and info["task_id"][0] == "t"
    env.close()


def test_a_wrong_mode_or_id_is_refused() -> None:
    with pytest.raises(ValueError, match="use 'sync' or 'async'"):
        make_vec("math", 1, "thread")  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="Did you mean 'maskgym/Math-v0'"):
        make_vec("maht", 1)


def test_the_expert_is_paid_through_the_vector_interface() -> None:
    env = make_vec("search", 1, tasks="testbed:level=1,size=1")
    env.reset(seed=0)
    single = SearchEnv(tasks="testbed:level=1,size=1")
    single.reset(seed=0)
    assert single.task is not None and single.task.expert_trace is not None
    for action in expert_actions(single.task.expert_trace, single.protocol, ""):
        rewards = env.step((action,))[1]
    assert rewards.tolist() == [1.0]
    env.close()
