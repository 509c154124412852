import pytest

from maskgym.envs import Task
from maskgym.masking import SpanKind
from maskgym.masking.choices import find_choices
from maskgym.masking.traces import TraceTurn, TurnKind

LETTER = Task(task_id="t", question="Which?", answers=("(D)",))
LISTED = Task(task_id="t", question="Which? (A) 3 (B) 4 (C) 5", answers=("4",))
OTHER = Task(task_id="t", question="Option A costs $5, option B costs $6.", answers=("4",))


def letters(text: str, task: Task) -> list[str]:
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    spans = list(find_choices(turn, task))
    assert all(span.kind is SpanKind.CHOICE for span in spans)
    assert all(text[span.start : span.end] == span.value for span in spans)
    return [span.value for span in spans]


@pytest.mark.parametrize("task", [LETTER, LISTED])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("so it is (B).", ["B"]),
        ("option B", ["B"]),
        ("choice (C) is", ["C"]),
        ("The answer is D.", ["D"]),
        ("The correct answer is: **B**", ["B"]),
        (r"the answer is $\boxed{C}$ or \textbf{(B)}", ["C", "B"]),
        ("(B) is correct, (A) is not", ["B"]),
        ("the answer is A number", []),
        ("(A) 3 apples (B) 4 apples", []),
        ("f(A), the set (x, A) and triangle ABC", []),
        ("answer B + C", []),
        ("Option Apple, choose Bob", []),
    ],
)
def test_a_letter_is_a_choice_where_an_answer_stands(
    text: str, found: list[str], task: Task
) -> None:
    assert letters(text, task) == found


def test_letters_are_names_where_nothing_is_chosen() -> None:
    assert letters("Option A costs $5. So (B).", OTHER) == []
