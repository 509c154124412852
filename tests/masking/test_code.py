import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind, mask

TASK = Task(task_id="t", question="Write it.", domain=Domain.CODE)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("a\n```python\nx = 1\n```\nb", "a\n```python\n[CODE]\n```\nb"),
        ("~~~\nx = 1\n~~~", "~~~\n[CODE]\n~~~"),
        ("```python\nx = 1\n", "```python\n[CODE]\n"),
        ("````md\n```python\nx\n```\n````", "````md\n[CODE]\n````"),
        ("~~~~\n~~~\n~~~~", "~~~~\n[CODE]\n~~~~"),
        ("  ```py\n  x = 1\n  ```\nb", "  ```py\n  [CODE]\n  ```\nb"),
        ("Code: ```c++\nx\n```", "Code: ```c++\n[CODE]\n```"),
        ("```python title=42\nx\n```", "```python [CODE]\n[CODE]\n```"),
        ("so ```x = 1``` it is", "so ```[CODE]``` it is"),
        ('```python\ns = """```"""\ny\n```\nb', "```python\n[CODE]\n```\nb"),
        ("```\n```\nb", "```\n```\nb"),
        ("O(n^2) in step 2", "O(n^2) in step 2"),
    ],
)
def test_fences_stay_and_their_contents_go(text: str, masked: str) -> None:
    assert mask(text, TASK).text == masked


def test_a_python_call_is_code_as_a_whole() -> None:
    call = TraceTurn(kind=TurnKind.TOOL_CALL, tool="python", text="x = 3\nprint(x)\n")
    trace = ExpertTrace(turns=(TraceTurn(kind=TurnKind.THOUGHT, text="Print it."), call))
    math = Task(task_id="t", question="?")
    assert mask(trace, math).text.rstrip("\n") == "Print it.\npython: [CODE]"


def test_the_final_program_of_a_code_task_is_code_with_and_without_a_fence() -> None:
    bare = ExpertTrace(turns=(TraceTurn(kind=TurnKind.ANSWER, text="def f():\n    return 3"),))
    fenced = ExpertTrace(turns=(TraceTurn(kind=TurnKind.ANSWER, text="```python\nx\n```"),))
    assert mask(bare, TASK).text == "answer: [CODE]"
    assert mask(fenced, TASK).text == "answer: ```python\n[CODE]\n```"
