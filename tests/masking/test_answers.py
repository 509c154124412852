import time

import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import TraceTurn, TurnKind, mask
from maskgym.masking.answers import find_answers

TASK = Task(task_id="t", question="Who?", domain=Domain.SEARCH)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (r"so \boxed{\text{(A)}}.", r"so \boxed{[ANSWER]}."),
        (r"\boxed{\frac{a}{b}} and \fbox {x}", r"\boxed{[ANSWER]} and \fbox {[ANSWER]}"),
        (r"\boxed{a \{ b} c", r"\boxed{[ANSWER]} c"),
        ("\\boxed{x = y\nnext", "\\boxed{[ANSWER]\nnext"),
        (r"\boxed{\boxed{x} y}", r"\boxed{[ANSWER]}"),
        (r"\boxed{} none", r"\boxed{} none"),
        ("#### 1,234\nDone", "#### [ANSWER]\nDone"),
        ("#### Paris", "#### [ANSWER]"),
        ("#### Approach\nThink.", "#### Approach\nThink."),
        ("<answer> Paris </answer> x", "<answer> [ANSWER] </answer> x"),
        ("<answer>Paris", "<answer>[ANSWER]"),
        ("<answer>```py\nx\n```\n</answer>", "<answer>```py\n[CODE]\n```\n</answer>"),
    ],
)
def test_an_announced_answer_is_hidden_whatever_it_is(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def announced(text: str, domain: Domain = Domain.MATH) -> list[str]:
    task = Task(task_id="t", question="?", domain=domain)
    return [
        text[span.start : span.end]
        for span in find_answers(TraceTurn(kind=TurnKind.THOUGHT, text=text), task)
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("The answer is 42.", ["42"]),
        ("The answer is 42 apples.\nThat is it.", ["42"]),
        ("The answer is $42.", ["42"]),
        ("So the answer is -5", ["5"]),
        ("Final answer: 1,234 dollars", ["1,234"]),
        ("**Answer:** 7", ["7"]),
        ("The answer to the question is **Blue Whale**.", ["Blue Whale"]),
        ("the final answer is (B).", ["B"]),
        ("Answer: yes", ["yes"]),
        ("The answer is $x+2$. Good", ["x+2"]),
        ("So the answer is the Battle of U.S. Grant.", ["the Battle of U.S. Grant"]),
        ("Therefore, 3 + 4 = **7** apples.", ["7"]),
        ("Therefore, $x = 5$.", ["5"]),
        ("Hence \\(a = b+2\\).", ["b+2"]),
        ("Thus she pays 3 * 4 = $12.", ["12"]),
        ("Thus the area is $\\frac{1}{2}$.", ["\\frac{1}{2}"]),
        # a clause, a computation, a line that is not the last, a box that is found by itself
        ("The answer is not obvious.", []),
        ("The answer is Paris, I think.\nOr is it?", []),
        ("The answer is 3 + 4", []),
        ("Therefore x = 5.\nOr not.", []),
        ("Thus 3 + 4", []),
        ("Thus we have $2 \\cdot 3 + 1$", []),
        ("The answer is [NUMBER] km", []),
        ("The answer is \\boxed{4}", ["4"]),
    ],
)
def test_of_a_sentence_that_says_the_answer_the_value_is_taken(
    text: str, values: list[str]
) -> None:
    assert announced(text) == values
    assert announced("The answer is 42.", Domain.CODE) == []


@pytest.mark.parametrize(
    "piece",
    [
        *("the answer is ", "answer: \\(", "answer: **a", "answer: $", "\\boxed{", "<answer>"),
        *("so $", "= ", "**", "the answer is a\n", "answer is x."),
    ],
)
@pytest.mark.usefixtures("no_garbage_collection")
def test_time_grows_with_the_text(piece: str) -> None:
    def seconds(num: int) -> float:
        text = "so " + piece * (num // len(piece))
        start = time.process_time()
        announced(text)
        return time.process_time() - start

    assert seconds(400_000) < 12 * max(seconds(100_000), 0.01)
