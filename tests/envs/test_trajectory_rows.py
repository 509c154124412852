"""Worked searches as others store them become expert traces, and scaffolds that hide the answer."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from maskgym.envs import SearchEnv, Task, expert_actions, load_tasks
from maskgym.envs.verifiers import contains_answer
from maskgym.masking import TurnKind
from maskgym.retrieval import BM25Index, Passage

INDEX = BM25Index.build([Passage(id="1", text="nothing of interest")])
SEARCH_R1 = "search_r1_rollouts/v1_nq_2026_04_28_16_43_search_r1_base_seed1.json.gz"


def load(path: Path, *rows: dict[str, Any], **settings: Any) -> list[Task]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return load_tasks(path, domain="search", **settings)


def fireact(reward: str = "True", answer: str = "1983") -> dict[str, Any]:
    said = [
        ("user", "Question: Longines is owned by a group founded when?"),
        ("assistant", "Thought: Find the owner.\nAction: search[who owns Longines]"),
        ("user", "Observation: The Swatch Group"),
        ("assistant", f"Thought: I know it.\nAction: finish[{answer}]"),
        ("user", f"Observation: Episode finished, reward = {reward}"),
    ]
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def rollout(answer: str) -> dict[str, Any]:
    said = (
        "<think> Find the owner. </think> <search> who owns Longines </search>\n"
        f"<information>Doc 1(Title: Swatch) The Swatch Group</information>\n{answer}"
    )
    return {
        "id": "test_3",
        "question": "Who owns Longines?",
        "golden_answers": ["The Swatch Group", "Swatch"],
        "output": {"final_response": said},
    }


def test_a_paid_fireact_trajectory_is_a_task_with_its_trace(tmp_path: Path) -> None:
    (task,) = load(tmp_path / "rows.jsonl", fireact())
    assert task.question == "Longines is owned by a group founded when?"
    assert task.answers == ("1983",) and task.expert_trace is not None
    assert [(turn.kind, turn.tool, turn.text) for turn in task.expert_trace.turns] == [
        (TurnKind.THOUGHT, "", "Find the owner."),
        (TurnKind.TOOL_CALL, "search", "who owns Longines"),
        (TurnKind.TOOL_RESULT, "search", "The Swatch Group"),
        (TurnKind.THOUGHT, "", "I know it."),
        (TurnKind.ANSWER, "", "1983"),
    ]


def test_an_unpaid_fireact_trajectory_names_no_gold_answer(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with pytest.raises(ValueError, match=r"line 2: answers: the trajectory was not paid"):
        load(path, fireact(), fireact(reward="False"))
    with pytest.warns(UserWarning, match="Skipped 1 bad rows"):
        assert len(load(path, fireact("1"), fireact("0"), on_bad_row="skip")) == 1


@pytest.mark.parametrize(("answer", "is_right"), [("1983", True), ("1984", False)])
def test_where_the_gold_answer_is_known_a_wrong_trajectory_is_no_trace(
    tmp_path: Path, answer: str, is_right: bool
) -> None:
    row = {"traj": fireact(answer=answer)["messages"], "gt": "1983", "em": is_right}
    text = {
        "traj": "### Instruction:\nFounded when?\n\n### Response:\nThought: I know it.\n"
        f"Action: finish[{answer}]\nObservation: Episode finished, reward = {is_right}\n",
        "gt": "1983",
    }
    tasks = load(tmp_path / "rows.jsonl", row, text)
    assert [task.answers for task in tasks] == [("1983",)] * 2
    assert [task.expert_trace is not None for task in tasks] == [is_right] * 2
    assert tasks[1].question == "Founded when?"


@pytest.mark.parametrize(
    ("answer", "has_trace"),
    [
        ("<answer> Swatch </answer>", True),
        ("<answer> Rolex </answer>", False),
        ("<think> I give up. </think>", False),
    ],
)
def test_only_a_right_search_r1_rollout_is_a_trace(
    tmp_path: Path, answer: str, has_trace: bool
) -> None:
    (task,) = load(tmp_path / "rows.jsonl", rollout(answer))
    assert (task.task_id, task.answers) == ("test_3", ("The Swatch Group", "Swatch"))
    assert (task.expert_trace is not None) == has_trace
    if task.expert_trace is not None:
        assert [turn.kind for turn in task.expert_trace.turns] == [
            TurnKind.THOUGHT,
            TurnKind.TOOL_CALL,
            TurnKind.TOOL_RESULT,
            TurnKind.ANSWER,
        ]


def test_steps_of_strategyqa_are_thoughts_before_the_answer(tmp_path: Path) -> None:
    row = {"qid": "a", "question": "Is it?", "answer": False, "decomposition": ["What?", "Is #1?"]}
    (task,) = load(tmp_path / "rows.jsonl", row)
    assert task.answers == ("no",) and task.expert_trace is not None
    assert [(turn.kind, turn.text) for turn in task.expert_trace.turns] == [
        (TurnKind.THOUGHT, "What?"),
        (TurnKind.THOUGHT, "Is #1?"),
        (TurnKind.ANSWER, "no"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": []}, "expected text or messages"),
        ({"messages": [{"role": "user", "content": "q"}]}, "was not paid"),
        ({"traj": "no format at all", "gt": "x"}, "in no known trace format"),
        ({**rollout(""), "output": {"final_response": 5}}, "trace: expected text"),
    ],
)
def test_a_bad_trajectory_says_what_is_wrong(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=rf"line 1: .*{message}"):
        load(tmp_path / "rows.jsonl", row)


@pytest.mark.parametrize(
    ("name", "num_tasks", "num_traces"),
    [
        ("fireact_trajectories/hotpotqa.jsonl.gz", 500, 500),
        ("fireact_trajectories/multitask_multimethod.jsonl.gz", 2014, 2014),
        (SEARCH_R1, 1000, 390),
    ],
)
def test_real_trajectories_load_with_several_turns(
    shared_data: Path, name: str, num_tasks: int, num_traces: int
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipped 49 bad rows")
        tasks = load_tasks(shared_data / name, domain="search", on_bad_row="skip")
    traces = [task.expert_trace for task in tasks if task.expert_trace is not None]
    assert (len(tasks), len(traces)) == (num_tasks, num_traces)
    for trace in traces:
        kinds = [turn.kind for turn in trace.turns]
        assert kinds.count(TurnKind.ANSWER) == 1 and kinds[-1] is TurnKind.ANSWER
    assert sum(TurnKind.TOOL_CALL in {t.kind for t in trace.turns} for trace in traces) > 300


@pytest.mark.parametrize("policy", ["all", "critical"])
@pytest.mark.parametrize("name", ["fireact_trajectories/hotpotqa.jsonl.gz", SEARCH_R1])
def test_a_scaffold_from_a_real_trajectory_shows_no_answer(
    shared_data: Path, name: str, policy: str
) -> None:
    tasks = [t for t in load_tasks(shared_data / name, domain="search") if t.expert_trace][:100]
    env = SearchEnv(tasks=tasks, retriever=INDEX, scaffold=policy)
    num_checked = 0
    for task in tasks:
        scaffold = env.reset(options={"task": task})[0]["scaffold"]
        assert scaffold
        # "Yes" and "no" are common words, and what the question says may be said again.
        if not {"yes", "no"} & {a.lower() for a in task.answers} and not contains_answer(
            task.question, task.answers
        ):
            num_checked += 1
            assert not contains_answer(scaffold, task.answers)
    assert num_checked > 70


def test_a_real_expert_is_paid_when_it_plays_its_own_trace(shared_data: Path) -> None:
    tasks = [t for t in load_tasks(shared_data / SEARCH_R1, domain="search") if t.expert_trace]
    env = SearchEnv(tasks=tasks, retriever=INDEX)
    for task in tasks[:30]:
        env.reset(options={"task": task})
        assert task.expert_trace is not None
        for action in expert_actions(task.expert_trace, env.protocol, ""):
            _, reward, terminated, *_ = env.step(action)
        assert (reward, terminated) == (1.0, True)
