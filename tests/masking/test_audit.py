import pickle

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, Scaffold, TraceTurn, TurnKind, mask
from maskgym.masking.audit import Audit, DatasetAudit, LeakLevel
from maskgym.masking.checks import Checks


def task_of(*answers: str, question: str = "?", domain: Domain = Domain.MATH) -> Task:
    return Task(task_id="t", question=question, answers=answers, domain=domain)


def visible_as(text: str, task: Task, policy: str = "none") -> str:
    audit = mask(text, task, policy).audit
    assert audit.is_answer_visible is bool(audit.visible_as)
    return audit.visible_as


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("so it is 72", "72", "literal"),
        ("so it is $72.00", "72", "literal"),
        ("so it is seventy-two", "72", "words"),
        ("so it is 1720", "72", ""),
        ("Step 72: go", "72", ""),
        ("in AMC72", "72", ""),
        ("the \u00c9t\u00e9", "ete", "literal"),
        ("a comparison", "Paris", ""),
        ("anything", "", ""),
        (r"it is $\dfrac ab$", r"\frac{a}{b}", "literal"),
        ("it is $e$", "e", "literal"),
    ],
)
def test_the_target_is_seen_in_every_spelling_but_not_in_labels(
    text: str, answer: str, expected: str
) -> None:
    assert visible_as(text, task_of(answer)) == expected
    assert visible_as(text, task_of(answer), "all") == ""


def test_another_name_of_the_target_is_an_alias() -> None:
    task = task_of("United Kingdom", "Great Britain", domain=Domain.SEARCH)
    assert visible_as("It was Great Britain.", task) == "alias"
    assert visible_as("It was the United Kingdom.", task) == "literal"
    assert visible_as("It was Great Britain.", task, "answer_only") == ""


def test_equals_finds_what_spelling_does_not_and_its_failures_are_counted() -> None:
    task = task_of("1/2")

    def equals(value: str, answer: str) -> bool:
        if value == "0.501":
            raise RuntimeError("unlucky")
        return value == "0.4999"

    checks = Checks(equals=equals)
    audit = mask("0.501 0.4999 99", task, "none", checks=checks).audit
    assert audit.visible_as == "equal" and audit.num_unverified == 1
    assert not mask("0.501 0.4999 99", task, "none").audit.is_answer_visible
    assert mask("0.501 0.4999 99", task, "all", checks=checks).audit.num_unverified == 0
    hidden = mask("0.501 0.4999 99", task, "answer_only", checks=checks)
    assert hidden.text == "0.501 [NUMBER] 99" and not hidden.audit.is_answer_visible


def test_the_arithmetic_leaks_are_told_apart() -> None:
    task = task_of("7", question="Add 3 to 4.")
    shown = mask("3 + 4 = 7", task, "none").audit
    assert shown.leaks[0] is shown.level is LeakLevel.VISIBLE
    step = mask("3 + 4 = 7", task, "answer_only").audit
    assert step.is_one_step_away and step.level is LeakLevel.ONE_STEP
    replay = mask("3 + 4 = 7", task, "all").audit
    assert not replay.is_one_step_away and replay.level is LeakLevel.REPLAYABLE
    assert mask("It is 7.", task, "all").audit.level is LeakLevel.NONE


CODE = "Write it:\n```python\ndef f(x):\n    return x + 1\n```\nand then more:\n```\nf(1)\n```"


def test_code_in_sight_is_given_to_the_tests() -> None:
    programs: list[str] = []

    def passes(program: str) -> bool:
        programs.append(program)
        return "return x + 1" in program

    task = task_of(domain=Domain.CODE)
    checks = Checks(passes=passes, timeout_s=None)
    shown = mask(CODE, task, "none", checks=checks).audit
    assert shown.do_remains_pass is True and shown.level is LeakLevel.PASSES
    assert programs[0].splitlines() == ["def f(x):", "    return x + 1", "f(1)"]
    programs.clear()
    hidden = mask(CODE, task, "all", checks=checks).audit
    assert hidden.do_remains_pass is False and programs == []
    assert mask(CODE, task, "none").audit.do_remains_pass is None
    half = mask(CODE, task, "prefix(0.4)", checks=checks).audit
    assert half.do_remains_pass is False and "def f(x):" in programs[0]


def test_a_program_that_could_not_be_tested_is_unverified() -> None:
    def passes(program: str) -> bool:
        raise RuntimeError("no sandbox")

    task = task_of(domain=Domain.CODE)
    audit = mask(CODE, task, "none", checks=Checks(passes=passes)).audit
    assert audit.do_remains_pass is None and audit.num_unverified == 1


def test_shares_are_of_characters() -> None:
    task = task_of("345", question="There are 12.")
    audit = mask("12 345 ab", task, "all_keep_given").audit
    assert audit.hidden_share == pytest.approx(3 / 9)
    assert audit.num_characters == 9
    assert audit.hidden_share_by_kind == {"number": pytest.approx(3 / 5)}


