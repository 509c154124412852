from maskgym.envs import Task, XMLProtocol, expert_actions, gold_answer
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind

PROTOCOL = XMLProtocol()


def turn(kind: TurnKind, text: str, tool: str = "") -> TraceTurn:
    return TraceTurn(kind=kind, text=text, tool=tool)


def test_thoughts_go_with_the_call_that_follows_and_results_are_left_out() -> None:
    trace = ExpertTrace(
        turns=(
            turn(TurnKind.THOUGHT, "who is it"),
            turn(TurnKind.TOOL_CALL, "Dara Milo", "search"),
            turn(TurnKind.TOOL_RESULT, "page", "search"),
            turn(TurnKind.THOUGHT, "found"),
            turn(TurnKind.THOUGHT, "sure"),
            turn(TurnKind.ANSWER, "Corin Vale"),
        )
    )
    assert expert_actions(trace, PROTOCOL, "ignored") == [
        "<think> who is it </think> <search> Dara Milo </search>",
        "<think> found </think> <think> sure </think> <answer> Corin Vale </answer>",
    ]


def test_a_trace_without_an_answer_ends_with_the_given_one() -> None:
    trace = ExpertTrace.from_text("6 * 7 = 42")
    assert expert_actions(trace, PROTOCOL, "42") == [
        "<think> 6 * 7 = 42 </think> <answer> 42 </answer>"
    ]


def test_a_trace_of_code_answers_with_its_last_code_block() -> None:
    trace = ExpertTrace.from_text(
        "First:\n```python\nx = 1\n```\nBetter:\n```python\nx = 2\ny = 3\n```\nDone."
    )
    assert expert_actions(trace, PROTOCOL, "")[0].endswith("<answer>\nx = 2\ny = 3\n</answer>")
    open_ended = ExpertTrace.from_text("```python\nx = 4\n")
    assert expert_actions(open_ended, PROTOCOL, "")[0].endswith("<answer> x = 4 </answer>")


def test_the_gold_answer_comes_from_the_answers_or_the_trace() -> None:
    answer = ExpertTrace(turns=(turn(TurnKind.ANSWER, "42"),))
    assert gold_answer(Task(task_id="t", question="?", answers=("a", "b"))) == "a"
    assert gold_answer(Task(task_id="t", question="?", expert_trace=answer)) == "42"
    assert gold_answer(Task(task_id="t", question="?")) == ""
