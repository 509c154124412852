r"""In: an answer in LaTeX or plain text and its golds. Out: a grade.

Mode "strict": the final answer is extracted, numbers, lists, sets, matrices and words are decided
here by exact arithmetic, and only what needs computer algebra goes to Math-Verify
(https://github.com/huggingface/Math-Verify), in a process that is killed when time is up. It works
the same in any thread, in asyncio, and in forked and spawned processes. What it does not see: that
an expression equal to the gold is the question again ("factor x^2 - 1" answered by x^2 - 1); and
the order of a plain list, which is taken for a set of solutions.

The other modes reproduce graders of others, oddities included: "compat:gsm8k" and "compat:smepo"
(see math_compat.py), and "compat:verl-prime" (see math_prime.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from ..verdicts import Grade, Verdict
from .math_compat import gsm8k_answer, hendrycks_equal, smepo_answer
from .math_exact import compare
from .math_extraction import extract_answer
from .worker import Reply, Status, WorkerPool

_MAX_CHARS = 1_000  # longer than any gold of the public sets
_TIMEOUT_S = 5.0


class MathMode(StrEnum):
    """Whose rules a grade follows."""

    STRICT = "strict"
    VERL_PRIME = "compat:verl-prime"
    SMEPO = "compat:smepo"
    GSM8K = "compat:gsm8k"


class UndecidedError(Exception):
    """Whether two answers are equal could not be found out, for no fault of the answer."""


_SYMBOLIC = WorkerPool(Path(__file__).with_name("math_symbolic.py"))
# This grader evaluates what the model wrote; see math_prime.py for how little gets that far.
_PRIME = WorkerPool(Path(__file__).with_name("math_prime.py"), max_uses=50, is_jailed=True)


def verify_math(
    answer: str,
    golds: Sequence[str],
    *,
    mode: MathMode | str = MathMode.STRICT,
    timeout_s: float = _TIMEOUT_S,
) -> Grade:
    r"""Correct if the final answer in `answer` equals any gold.

    Strict: the final answer is the last box, else what follows the last ``####``, else what follows
    "answer is", else the only formula, else all of the text. An answer that names several values
    ("42 or 43") equals none of them. Numbers are equal exactly: 0.5 is 1/2, 0.33 is not 1/3; a
    decimal of six digits and more is also equal to what it is the rounding of. Where the gold is a
    number, the answer has to be one, not a sum or a power. A percent sign may be left out or written
    as hundredths. A unit may be left out, but not be another one.

    Args:
        answer: What the model said, or all that it wrote.
        golds: Right answers; one is enough.
        mode: Whose rules to follow.
        timeout_s: Seconds that computer algebra may take, for each gold. An answer that takes longer
            is wrong; a gold that by itself takes longer gives `verifier_error`.

    Raises:
        ValueError: If there is no gold, or the mode is not known.
        ModuleNotFoundError: If the mode needs a package that is not installed.
    """
    if isinstance(golds, str):
        raise ValueError(f"golds is the string {golds!r}; pass a list of strings, ({golds!r},).")
    if not golds:
        raise ValueError("There is no gold answer; a math task needs at least one.")
    if timeout_s <= 0:
        raise ValueError(f"timeout_s is {timeout_s}; give a number of seconds above 0.")
    match _mode(mode):
        case MathMode.GSM8K:
            return _compat(gsm8k_answer(answer), golds, str.__eq__)
        case MathMode.SMEPO:
            return _compat(smepo_answer(answer), golds, hendrycks_equal)
        case MathMode.VERL_PRIME:
            return _prime(answer, golds, timeout_s)
    said = extract_answer(answer)
    if not said:
        return Grade.of(False, "no answer")
    if len(said) > _MAX_CHARS:
        return Grade.of(False, f"answer longer than {_MAX_CHARS} characters")
    failure = ""
    for gold in golds:
        try:
            if is_equal(said, extract_answer(gold), timeout_s=timeout_s):
                return Grade.of(True, f"equals {gold[:80]}")
        except UndecidedError as error:
            failure = str(error)
    if failure:
        return Grade(verdict=Verdict.VERIFIER_ERROR, reason=failure)
    return Grade.of(False, f"{said[:80]} equals no gold")


def is_equal(said: str, gold: str, *, timeout_s: float = _TIMEOUT_S) -> bool:
    """Whether a final answer, extracted already, equals a gold by the strict rules.

    Raises:
        UndecidedError: If that could not be found out, for no fault of the answer.
    """
    decided = compare(said, gold)
    return bool(compare(said, gold, _Algebra(timeout_s))) if decided is None else decided


class _Algebra:
    """Math-Verify, asked about the parts of one answer, which together get one time limit."""

    def __init__(self, timeout_s: float):
        self._timeout_s = timeout_s
        self._is_late = False

    def __call__(self, said: str, gold: str) -> bool:
        if self._is_late:
            return False
        outcome = _by_algebra(said, gold, self._timeout_s)
        self._is_late = outcome is None
        return outcome or False


@lru_cache(maxsize=10_000)  # the answers of a group are often the same
def _by_algebra(said: str, gold: str, timeout_s: float) -> bool | None:
    """Whether they are equal; None if the answer takes for ever, or more memory than allowed."""
    rows = {"said": said.replace("\\cr ", "\\\\ "), "gold": gold.replace("\\cr ", "\\\\ ")}
    reply = _SYMBOLIC.ask(rows, timeout_s=timeout_s)
    if reply.status is Status.ANSWERED and "is_equal" in reply.content:
        return bool(reply.content["is_equal"])
    if reply.status is Status.UNAVAILABLE:
        raise UndecidedError("no process for Math-Verify, or no processor time for it")
    if reply.phase != "answer":
        raise UndecidedError(f"Math-Verify cannot evaluate the gold {gold[:80]}: {reply.status}")
    return None


def _compat(said: str | None, golds: Sequence[str], same: Callable[[str, str], bool]) -> Grade:
    if said is None:
        return Grade.of(False, "no answer")
    for gold in golds:
        if same(said, gold):
            return Grade.of(True, f"equals {gold[:80]}")
    return Grade.of(False, f"{said[:80]} equals no gold")


def _prime(answer: str, golds: Sequence[str], timeout_s: float) -> Grade:
    reply = Reply(status=Status.UNAVAILABLE, content={}, phase="")
    for gold in golds:
        reply = _PRIME.ask(
            {"answer": answer, "gold": gold, "timeout_s": timeout_s}, timeout_s=timeout_s
        )
        if reply.status is Status.UNAVAILABLE:
            return Grade(verdict=Verdict.VERIFIER_ERROR, reason="no process for the grader")
        if reply.content.get("is_correct"):
            return Grade.of(True, f"equals {gold[:80]}")
    said = reply.content.get("said", reply.status.value)
    return Grade.of(False, f"{said[:80]} equals no gold")


def _mode(name: MathMode | str) -> MathMode:
    try:
        return MathMode(name)
    except ValueError:
        known = ", ".join(repr(mode.value) for mode in MathMode)
        raise ValueError(f"No mode {name!r} of verify_math. There are {known}.") from None
