r"""In: an answer in LaTeX or plain text and its golds. Out: a grade, by exact arithmetic.

Nothing is evaluated but decimals, fractions, percent and powers of ten, all of bounded size, as
`Fraction`; what is no number is compared as normalised LaTeX. So nothing can hang
(``\boxed{9^{9^{9^9}}}`` is a string here) and everything is safe in any thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from ..verdicts import Grade

_MAX_SEARCHED = 100_000  # characters at the end of an answer in which a box is looked for
_MAX_CHARS = 1_000  # longer than any gold of the public sets
_MAX_NUMBER_CHARS = 120
_MAX_EXPONENT = 400

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?=\{|[^\s{a-zA-Z])")
_LEAD = re.compile(r"(?:so,?\s+)?(?:the\s+)?(?:final\s+)?answer\s*(?:is|:|=)\s*:?\s*", re.I)
_ASSIGNMENT = re.compile(r"[a-zA-Z](?:_\{?\w\}?)?\s*=\s*([^=]+)")
_TEXT = re.compile(r"\\(?:text|textnormal|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_FRACTION = re.compile(r"\\frac(?:\{([^{}]+)\}|(\d))(?:\{([^{}]+)\}|(\d))")
_SIMPLE_FRACTION = re.compile(r"(\d*)\\frac\{(-?[\d.]+)\}\{(-?[\d.]+)\}")
_RATIO = re.compile(r"(?:(\d+) )?(-?[\d.]+) ?/ ?(-?[\d.]+)")
_POWER_OF_TEN = re.compile(r"([\d.]+) ?(?:\\times|\\cdot|\*|x|\u00d7) ?10 ?\^ ?\{?(-?\d{1,4})\}?")
_SCIENTIFIC = re.compile(r"([\d.]+)[eE]([+-]?\d{1,4})")
_DECIMAL = re.compile(r"\d+\.?\d*|\.\d+")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:(?:,|\{,\}| )\d{3})+(?![\d,])")
_UNIT = re.compile(
    r"(.*?[\d}.%])(?:\s+|(?=\\text))((?:\\text(?:normal|rm|bf|it)?\{[^{}]*\}|[a-zA-Z/.]|\^?[23](?=\s|$)|\s)+)"
)
_NOT_UNITS = frozenset(
    re.findall(
        r"\w+",
        "or and to not than nor either but plus minus times over hundred thousand million billion "
        "trillion dozen half halves third thirds quarter quarters pi e i k b x y z n t",
    )
)
_SAME_COMMANDS = (
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\leq", "\\le"),
    ("\\geq", "\\ge"),
    ("\\lt", "<"),
    ("\\gt", ">"),
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\u00b0|\\degree")
_DOLLAR = re.compile(r"(?<!\\)\$")
_CURRENCY = re.compile(r"^\\?[$\u20ac\u00a3]\s?|\s?\\?[$\u20ac\u00a3]$")
_SPACES = re.compile(r"\\[,;:!> ]|~|\\quad|\\qquad|\s+")


def verify_math(answer: str, golds: Sequence[str]) -> Grade:
    """Correct if the final answer in `answer` equals any gold.

    The final answer is the last box, else what follows the last ``####``, else all of the text. An
    answer that names several values ("42 or 43") equals none of them. Numbers are equal exactly:
    0.5 is 1/2, 0.33 is not 1/3. A percent sign may be left out or written as hundredths. A unit may
    be left out, but not be another one.
    """
    if isinstance(golds, str):
        raise ValueError(f"golds is the string {golds!r}; pass a list of strings, ({golds!r},).")
    if not golds:
        raise ValueError("There is no gold answer; a math task needs at least one.")
    said = extract_answer(answer)
    if not said:
        return Grade.of(False, "no answer")
    if len(said) > _MAX_CHARS:
        return Grade.of(False, f"answer longer than {_MAX_CHARS} characters")
    for gold in golds:
        if equal(said, extract_answer(gold)):
            return Grade.of(True, f"equals {gold[:80]}")
    return Grade.of(False, f"{said[:80]} equals no gold")


def extract_answer(text: str) -> str:
    """The final answer in a solution: last box, last ``####`` or all; "" if a box is open."""
    text = text.rpartition("</think>")[2][-_MAX_SEARCHED:]
    boxes = list(_BOX.finditer(text))
    if boxes:
        return _braced(text, boxes[-1].end())
    _, marker, after = text.rpartition("####")
    if marker:
        return after.strip().split("\n")[0].strip()
    text = text.strip()
    lead = _LEAD.match(text)
    return text[lead.end() :].strip() if lead else text


def equal(left: str, right: str) -> bool:
    """Whether two final answers say the same."""
    if len(left) > _MAX_CHARS or len(right) > _MAX_CHARS:
        return False
    left, right = _clean(left), _clean(right)
    if not left or not right:
        return False
    if _without_spaces(left) == _without_spaces(right):
        return True
    if "=" not in left or "=" not in right:  # x = 5 for 5, but not y = 5 for x = 5
        left, right = _value(left), _value(right)
    a, b = _quantity(left), _quantity(right)
    if a is not None and b is not None:
        return _same_quantity(a, b)
    return _same_list(left, right) or _canonical(left) == _canonical(right) != ""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Quantity:
    """A number with what stood after it."""

    number: Fraction
    is_percent: bool
    unit: str


def _same_quantity(a: _Quantity, b: _Quantity) -> bool:
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if a.number == b.number:
        return True
    if a.is_percent == b.is_percent:
        return False
    percent, plain = (a, b) if a.is_percent else (b, a)
    return percent.number == 100 * plain.number


