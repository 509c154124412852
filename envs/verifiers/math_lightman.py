"""In: two answers. Out: what the grader of Lightman et al. says of them, as verl has it.

Normal forms are compared as strings, then the parts of a tuple by SymPy. Kept: what equals a whole
number has to be written as one, and a ratio as the gold's is, 2/4 not for 1/2.

Source: Lightman et al. 2023, arXiv:2305.20050, https://github.com/openai/prm800k, `grading/grader.py`.
"""

import contextlib
import re
import signal
from collections.abc import Iterator

import sympy
from pylatexenc.latex2text import LatexNodes2Text
from sympy.parsing import sympy_parser

from .math_compat import hendrycks_normal
from .math_evaluation import parsed

_IMPLICIT = (
    *sympy_parser.standard_transformations,
    sympy_parser.implicit_multiplication_application,
)
_UNITS = (  # in the grader's order: each is taken out of what the one before left
    "degree cm centimeter meter mile second minute hour day week month year foot feet inch yard liter"
)
_UNIT_PATTERNS = [re.compile(rf"{unit}(es)?(s)? *(\^[0-9]+)?") for unit in _UNITS.split()]
_SIGNS = {"√": "sqrt", "π": "pi", "∞": "inf", "\u222a": "U", "·": "*", "\u00d7": "*"}
_WORDS = (
    (" or ", " , "),
    (" and ", " , "),
    ("million", "*10^6"),
    ("billion", "*10^9"),
    ("trillion", "*10^12"),
)


def lightman_equal(said: str, gold: str, timeout_s: float) -> bool:
    """Whether the two are equal; what SymPy needs longer for is not."""
    if _hendrycks(gold) == _hendrycks(said):
        return True
    gold, said = _normal(gold), _normal(said)
    if gold == said:
        return True
    if not said:
        return False
    golds, saids = _elements(gold), _elements(said)
    if len(golds) != len(saids):
        return False
    if len(golds) > 1 and (gold[0] != said[0] or gold[-1] != said[-1]):
        return False
    return bool(golds) and all(
        _same_element(*pair, timeout_s) for pair in zip(golds, saids, strict=True)
    )


def _same_element(gold: str, said: str, timeout_s: float) -> bool:
    if _is_ratio(gold) and _is_ratio(said):
        return gold == said  # 2/4 is not reduced
    if _is_whole(gold) != _is_whole(said):
        return False  # what equals a whole number has to be written as one
    difference = f"({gold})-({said})"
    letters = {c for c in difference.replace("sqrt", "").replace("frac", "") if c.isalpha()}
    if len(letters) > 2 or re.search(r"\^\{|\^\(|\^[0-9]+\^|\^[0-9][0-9]+", difference):
        return False
    with contextlib.suppress(Exception), _limited(timeout_s):
        value = parsed(difference.replace("^", "**"), transformations=_IMPLICIT)
        return bool(sympy.simplify(value) == 0)
    return False


def _normal(text: str) -> str:
    enclosed = re.search(r"^\\text\{(?P<text>.+?)\}$", text)
    text = enclosed["text"] if enclosed else text
    for removed in ("\\%", "%"), ("\\$", "$"), ("$", ""), ("%", ""), *_WORDS:
        text = text.replace(*removed)
    for unit in _UNIT_PATTERNS:
        text = unit.sub("", text)
    text = re.sub(r"\^ *\\circ", "", text)
    if text and text[0] == "{" and text[-1] == "}":
        text = text[1:-1]
    text = re.sub(r",\\! *", "", text)
    with contextlib.suppress(ValueError, OverflowError):
        if abs(float(text) - round(float(text))) <= 1e-7:
            text = str(round(float(text)))
    if "\\" in text:
        with contextlib.suppress(Exception):
            text = _plain(text)
    text = re.sub("- *", "-", text)
    text = re.sub("([0-9]) +([0-9])", r"\1+\2", text).lower()  # 7 3/4 is 7+3/4
    return str(int(float(text.replace(",", "")))) if _is_whole(text) else text


def _plain(text: str) -> str:
    text = text.replace("\\tfrac", "\\frac").replace("\\dfrac", "\\frac")
    text = LatexNodes2Text().latex_to_text(text.replace("\\frac", " \\frac"))
    for sign, name in _SIGNS.items():
        text = text.replace(sign, name)
    return str(text).strip()


def _elements(text: str) -> list[str]:
    text = _without_thousands(text)
    if not text:
        return []
    has_brackets = len(text) > 2 and text[0] in "()[]" and text[-1] in "()[]"
    if has_brackets and not any(bracket in text[1:-1] for bracket in "()[]"):
        return [element.strip() for element in text[1:-1].split(",")]
    return [text]


def _without_thousands(text: str) -> str:
    while (shorter := re.sub(r"(\d)(,)(\d\d\d)($|\D)", r"\1\3\4", text)) != text:
        text = shorter
    return text


def _is_whole(text: str) -> bool:
    try:
        number = float(_without_thousands(text))
        return abs(number - round(number)) <= 1e-7
    except (ValueError, OverflowError):
        return False


def _is_ratio(text: str) -> bool:
    return re.search(r"^-?[0-9]+.?/0*[1-9][0-9]*.?$", text) is not None


def _hendrycks(text: str) -> str:
    """The normal form of math_compat.py; the text itself where it has none."""
    text = text.strip()
    enclosed = re.search(r"^\\text\{(?P<text>.+?)\}$", text)
    text = enclosed["text"].strip() if enclosed else text
    try:
        return hendrycks_normal(text)
    except ValueError:
        return text


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what runs too long; what is stuck in C is left to the worker pool."""

    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
