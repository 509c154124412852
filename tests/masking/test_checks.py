import operator
import pickle

import pytest

from maskgym.masking.checks import Checks


def test_a_pair_is_asked_about_once() -> None:
    asked = []

    def equals(value: str, answer: str) -> bool:
        asked.append(value)
        if value == "odd":
            raise RuntimeError("no idea")
        return value == answer

    checks = Checks(equals=equals)
    for _ in range(3):
        assert checks.is_equal("1", "1") is True
        assert checks.is_equal("2", "1") is False
        assert checks.is_equal("odd", "1") is None
    assert asked == ["1", "2", "odd"]


def test_what_is_not_there_is_not_asked() -> None:
    assert Checks().is_equal("1", "1") is False
    assert Checks().is_passing("print(1)") is None


def test_programs_are_asked_about_each_time() -> None:
    answers = iter([True, False])
    checks = Checks(passes=lambda program: next(answers))
    assert [checks.is_passing("p"), checks.is_passing("p"), checks.is_passing("p")] == [
        True,
        False,
        None,
    ]


def test_checks_travel_without_what_they_learned() -> None:
    checks = Checks(equals=operator.eq, timeout_s=5.0)
    assert checks.is_equal("a", "a")
    copy = pickle.loads(pickle.dumps(checks))
    assert copy == checks and copy.is_equal("a", "b") is False


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
def test_a_time_limit_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Checks(timeout_s=timeout_s)
