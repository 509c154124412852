r"""Equations: a trace and its spans in, what its lines compute out, by occurrence with offsets.

``48/2 = 24 clips`` is a statement of two sides, ``48/2`` and ``24``; a chain has more. GSM8K's
``<<48/2=24>>`` is a statement of its own inside the one around it. A number that no statement
holds is a side alone: a mention.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

from .arithmetic import GROUP_END, OPERATORS, Step, Value, evaluate
from .equation_tokens import Token, TokenKind, tokens_of
from .spans import Span
from .traces import ExpertTrace, TraceTurn, TurnKind

_MAX_WORDS = 6  # between the parts of one expression: "3 of the red apples + 4"


class Operand(NamedTuple):
    """A number where it stands."""

    turn: int
    start: int
    end: int
    value: Value | None
    """None if it is too long, or a variable's."""
    is_percent: bool = False

    @property
    def magnitudes(self) -> tuple[Value, ...]:
        """The values it may be meant as: 25% is 1/4 and, in a sentence, 25."""
        if self.value is None:
            return ()
        return (self.value, self.value * 100) if self.is_percent else (self.value,)


@dataclass(frozen=True, kw_only=True)
class Side:
    """An expression: one side of a statement, or what stands alone."""

    turn: int
    start: int
    end: int
    operands: tuple[Operand, ...]
    names: tuple[str, ...]
    """Its variables."""
    steps: tuple[Step, ...]
    """The expression in postfix order, as `arithmetic.evaluate` takes it."""
    marks: tuple[int, ...]
    """Where its operators and brackets stand."""

    @property
    def is_computed(self) -> bool:
        """Whether there is something to compute; a sign alone is not."""
        return any(step in OPERATORS and step != "neg" for step in self.steps)

    @cached_property
    def result(self) -> tuple[Value, ...]:
        """Its value, also as a number of percent if it is made of percentages; () if unknown."""
        value = self._values[0]
        if value is None:
            return ()
        has_percent = any(operand.is_percent for operand in self.operands)
        return (value, value * 100) if has_percent else (value,)

    @property
    def groups(self) -> list[Value]:
        """The known values of its bracketed parts."""
        return [value for value in self._values[1:] if value is not None]

    @cached_property
    def _values(self) -> list[Value | None]:
        return evaluate(self.steps, [operand.value for operand in self.operands])


@dataclass(frozen=True, kw_only=True)
class Statement:
    """Sides held equal, or one that stands alone (no equality, but maybe something to compute)."""

    sides: tuple[Side, ...]

    @property
    def turn(self) -> int:
        """Index of the turn it stands in."""
        return self.sides[0].turn

    @property
    def start(self) -> int:
        """Where its first side starts."""
        return self.sides[0].start

    @property
    def end(self) -> int:
        """Where its last side ends."""
        return self.sides[-1].end

    @property
    def is_computed(self) -> bool:
        """Whether one of its sides has something to compute."""
        return any(side.is_computed for side in self.sides)

    @property
    def operands(self) -> Iterator[Operand]:
        """All numbers in it, results too."""
        return (operand for side in self.sides for operand in side.operands)

    @property
    def sides_used(self) -> Sequence[Side]:
        """The sides that are computed from; all but the last where none computes ("x = 5").

        A fraction behind another computed side is a result: ``1/2 + 1/3 = 5/6``.
        """
        computed = [side for side in self.sides if side.is_computed]
        first, rest = computed[:1], computed[1:]
        if first:
            return first + [side for side in rest if side.steps[:3] != (0, 1, "/")]
        return self.sides[: max(1, len(self.sides) - 1)]

    @cached_property
    def results(self) -> frozenset[Value]:
        """The values it produces: those of all its sides, or of the last where none computes.

        A lone expression produces its value; a number that stands alone produces nothing.
        """
        if not self.is_computed and len(self.sides) == 1:
            return frozenset()
        sides = self.sides if self.is_computed else self.sides[-1:]
        return frozenset(value for side in sides for value in side.result)


