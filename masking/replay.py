"""Replay: a masked trace in, whether its arithmetic can still be redone out (leaks L2 and L3).

The statements are read off the whole trace; what is hidden of them counts as unknown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from .arithmetic import Value, evaluate
from .critical import Overlaps, question_values
from .equation_targets import NumericTarget
from .equations import Operand, Side, Statement, find_equations
from .spans import MaskableTask, Span
from .traces import ExpertTrace

_IMPLIED = {
    "hal(?:f|ves)|twice|doubl|pair|couple": (2,),
    "thir|thrice|tripl|trice": (3,),
    "quarter|quadrupl": (4,),
    "dozen": (12,),
    "percent|%|cents?\\b": (100,),
    "hour|minute|second": (60,),
    "da(?:y|ily)": (24, 7),
    "week": (7, 4),
    "month": (12, 4, 30),
    "year|annual": (12, 52, 365),
    "f(?:oo|ee)t|inch|yard": (12, 3),
}
_IMPLIED_WORDS = [(re.compile(words, re.IGNORECASE), values) for words, values in _IMPLIED.items()]


def is_one_step_away(
    trace: ExpertTrace, spans: Sequence[Span], hidden: Sequence[Span], task: MaskableTask
) -> bool:
    """L2: whether one line in sight gives the target away by arithmetic alone.

    Either an expression whose numbers and operators are all in sight has the target's value (as a
    whole or in brackets), as in ``3 + 4 = [NUMBER]``, or an equation in sight but for one number
    has the target as that number, as in ``[NUMBER] - 4 = 3``. Only numeric targets have this leak.

    Args:
        trace: The trace.
        spans: All spans found in it.
        hidden: The hidden ones.
        task: Its task.
    """
    return next(statements_giving_target(trace, spans, hidden, task), None) is not None


def statements_giving_target(
    trace: ExpertTrace, spans: Sequence[Span], hidden: Iterable[Span], task: MaskableTask
) -> Iterator[Statement]:
    """The statements by which a trace is one step away from its target; see `is_one_step_away`."""
    target = NumericTarget(task)
    if target and task.domain not in ("code", "search"):
        cover = _cover(hidden)
        for statement in find_equations(trace, spans):
            if _gives(statement, target, cover):
                yield statement


def _gives(statement: Statement, target: NumericTarget, cover: Overlaps) -> bool:
    unknown = [operand for operand in statement.operands if cover.touch(operand)]
    for side in statement.sides:
        if side.is_computed and _is_skeleton_visible(side, cover):
            values = [None if cover.touch(one) else one.value for one in side.operands]
            found = [value for value in evaluate(side.steps, values) if value is not None]
            if target.is_hit_by([*found, *_percent(side, found)]):
                return True
    is_equation = len(statement.sides) > 1 and statement.is_computed
    return (
        is_equation
        and len(unknown) == 1
        and not any(side.names for side in statement.sides)
        and target.is_hit_by(unknown[0].magnitudes)
        and all(_is_skeleton_visible(side, cover) for side in statement.sides)
    )


def _percent(side: Side, values: Iterable[Value]) -> list[Value]:
    has_percent = any(operand.is_percent for operand in side.operands)
    return [value * 100 for value in values] if has_percent else []


def is_replayable(
    trace: ExpertTrace, spans: Sequence[Span], hidden: Sequence[Span], task: MaskableTask
) -> bool:
    """L3: whether the target follows from the operators in sight and the question's numbers.

    The statements are redone in order. An operand is known if it is in sight here or before, if its
    value stands in the question or is implied by its words ("week": 7), or if an earlier statement
    that could be redone produced it; a statement can be redone if all operands of a side are known and its
    operators and brackets are in sight. This is an upper bound on what a reader can do: he is told
    for each hidden operand which known value it is. Where True, masking hides no more than that
    the arithmetic must be done again. Only numeric targets have this leak.

    Args:
        trace: The trace.
        spans: All spans found in it.
        hidden: The hidden ones.
        task: Its task.
    """
    target = NumericTarget(task)
    if not target or task.domain in ("code", "search"):
        return False
    cover = _cover(hidden)
    known = set(question_values(task.question)) | set(_implied_values(task.question))
    for statement in find_equations(trace, spans):
        sides = [side for side in statement.sides if side.is_computed]
        if any(_is_known(side, known, cover) for side in sides):
            if target.is_hit_by(statement.results):
                return True
            known |= statement.results
        for operand in statement.operands:
            if not cover.touch(operand):
                known.update(operand.magnitudes)
    return False


def _is_known(side: Side, known: set[Value], cover: Overlaps) -> bool:
    return (
        not side.names
        and _is_skeleton_visible(side, cover)
        and all(
            not cover.touch(operand) or any(value in known for value in operand.magnitudes)
            for operand in side.operands
        )
    )


def _is_skeleton_visible(side: Side, cover: Overlaps) -> bool:
    return not any(cover.touch(Operand(side.turn, mark, mark + 1, None)) for mark in side.marks)


def _implied_values(question: str) -> Iterator[Value]:
    """Numbers that words of the question stand for."""
    for words, values in _IMPLIED_WORDS:
        if words.search(question):
            yield from values


def _cover(hidden: Iterable[Span]) -> Overlaps:
    return Overlaps((span.turn, span.start, span.end) for span in hidden)
