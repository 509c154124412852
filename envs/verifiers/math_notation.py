"""In: an answer in LaTeX or plain text. Out: the same with notation taken away that means nothing."""

from __future__ import annotations

import re

TEXT = re.compile(r"\\(?:text|textnormal|textbf|textit|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
FRACTION = re.compile(r"\\frac(?:\{([^{}]+)\}|(\d))(?:\{([^{}]+)\}|(\d))")

_SAME_COMMANDS = (
    ("\\dfrac", "\\frac"),
    ("\\tfrac", "\\frac"),
    ("\\cfrac", "\\frac"),
    ("\\leqslant", "\\le"),
    ("\\geqslant", "\\ge"),
    ("\\leq", "\\le"),
    ("\\geq", "\\ge"),
    ("\\neq", "\\ne"),
    ("<=", "\\le "),
    (">=", "\\ge "),
    ("!=", "\\ne "),
    ("\\lt", "<"),
    ("\\gt", ">"),
    ("\\lbrace", "\\{"),
    ("\\rbrace", "\\}"),
    ("\u2264", "\\le "),
    ("\u2265", "\\ge "),
    ("\u222a", "\\cup "),
    ("\u221e", "\\infty "),
    ("\u2212", "-"),
    ("\u2013", "-"),
)
_SIZES = re.compile(r"\\(?:left|right|displaystyle|bigl?|bigr|Bigl?|Bigr)(?![a-zA-Z])|\\!")
_DIGIT_GROUP = re.compile(r"(?<=\d),\\!\s*(?=\d{3}(?!\d))")
_DEGREES = re.compile(r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\u00b0|\\degree")
_DOLLAR = re.compile(r"(?<!\\)\$")
_CURRENCY = re.compile(r"^\\?[$\u20ac\u00a3]\s?|\s?\\?[$\u20ac\u00a3]$")
_SPACES = re.compile(r"\\[,;:!> ]|~|\\quad|\\qquad|\s+")
_SIMPLE = re.compile(r"[\w.,/ -]*", re.A)
_RATIO = re.compile(r"(?<![\w}])(\d+)/(\d+)(?![\w{])")
_GROUPED_LETTER = re.compile(r"([\^_])\s*\{(\w)\}")
_ROOT = re.compile(r"\\sqrt\s*(\w)")
_WORD = re.compile(r"[A-Za-z-]{2,}")
_LETTER = re.compile(r"\(?([A-J])\)?(?:[.):]\s*(\S.*))?")
_ANOTHER_LETTER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])|\b(?:or|and|not)\b")
_OPTION = re.compile(r"^(?:option|choice|answer)\s+", re.I)
_EQUALS = re.compile(r"(?<![<>!:\\=])=(?!=)")
_SUBSCRIPT = re.compile(r"_(?:\{[^{}]*\}|\w)")
_UNITS_AFTER = re.compile(
    r"(.*\S)\s*\\(?:text|textnormal|textrm|mathrm|mbox)\s*\{([^{}]*)\}(\s*\^\s*\{?[23]\}?)?", re.S
)
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LONG_WORD = re.compile(r"[A-Za-z]{4,}")
_SHORT_WORDS = frozenset(("yes", "no", "odd", "all"))
_FUNCTION_WORDS = frozenset(
    ("sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "infty", "infinity")
)


def clean(text: str) -> str:
    """Notation that never carries meaning taken away; words and spaces kept."""
    text = text.strip().strip("*").strip()
    if _SIMPLE.fullmatch(text):  # most answers, in a tenth of the time
        text = _SPACES.sub(" ", text)
        return text[:-1].rstrip() if text.endswith(".") else text
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.rstrip(".").endswith(closing):
            text = text.rstrip(".")[2:-2]
    if len(_DOLLAR.findall(text)) % 2 == 0:  # a pair encloses mathematics, a single one is money
        text = _DOLLAR.sub("", text).strip()
    if "\\begin{" in text:
        text = text.replace("\\\\", "\\cr ")
    text = text.replace("\\\\", "\\")  # doubled by an escape too many
    text = _SIZES.sub("", _DIGIT_GROUP.sub("", text))
    for old, new in _SAME_COMMANDS:
        text = text.replace(old, new)
    text = _DEGREES.sub("", text)
    text = _SPACES.sub(" ", text).strip()
    text = text[:-1].rstrip() if text.endswith(".") else text
    return _CURRENCY.sub("", text)


def canonical(text: str) -> str:
    """LaTeX whose equality as a string is equality of what it shows, as far as that goes."""
    if "\\" in text or "{" in text:
        text = text.replace("{,}", ",")
        text = FRACTION.sub(lambda m: f"\\frac{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
        text = _ROOT.sub(r"\\sqrt{\1}", text)
        text = TEXT.sub(r"\1", text)
    text = _RATIO.sub(r"\\frac{\1}{\2}", text)
    text = _GROUPED_LETTER.sub(r"\1\2", text)
    letter = choice_letter(text) if len(text) <= 4 else ""
    if letter:
        return letter
    text = without_spaces(text)
    return text.casefold() if _WORD.fullmatch(text) else text


def choice_letter(text: str) -> str:
    """The letter of a choice, as in "(A)", "A.", "option A" or "(A) 42"; "" for anything else."""
    text = _OPTION.sub("", TEXT.sub(r"\1", text).strip())
    match = _LETTER.fullmatch(text.strip())
    has_another = match and _ANOTHER_LETTER.search(match[2] or "")
    return match[1] if match and not has_another else ""


def without_spaces(text: str) -> str:
    """The text without spaces, LaTeX's own included."""
    return _SPACES.sub("", text)


def equation_parts(text: str) -> list[str]:
    """What stands between the equals signs of a chain; the text itself if there are none."""
    parts, start = [], 0
    for sign in _EQUALS.finditer(text) if "=" in text else ():
        between = text[start : sign.start()]
        depth = sum(map(between.count, "([{")) - sum(map(between.count, ")]}"))
        if depth == 0:  # not the one below a sum
            parts.append(between.strip())
            start = sign.end()
    return [*parts, text[start:].strip()] if parts else [text]


def is_name(text: str) -> bool:
    """Whether the left side of an equation only says what its value is of: ``x_1``, ``f(x)``, ``|AB|``."""
    bare = _SUBSCRIPT.sub("", text)
    has_letter = any(map(str.isalpha, bare))
    is_computed = any(c.isdigit() or c in "+-*<>" for c in bare)
    return has_letter and not is_computed and len(text) <= 60


def split_units(text: str) -> tuple[str, str]:
    r"""An expression and the ``\text{...}`` after it; "" where there is none."""
    match = _UNITS_AFTER.fullmatch(text)
    if not match:
        return text, ""
    words = [word if len(word) < 4 else word.removesuffix("s") for word in match[2].lower().split()]
    return match[1].rstrip(), without_spaces(" ".join(words) + (match[3] or ""))


def text_only(text: str) -> bool:
    """Whether a gold is words, which no algebra should read as a product of letters."""
    bare = TEXT.sub(r" \1 ", text).strip()
    is_words = re.fullmatch(r"[^\W\d_][^\W\d_'., -]*(?:[ ,'-]+[^\W\d_'., -]+)*", bare) is not None
    is_long = bare != text.strip() or has_prose(bare) or bare.lower() in _SHORT_WORDS
    return is_words and is_long and len(without_spaces(bare)) > 1


def has_prose(text: str) -> bool:
    """Whether words stand in a text that are no names of functions."""
    if TEXT.search(text) and any(len(word) > 1 for word in TEXT.findall(text)):
        return True
    words = _LONG_WORD.findall(_COMMAND.sub(" ", text))
    return any(word.lower() not in _FUNCTION_WORDS for word in words)
