"""Records on disk: nothing lost, nothing twice, nothing guided."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskgym.agents.evaluation.records import (
    EvaluationRecord,
    RecordWriter,
    drop_failed,
    read_records,
)
from maskgym.agents.evaluation.scores import score_question
from maskgym.agents.rollouts.trajectory import Trajectory, Turn
from maskgym.envs import Task, Verdict

TASKS = [Task(task_id=f"t{i}", question=f"Who is {i}?", answers=("Ada é",)) for i in range(4)]


def record(i: int, **fields: object) -> EvaluationRecord:
    turn = Turn(
        prompt_ids=(1, 2),
        action_ids=(3, 4, 5),
        logprobs=(0.0,) * 3,
        action_text="<answer> Ada </answer>",
        observation="",
        action="answer",
    )
    trajectory = Trajectory(
        task_id=f"t{i}",
        group=f"t{i}|",
        turns=(turn,),
        reward=0.0,
        verdict=Verdict.WRONG,
        end_reason="answered",
        answer="Ada",
        question=TASKS[i].question,
        gold=TASKS[i].answers,
        bare_prompt_ids=(1, 2),
    )
    trajectory = replace(trajectory, **fields)  # type: ignore[arg-type]
    scores = score_question(TASKS[i], trajectory)
    return EvaluationRecord(benchmark="nq", scores=scores, trajectory=trajectory)


def test_records_come_back_as_texts_with_their_tokens_counted(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append(record(0))
        writer.append(record(1))
    first, second = read_records(tmp_path)
    assert (first.key, second.key) == (("nq", "t0"), ("nq", "t1"))
    assert first.scores == record(0).scores
    assert first.scores.tokens == 3 == first.trajectory.num_action_tokens
    assert first.trajectory.turns[0].action_ids == ()
    assert first.trajectory.gold == ("Ada é",)


def test_a_line_that_a_kill_cut_short_is_left_out_and_then_written_over(tmp_path: Path) -> None:
    with RecordWriter(tmp_path) as writer:
        writer.append(record(0))
    with open(tmp_path / "records.jsonl", "ab") as file:
        file.write(b'{"benchmark": "nq", "task_')
    assert len(read_records(tmp_path)) == 1
    with RecordWriter(tmp_path) as writer:
        writer.append(record(1))
    assert [each.trajectory.task_id for each in read_records(tmp_path)] == ["t0", "t1"]


def test_two_writers_of_one_run_are_refused(tmp_path: Path) -> None:
    with (
        RecordWriter(tmp_path),
        pytest.raises(BlockingIOError, match="Another process is adding to"),
    ):
        RecordWriter(tmp_path)
    with RecordWriter(tmp_path) as writer:
        writer.append(record(0))


def test_a_guided_episode_is_neither_written_nor_read(tmp_path: Path) -> None:
    guided = record(1, scaffold="First [NUMBER], then ...")
    forgotten = record(1, bare_prompt_ids=(9,))  # the prompt was another one than the bare one
    with RecordWriter(tmp_path) as writer:
        for each in (guided, forgotten):
            with pytest.raises(ValueError, match="an evaluation is always bare"):
                writer.append(each)
        writer.append(record(0))
    with open(tmp_path / "records.jsonl", "a") as file:
        file.write(json.dumps(guided.to_row()) + "\n")
    with pytest.raises(ValueError, match=r"line 2: .*always bare"):
        read_records(tmp_path)


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"benchmark": "nq"}\n')
    with pytest.raises(
        ValueError, match=r"line 1: this is no record of an evaluation \('scores'\)"
    ):
        read_records(tmp_path)
    (tmp_path / "records.jsonl").write_text("[1, 2\n")
    with pytest.raises(ValueError, match="line 1"):
        read_records(tmp_path)
    row = json.dumps(record(0).to_row())
    (tmp_path / "records.jsonl").write_text(f"{row}\n{row}\n")
    with pytest.raises(ValueError, match=r"line 2: question \('nq', 't0'\) stands there twice"):
        read_records(tmp_path)


def test_a_folder_of_another_kind_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="rollouts of a training run are no evaluation"):
        read_records(tmp_path)


def test_failed_questions_are_dropped_to_be_played_again(tmp_path: Path) -> None:
    assert drop_failed(tmp_path) == 0
    with RecordWriter(tmp_path) as writer:
        writer.append(record(0))
        writer.append(record(1, verdict=Verdict.VERIFIER_ERROR))
        writer.append(record(2, end_reason="engine_error", error="HTTP 500", verdict=None))
        writer.append(record(3, end_reason="max_turns", verdict=None))
    assert drop_failed(tmp_path) == 2
    assert [each.trajectory.task_id for each in read_records(tmp_path)] == ["t0", "t3"]
    assert drop_failed(tmp_path) == 0
