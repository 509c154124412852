import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import SpanKind, TraceTurn, TurnKind
from maskgym.masking.queries import find_documents, find_queries

TASK = Task(
    task_id="t",
    question="Where was the mayor of Lyon born, unlike Bo Ray?",
    answers=("Paris",),
    entities=("Ann Lee", "Bo Ray"),
    domain=Domain.SEARCH,
)


def turn_of(text: str, kind: TurnKind = TurnKind.THOUGHT, tool: str = "") -> TraceTurn:
    return TraceTurn(kind=kind, text=text, tool=tool)


@pytest.mark.parametrize(
    ("text", "queries"),
    [
        ("<search> Ann Lee birthplace </search>", ["Ann Lee birthplace"]),
        ("<search> mayor of Lyon </search> Paris", []),
        ("<search> Bo Ray </search>", []),
        ("<search>Paris\nand then Ann Lee", ["Paris"]),
        ("<search> Paris </</search>", ["Paris"]),
        ("Action 1: Search[Ann Lee [mayor]] Paris", ["Ann Lee [mayor]"]),
        ("Action: lookup[Lyon] search[in Paris", ["in Paris"]),
        ("research[Paris] and [Ann Lee]", []),
        ("Ann Lee searched Paris", []),
    ],
)
def test_queries_in_plain_text_are_spans_if_they_carry_a_hidden_entity(
    text: str, queries: list[str]
) -> None:
    spans = list(find_queries(turn_of(text), TASK))
    assert [span.value for span in spans] == queries
    assert all(span.kind is SpanKind.QUERY for span in spans)
    assert all(text[span.start : span.end] == span.value for span in spans)


def test_a_search_call_is_a_query_and_a_program_is_not() -> None:
    call = turn_of(" where is lee born?", TurnKind.TOOL_CALL, "search")
    assert [span.value for span in find_queries(call, TASK)] == ["where is lee born?"]
    procedure = turn_of("mayor of Lyon", TurnKind.TOOL_CALL, "search")
    assert list(find_queries(procedure, TASK)) == []
    program = turn_of("print('Ann Lee')", TurnKind.TOOL_CALL, "python")
    assert list(find_queries(program, TASK)) == []


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("<information> Doc 1 ... </information> so", ["Doc 1 ..."]),
        ("<information>cut off", ["cut off"]),
        (
            "Thought 1: a\nAction 1: Search[b]\nObservation 1: c\nd\nThought 2: e\n"
            "Action 2: Finish[f]\nObservation 2: g",
            ["c\nd", "g"],
        ),
        ("Observation: the sum is even.\nThought: so", []),
        ("Action: x\nObservation:\n", []),
    ],
)
def test_what_a_search_returned_in_plain_text_is_a_document(
    text: str, documents: list[str]
) -> None:
    spans = list(find_documents(turn_of(text), TASK))
    assert [span.value for span in spans] == documents
    assert all(span.kind is SpanKind.DOCUMENT for span in spans)


def test_a_result_turn_is_left_to_the_detector_of_results() -> None:
    result = turn_of("<information>a</information> <search>Paris</search>", TurnKind.TOOL_RESULT)
    assert list(find_documents(result, TASK)) == list(find_queries(result, TASK)) == []
