"""Adversarial inputs: texts made to hurt a scanner in, seconds per doubling of their size out."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable

from maskgym.envs import Domain, Task
from maskgym.masking import POLICIES, mask

from .outside_libraries import time_limit
from .released_masker import ReleasedMasker
from .tables import Table

SIZES = (250_000, 500_000, 1_000_000)
TRIED = (
    *(("all", domain) for domain in Domain),
    *(("critical_keep_given", domain) for domain in (Domain.MATH, Domain.SEARCH)),
    *(("smepo_compat", domain) for domain in (Domain.MATH, Domain.CODE)),
)
"""Policies with their domains; every detector and every policy is in one of them."""
MAX_RATIO = 2.5
TIMEOUT_S = 60.0
_TOO_SHORT_S = 0.02  # below this a ratio of two times is the clock's noise

_TASK_PARTS = {
    "question": "Ann, who lives in New York, has 3 bags of 12 pears. How many pears has she?",
    "answers": ("36", "New York City", "x - 1", "\\frac{1}{2}", "B", "12 May 1809"),
    "entities": ("Ann Arbor", "Mount Doe"),
}


def _repeat(piece: str) -> Callable[[int], str]:
    return lambda size: (piece * (size // len(piece) + 1))[:size]


def _around(left: str, right: str) -> Callable[[int], str]:
    return lambda size: (
        left * (size // (len(left) + len(right)) + 1)
        + right * (size // (len(left) + len(right)) + 1)
    )


def _fraction(size: int) -> str:
    return "\\frac{" + "1" * (size // 2) + "}{" + "1" * (size // 2)


INPUTS: dict[str, Callable[[int], str]] = {
    "\\frac{1...}{1... unterminated": _fraction,
    "\\frac{1 repeated": _repeat("\\frac{1"),
    "\\frac{1}{ nested": _around("\\frac{1}{", "}"),
    "\\sqrt[1 repeated": _repeat("\\sqrt[1"),
    "nested braces": _around("{", "}"),
    "open braces": _repeat("{"),
    "digits": _repeat("1"),
    "backticks": _repeat("`"),
    "tildes": _repeat("~"),
    "brackets": _repeat("["),
    "nested brackets": _around("[", "]"),
    "parentheses": _repeat("("),
    "commas": _repeat(","),
    "1, repeated": _repeat("1,"),
    "1,111 repeated": _repeat("1,111"),
    "spaces": _repeat(" "),
    "line breaks": _repeat("\n"),
    "Step 3 repeated": _repeat("Step 3 "),
    "1. x lines": _repeat("1. x\n"),
    "one hundred repeated": _repeat("one hundred "),
    "and repeated": _repeat("and "),
    "twenty- repeated": _repeat("twenty-"),
    "```py opened": _repeat("```py\nx\n"),
    "` a ` inline": _repeat("`a(b)` "),
    "inline opened": _repeat("`a "),
    "dollars": _repeat("$"),
    "\\boxed{ opened": _repeat("\\boxed{"),
    "\\text{ opened": _repeat("\\text{"),
    "letters and digits": _repeat("a1b2"),
    "x_1 repeated": _repeat("x_1"),
    "12 May 1809 repeated": _repeat("12 May 1809 "),
    "1/1/ repeated": _repeat("1/1/"),
    "2001-01- repeated": _repeat("2001-01-"),
    "<search> opened": _repeat("<search>"),
    "<answer> opened": _repeat("<answer>"),
    "<code> opened": _repeat("<code>"),
    "an alias repeated": _repeat("New York City "),
    "half an alias repeated": _repeat("New York "),
    "1+1= repeated": _repeat("1+1="),
    "3*12=36 lines": _repeat("3*12=36\n"),
    "1+ repeated": _repeat("1+"),
    "(1+ repeated": _repeat("(1+"),
    "def lines": _repeat("def f(x):\n    return x\n"),
    "indented lines": _repeat("    x = 1\n"),
    "growing indents": lambda size: "\n".join(
        " " * depth + "if x:" for depth in range(int((2 * size) ** 0.5))
    ),
    "if x: lines": _repeat("if x:\n"),
    "one long line of code": _repeat("x = f(1, 2); "),
    "backslashes": _repeat("\\"),
    "carets": _repeat("2^"),
    "combining accents": _repeat("e\u0301"),
    "ligatures": _repeat("\ufb03"),
    "quotes": _repeat("'\""),
    "placeholders": _repeat("[NUMBER]"),
    "placeholders opened": _repeat("[\\\\"),
}
"""Texts of about a given number of characters, by name."""


def measure_adversarial(
    sizes: tuple[int, ...] = SIZES, inputs: dict[str, Callable[[int], str]] | None = None
) -> list[Table]:
    """Every input, policy and domain, mask and audit: seconds by size, the worst ratio per doubling."""
    inputs = INPUTS if inputs is None else inputs
    tried = [(policy, domain) for policy, domain in TRIED if policy in POLICIES]
    table = Table(
        title="Adversarial inputs: seconds to mask and audit",
        columns=("input", "policy", "domain", *(_size(size) for size in sizes), "worst ratio"),
        notes=[
            f"Target: at most {MAX_RATIO} times the seconds for twice the text. Ratios of times "
            f"under {_TOO_SHORT_S} s are left out."
        ],
    )
    slow: list[str] = []
    for name, make in inputs.items():
        texts = [make(size) for size in sizes]
        print(f"adversarial: {name}", file=sys.stderr, flush=True)
        for policy, domain in tried:
            seconds = _times(texts, policy, domain)
            ratio = _worst_ratio(texts, seconds)
            is_late = any(each is None for each in seconds)
            if ratio is not None and ratio > MAX_RATIO and not is_late:
                # A busy machine adds to a time, never takes from it: the shorter of two is nearer.
                again = _times(texts, policy, domain)
                pairs = zip(seconds, again, strict=True)
                seconds = [min(a, b) if a and b else None for a, b in pairs]
                ratio = _worst_ratio(texts, seconds)
                is_late = any(each is None for each in seconds)
            if is_late or (ratio is not None and ratio > MAX_RATIO):
                slow.append(f"{name} ({policy}, {domain})")
                print(f"slow: {slow[-1]}, {seconds} s", file=sys.stderr, flush=True)
            shown = [f">{TIMEOUT_S:g}" if each is None else round(each, 3) for each in seconds]
            shown += ["-"] * (len(sizes) - len(shown))
            table.add(name, policy, str(domain), *shown, ratio)
    lacking = sorted({policy for policy, _ in TRIED} - set(POLICIES))
    table.notes += [f"There is no policy {name} yet; not measured." for name in lacking]
    table.notes.append(f"Beyond the target: {', '.join(slow) or 'none'}.")
    return [table]


def measure_released_adversarial(released: ReleasedMasker) -> list[Table]:
    r"""The released behaviour on the unterminated ``\frac``, at sizes where it ends in time."""
    table = Table(
        title="The released masker on the unterminated \\frac{1...}{1...",
        columns=("characters", "released, s", "ours, s"),
    )
    for size in (100, 200, 400, 800, 1600):
        text = _fraction(size)
        started = time.process_time()
        released.math(text)
        theirs = time.process_time() - started
        (ours,) = _times([text], "all", Domain.MATH)
        table.add(len(text), theirs, ours)
    return [table]


def _times(texts: list[str], policy: str, domain: Domain) -> list[float | None]:
    """CPU seconds of each text; the larger ones are not tried behind one that took too long."""
    task = Task(task_id="adversarial", domain=domain, **_TASK_PARTS)  # type: ignore[arg-type]
    seconds: list[float | None] = []
    for text in texts:
        started = time.process_time()
        try:
            with time_limit(TIMEOUT_S):
                _ = mask(text, task, policy).audit
        except TimeoutError:
            seconds.append(None)
            break
        seconds.append(time.process_time() - started)
    return seconds


def _worst_ratio(texts: list[str], seconds: list[float | None]) -> float | None:
    """The largest ratio of times, brought to a doubling of the length."""
    ratios = [
        (later / earlier) * (2 * len(left) / len(right))
        for (left, right), (earlier, later) in zip(
            itertools.pairwise(texts), itertools.pairwise(seconds), strict=False
        )
        if earlier is not None and later is not None and earlier >= _TOO_SHORT_S
    ]
    return max(ratios, default=None)


def _size(num: int) -> str:
    return f"{num / 1_000_000:g} MB" if num >= 1_000_000 else f"{num / 1000:g} kB"
