"""Critical path: a trace, its spans and task in, the spans on the way to the target out.

Arithmetic is sliced backward from the target by occurrence: a number that a statement uses leads to
the latest earlier statement that produced this value, from there on to what that one used, and so
on to the givens. What only happens to have the same digits is not on the path.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

from .arithmetic import Value
from .entities import ENTITY_DETECTOR
from .equation_targets import NumericTarget
from .equations import Operand, Statement, equations_of, find_equations
from .number_words import scan_number_words
from .spans import VALUE_KINDS, MaskableTask, Span, SpanKind
from .targets import Target
from .traces import ExpertTrace

_SLICED_KINDS = VALUE_KINDS | {SpanKind.ANSWER, SpanKind.CHOICE}

Place = tuple[int, int, int]
"""Turn, start and end of a piece of text."""


def find_critical(
    trace: ExpertTrace, spans: Sequence[Span], task: MaskableTask
) -> tuple[list[Span], list[Span]]:
    """The spans that show the target, and all that lie on the way to it; some may be in both.

    On the way are, in every domain, all programs, bridge entities, and queries that carry what is
    critical; beyond code and search, also the numbers of the statements the target was computed
    by, wherever they are mentioned. A statement that uses the target ("18 / 2 = 9" for the target
    18) can be solved for it and counts with them. If no statement produces the target, the path
    is not known and every value counts.
    """
    target = Target(task)
    shown = [span for span in spans if target.is_shown_by(span)]
    path = None
    if task.domain not in ("code", "search"):
        path = CriticalPath(trace, spans, task, shown)
    on_path = Overlaps(path.places if path is not None and path.is_found else ())

    def is_on_the_way(span: Span) -> bool:
        if span.kind is SpanKind.CODE or span.detector == ENTITY_DETECTOR:
            return True
        if path is None or span.kind not in _SLICED_KINDS:
            return False
        return not path.is_found or on_path.touch(span)

    others = [span for span in spans if span.kind is not SpanKind.LABEL and is_on_the_way(span)]
    carried = Overlaps((span.turn, span.start, span.end) for span in (*shown, *others))
    others += [span for span in spans if span.kind is SpanKind.QUERY and carried.touch(span)]
    return shown, others


class CriticalPath:
    """The backward slice of one trace, over its statements in reading order."""

    def __init__(
        self,
        trace: ExpertTrace,
        spans: Sequence[Span],
        task: MaskableTask,
        shown: Sequence[Span] = (),
    ):
        self._statements = find_equations(trace, spans)
        self._task = task
        self._line_ends = [_line_ends(turn.text) for turn in trace.turns]
        self._producers: dict[Value, list[int]] = {}
        for index, statement in enumerate(self._statements):
            for value in statement.results:
                self._producers.setdefault(value, []).append(index)
        self._target = NumericTarget(task)
        self._shown = Overlaps((span.turn, span.start, span.end) for span in shown)
        roots = [index for index, one in enumerate(self._statements) if self._is_root(one)]
        self.is_found = bool(roots)
        """Whether a statement produces the target."""
        self.statements = self._closure(roots)
        """Indices of the statements that the target was computed by."""

    def _is_root(self, statement: Statement) -> bool:
        """Whether a statement, or a bracketed part of it, gives the target."""
        if not self._target:  # "x^2 + 1": found by its spelling or by the verifier
            is_lone_value = len(statement.sides) == 1 and not statement.is_computed
            return not is_lone_value and self._shown.touch(statement)
        parts = [value for side in statement.sides for value in side.groups]
        return self._target.is_hit_by([*statement.results, *parts])

    def _closure(self, roots: Sequence[int]) -> set[int]:
        """The roots and all that they were computed from."""
        users_of_name = self._users_of_names()
        reached = set(roots)
        pending = list(roots)
        while pending:
            index = pending.pop()
            for source in self._sources(index, users_of_name):
                if source not in reached:
                    reached.add(source)
                    pending.append(source)
        return reached

    def _sources(self, index: int, users_of_name: dict[str, list[int]]) -> Iterator[int]:
        statement = self._statements[index]
        for side in statement.sides_used:
            used = {value for operand in side.operands for value in operand.magnitudes}
            for value in used.union(side.groups):
                source = self._producer_before(value, index)
                if source is not None:
                    yield source
        for name in {name for side in statement.sides for name in side.names}:
            users = users_of_name[name]
            at = bisect_left(users, index)
            if at:
                yield users[at - 1]
        inner = index - 1  # an annotation inside of the statement computes the same
        while inner >= 0 and self._is_inside(inner, statement):
            yield inner
            inner -= 1

    def _is_inside(self, index: int, outer: Statement) -> bool:
        inner = self._statements[index]
        return inner.turn == outer.turn and inner.start >= outer.start

    def _users_of_names(self) -> dict[str, list[int]]:
        users: dict[str, list[int]] = {}
        for index, statement in enumerate(self._statements):
            for name in {name for side in statement.sides for name in side.names}:
                users.setdefault(name, []).append(index)
        return users

    def _producer_before(self, value: Value, index: int) -> int | None:
        producers = self._producers.get(value, [])
        at = bisect_left(producers, index)
        return producers[at - 1] if at else None

    def _producer_after(self, value: Value, index: int) -> int | None:
        producers = self._producers.get(value, [])
        at = bisect_right(producers, index)
        return producers[at] if at < len(producers) else None

    @cached_property
    def places(self) -> list[Place]:
        """Critical statements, and every number elsewhere that shows a value of theirs."""
        found: list[Place] = []
        givens = self._givens_used()
        for index, statement in enumerate(self._statements):
            is_touched = any(self._target.is_hit_by(one.magnitudes) for one in statement.operands)
            if index in self.statements or (is_touched and statement.is_computed):
                found.append((statement.turn, statement.start, statement.end))
                continue
            is_mention = not statement.is_computed
            if len(statement.sides) == 1 and any(
                self._producer_before(value, index) in self.statements
                for value in statement.results
            ):
                found.append((statement.turn, statement.start, statement.end))
            for side in statement.sides_used:
                for operand in side.operands:
                    if self._shows_path(operand, index, givens if is_mention else None):
                        found.append((operand.turn, operand.start, operand.end))
        return found

    def _givens_used(self) -> frozenset[Value]:
        """Values that critical statements use and that no statement before them produced."""
        return frozenset(
            value
            for index in self.statements
            for side in self._statements[index].sides_used
            for operand in side.operands
            for value in operand.magnitudes
            if self._producer_before(value, index) is None
        )

    def _shows_path(self, operand: Operand, index: int, givens: frozenset[Value] | None) -> bool:
        """Whether a number outside of the path has its value from there.

        `givens` is None for an operand of another statement, whose value may be another's.
        """
        for value in operand.magnitudes:
            before = self._producer_before(value, index)
            if before in self.statements:
                return True
            after = self._producer_after(value, index) if givens is not None else None
            is_ahead = after in self.statements
            if is_ahead and after is not None and self._is_same_line(index, after):
                return True  # "He earned 60, because 4 x 15 = 60"
            if before is not None or givens is None:
                continue
            if value in givens or (is_ahead and value not in self._question_values):
                return True
        return False

    def _is_same_line(self, first: int, second: int) -> bool:
        one, other = self._statements[first], self._statements[second]
        if one.turn != other.turn:
            return False
        ends = self._line_ends[one.turn]
        return bisect_left(ends, one.start) == bisect_left(ends, other.start)

    @cached_property
    def _question_values(self) -> frozenset[Value]:
        return question_values(self._task.question)


@lru_cache(maxsize=64)
def question_values(question: str) -> frozenset[Value]:
    """The numbers that stand in a question, in digits or in words."""
    statements = equations_of(question, scan_number_words(question))
    return frozenset(
        value
        for statement in statements
        for operand in statement.operands
        for value in operand.magnitudes
    )


def _line_ends(text: str) -> list[int]:
    return [at for at, character in enumerate(text) if character == "\n"]


class Overlaps:
    """Pieces of text joined where they overlap; does a span touch one?"""

    def __init__(self, places: Iterable[Place]):
        self._ends: list[tuple[int, int]] = []  # turn, end
        self._starts: list[int] = []
        for turn, start, end in sorted(places):
            if self._ends and self._ends[-1][0] == turn and start <= self._ends[-1][1]:
                self._ends[-1] = (turn, max(end, self._ends[-1][1]))
            else:
                self._ends.append((turn, end))
                self._starts.append(start)

    def touch(self, span: Span | Statement | Operand) -> bool:
        """Whether a span shares a character with one of the pieces."""
        at = bisect_right(self._ends, (span.turn, span.start))
        is_there = at < len(self._ends) and self._ends[at][0] == span.turn
        return is_there and self._starts[at] < span.end
