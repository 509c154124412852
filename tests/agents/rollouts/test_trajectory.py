"""What of a trajectory reaches the loss."""

import json

import pytest

from maskgym.agents.rollouts.trajectory import Trajectory, Turn
from maskgym.envs import Verdict


def turn(prompt: tuple[int, ...], action: tuple[int, ...], observation: str = "") -> Turn:
    return Turn(
        prompt_ids=prompt,
        action_ids=action,
        logprobs=tuple(-float(i) for i in action),
        action_text="text",
        observation=observation,
        action="answer",
    )


GUIDED = Trajectory(
    task_id="t",
    group="t|all",
    turns=(turn((1, 90, 91, 2), (3, 4), "seen"), turn((5, 6), (7,))),
    reward=1.0,
    verdict=Verdict.CORRECT,
    end_reason="answered",
    scaffold="[NUMBER]",
    scaffold_policy="all",
    bare_prompt_ids=(1, 2),
    question="q",
    gold=("42",),
)


def test_only_sampled_tokens_are_trained_on() -> None:
    sequence = GUIDED.sequence()
    assert sequence.ids == (1, 90, 91, 2, 3, 4, 5, 6, 7)
    assert sequence.loss_mask == (0, 0, 0, 0, 1, 1, 0, 0, 1)
    assert sequence.logprobs == (0, 0, 0, 0, -3.0, -4.0, 0, 0, -7.0)
    assert sequence.is_on_policy


def test_credit_on_the_bare_prompt_leaves_the_scaffold_out_and_has_no_ratio() -> None:
    sequence = GUIDED.sequence(train_on="bare")
    assert sequence.ids == (1, 2, 3, 4, 5, 6, 7)
    assert sequence.loss_mask == (0, 0, 1, 1, 0, 0, 1)
    assert not sequence.is_on_policy


def test_a_trajectory_survives_json() -> None:
    assert Trajectory.from_row(json.loads(json.dumps(GUIDED.to_row()))) == GUIDED


def test_every_action_token_needs_a_log_probability() -> None:
    with pytest.raises(ValueError, match="2 action tokens but 1"):
        Turn(
            prompt_ids=(),
            action_ids=(1, 2),
            logprobs=(0.0,),
            action_text="",
            observation="",
            action="answer",
        )


@pytest.mark.parametrize("end_reason", ["env_error", "aborted", "engine_error"])
def test_what_says_nothing_about_the_policy_is_not_trained_on(end_reason: str) -> None:
    from dataclasses import replace

    assert GUIDED.is_trainable
    assert not replace(GUIDED, end_reason=end_reason).is_trainable
    assert not replace(GUIDED, verdict=Verdict.VERIFIER_ERROR).is_trainable
    assert not replace(GUIDED, turns=()).is_trainable


REWRITTEN = Trajectory(
    task_id="t",
    group="t|all",
    turns=(
        turn((1, 90, 2), (50, 3), "seen"),
        Turn(
            prompt_ids=(1, 90, 2, 3, 5),  # the first action without its thought, 50
            action_ids=(51, 4),
            logprobs=(-51.0, -4.0),
            action_text="",
            observation="seen",
            action="search",
            weight_version=3,
            is_new_context=True,
            bare_prompt_ids=(1, 2, 3, 5),
        ),
        turn((6,), (7,)),
    ),
    reward=1.0,
    verdict=None,
    end_reason="answered",
    scaffold="[NUMBER]",
    bare_prompt_ids=(1, 2),
    num_kept_thoughts=1,
)


def test_each_context_is_a_sequence_and_each_action_is_trained_once_behind_its_own() -> None:
    first, second = REWRITTEN.sequences()
    assert first.ids == (1, 90, 2, 50, 3)
    assert first.loss_mask == (0, 0, 0, 1, 1)
    assert second.ids == (1, 90, 2, 3, 5, 51, 4, 6, 7)
    assert second.loss_mask == (0, 0, 0, 0, 0, 1, 1, 0, 1)
    assert second.logprobs == (0, 0, 0, 0, 0, -51.0, -4.0, 0, -7.0)
    trained = sum(sum(sequence.loss_mask) for sequence in (first, second))
    assert trained == REWRITTEN.num_action_tokens
    with pytest.raises(ValueError, match=r"2 training sequences.*sequences\(\)"):
        REWRITTEN.sequence()


def test_each_context_has_its_bare_prompt() -> None:
    first, second = REWRITTEN.sequences(train_on="bare")
    assert first.ids == (1, 2, 50, 3)
    assert second.ids == (1, 2, 3, 5, 51, 4, 6, 7)
    assert not first.is_on_policy
    assert not second.is_on_policy


def test_one_context_is_one_sequence_and_none_without_turns() -> None:
    from dataclasses import replace

    assert GUIDED.sequences() == [GUIDED.sequence()]
    assert replace(GUIDED, turns=()).sequences() == []


def test_rows_with_and_without_the_newest_fields_are_read() -> None:
    row = json.loads(json.dumps(REWRITTEN.to_row()))
    assert Trajectory.from_row(row) == REWRITTEN
    old = json.loads(json.dumps(GUIDED.to_row()))
    del old["num_kept_thoughts"]
    for each in old["turns"]:
        del each["is_new_context"], each["bare_prompt_ids"]
    assert Trajectory.from_row(old) == GUIDED


def test_the_versions_of_the_weights_that_sampled_are_known() -> None:
    assert REWRITTEN.weight_versions == (0, 3)
