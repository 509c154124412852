from maskgym.masking import ExpertTrace, TraceTurn, TurnKind

THOUGHT, CALL, RESULT, ANSWER = TurnKind


def trace_of(*kinds: TurnKind) -> ExpertTrace:
    return ExpertTrace(turns=tuple(TraceTurn(kind=kind, text=kind.value) for kind in kinds))


def test_a_text_is_a_trace_of_one_thought() -> None:
    trace = ExpertTrace.from_text("a\nb")
    assert trace.turns == (TraceTurn(kind=THOUGHT, text="a\nb"),)
    assert trace.text == "a\nb"
    assert trace.actions == ((0,),)


def test_an_action_ends_with_its_call_and_takes_the_results_with_it() -> None:
    trace = trace_of(THOUGHT, THOUGHT, CALL, RESULT, CALL, RESULT, THOUGHT, ANSWER)
    assert trace.actions == ((0, 1, 2, 3), (4, 5), (6, 7))


def test_thoughts_behind_the_answer_are_an_action_of_their_own() -> None:
    assert trace_of(ANSWER, THOUGHT, THOUGHT).actions == ((0,), (1, 2))


def test_a_trace_may_be_empty_or_begin_with_a_result() -> None:
    assert trace_of().actions == ()
    assert trace_of(RESULT, CALL).actions == ((0, 1),)
