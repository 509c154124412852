"""Code lines: a statement in, how much it looks like a program out."""

import ast
import re
import warnings
from enum import IntEnum

from .spans import PLACEHOLDER

MAX_STATEMENT_CHARS = 20_000
"""Longer statements are not parsed: the parser takes up to a microsecond for each character."""


class Evidence(IntEnum):
    """What a line says about the lines around it; a higher one says more."""

    NONE = 0
    """Prose, or too little to tell."""
    NEUTRAL = 1
    """May stand in a program, and elsewhere: a comment, a closing bracket, "else:"."""
    SHAPED = 2
    """Starts as a statement does, but is none as it stands."""
    WEAK = 3
    """Parses, but algebra is written like this too: "x = a + b"."""
    MEDIUM = 4
    """Parses and calls, indexes or builds something: "x = f(a)[k]"."""
    STRONG = 5
    """Only a program has it: "def", "import", "return f(x)", "print(x)"."""


_MAY_BE_CODE = re.compile(
    r"""[#@)\]}'"*(\[{]|>>>|\.\.\. |[^\W\d]\w*+(?:[ \t]*+[=(\[.,:+*/%|&^<>;-]|[ \t]++\S|[ \t]*+$)"""
)
_NEUTRAL = re.compile(
    r"#(?!#)[^\n]*+|[)\]}]++[,;:]?|\.\.\.|"
    r"(?:else|try|finally|except)[ \t]*+:[ \t]*+(?:#[^\n]*+)?|pass|break|continue"
)
_SHAPED = re.compile(
    r"(?:for|while|if|elif|return|def|with|assert|lambda|yield)\b[^\n]*?[=<>()\[\]:+*/%]|"
    r"[a-z_][\w.]*+(?:\[[^\[\]\n]*+\])?[ \t]*+(?:[-+*/%|&]|//|\*\*)?=[ \t]*+\S"
)
_PRINT_STATEMENT = re.compile(r"print[ \t]++[\"']")
_FOREIGN_STRONG = re.compile(
    r"#include[ \t]*+[<\"]|using namespace \w|public (?:static |final )*class |"
    r"(?:[A-Za-z_][\w:<>*&,]*+[ \t]++){1,4}+[\w:~]++\([^(){};\n]{0,200}+\)[ \t]*+(?:const )?\{|"
    r"(?:for|while|if)[ \t]*+\([^\n{}]*+\)[ \t]*+\{|function \w++\([^()\n]*+\)[ \t]*+\{"
)
_FOREIGN = re.compile(
    r"(?=[^\n]{1,160}$)[^\n\\$;]*[=(<\[+-][^\n\\$]*;[ \t]*+(?://[^\n]*+)?$|\}[ \t]*+else\b[^\n]*+"
)
_HEADER_END = re.compile(r":[ \t]*+(?:#[^\n]*+)?$")
_PYTHON_SIGNS = (
    *(ast.Call, ast.Subscript, ast.Attribute, ast.List, ast.Dict, ast.Set, ast.JoinedStr),
    *(ast.Lambda, ast.ListComp, ast.GeneratorExp, ast.SetComp, ast.DictComp),
    *(ast.FloorDiv, ast.Pow, ast.Compare, ast.BoolOp, ast.IfExp, ast.Mod),
)
_STRONG_NODES = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Import, ast.ImportFrom, ast.Assert),
    *(ast.For, ast.AsyncFor, ast.With, ast.Try, ast.Global, ast.Nonlocal, ast.Delete),
)


def parses(source: str) -> bool:
    """Whether this is Python, a header alone included; False for what is too long or too deep."""
    return _parsed(_completed(source)) is not None


def is_header(statement: str) -> bool:
    """Whether a block follows this statement, as after "for x in a:"."""
    return _HEADER_END.search(statement) is not None