def find_equations(trace: ExpertTrace, spans: Sequence[Span]) -> tuple[Statement, ...]:
    """All statements and lone expressions of a trace, ordered by turn and by where they end.

    Programs, documents and the results of tools are not read; labels are no numbers. Time is
    linear in the length of the trace. The last trace read is remembered: a policy and the audits
    of its scaffold ask for the same.
    """
    return _read_last(trace, tuple(spans))


@lru_cache(maxsize=1)  # a long trace has many statements; only the last is kept
def _read_last(trace: ExpertTrace, spans: tuple[Span, ...]) -> tuple[Statement, ...]:
    of_turn: dict[int, list[Span]] = {}
    for span in spans:
        of_turn.setdefault(span.turn, []).append(span)
    found: list[Statement] = []
    for index, turn in enumerate(trace.turns):
        if _is_read(turn):
            found += equations_of(turn.text, of_turn.get(index, ()), index)
    return tuple(found)


def _is_read(turn: TraceTurn) -> bool:
    return turn.kind is not TurnKind.TOOL_RESULT


def equations_of(text: str, spans: Iterable[Span] = (), turn: int = 0) -> list[Statement]:
    """Statements and lone expressions of one text."""
    outer = reader = _Reader(turn)
    found: list[Statement] = []
    for token in tokens_of(text, spans):
        if token.kind is TokenKind.NOTE_START:
            found += reader.finish() if reader is not outer else ()
            reader = _Reader(turn)
        elif token.kind is TokenKind.NOTE_END or (
            token.kind is TokenKind.END and reader is not outer
        ):
            if reader is not outer:
                found += reader.finish()
                reader = outer
            if token.kind is TokenKind.END:
                found += reader.read(token)
        else:
            found += reader.read(token)
    if reader is not outer:
        found += reader.finish()
    return found + outer.finish()


class _Reader:
    """Joins tokens into sides and sides into statements; keeps what is open."""

    def __init__(self, turn: int):
        self._turn = turn
        self._side: _SideBuilder | None = None
        self._sides: list[Side] = []  # of the open chain
        self._num_words = 0

    def read(self, token: Token) -> list[Statement]:
        """What this token completes."""
        kind = token.kind
        if kind is TokenKind.SOFT_EQUALS:
            is_result = self._side is not None and self._side.is_computed
            kind = TokenKind.EQUALS if is_result else TokenKind.WORD
        if kind is TokenKind.WORD:
            self._num_words += 1
            return self._close_chain() if self._num_words > _MAX_WORDS else []
        done: list[Statement] = []
        if kind is TokenKind.EQUALS:
            self._close_side()
        elif kind in (TokenKind.END, TokenKind.BREAK):
            done = self._close_chain()
        else:
            done = self._extend(token)
        self._num_words = 0
        return done

    def finish(self) -> list[Statement]:
        return self._close_chain()

    def _extend(self, token: Token) -> list[Statement]:
        if self._side is not None and self._side.add(token, self._num_words):
            return []
        # The token does not continue the side; a new one starts with it, if it can start one.
        done: list[Statement] = []
        if self._side is not None:
            done = self._close_chain()
        side = _SideBuilder(self._turn)
        if side.add(token, 0):
            self._side = side
        elif token.kind is not TokenKind.CLOSE:
            done += self._close_chain()
        return done

    def _close_side(self) -> None:
        side = self._side.build() if self._side is not None else None
        self._side = None
        if side is not None:
            self._sides.append(side)

    def _close_chain(self) -> list[Statement]:
        self._num_words = 0
        if self._side is None and not self._sides:
            return []
        self._close_side()
        statement, self._sides = Statement(sides=tuple(self._sides)), []
        has_value = any(operand.value is not None for operand in statement.operands)
        return [statement] if has_value else []


_PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "^": 4, "mixed": 5, "sqrt": 6, "(": 0}


