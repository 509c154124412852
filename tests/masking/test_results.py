import pytest

from maskgym.envs import Task
from maskgym.masking import ExpertTrace, RenderConfig, TraceTurn, TurnKind, mask


@pytest.mark.parametrize(("tool", "shown"), [("search", "[DOCUMENT]"), ("python", "[OUTPUT]")])
def test_a_result_is_one_span_of_its_tools_kind(tool: str, shown: str) -> None:
    trace = ExpertTrace(
        turns=(
            TraceTurn(kind=TurnKind.TOOL_CALL, tool="other", text="go"),
            TraceTurn(kind=TurnKind.TOOL_RESULT, tool=tool, text="it is 42\n"),
            TraceTurn(kind=TurnKind.TOOL_RESULT, tool=tool, text=" \n"),
        )
    )
    task = Task(task_id="t", question="?")
    masked = mask(trace, task, render=RenderConfig(tool_results="mask")).text
    assert masked.splitlines()[:2] == ["other: go", f"result: {shown}"]
    assert mask(trace, task).text == "other: go"
