import math

import pytest

from maskgym.envs import MathEnv, Task, Verdict, outcome_reward
from maskgym.envs.protocol import ActionKind
from maskgym.envs.rewards import PlayedTurn, format_term, shaping_reward

TASK = Task(task_id="t", question="6 times 7?", answers=("42",))


def test_only_a_correct_answer_is_paid() -> None:
    assert [outcome_reward(verdict) for verdict in Verdict] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "paid"),
    [
        ("<think> six sevens </think> <answer> 42 </answer>", 1.0),
        ("<think></think>\n<answer>42</answer>\n", 1.0),
        ("<answer> 42 </answer>", 0.0),
        ("<think> a </think> so <answer> 42 </answer>", 0.0),
        ("<think> a </think> <answer> 42 </answer> that is it", 0.0),
        ("<think> a </think> <think> b </think> <answer> 42 </answer>", 0.0),
        ("<think> a <answer> 42 </answer>", 0.0),
    ],
)
def test_the_format_is_one_thought_and_one_action(text: str, paid: float) -> None:
    assert format_term(PlayedTurn(text=text, kind=ActionKind.ANSWER)) == paid
    assert format_term(PlayedTurn(text=text, kind=ActionKind.TOOL)) == 0.0


def test_a_long_turn_of_tags_is_read_in_linear_time() -> None:
    turn = PlayedTurn(text="<think>" * 20_000, kind=ActionKind.ANSWER)
    assert format_term(turn) == 0.0


def test_terms_are_added_with_their_weights() -> None:
    turn = PlayedTurn(
        text="<think> a </think> <answer> 1 </answer>",
        kind=ActionKind.ANSWER,
        verdict=Verdict.WRONG,
    )
    weights = {"format": 0.1, "wrong_answer": -0.3, "tool_call": -1.0}
    assert shaping_reward(turn, weights) == pytest.approx(-0.2)
    assert shaping_reward(turn, {}) == 0.0


def test_an_environment_adds_them_to_each_turn_and_only_when_asked() -> None:
    actions = ["nothing", "<think> a </think> <answer> 42 </answer>"]
    rewards = {}
    for name, shaping in (("plain", None), ("shaped", {"format": 0.1, "invalid": -0.2})):
        env = MathEnv(tasks=[TASK], shaping=shaping)
        env.reset()
        rewards[name] = [env.step(action)[1] for action in actions]
    assert rewards == {"plain": [0.0, 1.0], "shaped": [-0.2, 1.1]}


def test_an_unknown_term_or_a_bad_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'format'"):
        MathEnv(tasks=[TASK], shaping={"fromat": 1.0})
    with pytest.raises(ValueError, match="finite"):
        MathEnv(tasks=[TASK], shaping={"format": math.nan})