class _SideBuilder:
    """One expression, token by token (Dijkstra's shunting yard), as far as it can be continued."""

    def __init__(self, turn: int):
        self._turn = turn
        self._operands: list[Operand] = []
        self._names: list[str] = []
        self._steps: list[Step] = []
        self._stack: list[str] = []
        self._num_trailing = 0  # operators and open brackets since the last operand
        self._marks: list[int] = []
        self._needs_operand = True
        self._last: Token | None = None
        self._start = self._end = 0  # of what is complete

    @property
    def is_computed(self) -> bool:
        return not {"neg", "("}.issuperset(self._stack) or any(
            step in OPERATORS and step != "neg" for step in self._steps
        )

    def add(self, token: Token, num_words: int) -> bool:
        """Whether the token continues the expression; if not, nothing has changed."""
        if token.kind is TokenKind.OPERATOR:
            is_taken = self._add_operator(token)
        elif token.kind is TokenKind.CLOSE:
            is_taken = self._add_close(token)
        else:
            is_taken = self._add_start(token, num_words)
        if is_taken:
            self._last = token
        return is_taken

    def _add_operator(self, token: Token) -> bool:
        operator = token.text
        if self._needs_operand and operator != "sqrt":
            if operator not in "+-" or not operator:
                return False
            operator = "neg" if operator == "-" else "+"
            if operator == "neg":
                self._push("neg")
        elif operator == "sqrt":
            if not self._needs_operand:
                if not self._is_adjacent(token):
                    return False
                self._push_binary("*")
            self._push("sqrt")
        else:
            self._push_binary(operator)
        self._needs_operand = True
        self._marks.append(token.start)
        return True

    def _add_start(self, token: Token, num_words: int) -> bool:
        """A number, a variable or an opening bracket."""
        if not self._needs_operand:
            is_factor = self._last is not None and self._last.text and self._last.value is not None
            is_product = self._is_adjacent(token) and not (
                token.kind is TokenKind.NUMBER
                and self._last is not None
                and self._last.kind is TokenKind.NUMBER
            )
            if num_words or not (is_factor or is_product):
                return False
            self._push_binary("*")
        if token.kind is TokenKind.OPEN:
            self._push("(")
            self._marks.append(token.start)
            self._needs_operand = True
            return True
        if token.kind is TokenKind.NAME:
            self._names.append(token.text)
            self._marks.append(token.start)
        self._start = self._start if self._operands else self._first_start(token)
        self._steps.append(len(self._operands))
        self._operands.append(
            Operand(self._turn, token.start, token.end, token.value, token.is_percent)
        )
        self._num_trailing = 0
        self._needs_operand = False
        self._end = token.end
        return True

    def _add_close(self, token: Token) -> bool:
        if self._needs_operand or "(" not in self._stack[-_MAX_DEPTH:]:
            return False
        while (operator := self._stack.pop()) != "(":
            self._steps.append(operator)
        if self._steps[-1] != GROUP_END and not isinstance(self._steps[-1], int):
            self._steps.append(GROUP_END)
        if self._stack and self._stack[-1] == "sqrt":
            self._steps.append(self._stack.pop())
        self._end = token.end
        self._marks.append(token.start)
        return True

    def _is_adjacent(self, token: Token) -> bool:
        if self._last is None:
            return False
        is_command = token.text.startswith("\\")  # LaTeX skips the space in "2 \\pi"
        return self._last.end == token.start or is_command

    def _first_start(self, token: Token) -> int:
        return self._marks[0] if self._marks and self._marks[0] < token.start else token.start

    def _push_binary(self, operator: str) -> None:
        precedence = _PRECEDENCE[operator]
        is_right = operator == "^"
        while self._stack:
            top = _PRECEDENCE[self._stack[-1]]
            if top < precedence or (is_right and top == precedence):
                break
            self._steps.append(self._stack.pop())
        self._push(operator)

    def _push(self, operator: str) -> None:
        self._stack.append(operator)
        self._num_trailing += 1

    def build(self) -> Side | None:
        """The expression without what trails behind its last operand; None if it has none."""
        if not self._operands:
            return None
        stack = self._stack[: len(self._stack) - self._num_trailing]
        self._steps += [operator for operator in reversed(stack) if operator != "("]
        return Side(
            turn=self._turn,
            start=self._start,
            end=self._end,
            operands=tuple(self._operands),
            names=tuple(self._names),
            steps=tuple(self._steps),
            marks=tuple(mark for mark in self._marks if mark < self._end),
        )


_MAX_DEPTH = 64  # brackets nested deeper are left open: keeps the search for the opening one short