def statement_evidence(statement: str) -> Evidence:
    """Evidence of a line or of a statement of several lines, without white space around it."""
    if not _MAY_BE_CODE.match(statement):
        return Evidence.SHAPED if _SHAPED.match(statement) else Evidence.NONE
    if "[" in statement and PLACEHOLDER.search(statement):
        # What was hidden already; no code now if it was none before.
        return Evidence.NONE
    if _FOREIGN_STRONG.match(statement):
        return Evidence.STRONG
    if statement.startswith((">>> ", "... ")):
        is_code = parses(statement[4:])
        return Evidence.STRONG if is_code else Evidence.NONE
    if _NEUTRAL.fullmatch(statement):
        return Evidence.NEUTRAL
    parsed = _parsed(_completed(statement))
    if parsed is not None:
        return _node_evidence(parsed.body[0]) if parsed.body else Evidence.NONE
    if _PRINT_STATEMENT.match(statement):
        return Evidence.STRONG
    if _FOREIGN.match(statement):
        return Evidence.MEDIUM
    return Evidence.SHAPED if _SHAPED.match(statement) else Evidence.NONE


def _completed(statement: str) -> str:
    """A header as a whole statement that parses."""
    if statement.startswith("@"):
        return f"{statement}\ndef f(): pass"
    if not is_header(statement):
        return statement
    if statement.startswith("elif"):
        statement = statement[2:]
    elif statement.startswith("except"):
        statement = f"try: pass\n{statement}"
    return f"{statement}\n pass"


def _node_evidence(node: ast.stmt) -> Evidence:
    """Evidence of a statement that parses."""
    if isinstance(node, _STRONG_NODES):
        return Evidence.STRONG
    if isinstance(node, ast.Return | ast.Raise):
        value = node.value if isinstance(node, ast.Return) else node.exc
        # "return home" is no Python, "return" and "return it" are: they may be English.
        return Evidence.MEDIUM if value is None or isinstance(value, ast.Name) else Evidence.STRONG
    if isinstance(node, ast.If | ast.While):
        # "if so:" may be English.
        return Evidence.WEAK if isinstance(node.test, ast.Name) else Evidence.STRONG
    if isinstance(node, ast.ClassDef):
        is_named = node.name[:1].isupper() or bool(node.bases)
        return Evidence.STRONG if is_named else Evidence.WEAK
    if isinstance(node, ast.AugAssign):
        return Evidence.MEDIUM
    if isinstance(node, ast.AnnAssign):
        # "Note: x" is a label.
        return Evidence.NONE if node.value is None else Evidence.WEAK
    if isinstance(node, ast.Assign):
        is_python = isinstance(node.targets[0], ast.Tuple) or _has_python_signs(node)
        return Evidence.MEDIUM if is_python else Evidence.WEAK
    if isinstance(node, ast.Expr):
        return _expression_evidence(node.value)
    return Evidence.NEUTRAL


def _expression_evidence(value: ast.expr) -> Evidence:
    """Evidence of an expression that stands alone on its line."""
    if isinstance(value, ast.Yield | ast.YieldFrom | ast.Await):
        return Evidence.STRONG
    if isinstance(value, ast.Call):
        is_print = isinstance(value.func, ast.Name) and value.func.id == "print"
        if is_print:
            return Evidence.STRONG
        # "Juno (comics)" is a title.
        is_title = isinstance(value.func, ast.Name) and _is_apart(value)
        return Evidence.NEUTRAL if is_title else Evidence.MEDIUM
    if isinstance(value, ast.ListComp | ast.GeneratorExp | ast.DictComp | ast.Lambda):
        return Evidence.MEDIUM
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return Evidence.NEUTRAL
    return Evidence.MEDIUM if isinstance(value, ast.Subscript) else Evidence.NONE


def _is_apart(call: ast.Call) -> bool:
    """Whether white space stands between a name and the bracket of its call, as in prose."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    name_end = call.func.end_col_offset or 0
    first = arguments[0] if arguments else None
    return first is not None and first.lineno == call.lineno and first.col_offset > name_end + 1


def _has_python_signs(node: ast.Assign) -> bool:
    if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str | bool):
        return True
    return any(isinstance(child, _PYTHON_SIGNS) for child in ast.walk(node))


def _parsed(source: str) -> ast.Module | None:
    if len(source) > MAX_STATEMENT_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\d" in a string of the trace is not our bug
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
