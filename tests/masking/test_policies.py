from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Domain, Task
from maskgym.masking import (
    POLICIES,
    ExpertTrace,
    MaskableTask,
    Scaffold,
    Span,
    SpanKind,
    TraceTurn,
    TurnKind,
    mask,
    policy_by_name,
    register_policy,
)
from maskgym.masking.policies import escalation

TASK = Task(task_id="t", question="Ann has 3 eggs and buys 4. How many?", answers=("7",))
TEXT = "Step 1: 3+4=7\nStep 2: seven, as 2+5=7\n#### 7"


@pytest.mark.parametrize(
    ("policy", "masked"),
    [
        ("none", TEXT),
        (
            "all",
            "Step 1: [NUMBER]+[NUMBER]=[NUMBER]\n"
            "Step 2: [NUMBER], as [NUMBER]+[NUMBER]=[NUMBER]\n#### [ANSWER]",
        ),
        ("answer_only", "Step 1: 3+4=[NUMBER]\nStep 2: [NUMBER], as 2+5=[NUMBER]\n#### [ANSWER]"),
        (
            "all_keep_given",
            "Step 1: 3+4=[NUMBER]\nStep 2: [NUMBER], as [NUMBER]+[NUMBER]=[NUMBER]\n#### [ANSWER]",
        ),
        (
            "critical",
            "Step 1: [NUMBER]+[NUMBER]=[NUMBER]\n"
            "Step 2: [NUMBER], as [NUMBER]+[NUMBER]=[NUMBER]\n#### [ANSWER]",
        ),
        (
            "critical_keep_given",  # the givens 3 and 4 alone would compute the target
            "Step 1: [NUMBER]+[NUMBER]=[NUMBER]\n"
            "Step 2: [NUMBER], as [NUMBER]+[NUMBER]=[NUMBER]\n#### [ANSWER]",
        ),
        (
            "smepo_compat",
            "__STRUCTURAL_NUMBER_[NUMBER]__: [NUMBER][NUMBER]=[NUMBER]\n"
            "__STRUCTURAL_NUMBER_[NUMBER]__: seven, as [NUMBER][NUMBER]=[NUMBER]\n#### [NUMBER]",
        ),
        ("prefix(0.5)", "Step 1: 3+4=7"),
        (" prefix( 1 ) ", TEXT),
        ("prefix(0)", ""),
    ],
)
def test_each_policy_hides_what_its_name_says(policy: str, masked: str) -> None:
    assert mask(TEXT, TASK, policy).text == masked


@pytest.mark.parametrize(
    ("text", "ratio", "kept"),
    [
        ("abcdefgh", 0.5, "abcd"),
        ("ab\ncd\nef", 0.6, "ab"),
        ("ab\ncd\nef", 0.63, "ab\ncd"),
        ("abcdef\nf", 0.5, "abcd"),
        ("ab\n\ncd", 0.4, "ab"),
    ],
)
def test_a_prefix_ends_with_a_line_or_else_with_a_character(
    text: str, ratio: float, kept: str
) -> None:
    assert mask(text, TASK, f"prefix({ratio})").text == kept


def test_a_masked_prefix_shows_the_beginning_of_the_masked_trace_and_nothing_behind_it() -> None:
    trace = "She buys 3 bags.\nEach holds 4 pears.\nSo 3 * 4 = 12 pears."
    task = Task(task_id="p", question="How many?", answers=("12",), domain=Domain.MATH)
    whole = mask(trace, task, "all").text
    lines = whole.splitlines()
    for ratio, num_lines in ((0.35, 1), (0.7, 2), (1.0, 3)):
        shown = mask(trace, task, f"masked_prefix({ratio})").text
        assert shown.splitlines() == lines[:num_lines]
    assert mask(trace, task, "masked_prefix(0.0)").text == ""
    assert "3" not in whole and "She buys" in whole
    # It gives less away than the prefix of the same length.
    assert "3" in mask(trace, task, "prefix(0.35)").text


def test_a_prefix_of_a_trace_with_tools_leaves_the_later_actions_empty() -> None:
    trace = ExpertTrace(
        turns=(
            TraceTurn(kind=TurnKind.THOUGHT, text="think"),
            TraceTurn(kind=TurnKind.TOOL_CALL, tool="search", text="query"),
            TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text="long " * 100),
            TraceTurn(kind=TurnKind.ANSWER, text="done " * 10),
        )
    )
    scaffold = mask(trace, TASK, "prefix(0.5)")
    assert scaffold.turns == ("think\nsearch: query",) and scaffold.text == scaffold.turns[0]
    assert scaffold.audit.hidden_share == pytest.approx(50 / 60)


def test_answer_only_hides_the_last_program_of_a_code_task() -> None:
    task = Task(task_id="t", question="?", domain=Domain.CODE)
    text = "```\na\n```\nthen\n```\nb\n```"
    scaffold = mask(text, task, "answer_only")
    assert scaffold.text == "```\na\n```\nthen\n```\n[CODE]\n```"
    assert scaffold.audit.is_answer_visible
    assert not mask(text, task).audit.is_answer_visible


@pytest.mark.parametrize("policy", ["all_keep_given", "critical_keep_given", "critical"])
def test_a_target_that_stands_in_the_question_is_hidden_all_the_same(policy: str) -> None:
    task = Task(task_id="t", question="Ann has 3 of 7 eggs and buys 4. How many?", answers=("7",))
    assert "7" not in mask("She has 3 + 4 = 7, that is, 7 eggs or seven.", task, policy).text


