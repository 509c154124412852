import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import mask


def visible(text: str, answer: str, policy: str = "none", domain: Domain = Domain.MATH) -> bool:
    task = Task(task_id="t", question="?", answers=(answer,), domain=domain)
    return mask(text, task, policy).audit.is_answer_visible


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("so it is 72", "72", True),
        ("so it is $72.00", "72", True),
        ("so it is seventy-two", "72", True),
        ("so it is 1720", "72", False),
        ("Step 72: go", "72", False),
        ("in AMC72", "72", False),
        ("the \u00c9t\u00e9", "ete", True),
        ("a comparison", "Paris", False),
        ("anything", "", False),
    ],
)
def test_the_target_is_seen_in_every_spelling_but_not_in_labels(
    text: str, answer: str, expected: bool
) -> None:
    assert visible(text, answer) is expected
    assert visible(text, answer, "all") is False


def test_equals_finds_what_spelling_does_not_and_its_failures_are_counted() -> None:
    task = Task(task_id="t", question="?", answers=("1/2",))

    def equals(value: str, answer: str) -> bool:
        if value == "0.1":
            raise RuntimeError("unlucky")
        return float(value) == 0.5

    audit = mask("0.1 0.50 99", task, "none", equals=equals).audit
    assert audit.is_answer_visible and audit.num_unverified == 1
    assert not mask("0.1 0.50 99", task, "none").audit.is_answer_visible
    assert mask("0.1 0.50 99", task, "all", equals=equals).audit.num_unverified == 0


def test_shares_are_of_characters() -> None:
    task = Task(task_id="t", question="There are 12.", answers=("345",))
    audit = mask("12 345 ab", task, "all_keep_given").audit
    assert audit.hidden_share == pytest.approx(3 / 9)
    assert audit.num_characters == 9
    assert audit.hidden_share_by_kind == {"number": pytest.approx(3 / 5)}


def test_structure_lost_is_what_stands_outside_of_values() -> None:
    task = Task(task_id="t", question="?")
    text = "Step 1: 3 + 4 = 7\nStep 2: stop"  # 2 operators, 1 line break, 2 labels
    assert mask(text, task, "all").audit.kept_structure == 1
    assert mask(text, task, "prefix(0.6)").audit.kept_structure == pytest.approx(3 / 5)
    assert mask("plain", task).audit.kept_structure == 1


def test_an_empty_trace_gives_an_empty_scaffold() -> None:
    scaffold = mask("", Task(task_id="t", question="?", answers=("7",)))
    assert (scaffold.text, scaffold.turns, scaffold.spans) == ("", (), ())
    assert scaffold.audit.hidden_share == 0 and not scaffold.audit.is_answer_visible
