r"""In: a solution and its gold. Out: what the graders of GSM8K runs and of SMEPO would say.

Both compare strings, and their oddities are kept on purpose, since published numbers depend on
them: under `gsm8k` the first ``####`` counts, "42." is not 42, and a gold written "1,000" is never
matched; under `smepo`, 42.0 is not 42, ``\fbox`` is never correct, but 5% is 5.

Sources: SkyRL-Gym 0.4, `envs/gsm8k/utils.py`, strict method (so does GSM8K's own
`grade_school_math/dataset.py`, which strips commas from the gold too); SMEPO's released code,
`verl/utils/reward_score/math_reward.py` (https://github.com/mit-han-lab/SMEPO), whose equality is
that of Hendrycks et al. 2021, arXiv:2103.03874 (https://github.com/hendrycks/math).
"""

from __future__ import annotations

import re

_GSM8K_ANSWER = re.compile(r"#### (-?[0-9.,]+)")
_INTEGER_RATIO = re.compile(r"(0|-?[1-9][0-9]*)/(0|-?[1-9][0-9]*)")
_REMOVED = ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$")


def gsm8k_answer(solution: str) -> str | None:
    """The number after the first ``####``, without commas; None if there is none."""
    match = _GSM8K_ANSWER.search(solution)
    return match[1].replace(",", "") if match else None


def smepo_answer(solution: str) -> str | None:
    """What the last box holds; None without a box, or with one that is open."""
    _before, marker, after = solution.rpartition("\\boxed ")
    if marker:
        return after.split("$")[0]
    start = solution.rfind("\\boxed")
    box = _through_closing_brace(solution[start:]) if start >= 0 else None
    is_box = box is not None and box.startswith("\\boxed{")
    return box[len("\\boxed{") : -1] if box is not None and is_box else None


def hendrycks_equal(left: str, right: str) -> bool:
    """Whether two answers are the same string, once both are normalised as Hendrycks et al. do.

    If either cannot be normalised, the raw strings are compared.
    """
    try:
        return hendrycks_normal(left) == hendrycks_normal(right)
    except ValueError:
        return left == right


def hendrycks_normal(text: str) -> str:
    """The normal form.

    Raises:
        ValueError: If it has none, as a fraction or root with nothing behind it.
    """
    text = text.replace("\n", "").replace("\\!", "").replace("\\\\", "\\")
    text = text.replace("tfrac", "frac").replace("dfrac", "frac")
    for removed in _REMOVED:
        text = text.replace(removed, "")
    text = _without_units(text)
    text = text.replace("\\\\%", "").replace("\\%", "")
    text = text.replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = f"0{text}"
    name, *values = text.split("=")
    if len(values) == 1 and len(name) <= 2:
        text = values[0]
    text = _with_braces_after_roots(text)
    text = _with_braces_after_fractions(text.replace(" ", ""))
    if text == "0.5":
        text = "\\frac{1}{2}"
    ratio = _INTEGER_RATIO.fullmatch(text)
    return f"\\frac{{{ratio[1]}}}{{{ratio[2]}}}" if ratio else text


def _through_closing_brace(text: str) -> str | None:
    depth = 0
    for i, character in enumerate(text):
        if character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return text[: i + 1]
    return None


def _without_units(text: str) -> str:
    before, *after = text.split("\\text{ ")
    if len(after) > 1:
        raise ValueError("more than one unit")
    return before


def _with_braces_after_roots(text: str) -> str:
    first, *parts = text.split("\\sqrt")
    if not all(parts):
        raise ValueError("nothing under a root")
    return first + "".join(
        f"\\sqrt{part}" if part[0] == "{" else f"\\sqrt{{{part[0]}}}{part[1:]}" for part in parts
    )


def _with_braces_after_fractions(text: str) -> str:
    first, *parts = text.split("\\frac")
    done = [first]
    for part in parts:
        if not part:
            raise ValueError("nothing in a fraction")
        if part[0] == "{":
            done.append(f"\\frac{part}")
        elif len(part) < 2:
            return text
        else:
            bottom = part[1:] if part[1] == "{" else f"{{{part[1]}}}{part[2:]}"
            done.append(f"\\frac{{{part[0]}}}{bottom}")
    return "".join(done)
