"""In: an expert trace. Out: the actions with which that expert would play the episode."""

from __future__ import annotations

import re

from ..masking import ExpertTrace, TurnKind
from .protocol import ActionProtocol
from .tasks import Task

_CODE_BLOCK = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.DOTALL | re.MULTILINE)


def expert_actions(trace: ExpertTrace, protocol: ActionProtocol, answer: str) -> list[str]:
    """The model's side of the episode, one string a turn: thoughts, then a tool call or the answer.

    Tool results are left out, as the environment brings its own. A trace without an answer turn
    ends with `answer`; where that is empty as well, with the last fenced code block of the trace.
    """
    actions: list[str] = []
    parts: list[str] = []
    for turn in trace.turns:
        match turn.kind:
            case TurnKind.THOUGHT:
                parts.append(protocol.format_thought(turn.text))
            case TurnKind.TOOL_CALL:
                parts.append(protocol.format_tool_call(turn.tool, turn.text))
                actions.append(protocol.join(parts))
                parts = []
            case TurnKind.ANSWER:
                parts.append(protocol.format_answer(turn.text))
                return [*actions, protocol.join(parts)]
            case TurnKind.TOOL_RESULT:
                pass
    parts.append(protocol.format_answer(answer or _last_code(trace)))
    return [*actions, protocol.join(parts)]


def gold_answer(task: Task) -> str:
    """An answer that the verifier should call correct; "" where the task tells none."""
    if task.answers:
        return task.answers[0]
    if task.expert_trace is None:
        return ""
    for turn in task.expert_trace.turns:
        if turn.kind is TurnKind.ANSWER:
            return turn.text
    return _last_code(task.expert_trace)


def _last_code(trace: ExpertTrace) -> str:
    blocks: list[str] = _CODE_BLOCK.findall(trace.text)
    return blocks[-1].rstrip("\n") if blocks else ""
