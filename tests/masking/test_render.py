import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.envs import Domain, Task
from maskgym.masking import (
    ExpertTrace,
    RenderConfig,
    Span,
    SpanKind,
    TraceTurn,
    TurnKind,
    mask,
)
from maskgym.masking.render import ToolResults, render_turn

TASK = Task(
    task_id="t",
    question="?",
    answers=("Paris", "Lutetia"),
    entities=("Ann Lee", "Bob Ray"),
    domain=Domain.SEARCH,
)
TRACE = ExpertTrace(
    turns=(
        TraceTurn(kind=TurnKind.THOUGHT, text="Ask about Ann Lee."),
        TraceTurn(kind=TurnKind.TOOL_CALL, tool="search", text="Ann Lee and Bob Ray"),
        TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text="Ann Lee: Paris"),
        TraceTurn(kind=TurnKind.THOUGHT, text="Bob Ray is from Lutetia, not Paris."),
        TraceTurn(kind=TurnKind.ANSWER, text="Paris"),
    )
)


def test_calls_and_answers_take_a_line_each_and_results_are_dropped() -> None:
    assert mask(TRACE, TASK, "none").text == (
        "Ask about Ann Lee.\nsearch: Ann Lee and Bob Ray\n"
        "Bob Ray is from Lutetia, not Paris.\nanswer: Paris"
    )


@pytest.mark.parametrize(
    ("policy", "tool_results", "line"),
    [
        ("all", "mask", "result: [DOCUMENT]"),
        ("answer_only", "mask", "result: Ann Lee: [ENTITY]"),
        ("all", "keep", "result: Ann Lee: Paris"),
    ],
)
def test_results_are_masked_or_kept_on_request(
    policy: str, tool_results: ToolResults, line: str
) -> None:
    config = RenderConfig(tool_results=tool_results)
    scaffold = mask(TRACE, TASK, policy, render=config)
    assert scaffold.turns[0].splitlines()[-1] == line
    assert scaffold.audit.is_answer_visible is (tool_results == "keep")


def test_indexed_placeholders_tell_who_is_who() -> None:
    scaffold = mask(TRACE, TASK, render=RenderConfig(indexed=True))
    assert scaffold.turns == (
        "Ask about [ENTITY_1].\nsearch: [ENTITY_1] and [ENTITY_2]",
        "[ENTITY_2] is from [ENTITY_3], not [ENTITY_3].\nanswer: [ANSWER_1]",
    )
    math = Task(task_id="t", question="?")
    indexed = RenderConfig(indexed=True)
    assert mask("3+4=7, 7.0 seven", math, render=indexed).text == (
        "[NUMBER_1]+[NUMBER_2]=[NUMBER_3], [NUMBER_3] [NUMBER_3]"
    )


def unescaped(text: str) -> str:
    return re.sub(r"\[\\(?=\\*(?:NUMBER|ENTITY)(?:_\d+)?\])", "[", text)


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["[", "]", "\\", "NUMBER", "ENTITY", "a"]), max_size=12).map("".join)
)
def test_placeholders_of_the_source_can_be_told_from_ours(text: str) -> None:
    math = Task(task_id="t", question="?")
    shown = mask(f"7 {text}", math).text
    assert shown.startswith("[NUMBER] ")
    assert not re.search(r"\[(?:NUMBER|ENTITY)(?:_\d+)?\]", shown[len("[NUMBER] ") :])
    assert unescaped(shown[len("[NUMBER] ") :]) == text


def test_nothing_is_escaped_where_nothing_is_hidden() -> None:
    math = Task(task_id="t", question="?")
    assert mask("[NUMBER_1] is 7", math).text == "[\\NUMBER_1] is [NUMBER]"
    assert mask("[NUMBER_1] is 7", math, "none").text == "[NUMBER_1] is 7"
    assert mask("[NUMBER_1] is it", math).text == "[NUMBER_1] is it"
    kept = RenderConfig(escape_literals=False)
    assert mask("[NUMBER_1] is 7", math, render=kept).text == "[NUMBER_1] is [NUMBER]"


def test_a_span_may_say_what_stands_in_its_place() -> None:
    seven = Span(start=3, end=4, kind=SpanKind.NUMBER, value="7", replacement="<seven>")
    for config in (RenderConfig(), RenderConfig(indexed=True)):
        assert render_turn("is 7 [NUMBER]", [seven], config) == "is <seven> [NUMBER]"


def test_an_unknown_treatment_of_results_is_refused() -> None:
    with pytest.raises(ValueError, match="drop, mask, keep"):
        RenderConfig(tool_results="hide")  # type: ignore[arg-type]
