import pytest

from maskgym.envs import Domain, Task
from maskgym.masking import ExpertTrace, TraceTurn, TurnKind, mask
from maskgym.masking.code import find_code

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


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("```py\nx = 1\n```", "code:fence"),
        ("~~~\nx = 1\n~~~", "code:tilde"),
        ("```py\nx = 1", "code:unterminated"),
        ("So:\n\n    x = f(1)\n", "code:indented"),
        ("take `a[0]`", "code:inline"),
        ("def f(x): return x", "code:bare"),
        ("<code>a[0]</code>", "code:html"),
    ],
)
def test_a_span_says_which_form_its_code_has(text: str, form: str) -> None:
    turn = TraceTurn(kind=TurnKind.THOUGHT, text=text)
    spans = list(find_code(turn, TASK))
    assert {span.detector for span in spans} == {form}
    assert all(text[span.start : span.end] == span.value for span in spans)


def test_a_call_is_code_and_a_result_is_left_to_its_own_detector() -> None:
    call = TraceTurn(kind=TurnKind.TOOL_CALL, tool="Python", text="x = 1")
    result = TraceTurn(kind=TurnKind.TOOL_RESULT, tool="search", text="```\nx = 1\n```")
    assert [span.detector for span in find_code(call, TASK)] == ["code:call"]
    assert list(find_code(result, TASK)) == []


def test_text_in_which_nothing_is_code_gives_no_span() -> None:
    for text in ("", " \n", "Step 1: 3+4=7, so <<3+4=7>> holds.", "no code"):
        for domain in Domain:
            task = Task(task_id="t", question="?", domain=domain)
            assert list(find_code(TraceTurn(kind=TurnKind.THOUGHT, text=text), task)) == []
