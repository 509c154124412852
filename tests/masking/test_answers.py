import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import mask

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
