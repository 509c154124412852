"""Episodes of a model behind a server, some servers misbehaving."""

import json
import socket
import threading
import time
from typing import Any

import pytest

from maskgym.agents.endpoint.player import Endpoint, EndpointConfig, EndpointError, play_endpoint
from maskgym.agents.evaluation.evaluate import assert_bare
from maskgym.agents.rollouts.env_pool import EnvPool
from maskgym.agents.rollouts.rollout import RolloutConfig, RolloutInterruptedError
from maskgym.agents.rollouts.trajectory import Trajectory
from maskgym.envs import EpisodeConfig, Task, TextEnv, ToolResult
from maskgym.masking import ExpertTrace

TASKS = [
    Task(
        task_id=f"t{i}",
        question=f"word{i} ?",
        answers=(f"word{i}",),
        expert_trace=ExpertTrace.from_text(f"the answer is word{i} ."),
    )
    for i in range(6)
]
STOP = ("</echo>", "</answer>")
CONFIG = RolloutConfig(max_tokens_per_turn=32, temperature=0.0, stop=STOP)
Reply = tuple[int, dict[str, Any] | bytes] | None


class EchoTool:
    """Gives its argument back, after a while."""

    name = "echo"
    description = "Echoes."

    def call(self, argument: str) -> ToolResult:
        if argument.startswith("wait"):
            time.sleep(float(argument.removeprefix("wait")))
        return ToolResult(text=f"heard {argument}", details=(("passage_id", f"p-{argument}"),))


class EchoEnv(TextEnv):
    """Says back what it is told; right is the task's word."""

    def grade(self, task: Task, answer: str) -> bool:
        return answer == task.answers[0]

    def step(self, action: str) -> Any:
        if "fall" in action:
            raise RuntimeError("fell")
        return super().step(action)


def pool(**kwargs: Any) -> EnvPool:
    settings = EpisodeConfig(instructions="")
    return EnvPool(lambda: EchoEnv(tasks=TASKS, config=settings, tools=(EchoTool(),), **kwargs))


def word_of(body: dict[str, Any]) -> str:
    return str(body["messages"][0]["content"].split()[0])


def test_episodes_are_played_in_turns_and_recorded_in_the_order_of_the_tasks(
    server: Any,
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        time.sleep(0.02 * (6 - int(word_of(body)[-1])))  # later tasks end first
        return server.echo_then_answer(body)

    server.answer = answer
    ended: list[Trajectory] = []
    played = play_endpoint(server.endpoint(), pool(), TASKS, CONFIG, on_finished=ended.append)
    assert [t.task_id for t in played] == [task.task_id for task in TASKS]
    assert sorted(ended, key=lambda t: t.task_id) == played
    assert ended != played
    for i, trajectory in enumerate(played):
        assert_bare(trajectory)
        assert trajectory.is_correct
        assert trajectory.reward == 1.0
        assert trajectory.end_reason == "answered"
        assert trajectory.answer == f"word{i}"
        assert trajectory.group == f"t{i}|"
        assert trajectory.gold == (f"word{i}",)
        assert trajectory.passage_ids == (f"p-word{i}",)
        assert trajectory.num_action_tokens == 10
        first, last = trajectory.turns
        assert (first.action, last.action) == ("echo", "answer")
        assert first.passage_ids == (f"p-word{i}",)
        assert f"heard word{i}" in first.observation
        assert last.observation == ""
    asked = [body for body in server.requests if word_of(body) == "word3"]
    assert [len(body["messages"]) for body in asked] == [1, 3]
    assert [message["role"] for message in asked[1]["messages"]] == ["user", "assistant", "user"]
    assert asked[1]["messages"][1]["content"] == "<echo> word3 </echo>"
    assert asked[1]["messages"][2]["content"] == played[3].turns[0].observation
    assert asked[0]["model"] == "tiny"
    assert asked[0]["seed"] != asked[1]["seed"]
    assert Trajectory.from_row(json.loads(json.dumps(played[0].to_row()))) == played[0]


def test_no_more_episodes_are_played_at_once_than_allowed(server: Any) -> None:
    lock = threading.Lock()
    inside = most = 0

    def answer(body: dict[str, Any]) -> Any:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.05)
        with lock:
            inside -= 1
        return server.echo_then_answer(body)

    server.answer = answer
    play_endpoint(server.endpoint(max_concurrency=3), pool(), TASKS, CONFIG)
    assert most == 3