def test_givens_stay_where_they_do_not_compute_the_target() -> None:
    task = Task(task_id="t", question="3 and 4, shared by 2?", answers=("3.5",))
    shown = mask("3 + 4 = 7\n7 / 2 = 3.5", task, "critical_keep_given").text
    assert shown == "3 + 4 = [NUMBER]\n[NUMBER] / 2 = [NUMBER]"
    assert mask("so 14 / 4 = 3.5", task, "critical_keep_given").audit.level.label != "L2"


def test_a_policy_with_less_in_sight_comes_next_until_all_is_hidden() -> None:
    assert escalation("answer_only") == ("critical_keep_given", "critical", "all")
    assert escalation("critical_keep_given") == ("critical", "all")
    for name in ("critical", "all_keep_given", "prefix(0.5)", "random_matched", "none", "a user's"):
        assert escalation(name) == ("all",)
    assert escalation("all") == ()


def test_an_escalation_never_shows_more() -> None:
    text = "3+4=7, so 7 and 2*5=10\n7+10=17\n#### 17"
    task = Task(task_id="t", question="3 eggs and 4", answers=("17",))
    before = hidden_characters(mask(text, task, "answer_only"))
    for policy in escalation("answer_only"):
        after = hidden_characters(mask(text, task, policy))
        assert before <= after
        before = after


def hidden_characters(scaffold: Scaffold) -> set[tuple[int, int]]:
    return {(s.turn, at) for s in scaffold.spans for at in range(s.start, s.end)}


WORDS = st.sampled_from(
    [
        "3+4=7",
        "Step 1:",
        "\n",
        "seven",
        "\\boxed{7}",
        "```py\nx=7\n```\n",
        "(B)",
        "#### 7",
        "7",
        "é",
    ]
)
TRACES = st.lists(WORDS, max_size=12).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(TRACES)
def test_no_policy_hides_less_than_none_or_more_than_all(text: str) -> None:
    everything = hidden_characters(mask(text, TASK, "all"))
    for policy in ("answer_only", "critical", "critical_keep_given", "all_keep_given"):
        assert hidden_characters(mask(text, TASK, policy)) <= everything
    assert hidden_characters(mask(text, TASK, "none")) == set()


@settings(max_examples=60, deadline=None)
@given(TRACES, st.integers(0, 3))
def test_random_matched_hides_as_much_as_all_within_one_word(text: str, seed: int) -> None:
    target = len(hidden_characters(mask(text, TASK, "all")))
    count = len(hidden_characters(mask(text, TASK, f"random_matched({seed})")))
    longest = max(map(len, text.split()), default=0)
    num_in_words = len("".join(text.split()))  # "all" may hide the spaces within an answer, too
    assert min(target, num_in_words) - longest <= count <= target


def test_a_text_without_spaces_is_hidden_in_pieces_by_random_matched() -> None:
    text = "3+4=7" * 40
    hidden = hidden_characters(mask(text, TASK, "random_matched"))
    assert 120 - 40 < len(hidden) <= 120


def test_random_matched_depends_on_task_and_seed_alone() -> None:
    text = "the sum of 3 and 4 is 7 and the product of 3 and 4 is 12"
    other = Task(task_id="u", question=TASK.question, answers=TASK.answers)
    first = mask(text, TASK, "random_matched")
    assert first.spans == mask(text, TASK, "random_matched(0)").spans
    assert first.text == (
        "the sum [WORD] [WORD] and 4 is 7 [WORD] the product of 3 and [WORD] is 12"
    )
    assert first.text != mask(text, TASK, "random_matched(1)").text
    assert first.text != mask(text, other, "random_matched").text


def keep_odd(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask, step: int = 2
) -> Sequence[Span]:
    return [span for span in spans if span.value.isdigit() and int(span.value) % step == 0]


def test_a_user_adds_a_policy_as_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskgym.masking.policies.POLICIES", dict(POLICIES))
    register_policy("keep_odd", keep_odd)
    assert mask("2+3", TASK, "keep_odd").text == "[NUMBER]+3"
    assert mask("2+3", TASK, "keep_odd(3)").text == "2+[NUMBER]"
    assert mask("2+3", TASK, keep_odd).policy == "keep_odd"
    with pytest.raises(ValueError, match="already"):
        register_policy("keep_odd", keep_odd)
    with pytest.raises(ValueError, match="no policy name"):
        register_policy("keep odd", keep_odd)


def test_a_policy_never_hides_a_label_and_may_not_invent_spans() -> None:
    def greedy(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
        return spans

    def wrong(trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask) -> Sequence[Span]:
        return [Span(start=0, end=4, kind=SpanKind.WORD, value="none")]

    assert mask("Step 1", TASK, greedy).text == "Step 1"
    with pytest.raises(ValueError, match="Policy 'wrong' gave a span"):
        mask("Step 1", TASK, wrong)


@pytest.mark.parametrize("name", ["al", "answers_only", "critical_path", "", "all)", "(0.5)"])
def test_an_unknown_policy_is_refused_with_the_nearest_name(name: str) -> None:
    with pytest.raises(LookupError, match="Did you mean '"):
        policy_by_name(name)
    if name == "answers_only":
        with pytest.raises(LookupError, match="Did you mean 'answer_only'"):
            policy_by_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prefix", r"write prefix\(ratio\)"),
        ("all(3)", "write all"),
        ("prefix(0.1, 0.2)", r"write prefix\(ratio\)"),
        ("prefix(half)", "'half' is not a number"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_right_form(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        policy_by_name(name)


@pytest.mark.parametrize("ratio", ["1.5", "-0.1", "nan"])
def test_a_ratio_outside_of_zero_to_one_is_refused(ratio: str) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        mask(TEXT, TASK, f"prefix({ratio})")
