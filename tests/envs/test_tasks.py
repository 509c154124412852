"""Task: what it refuses, and that maskgym's masking and workers can use it as it is."""

import pickle

import pytest

from maskgym.envs import CodeTest, Domain, Grade, Task, TestKind, Verdict
from maskgym.masking import ExpertTrace, MaskableTask


def test_a_task_without_an_id_or_a_question_is_refused() -> None:
    with pytest.raises(ValueError, match="task_id is empty"):
        Task(task_id="", question="What?")
    with pytest.raises(ValueError, match="'a' has an empty question"):
        Task(task_id="a", question=" \n")


def test_one_string_for_several_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="tuples of strings"):
        Task(task_id="a", question="What?", answers="42")  # type: ignore[arg-type]


def test_tests_without_their_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="call test needs"):
        CodeTest(kind=TestKind.CALL, function="f")
    with pytest.raises(ValueError, match="needs `source`"):
        CodeTest(kind=TestKind.ASSERT, source=" ")
    assert CodeTest(kind=TestKind.STDIO).expected == ""


def test_an_unknown_domain_names_the_nearest() -> None:
    assert Domain.from_name("search") is Domain.SEARCH
    with pytest.raises(ValueError, match=r"'serch'. Did you mean 'search'"):
        Domain.from_name("serch")


def test_a_task_pickles_and_is_what_masking_takes() -> None:
    task = Task(
        task_id="a",
        question="What?",
        answers=("1",),
        expert_trace=ExpertTrace.from_text("1"),
        tests=(CodeTest(kind=TestKind.STDIO, stdin="1", expected="2"),),
    )
    assert pickle.loads(pickle.dumps(task)) == task
    maskable: MaskableTask = task  # mypy checks the protocol here
    assert (maskable.domain, list(maskable.answers), list(maskable.entities)) == ("math", ["1"], [])


def test_only_a_correct_grade_is_correct() -> None:
    assert Grade.of(True, "yes").is_correct
    assert Grade.of(False) == Grade(verdict=Verdict.WRONG)
    assert not Grade(verdict=Verdict.VERIFIER_ERROR).is_correct
