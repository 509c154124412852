"""In: text of a model that a grader evaluates. Out: its value, if it is nothing but mathematics.

The graders that this package reproduces call `eval`, and SymPy's `parse_expr`, which is `eval` too,
on whatever the model wrote. Here text with attributes, strings, statements or names that mean
something other than mathematics is refused, and counts as one that cannot be parsed.
"""

import builtins
import re
import unicodedata
from functools import cache
from typing import Any

import sympy
from sympy.parsing import sympy_parser

_ARITHMETIC = re.compile(
    r"(?:[\d\s.+\-*/()\[\],%<>=!&|^~]|\b(?:or|and|not|in|is)\b|(?<=\d)[eE](?=[-+]?\d))*"
)
_NAME = re.compile(r"[^\W\d]\w*")
_UNSAFE = re.compile(
    r"__|[\"'`@:;{}\\]|(?:[^\W\d]\w*|[)\]])\s*\.\s*[^\W\d]|\b(?:lambda|import|for|if|yield|await)\b"
)
_MATHEMATICAL = """
    pi E I oo nan zoo Abs abs min max pow round sum float int Min Max Rational Integer Float Matrix
    Point Interval FiniteSet Tuple Union Eq Ne Lt Le Gt Ge Sum Product Integral Limit Derivative sqrt
    root cbrt factorial binomial gcd lcm log ln exp floor ceiling sign list tuple set N S Q O
"""


def arithmetic(text: str) -> Any:
    """The value of a Python expression of numbers, lists and operators alone.

    Raises:
        Exception: If it is anything else, or has no value.
    """
    if not _ARITHMETIC.fullmatch(text):
        raise ValueError("more than arithmetic")
    return eval(text, {"__builtins__": {}})


def parsed(text: str, **settings: Any) -> Any:
    """What SymPy makes of an expression, with settings of its `parse_expr`.

    Raises:
        Exception: If it is refused, or cannot be parsed.
    """
    return sympy_parser.parse_expr(_checked(text), **settings)


def _checked(text: str) -> str:
    """The text, if nothing in it but mathematics can happen when it is evaluated."""
    read = unicodedata.normalize("NFKC", text)  # as Python reads names
    if _UNSAFE.search(text) or _UNSAFE.search(read):
        raise ValueError("attributes, strings, or statements")
    for name in _NAME.findall(read):
        if name in _reserved():
            raise ValueError(f"{name} is not mathematics")
    return text


@cache
def _reserved() -> frozenset[str]:
    """Names that mean something to SymPy or Python, other than mathematics."""
    functions = {
        name
        for name, thing in vars(sympy).items()
        if isinstance(thing, type) and issubclass(thing, sympy.Function)
    }
    return frozenset({*vars(sympy), *vars(builtins)} - functions - set(_MATHEMATICAL.split()))
