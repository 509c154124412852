"""In: a task and what a model wrote, outside of any environment. Out: the grade of its answer."""

from __future__ import annotations

from .protocol import ActionKind, XMLProtocol
from .sandbox import Sandbox
from .tasks import Domain, Task
from .verdicts import Grade
from .verifiers import verify_code, verify_math, verify_search

STRICT = "strict"
_PROTOCOL = XMLProtocol(untagged="answer")


def grade_response(
    task: Task, response: str, *, mode: str = STRICT, sandbox: Sandbox | None = None
) -> Grade:
    """The verdict on a whole response, by the verifier of the task's domain.

    In mode "strict" the answer is what the response has in ``<answer>`` tags, else all of it, in
    both cases without think blocks and without tool results that the model made up. A mode
    "compat:..." hands the whole response to that peer's own extraction.

    Args:
        task: With its target.
        response: The model's text.
        mode: "strict", or one that the verifier of the domain knows.
        sandbox: Runs code; needed for code tasks.

    Raises:
        ValueError: If the mode is unknown, the task has no target, or a code task has no sandbox.
    """
    answer = final_answer(response) if mode == STRICT else response
    match task.domain:
        case Domain.MATH:
            return verify_math(answer, task.answers, mode=mode)
        case Domain.SEARCH:
            return verify_search(answer, task.answers, mode=mode)
        case Domain.CODE:
            if sandbox is None:
                raise ValueError("Code is graded by running it: pass sandbox=LocalSandbox().")
            return verify_code(answer, task, sandbox, mode=mode)


def final_answer(response: str) -> str:
    """What a response answers; "" if there is nothing outside of thoughts and forged results."""
    parsed = _PROTOCOL.parse(response, ())
    return parsed.argument if parsed.kind is ActionKind.ANSWER else ""