def test_a_system_message_and_further_fields_are_sent(server: Any) -> None:
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    endpoint = server.endpoint(system="Be brief.", extra_body=extra)
    play_endpoint(endpoint, pool(), TASKS[:1], CONFIG)
    (body,) = server.requests
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_thoughts_that_come_apart_are_recorded_but_neither_scored_nor_sent(
    server: Any,
) -> None:
    def answer(body: dict[str, Any]) -> Any:
        if len(body["messages"]) == 1:
            return server.says("<echo> a </echo>", reasoning_content="<answer> word0 </answer>")
        return server.says("<answer> wrong </answer>", reasoning_content="<answer> word0 </answer>")

    server.answer = answer
    (trajectory,) = play_endpoint(server.endpoint(), pool(), TASKS[:1], CONFIG)
    assert trajectory.answer == "wrong"
    assert not trajectory.is_correct
    assert trajectory.turns[0].action_text.startswith("<think>\n<answer> word0 </answer>\n</think>")
    assert trajectory.turns[0].action_text.endswith("<echo> a </echo>")
    assert server.requests[1]["messages"][1]["content"] == "<echo> a </echo>"


def test_the_older_api_gets_one_text(server: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        assert body["path"] == "/v1/completions"
        is_second = "heard" in body["prompt"]
        text = " <answer> word0" if is_second else " <echo> a"
        return 200, {"choices": [{"text": text, "finish_reason": "stop"}]}

    server.answer = answer
    (trajectory,) = play_endpoint(server.endpoint(api="completions"), pool(), TASKS[:1], CONFIG)
    assert trajectory.is_correct
    assert server.requests[1]["prompt"].startswith(
        "User: word0 ?\nAssistant: <echo> a</echo>\nUser:"
    )


def test_a_refused_conversation_fails_alone(server: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return (
            server.refuses(400, "policy")
            if word_of(body) == "word1"
            else server.echo_then_answer(body)
        )

    server.answer = answer
    endpoint = server.endpoint()
    played = play_endpoint(endpoint, pool(), TASKS[:3], CONFIG)
    assert [t.end_reason for t in played] == ["answered", "engine_error", "answered"]
    assert "400" in played[1].error
    assert "policy" in played[1].error
    assert endpoint.refused_fields == ()


@pytest.mark.parametrize(
    "trouble",
    [
        (429, b"slow down"),
        (500, b"broken"),
        (503, b"loading"),
        (200, b"{not json"),
        (200, {"error": {"message": "upstream"}}),
        None,
    ],
    ids=["429", "500", "503", "garbage", "no choices", "reset"],
)
def test_a_request_that_met_trouble_is_sent_again(server: Any, trouble: Reply) -> None:
    troubles = [trouble, trouble]
    server.answer = lambda body: troubles.pop() if troubles else server.echo_then_answer(body)
    (trajectory,) = play_endpoint(server.endpoint(), pool(), TASKS[:1], CONFIG)
    assert trajectory.is_correct
    assert not troubles


@pytest.mark.parametrize(
    "trouble", [(500, b"broken"), (200, b"{not json"), None], ids=["500", "garbage", "reset"]
)
def test_an_episode_whose_requests_all_fail_ends_alone(server: Any, trouble: Reply) -> None:
    server.answer = lambda body: (
        trouble
        if word_of(body) == "word1" and len(body["messages"]) > 1
        else server.echo_then_answer(body)
    )
    endpoint = server.endpoint(max_retries=1)
    played = play_endpoint(endpoint, pool(), TASKS[:3], CONFIG)
    assert [t.is_correct for t in played] == [True, False, True]
    assert played[1].end_reason == "engine_error"
    assert "2 tries" in played[1].error
    assert len(played[1].turns) == 1  # what it did before is kept
    assert not played[1].is_trainable


def test_a_server_that_hangs_costs_the_time_limit_and_its_own_episode(server: Any) -> None:
    is_over = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        if word_of(body) == "word0":
            is_over.wait(30)
        return server.echo_then_answer(body)

    server.answer = answer
    late, other = play_endpoint(server.endpoint(timeout_s=0.4), pool(), TASKS[:2], CONFIG)
    is_over.set()
    assert late.end_reason == "engine_error"
    assert "TimeoutError" in late.error
    assert other.is_correct


@pytest.mark.parametrize("who", ["server", "tool"])
def test_an_episode_ends_at_its_deadline_whoever_hangs(server: Any, who: str) -> None:
    is_over = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        if word_of(body) != "word0":
            return server.echo_then_answer(body)
        if len(body["messages"]) > 1 and who == "server":
            is_over.wait(30)
        return server.says("<echo> wait 3 </echo>" if who == "tool" else "<echo> a </echo>")

    server.answer = answer
    config = RolloutConfig(max_tokens_per_turn=32, temperature=0.0, stop=STOP, deadline_s=0.5)
    late, other = play_endpoint(server.endpoint(), pool(), TASKS[:2], config)
    is_over.set()
    assert late.end_reason == "deadline"
    assert late.error == ""
    assert len(late.turns) == (who == "server")
    assert other.is_correct


def test_a_full_context_ends_the_episode(server: Any) -> None:
    overflow = server.refuses(400, "maximum context length", code="context_length_exceeded")
    server.answer = lambda body: (
        overflow if len(body["messages"]) > 1 else server.says("<echo> a </echo>")
    )
    (trajectory,) = play_endpoint(server.endpoint(), pool(), TASKS[:1], CONFIG)
    assert trajectory.end_reason == "context"
    assert trajectory.error == ""
    assert len(trajectory.turns) == 1


def test_a_token_budget_of_the_episode_counts_what_the_server_counts(server: Any) -> None:
    server.answer = lambda body: server.says("<echo> a </echo>")
    config = RolloutConfig(max_tokens_per_turn=32, max_action_tokens=7, stop=STOP)
    (trajectory,) = play_endpoint(server.endpoint(), pool(), TASKS[:1], config)
    assert [body["max_tokens"] for body in server.requests] == [7, 2]
    assert trajectory.end_reason == "context"


def test_an_environment_that_raises_ends_its_own_episode(server: Any) -> None:
    def answer(body: dict[str, Any]) -> Any:
        return server.says("fall") if word_of(body) == "word0" else server.echo_then_answer(body)

    server.answer = answer
    fallen, other = play_endpoint(server.endpoint(), pool(), TASKS[:2], CONFIG)
    assert fallen.end_reason == "env_error"
    assert fallen.error == "RuntimeError: fell"
    assert other.is_correct


def test_an_environment_that_shows_a_scaffold_is_refused(server: Any) -> None:
    class Guided(EchoEnv):
        def reset(self, **kwargs: Any) -> Any:
            return super().reset(options={**kwargs["options"], "scaffold": "all"})

    envs = EnvPool(lambda: Guided(tasks=TASKS, tools=(EchoTool(),)))
    with pytest.raises(AssertionError, match="'t0'; a model behind an endpoint plays bare"):
        play_endpoint(server.endpoint(), envs, TASKS[:1], CONFIG)
    assert server.requests == []
    # The default of an environment has no say.
    (trajectory,) = play_endpoint(server.endpoint(), pool(scaffold="all"), TASKS[:1], CONFIG)
    assert not trajectory.is_guided


def test_an_interrupt_keeps_what_finished_and_waits_for_nobody(server: Any) -> None:
    is_over = threading.Event()

    def answer(body: dict[str, Any]) -> Any:
        if word_of(body) != "word1":
            is_over.wait(30)
        return server.echo_then_answer(body)

    server.answer = answer
    ended: list[Trajectory] = []
    with pytest.raises(RolloutInterruptedError) as caught:
        play_endpoint(
            server.endpoint(),
            pool(),
            TASKS[:3],
            CONFIG,
            should_stop=lambda: bool(ended),
            on_finished=ended.append,
        )
    is_over.set()
    assert [t.task_id for t in caught.value.trajectories] == ["t1"]


def test_a_server_that_goes_away_stops_the_play_and_what_it_lost_is_left_for_later(
    server: Any,
) -> None:
    ended: list[Trajectory] = []
    server.answer = lambda body: None if ended else server.echo_then_answer(body)
    endpoint = server.endpoint(max_retries=0, max_failures=2, max_concurrency=1)
    with pytest.raises(EndpointError, match="2 episodes in a row were lost to the server"):
        play_endpoint(endpoint, pool(), TASKS, CONFIG, on_finished=ended.append)
    assert [t.task_id for t in ended] == ["t0"]


def test_an_episode_that_was_lost_alone_is_handed_over(server: Any) -> None:
    ended: list[str] = []
    server.answer = lambda body: (
        None if word_of(body) in ("word0", "word2") else server.echo_then_answer(body)
    )
    endpoint = server.endpoint(max_retries=0, max_concurrency=1)
    play_endpoint(
        endpoint, pool(), TASKS[:3], CONFIG, on_finished=lambda t: ended.append(t.end_reason)
    )
    assert ended == ["engine_error", "answered", "engine_error"]


def test_nobody_there_is_told_before_anything_is_played() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    endpoint = Endpoint(EndpointConfig(base_url=f"http://127.0.0.1:{port}", model="tiny"))
    with pytest.raises(EndpointError, match="Is the server running there"):
        play_endpoint(endpoint, pool(), TASKS, CONFIG)


def test_no_tasks_are_no_episodes(server: Any) -> None:
    assert play_endpoint(server.endpoint(), pool(), [], CONFIG) == []
    assert server.headers == []