def test_structure_lost_is_what_stands_outside_of_values() -> None:
    task = task_of()
    text = "Step 1: 3 + 4 = 7\nStep 2: stop"  # 2 operators, 1 line break, 2 labels
    assert mask(text, task, "all").audit.kept_structure == 1
    assert mask(text, task, "prefix(0.6)").audit.kept_structure == pytest.approx(3 / 5)
    assert mask("plain", task).audit.kept_structure == 1


@pytest.mark.parametrize("answers", [(), ("",), ("  ",), (r"\text{}",)])
@pytest.mark.parametrize("text", ["", " ", "no value", "3 + 4 = 7"])
def test_a_target_of_zero_length_leaks_nothing(text: str, answers: tuple[str, ...]) -> None:
    checks = Checks(equals=lambda value, answer: True, timeout_s=None)
    for policy in ("none", "all", "answer_only"):
        assert mask(text, task_of(*answers), policy, checks=checks).audit.level is LeakLevel.NONE


def test_an_empty_trace_gives_an_empty_scaffold() -> None:
    for trace in ("", ExpertTrace(turns=())):
        scaffold = mask(trace, task_of("7"))
        assert (scaffold.text, scaffold.turns, scaffold.spans) == ("", (), ())
        assert scaffold.audit == Audit(is_answer_visible=False)


def test_a_trace_of_more_than_a_megabyte_is_audited_as_any_other() -> None:
    text = f"Step 1: {'we look at it ' * 20} 12 + 30 = 42.\n" * 4_000
    assert len(text) > 1_000_000
    scaffold = mask(text, task_of("42"))
    assert scaffold.text.count("\n") == text.count("\n") and "42" not in scaffold.text
    assert not scaffold.audit.is_answer_visible and scaffold.audit.kept_structure == 1


def test_a_level_is_found_by_its_name() -> None:
    assert LeakLevel.from_name("L2") is LeakLevel.from_name("one_step") is LeakLevel.ONE_STEP
    assert LeakLevel.from_name("NONE") is LeakLevel.NONE
    assert [level.label for level in LeakLevel] == ["none", "L3", "L2", "L1", "L4"]
    with pytest.raises(ValueError, match=r"No leak level 'L5'.*Did you mean 'L"):
        LeakLevel.from_name("L5")


def scaffolds() -> list[Scaffold]:
    task = task_of("7", question="Add 3 to 4.")
    return [
        mask("3 + 4 = 7", task, "none"),
        mask("3 + 4 = 7", task, "answer_only"),
        mask("3 + 4 = 7", task, "answer_only", max_leak=LeakLevel.REPLAYABLE),
        mask("3 + 4 = 7", task, "answer_only", max_leak=LeakLevel.NONE),
        mask("It is seven.", task, "all"),
    ]


def test_a_data_set_is_counted() -> None:
    total = DatasetAudit.of(scaffolds())
    assert (total.num_traces, total.num_dropped) == (5, 1)
    assert sum(total.num_escalated.values()) == 1
    assert next(iter(total.num_escalated)).startswith("answer_only -> ")
    assert total.num_by_leak[LeakLevel.VISIBLE] == 1
    assert total.num_by_leak[LeakLevel.NONE] == 2
    assert sum(total.num_by_worst_leak.values()) == 5
    assert total.rate(LeakLevel.VISIBLE) == pytest.approx(1 / 5)
    assert total.num_visible_as == {"literal": 1}
    assert total.hidden_share_by_kind["number_word"] == 1
    assert 0 < total.hidden_share < 1 and 0 < total.kept_structure < 1


def test_parts_of_a_data_set_add_up_to_the_whole() -> None:
    made = scaffolds()
    whole, parts = DatasetAudit.of(made), DatasetAudit()
    for part in (made[:2], made[2:3], made[3:], []):
        parts.merge(pickle.loads(pickle.dumps(DatasetAudit.of(part))))
    assert (parts.num_traces, parts.num_by_leak) == (whole.num_traces, whole.num_by_leak)
    assert parts.num_escalated == whole.num_escalated
    assert parts.hidden_share == pytest.approx(whole.hidden_share)
    assert parts.kept_structure == pytest.approx(whole.kept_structure)
    assert parts.hidden_share_by_kind == pytest.approx(whole.hidden_share_by_kind)
    empty = DatasetAudit()
    assert (empty.rate(LeakLevel.VISIBLE), empty.hidden_share, empty.kept_structure) == (0, 0, 1)


def test_results_that_are_left_out_are_not_part_of_the_trace() -> None:
    trace = ExpertTrace(
        turns=(
            TraceTurn(kind=TurnKind.TOOL_CALL, tool="search", text="who"),
            TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text="It is Paris."),
        )
    )
    audit = mask(trace, task_of("Paris", domain=Domain.SEARCH), "none").audit
    assert audit.num_characters == 3 and not audit.is_answer_visible
