"""In: the source of an assert-style test. Out: what it takes from the candidate, and how.

Decided by the test alone, never by what a candidate does: a candidate that could choose where it is
tested would choose its own process.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_BUILTINS = frozenset(dir(builtins))


@dataclass(frozen=True, kw_only=True, slots=True)
class TestNames:
    """The names that a test needs and does not define."""

    __test__ = False  # pytest would collect a class called Test*

    functions: tuple[str, ...]
    """The candidate's functions."""
    modules: tuple[str, ...]
    """Modules of the standard library that the test uses without importing them."""
    setup: str
    """The task's own definitions, which the test may use; Python."""
    needs_process: str
    """Why the test has to run in the candidate's own process; "" where it need not."""


def names_of_test(source: str, *, prompt: str = "", entry_point: str = "") -> TestNames:
    """What the test `source` takes from elsewhere.

    What `prompt` defines, but for `entry_point`, is the task's own and not the candidate's. The
    test has to run in the candidate's process where it uses a class of the candidate, an attribute
    of one of its functions, or a call for what it does to its arguments.

    Raises:
        ValueError: If the test is no Python.
    """
    try:
        tree = ast.parse(source)
        defined, used = _globals(source)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"A test is no Python ({error}): {source[:80]!r}.") from None
    setup = _complete(prompt)
    own = _globals(setup)[0] - {entry_point}
    free = used - defined - own - _BUILTINS
    if not free:  # then it is called as a built-in function is: MBPP asks for a `sum` of its own
        free = used & {entry_point}
    bases = {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    modules = {name for name in free & bases if name in sys.stdlib_module_names}
    functions = free - modules
    return TestNames(
        functions=tuple(sorted(functions)),
        modules=tuple(sorted(modules)),
        setup=setup,
        needs_process=_reason(tree, functions, bases, entry_point),
    )


def _globals(source: str) -> tuple[set[str], set[str]]:
    """The global names that a source defines, and those that it uses anywhere."""
    top = symtable.symtable(source, "test.py", "exec")
    defined, used = set(), set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if table is top or symbol.is_global():
                if symbol.is_assigned() or symbol.is_imported():
                    defined.add(symbol.get_name())
                if symbol.is_referenced():
                    used.add(symbol.get_name())
    return defined, used


def _complete(prompt: str) -> str:
    """A program prefix, with a body for its last function if it has none; "" if it is no Python."""
    for candidate in (prompt, f"{prompt.rstrip()}\n    pass\n"):
        try:
            ast.parse(candidate)
        except (SyntaxError, ValueError):
            continue
        return candidate
    return ""


def _reason(tree: ast.Module, functions: set[str], bases: set[str], entry_point: str) -> str:
    for name in sorted(functions):
        if name[:1].isupper() and name != entry_point:
            return f"{name} is a class"
        if name in bases:
            return f"the test reads an attribute of {name}"
    for call in _discarded_calls(tree.body):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in functions | {"candidate"} and (call.args or call.keywords):
            return f"the test calls {name} for what it does to its arguments"
    return ""


def _discarded_calls(statements: list[ast.stmt]) -> Iterator[ast.Call]:
    """Calls whose result nobody takes, but for those that are tried for what they raise."""
    for statement in statements:
        match statement:
            case ast.Expr(value=ast.Call() as call):
                yield call
            case ast.FunctionDef() | ast.For() | ast.While() | ast.If() | ast.With():
                yield from _discarded_calls(statement.body)
