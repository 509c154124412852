r"""In: two answers. Out: what the grader of ToRA says of them, as verl has it.

Numbers are equal within a tolerance, also as percentages of each other; lists, points and matrices
part by part. Its algebra never says yes: in verl's releases 0.4.0 to 0.9.1 it uses a decorator as a
context manager, and drops the error. So there is none here.

Source: Gou et al. 2024, arXiv:2309.17452, https://github.com/microsoft/ToRA, `src/eval/grader.py`.
"""

import contextlib
import math
import re
from typing import Any

from .math_evaluation import arithmetic, parsed

_TOLERANCE = 1e-4
_MAX_CHARS = 1000

_INTERVALS = (
    (re.compile(r"Interval\((.*)\)$"), "[{}]"),
    (re.compile(r"Interval\.Ropen\((.*)\)$"), "[{})"),
    (re.compile(r"Interval\.Lopen\((.*)\)$"), "({}]"),
    (re.compile(r"Interval\.open\((.*)\)$"), "({})"),
)


def tora_equal(said: Any, gold: Any, pi: float = math.pi) -> bool:
    """Whether the two are equal, with this value for pi.

    Raises:
        Exception: Of many kinds, on odd texts; the grader counts it as a no.
    """
    said, gold = _evaluated(said, pi), _evaluated(gold, pi)
    if isinstance(said, str):
        said = said[:_MAX_CHARS]
    if isinstance(said, str) and isinstance(gold, str):
        if said.strip().lower() == gold.strip().lower():
            return True
        if said.replace(" ", "") == gold.replace(" ", ""):
            return True
    numbers = _float(said), _float(gold)
    if numbers[0] is not None and numbers[1] is not None:
        scales = (numbers[1] / 100, numbers[1], numbers[1] * 100)  # percent, either way
        return any(math.isclose(item, numbers[0], rel_tol=_TOLERANCE) for item in scales)
    if not said and said not in (0, False):
        return False
    said, gold = str(said).strip(), str(gold).strip()
    said = _interval(said)
    return _same_parts(said, gold)


def _same_parts(said: str, gold: str) -> bool:
    """Whether bracketed lists, plain lists, points and matrices are equal part by part."""
    bare, bare_gold = said, gold
    if (said[:1] == "[" and said[-1:] == "]" and gold[:1] != "(") or (
        said[:1] == "(" and said[-1:] == ")" and gold[:1] != "["
    ):
        bare, bare_gold = bare.strip("[]()"), bare_gold.strip("[]()")
    for bracket in "{}()":
        bare, bare_gold = bare.replace(bracket, ""), bare_gold.replace(bracket, "")
    if bare == bare_gold:
        return True
    if said and gold and said[0] in "([" and said[-1] in ")]":
        is_same_kind = said[0] == gold[0] and said[-1] == gold[-1]
        if is_same_kind and _all_equal(said[1:-1].split(","), gold[1:-1].split(",")):
            return True
    if "," in said and "," in gold:
        parts = [[item.strip() for item in text.split(",")] for text in (said, gold)]
        if len(parts[0]) == len(parts[1]):
            return _all_equal(*parts)
    is_point = said.startswith("Point") and gold[0] == "(" and gold[-1] == ")"
    if is_point and _all_equal(said[said.find("(") + 1 : -1].split(","), gold[1:-1].split(",")):
        return True
    return "\\begin{pmatrix}" in gold and _same_matrix(said, gold)


def _all_equal(saids: list[Any], golds: list[Any]) -> bool:
    return len(saids) == len(golds) and all(
        [tora_equal(*pair) for pair in zip(saids, golds, strict=True)]
    )


def _same_matrix(said: str, gold: str) -> bool:
    if said.startswith("Matrix"):
        with contextlib.suppress(Exception):
            return _all_equal(list(parsed(said)), gold.split()[1:-1:2])
    elif said.startswith("[") and said.endswith("]"):
        rows = arithmetic(said)
        if isinstance(rows, list):
            for edge in (r"\\begin{pmatrix}", r"\begin{pmatrix}"):
                gold = gold.removeprefix(edge)
            for edge in (r"\\end{pmatrix}", r"\end{pmatrix}"):
                gold = gold.removesuffix(edge)
            parts = [row.split("&") if "&" in row else row for row in gold.split("\\")]
            with contextlib.suppress(Exception):
                return _all_equal(rows, parts)
    return False


def _evaluated(value: Any, pi: float) -> Any:
    if not isinstance(value, str):
        return value
    if re.match(r"\$\d+(\.\d+)?", value):
        return value[1:]
    if re.match(r"^\d+(\.\d+)?\\?%$", value):
        return value.replace("\\%", "").replace("%", "")
    if "_" in value:  # a number's base
        return int(float(value.split("_")[0]))
    if "\\pi" not in value:
        return value
    while (at := value.find("\\pi")) >= 0:
        factor = "*" if at > 0 and value[at - 1].isdigit() else "1*"
        value = f"{value[:at]}{factor}{pi}{value[at + 3 :]}"
    with contextlib.suppress(Exception):
        return arithmetic(value)
    return value


def _float(value: Any) -> float | None:
    text = str(value)
    try:
        return float(text.replace("{,}", "") if "{,}" in text else text.replace(",", ""))
    except ValueError:
        return None


def _interval(text: str) -> str:
    for pattern, form in _INTERVALS:
        match = pattern.match(text)
        if match:
            return form.format(match[1])
    return text
