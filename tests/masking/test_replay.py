import time

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, Span, SpanKind, find_spans
from maskgym.masking.replay import is_one_step_away, is_replayable


def hide(text: str, task: Task) -> tuple[ExpertTrace, tuple[Span, ...], list[Span]]:
    """The trace with what stands in <> hidden, as a policy would hide it."""
    plain = text.replace("<", "").replace(">", "")
    trace = ExpertTrace.from_text(plain)
    hidden: list[Span] = []
    at = num_signs = 0
    while (at := text.find("<", at)) >= 0:
        end = text.index(">", at)
        start, value = at - num_signs, text[at + 1 : end]
        hidden.append(Span(start=start, end=start + len(value), kind=SpanKind.NUMBER, value=value))
        num_signs += 2
        at = end
    return trace, find_spans(trace, task), hidden


def task_of(answer: str, question: str = "?") -> Task:
    return Task(task_id="t", question=question, answers=(answer,))


@pytest.mark.parametrize(
    ("text", "answer", "is_leak"),
    [
        ("3 + 4 = <7>", "7", True),
        ("so 3 + 4 it is", "7", True),
        ("<3> + 4 = <7>", "7", False),
        ("3 <+> 4 = <7>", "7", False),
        ("(3 + 4) * <2> = <14>", "7", True),
        ("3 + 4 * <2> = <11>", "7", False),
        ("<7> - 4 = 3", "7", True),
        ("<7> - <4> = 3", "7", False),
        ("<7> + x = 9", "7", False),
        ("7 - <4> = 3", "4", True),
        ("10 / 3 = <3.33>", "3.33", True),
        ("10 / 3 = <3.33>", "3", False),
        ("100% - 25% = <75%>", "75", True),
        ("3 - 10 = -<7>", "-7", True),
        ("a total of 3 and 4", "7", False),
        ("just 7", "7", False),
        ("3 + 4 = <7>", "Yes", False),
        ("", "7", False),
    ],
)
def test_one_step_is_what_one_line_in_sight_computes(text: str, answer: str, is_leak: bool) -> None:
    task = task_of(answer)
    assert is_one_step_away(*hide(text, task), task) is is_leak


@pytest.mark.parametrize(
    ("text", "question", "is_leak"),
    [
        # Operators in sight, numbers from the question and from earlier lines.
        ("<3> + <4> = <7>\n<7> * <2> = <14>", "3 eggs, 4 more, times 2", True),
        ("<3> + <4> = <7>\n<7> * <2> = <14>", "3 eggs and four more, twice", True),
        ("<3> + <4> = <7>\n<7> * <2> = <14>", "3 eggs, 4 more", False),
        # A line that comes too late is no help.
        ("<7> * <2> = <14>\n<3> + <4> = <7>", "3 eggs, 4 more, times 2", False),
        ("<3> <+> <4> = <7>\n<7> * <2> = <14>", "3 eggs, 4 more, times 2", False),
        ("<3 + 4> = <7>\n<7> * <2> = <14>", "3 eggs, 4 more, times 2", False),
        # What is in sight once is known from there on.
        ("there are 7\n<7> * <2> = <14>", "times 2", True),
        ("<5> + <9> = 14", "?", False),
        ("<2> * <7> = <14>", "two eggs a day for a week", True),
        ("no arithmetic, 14", "2 and 7", False),
        ("<x> = <14>", "2 and 7", False),
    ],
)
def test_a_skeleton_is_replayed_from_givens_and_earlier_results(
    text: str, question: str, is_leak: bool
) -> None:
    task = task_of("14", question)
    assert is_replayable(*hide(text, task), task) is is_leak


@pytest.mark.parametrize("domain", [Domain.CODE, Domain.SEARCH])
def test_code_and_searches_have_no_arithmetic_to_redo(domain: Domain) -> None:
    task = Task(task_id="t", question="3 and 4", answers=("7",), domain=domain)
    trace = ExpertTrace.from_text("3 + 4 = 7")
    assert not is_one_step_away(trace, (), (), task)
    assert not is_replayable(trace, (), (), task)


@pytest.mark.parametrize("piece", ["1+2=3 ", "3+5=8\n", "(1+", "x=3+5\n"])
@pytest.mark.usefixtures("no_garbage_collection")
def test_both_take_time_in_proportion_to_the_length(piece: str) -> None:
    task = task_of("7", "3 and 4")

    def seconds(num_characters: int) -> float:
        text = piece * (num_characters // len(piece))
        trace = ExpertTrace.from_text(text)
        hidden = [
            Span(start=at, end=at + 1, kind=SpanKind.NUMBER, value=sign)
            for at, sign in enumerate(text)
            if sign.isdigit() and at % 2
        ]
        start = time.process_time()
        is_one_step_away(trace, (), hidden, task)
        is_replayable(trace, (), hidden, task)
        return time.process_time() - start

    assert seconds(60_000) < 12 * max(seconds(15_000), 0.02)
