r"""In: two final answers. Out: equal, different, or not known without computer algebra.

Numbers are compared as exact fractions of bounded size; lists, sets, intervals, unions and matrices
part by part; words as words. Nothing is evaluated that could grow, so every call is short and safe
in any thread: ``9^{9^{9^9}}`` overflows a float and is done.

Where the gold is a number, the answer has to be one: ``123 \cdot 456`` is the question again, not
its answer. Where the gold is one value, an answer of several is different from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .math_notation import (
    canonical,
    choice_letter,
    clean,
    equation_parts,
    has_prose,
    is_name,
    split_units,
    text_only,
    without_spaces,
)
from .math_numeric import constant, differ
from .math_quantity import Quantity, quantity

_MAX_CHARS = 1_000  # longer than any gold of the public sets
_MAX_ITEMS = 60
_MAX_DEPTH = 3
_MAX_BRACKETS = 100  # parsers of LaTeX take seconds for more
_MIN_DIGITS = 6  # a decimal of as many is read as the rounding of what it is close to

_PLAIN = re.compile(r"-?\d{1,30}")
_JOINING = re.compile(
    r",?\s*(?:\\(?:text|textrm|mbox|mathrm)\s*\{\s*(?:and|or)\s*\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z]))\s*"
)
_MATRIX = re.compile(
    r"\(?\s*\\begin\{([pb]?matrix)\}(.*)\\end\{\1\}\s*\)?|[(\[]\s*\\begin\{array\}\s*\{[^{}]*\}(.*)\\end\{array\}\s*[)\]]",
    re.S,
)
_MEMBER = re.compile(r"[a-zA-Z]\s*\\in(?![a-zA-Z])\s*")
_RELATION = re.compile(r"[<>]|\\(?:le|ge|ne|in)(?![a-zA-Z])")
_APPROXIMATE = re.compile(r"\\(?:approx|simeq|doteq)(?![a-zA-Z])|\u2248")


Ask = Callable[[str, str], bool]


def compare(said: str, gold: str, ask: Ask | None = None) -> bool | None:
    """Whether an answer says what the gold says; None if only computer algebra can tell.

    Args:
        said: The answer, extracted.
        gold: What it should say.
        ask: Computer algebra: told parts of both that nothing here can decide, it decides. With it,
            the result is never None.
    """
    if len(said) > _MAX_CHARS or len(gold) > _MAX_CHARS:
        return False
    said, gold = said.strip(), gold.strip()
    if _PLAIN.fullmatch(said) and _PLAIN.fullmatch(gold):
        return int(said) == int(gold)
    return _compare(clean(said), clean(gold), 0, ask)


def _compare(said: str, gold: str, depth: int, ask: Ask | None) -> bool | None:
    if not said or not gold or depth > _MAX_DEPTH:
        return False
    if without_spaces(said) == without_spaces(gold) or canonical(said) == canonical(gold) != "":
        return True
    said, rounded = _split_approximation(said)
    if rounded:
        is_equal = _compare(said, gold, depth + 1, ask)
        is_stated_twice = not is_equal and _is_rounding(said, rounded)
        return _compare(rounded, gold, depth + 1, ask) if is_stated_twice else is_equal
    left, right = _right_sides(said, gold)
    if left is None or right is None:
        return False
    is_equal = _compare_values(left, right, depth, ask)
    return ask(left, right) if is_equal is None and ask else is_equal


def _compare_values(said: str, gold: str, depth: int, ask: Ask | None) -> bool | None:
    a, b = quantity(said), quantity(gold)
    if a and b:
        return _same_quantity(a, b)
    letter = choice_letter(gold)
    if letter and len(without_spaces(gold)) <= 3:
        return choice_letter(said) == letter
    if text_only(gold):
        return False  # words were compared as words already
    these, those = _values(said), _values(gold)
    if these.is_several or those.is_several:
        return _compare_several(these, those, depth, ask)
    if b:
        return False  # sums, powers and roots of numbers are no number yet
    said, unit = split_units(said)
    gold, gold_unit = split_units(gold)
    if (unit and gold_unit and unit != gold_unit) or has_prose(said) or has_prose(gold):
        return False
    if canonical(said) == canonical(gold) != "":
        return True
    a, value = quantity(said), constant(gold)
    if a and value is not None and a.num_digits >= _MIN_DIGITS:
        return abs(float(a.number) - value) <= 10.0**-a.num_decimals + 1e-12 * abs(value)
    return None if _is_complete(said) and not differ(said, gold) else False


def _is_complete(text: str) -> bool:
    """Whether each bracket is closed; intervals close with another one than they open with."""
    num_groups, num_brackets = text.count("{"), sum(map(text.count, "(["))
    is_closed = num_groups == text.count("}") and num_brackets == sum(map(text.count, ")]"))
    return is_closed and num_groups + num_brackets <= _MAX_BRACKETS


def _same_quantity(a: Quantity, b: Quantity) -> bool:
    if a.unit and b.unit and a.unit != b.unit:
        return False
    if a.is_percent != b.is_percent:  # 50% is 50, and it is 0.5
        percent, plain = (a, b) if a.is_percent else (b, a)
        return percent.number == plain.number or percent.number == 100 * plain.number
    return a.number == b.number or _rounds_to(a, b) or _rounds_to(b, a)


def _rounds_to(long: Quantity, exact: Quantity) -> bool:
    """Whether one is a decimal of many digits that the other, longer still, is cut or rounded to."""
    scale = Fraction(10) ** long.num_decimals
    is_cut = (exact.number * scale).denominator != 1
    is_long = long.num_digits >= _MIN_DIGITS and long.num_decimals > 0
    return is_long and is_cut and abs(long.number - exact.number) * scale <= 1


def _right_sides(said: str, gold: str) -> tuple[str | None, str | None]:
    """Both without the name that only one of them gives its value; None for a contradiction."""
    left, right = _chain(said), _chain(gold)
    if len(left) == len(right) == 1:
        return _MEMBER.sub("", said, count=1), _MEMBER.sub("", gold, count=1)
    if any(_is_contradiction(parts) for parts in (left, right)):
        return None, None
    if len(left) > 1 and len(right) > 1:
        names = canonical(left[0]), canonical(right[0])
        if names[0] == names[1]:
            return left[-1], right[-1]
        is_other = all(len(name) == 1 and name.isalpha() for name in names)
        return (None, None) if is_other else (said, gold)
    if len(left) > 1:
        is_value = is_name(left[0]) or constant(left[0]) is not None
        return (left[-1], gold) if is_value else (None, None)
    return (said, right[-1]) if is_name(right[0]) else (said, gold)


def _chain(text: str) -> list[str]:
    """The parts of one equation; a list of several equations is one part."""
    parts = equation_parts(text)
    if len(parts) > 1 and is_name(parts[-1]) and not is_name(parts[0]):
        parts.reverse()  # 5 = x
    is_list = len(parts) > 2 and (len(_split(text, ",;")) > 1 or _JOINING.search(text) is not None)
    return [text] if is_list else parts


def _is_contradiction(parts: list[str]) -> bool:
    """Whether a chain sets numbers equal that differ: 42 = 43 says two things, 5 + 6 = 11 one."""
    constants = [one for one in parts if constant(one) is not None]
    return any(differ(one, constants[-1]) for one in constants[:-1])


def _split_approximation(text: str) -> tuple[str, str]:
    """A number and what it is said to be about, "" if nothing; ``x`` is no number."""
    signs = list(_APPROXIMATE.finditer(text))
    if not signs:
        return text, ""
    exact, rounded = text[: signs[0].start()].strip(), text[signs[-1].end() :].strip()
    return (rounded, "") if is_name(exact) else (exact, rounded)


def _is_rounding(exact: str, rounded: str) -> bool:
    """Whether a decimal is the other number, rounded: not a second answer."""
    decimal, value = quantity(rounded), constant(equation_parts(exact)[-1])
    if decimal is None or value is None or decimal.num_digits == 0:
        return False
    return abs(float(decimal.number) - value) <= 0.51 * 10.0**-decimal.num_decimals


@dataclass(frozen=True, kw_only=True, slots=True)
class _Values:
    """What an answer lists, and how."""

    kind: str
    """"()", "[)" and the like for brackets, "{}" for a set, "" for a plain list, or "matrix"
    and "union"."""
    items: list[str]
    num_columns: int = 0

    @property
    def is_several(self) -> bool:
        """Whether it is more than one plain value."""
        return len(self.items) > 1 or self.kind != ""


def _compare_several(a: _Values, b: _Values, depth: int, ask: Ask | None) -> bool | None:
    """Whether two answers, of which one or both have several parts, say the same."""
    if max(len(a.items), len(b.items)) > _MAX_ITEMS:
        return False
    if "matrix" in (a.kind, b.kind):
        if a.kind != b.kind or a.num_columns != b.num_columns or len(a.items) != len(b.items):
            return False
        return _in_order(a.items, b.items, depth, ask)
    if "union" in (a.kind, b.kind) and a.kind != b.kind:
        return None
    if len(a.items) != len(b.items):
        # x > 5 may be the same as an interval, and x^2 = 4 as two numbers: algebra's question
        one = a if len(a.items) == 1 else b
        is_relation = len(one.items) == 1 and _RELATION.search(one.items[0])
        return None if is_relation else False
    if a.kind == b.kind == "union" or {a.kind, b.kind} <= {"", "{}"}:
        return _in_any_order(*_unnamed(a.items, b.items), depth, ask)
    if a.kind == b.kind or {a.kind, b.kind} == {"", "()"}:
        return _in_order(a.items, b.items, depth, ask)
    return False


def _in_order(a: Sequence[str], b: Sequence[str], depth: int, ask: Ask | None) -> bool | None:
    is_equal: bool | None = True
    for one, other in zip(a, b, strict=True):
        same = _compare(one, other, depth + 1, ask)
        if same is False:
            return False
        is_equal = is_equal if same else None
    return is_equal


def _in_any_order(
    a: Sequence[str], b: Sequence[str], is_ordered: bool, depth: int, ask: Ask | None
) -> bool | None:
    if is_ordered:
        return _in_order(a, b, depth, ask)
    rest, unknown = list(b), []
    for one in a:
        results = [_compare(one, other, depth + 1, ask) for other in rest]
        if True in results:
            del rest[results.index(True)]
        elif None in results:
            unknown.append(one)
        else:
            return False
    return None if unknown else True


def _unnamed(a: list[str], b: list[str]) -> tuple[list[str], list[str], bool]:
    """Both lists, and whether their order counts because only one of them names its values."""
    names = []
    for items in (a, b):
        parts = [equation_parts(item) for item in items]
        if len(parts[0]) > 1 and all(len(part) == 1 for part in parts[1:]):
            items[0] = parts[0][-1]  # x = 4, -8, -10
            parts[0] = [items[0]]
        names.append({canonical(part[0]) for part in parts if len(part) > 1 and is_name(part[0])})
    is_ordered = any(len(one) > 1 and not other for one, other in (names, reversed(names)))
    return a, b, is_ordered


def _values(text: str) -> _Values:
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        body = (matrix[2] or matrix[3] or "").strip().removesuffix("\\cr")
        rows = [row.split("&") for row in body.split("\\cr ")]
        cells = [cell.strip() for row in rows for cell in row]
        return _Values(kind="matrix", items=cells, num_columns=len(rows[0]))
    parts = _split(text, "\\cup")
    if len(parts) > 1:
        return _Values(kind="union", items=parts)
    kind, inner = _brackets(text)
    items: list[str] = []
    for part in _JOINING.split(inner):
        items += [part] if quantity(part) else _split(part, ",;")
    items = [each for item in items for each in _both_signs(item.strip()) if each]
    if kind in ("", "{}"):
        items = list({canonical(item): item for item in items}.values())
    if len(items) < 2 and kind not in ("{}", ""):
        return _Values(kind="", items=[text])  # (x + 1)(x + 2), or (5)
    return _Values(kind="" if len(items) < 2 else kind, items=items or [text])


def _brackets(text: str) -> tuple[str, str]:
    """The kind of brackets that enclose all of a text, and what they hold."""
    if text.startswith("\\{") and text.endswith("\\}"):
        opening, inner, closing = "{", text[2:-2], "}"
    elif len(text) > 1 and text[0] in "([{" and text[-1] in ")]}":
        opening, inner, closing = text[0], text[1:-1], text[-1]
    else:
        return "", text
    depth = 0
    for character in inner:  # (1,2),(3,4) is not enclosed
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            return "", text
    is_group = text[0] == "{"  # LaTeX shows no brace
    return ("", inner) if is_group else (opening + closing, inner)


def _split(text: str, separator: str) -> list[str]:
    """Parts of a text at a separator that stands in no bracket: a command, or any of characters."""
    parts, depth, start = [], 0, 0
    i = 0
    while i < len(text):
        depth += (text[i] in "([{") - (text[i] in ")]}")
        is_here = text.startswith(separator, i) if separator[0] == "\\" else text[i] in separator
        if is_here and depth == 0:
            parts.append(text[start:i].strip())
            i = start = i + (len(separator) if separator[0] == "\\" else 1)
            continue
        i += 1
    return [*parts, text[start:].strip()]


def _both_signs(text: str) -> list[str]:
    if text.count("\\pm") != 1:
        return [text]
    return [re.sub(r"\\pm(?![a-zA-Z])", sign, text).removeprefix("+") for sign in "+-"]
