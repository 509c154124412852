r"""In: a model's text and a gold. Out: what verl's PRIME grader says of them; runs in a worker.

Reproduced: `verl/utils/reward_score/prime_math` of https://github.com/verl-project/verl, which asks
two graders, of which one is enough: math_lightman.py and math_tora.py. Its oddities are kept: the
answer is what is left after cutting at one marker after another; a box may be open; 50 is 0.5, since
either may be a percentage; the parts of a list may be in no other order.

Not kept, on purpose: it hands the model's text to `eval`; see math_evaluation.py.

Imports nothing of the package but such neighbours, since the process that loads it would then load
all of it.
"""

import math
from collections.abc import Callable
from typing import Any

from .math_lightman import lightman_equal
from .math_tora import tora_equal

_ALGEBRA_TIMEOUT_S = 10.0
_LEADS = ("answer:", "answer is", "answers are")
_TRAILS = ("is answer", "is the answer", "are answers", "are the answers")
_VERBS = ("be ", "is ", "are ", "=", ": ", "get ", "be\n", "is\n", "are\n", ":\n", "get\n")


def warm() -> None:
    """Fills SymPy's caches once, before processes are forked that each grade one answer."""
    for said, gold in (("x^2-1", "(x-1)*(x+1)"), (r"\frac{1}{2}", "0.5"), ("sqrt(8)", "2*sqrt(2)")):
        is_correct(said, gold)


def answer(request: dict[str, Any], _say: Callable[[str], None]) -> dict[str, Any]:
    """Whether the model's `answer` equals the `gold`, and what was `said`."""
    said = extracted(request["answer"])
    # Less than the time after which this process is killed: the second grader has its say too.
    timeout_s = min(_ALGEBRA_TIMEOUT_S, 0.8 * request["timeout_s"])
    return {"is_correct": is_correct(said, request["gold"], timeout_s), "said": said[:200]}


def is_correct(said: str, gold: str, timeout_s: float = _ALGEBRA_TIMEOUT_S) -> bool:
    """Whether either of the two graders finds them equal."""
    if lightman_equal(said, gold, timeout_s):
        return True
    pis = (math.pi, 3.14) if "\\pi" in said or "\\pi" in gold else (math.pi,)
    try:
        return any([tora_equal(said, gold, pi) for pi in pis])  # an error of either counts
    except Exception:  # whatever an odd text leads to
        return False


def extracted(text: str) -> str:
    """What the text says last, after the markers that the grader looks for, one after another."""
    for marker in _LEADS:
        _, found, after = _rpartition(text, marker)
        text = after.strip() if found else text
    for marker in _TRAILS:
        before, found, _ = _rpartition(text, marker)
        text = before.strip() if found else text
    text = _last_box(text) or text
    before, found, _ = _rpartition(text, ". ")
    text = before.strip() if found else text
    for marker in _VERBS:
        _, found, after = _rpartition(text, marker)
        text = after.strip() if found else text
    return text


def _rpartition(text: str, marker: str) -> tuple[str, bool, str]:
    at = text.lower().rfind(marker)
    return (text[:at], True, text[at + len(marker) :]) if at >= 0 else ("", False, text)


def _last_box(text: str) -> str | None:
    start = text.rfind("\\boxed")
    start = start if start >= 0 else text.rfind("\\fbox")
    if start < 0:
        return None
    opening, depth = -1, 0
    for i in range(start, len(text)):
        if text[i] == "{":
            depth += 1
            opening = i if opening < 0 else opening
        elif text[i] == "}":
            depth -= 1
            if depth == 0:
                return text[opening + 1 : i].strip() if opening >= 0 else None
    return None