def _same_list(left: str, right: str) -> bool:
    """Tuples and intervals element by element, sets in any order."""
    left_open, left_items, left_close = _items(left)
    right_open, right_items, right_close = _items(right)
    if (left_open, left_close) != (right_open, right_close) or len(left_items) != len(right_items):
        return False
    if len(left_items) < 2:
        return False
    if left_open == "{":
        rest = list(right_items)
        for item in left_items:
            found = next((i for i, other in enumerate(rest) if equal(item, other)), None)
            if found is None:
                return False
            del rest[found]
        return True
    return all(map(equal, left_items, right_items))


def _items(text: str) -> tuple[str, list[str], str]:
    opening, closing = "", ""
    text = text.replace("\\{", "{").replace("\\}", "}").strip()
    if len(text) > 1 and text[0] in "([{" and text[-1] in ")]}":
        opening, text, closing = text[0], text[1:-1], text[-1]
    items, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            items.append(text[start:i].strip())
            start = i + 1
    return opening, [*items, text[start:].strip()][:50], closing


def _braced(text: str, start: int) -> str:
    """What the brace at `start` holds; a box without braces holds the next token."""
    if text[start] != "{":
        return text[start:].split()[0].strip("$.") if text[start:].split() else ""
    depth = 0
    for i in range(start, len(text)):
        if text[i] in "{}" and text[i - 1] != "\\":
            depth += 1 if text[i] == "{" else -1
            if depth == 0:
                return text[start + 1 : i].strip()
    return ""


def _clean(text: str) -> str:
    """Notation that never carries meaning taken away; words and spaces kept."""
    text = text.strip().strip("*").strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.rstrip(".").endswith(closing):
            text = text.rstrip(".")[2:-2]
    if len(_DOLLAR.findall(text)) % 2 == 0:  # a pair encloses mathematics, a single one is money
        text = _DOLLAR.sub("", text).strip()
    text = text.replace("\\\\", "\\")  # doubled by an escape too many
    for command in ("\\left", "\\right", "\\displaystyle", "\\!"):
        text = text.replace(command, "")
    for old, new in _SAME_COMMANDS:
        text = text.replace(old, new)
    text = text.replace("\u2212", "-").replace("\u2013", "-")
    text = _DEGREES.sub("", text)
    text = _SPACES.sub(" ", text).strip()
    text = text[:-1].rstrip() if text.endswith(".") else text
    return _CURRENCY.sub("", text)


def _value(text: str) -> str:
    """The right side of an assignment to one variable; other text as it is."""
    assignment = _ASSIGNMENT.fullmatch(text)
    return assignment[1].strip() if assignment else text


def _quantity(text: str) -> _Quantity | None:
    """The number that `text` is, perhaps with a unit; None if it is anything else."""
    unit = ""
    with_unit = _UNIT.fullmatch(text)
    if with_unit:
        words = _TEXT.sub(r" \1 ", with_unit[2]).lower().replace(".", "").split()
        if any(word in _NOT_UNITS for word in words) or len(words) > 4:
            return None
        text = with_unit[1].rstrip()
        unit = " ".join(word if len(word) < 4 else word.removesuffix("s") for word in words)
    is_percent = text.endswith("%") or unit in ("percent", "percentage")
    unit = "" if unit in ("percent", "percentage", "degree") else unit
    number = _number(text.removesuffix("%").removesuffix("\\").rstrip())
    return None if number is None else _Quantity(number=number, is_percent=is_percent, unit=unit)


def _number(text: str) -> Fraction | None:
    if not text or len(text) > _MAX_NUMBER_CHARS:
        return None
    text = _THOUSANDS.sub(lambda m: re.sub(r"\D", "", m[0]), text)
    text = re.sub(r"^(-?) ?\\?[$\u20ac\u00a3] ?", r"\1", text)
    sign = -1 if text.startswith("-") else 1
    text = text[1:].lstrip() if text[:1] in ("-", "+") else text
    if _DECIMAL.fullmatch(text):
        return sign * Fraction(text)
    spelled = _FRACTION.sub(
        lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text.replace(" ", "")
    )
    match = _SIMPLE_FRACTION.fullmatch(spelled) or _RATIO.fullmatch(text)
    if match:
        top, bottom = _number(match[2]), _number(match[3])
        if top is None or not bottom or (match[1] and (top < 0 or bottom < 0)):
            return None
        return sign * (int(match[1] or 0) + top / bottom)
    match = _POWER_OF_TEN.fullmatch(text) or _SCIENTIFIC.fullmatch(text)
    if match and _DECIMAL.fullmatch(match[1]) and abs(int(match[2])) <= _MAX_EXPONENT:
        return sign * Fraction(match[1]) * Fraction(10) ** int(match[2])
    return None


def _canonical(text: str) -> str:
    """LaTeX whose equality as a string is equality of what it shows, as far as that goes."""
    text = re.sub(r"\{,\}", ",", text)
    text = _FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    text = re.sub(r"\\sqrt\s*(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"(?<![\w}])(\d+)/(\d+)(?![\w{])", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\^\s*\{(\w)\}", r"^\1", text)
    text = re.sub(r"_\s*\{(\w)\}", r"_\1", text)
    text = _TEXT.sub(r"\1", text)
    choice = re.fullmatch(r"\(?([A-Z])\)?", text.strip())
    if choice:
        return choice[1]
    text = _without_spaces(text)
    return text.casefold() if re.fullmatch(r"[A-Za-z-]{2,}", text) else text


def _without_spaces(text: str) -> str:
    return _SPACES.sub("", text)
