"""In: a task and what runs code. Out: `Checks`, the task's own verifier as masking asks it."""

from __future__ import annotations

from functools import partial

from ..masking.checks import Checks
from .sandbox import Sandbox
from .tasks import Domain, Task
from .verdicts import Verdict
from .verifiers import exact_match, verify_code
from .verifiers.math import is_equal
from .verifiers.math_extraction import extract_answer


class VerifierError(Exception):
    """The verifier could not tell; masking counts the question as unverified."""


def mask_checks(task: Task, sandbox: Sandbox | None = None) -> Checks:
    """What the verifiers of the three domains say about values and programs in a trace.

    Math: equality as `verify_math` decides it in its strict mode. Search: the exact match of
    `verify_search`. Code: the task's tests, in the sandbox; without a sandbox or tests, programs are
    not checked. All of them bound their own time, so they are called directly.

    Args:
        task: The task whose trace is masked.
        sandbox: Runs programs of code tasks, from any thread.
    """
    match task.domain:
        case Domain.MATH:
            return _MATH_CHECKS
        case Domain.SEARCH:
            return _SEARCH_CHECKS
        case Domain.CODE:
            if sandbox is None or not task.tests:
                return Checks()
            return Checks(passes=partial(_passes, task=task, sandbox=sandbox), timeout_s=None)


def equals_in_math(value: str, answer: str) -> bool:
    """Whether `verify_math` would pay for a value where `answer` is the gold.

    Raises:
        UndecidedError: If it could not tell, so that the value counts as unverified.
    """
    return is_equal(extract_answer(value), extract_answer(answer))


def equals_in_search(value: str, answer: str) -> bool:
    """Whether `verify_search` would pay for a value where `answer` is the gold."""
    return exact_match(value, (answer,)) == 1.0


def _passes(program: str, *, task: Task, sandbox: Sandbox) -> bool:
    grade = verify_code(program, task, sandbox)
    if grade.verdict is Verdict.VERIFIER_ERROR:
        raise VerifierError(grade.reason)
    return grade.verdict is Verdict.CORRECT


# One of each, so that a process asks about each pair of value and answer once.
_MATH_CHECKS = Checks(equals=equals_in_math, timeout_s=None)
_SEARCH_CHECKS = Checks(equals=equals_in_search, timeout_s=None)
