from maskgym.envs import Verdict, outcome_reward


def test_only_a_correct_answer_is_paid() -> None:
    assert [outcome_reward(verdict) for verdict in Verdict] == [1.0, 0.0, 0.0]
