"""Examples of masking: hidden text and placeholders become pieces of their own."""

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, SpanKind, TraceTurn, TurnKind, mask
from maskgym.scripts.mask_examples import example_of, painted, scaffold_pieces, turn_pieces

TASK = Task(task_id="t", question="3 and 4?", answers=("7",))


def test_the_pieces_of_a_turn_add_up_to_it() -> None:
    trace = "Step 1: 3+4=7, so 7."
    scaffold = mask(trace, TASK)
    pieces = list(turn_pieces(trace, scaffold.spans))
    assert "".join(text for text, _ in pieces) == trace
    assert [text for text, kind in pieces if kind] == ["3", "4", "7", "7"]


def test_placeholders_have_their_kind_and_escaped_ones_have_none() -> None:
    text = r"x = [NUMBER_12] and [\NUMBER] by [ENTITY]"
    pieces = list(scaffold_pieces(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert [(piece, kind) for piece, kind in pieces if kind] == [
        ("[NUMBER_12]", SpanKind.NUMBER),
        ("[ENTITY]", SpanKind.ENTITY),
    ]


def test_a_long_trace_is_cut_and_says_so() -> None:
    trace = ExpertTrace.from_text("12345 " * 10_000)
    example = example_of(TASK, trace, mask(trace, TASK), where="line 1", has_results=False)
    assert len(example.turns[0].pieces) < 5_000 and example.num_cut == 48_000
    assert "48000 characters more" in painted(example)


def test_results_that_are_left_out_are_marked() -> None:
    turns = (
        TraceTurn(kind=TurnKind.TOOL_CALL, text="print(7)", tool="python"),
        TraceTurn(kind=TurnKind.TOOL_RESULT, text="7", tool="python"),
    )
    trace = ExpertTrace(turns=turns)
    scaffold = mask(trace, TASK)
    example = example_of(TASK, trace, scaffold, where="line 1", has_results=False)
    assert [turn.is_left_out for turn in example.turns] == [False, True]
    assert [turn.title for turn in example.turns] == ["tool_call python", "tool_result python"]
