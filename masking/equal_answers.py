"""Equal answers: a trace, its spans and the verifier in, every other place that states the target.

A place is compared as it is written first (one spelling for LaTeX that looks alike), and then by
the verifier, which is asked about each surface once, and only where it could agree.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

from .alias_values import unsigned
from .checks import Checks
from .entities import TARGET_DETECTOR
from .givens import canonical_value
from .latex import bracketed_lists, math_segments, normalize_latex, parts_of, trimmed
from .numbers import canonical_number
from .spans import PLACEHOLDER, VALUE_KINDS, MaskableTask, Span, SpanKind
from .targets import Target
from .traces import ExpertTrace

_Place = tuple[int, int, int, SpanKind | None]
"""Turn, start and end of what a value stands in, and the kind of the span found there before."""

_STATED = VALUE_KINDS | {SpanKind.CHOICE, SpanKind.ENTITY}
_MAX_QUESTIONS = 64  # to the verifier, per trace; at 120 ms each, half a minute
_MAX_LATE = 4  # a verifier that hangs on most of a trace is not asked about all of it
_MIN_LENGTH = 200  # places longer than this and than four times the answer state something else
_MAX_LENGTH = 2000
_CLOSED = frozenset(("yes", "no", "true", "false"))

_RIGHT_SIDE = re.compile(r"=[ \t]*+([^=\n$,;]{1,80})")
_EMPHASIS = re.compile(r"\*\*([^*\n]{1,120})\*\*|\\(?:text|textbf|mathrm|mathbf|mbox)\{([^{}]*+)\}")
# "no" is a determiner as well ("no evidence"); where it stands as an answer, `entities` finds it.
_CLOSED_WORD = re.compile(r"\b(?:yes|true|false)\b", re.IGNORECASE)
# A sum of plain numbers is not stated but computed: to see it is one step (L2), and to hide it
# would take the operators that a scaffold is there to keep.
_ARITHMETIC = re.compile(
    r"(?:[\d.,\s$%(){}+*/\u00d7\u00f7\u00b7-]|\\(?:times|cdot|div|[dtc]?frac)(?![a-z]))*+"
)
_OPERATOR = re.compile(r"[\d)}]\s*+(?:[-+*/\u00d7\u00f7\u00b7]|\\(?:times|cdot|div)(?![a-z]))")
_RATIO = re.compile(r"\s*-?\d+\s*/\s*-?\d+\s*")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[^\W\d_]+")
_INEQUALITY = re.compile(r"[<>\u2264\u2265]|\\[lg]eq?(?![a-z])|\\[lg]t(?![a-z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class EqualAnswers:
    """Where a trace states its target, beyond what detectors know already."""

    spans: tuple[Span, ...]
    """In no order; `detector` is that of the target."""

    unverified: tuple[Span, ...]
    """Places about which the verifier could not tell, or was not asked as there are too many."""


def find_equal_answers(
    trace: ExpertTrace, task: MaskableTask, spans: Sequence[Span], checks: Checks | None = None
) -> list[Span]:
    r"""Everything in a trace that equals the target, in LaTeX that looks alike or by the verifier.

    Looked at are the values found, mathematical text (whole, by its sides and by its list items),
    intervals, tuples and sets, emphasised text, and what stands behind an equals sign. Where an
    inner place is equal, what lies around it is left in sight: in ``$x = 5$`` it is the 5.
    A computation with plain numbers, ``3 + 4`` for 7, is no statement and stays.

    Args:
        trace: The trace.
        task: Its task.
        spans: What the detectors found in it.
        checks: The verifier; None, or one without `equals`, for comparison by spelling alone.
    """
    return list(equal_answers(trace, task, spans, checks).spans)


def equal_answers(
    trace: ExpertTrace, task: MaskableTask, spans: Sequence[Span], checks: Checks | None = None
) -> EqualAnswers:
    """As `find_equal_answers`, with the places about which nothing is known."""
    is_asked = checks is not None and checks.equals is not None
    answers = [_answer(answer) for answer in task.answers if normalize_latex(answer)]
    if not answers or not (is_asked or any(not answer.is_plain_number for answer in answers)):
        return EqualAnswers(spans=(), unverified=())
    max_length = min(_MAX_LENGTH, max(_MIN_LENGTH, *(4 * len(a.text) for a in answers)))
    target = Target(task)
    known = {(span.turn, span.start, span.end) for span in spans if target.is_shown_by(span)}
    places = _places(trace, spans, answers, max_length, is_asked)
    equal: list[Span] = []
    unverified: list[Span] = []
    num_questions = 0
    num_late = checks.num_late if checks is not None else 0
    for value in reversed(places):  # the answer stands near the end, if the budget is short
        verdict: bool | None = any(answer.is_spelled(value) for answer in answers)
        if not verdict and checks is not None and is_asked:
            asked = [answer for answer in answers if answer.may_equal(value)]
            verdict = False
            if asked:
                num_questions += 1
                is_late = checks.num_late >= num_late + _MAX_LATE
                is_left = num_questions <= _MAX_QUESTIONS and not is_late
                verdict = _verdict(value, asked, checks) if is_left else None
        if verdict is not False:
            found = [_span(place, value, trace, task.domain) for place in places[value]]
            new = (span for span in found if (span.turn, span.start, span.end) not in known)
            (unverified if verdict is None else equal).extend(new)
    return EqualAnswers(spans=tuple(_innermost(equal)), unverified=tuple(unverified))


def _verdict(value: str, answers: Iterable["_Answer"], checks: Checks) -> bool | None:
    """Whether the verifier takes the value for any answer; None if it did not and once failed."""
    verdict: bool | None = False
    for answer in answers:
        is_equal = checks.is_equal(value, answer.text)
        if is_equal:
            return True
        verdict = None if is_equal is None else verdict
    return verdict


def _places(
    trace: ExpertTrace,
    spans: Sequence[Span],
    answers: Sequence["_Answer"],
    max_length: int,
    is_asked: bool,
) -> dict[str, list[_Place]]:
    """Where a value may be stated, by what stands there; some places more than once."""
    places: dict[str, list[_Place]] = {}
    if is_asked:  # a value that is not spelled like the target may be it in another form
        for span in spans:
            if span.kind in _STATED and len(span.value) <= max_length:
                place = (span.turn, span.start, span.end, span.kind)
                places.setdefault(span.value, []).append(place)
    # What is no number and no command can only be a computation or a word.
    has_math = any("\\" in turn.text or "^" in turn.text for turn in trace.turns)
    if not has_math and all(answer.is_plain_number for answer in answers):
        return places
    has_list = any(answer.is_list for answer in answers)
    is_closed = any(answer.normal in _CLOSED for answer in answers)
    for index, turn in enumerate(trace.turns):
        text = turn.text
        ranges = chain(
            _parts(text),
            (match.span(1) for match in _RIGHT_SIDE.finditer(text)),
            (match.span(match.lastindex or 0) for match in _EMPHASIS.finditer(text)),
            bracketed_lists(text, max_length) if has_list else (),
            (match.span() for match in _CLOSED_WORD.finditer(text)) if is_closed else (),
        )
        for start, end in ranges:
            if end - start <= max_length:
                value = trimmed(text[start:end])
                if value:
                    places.setdefault(value, []).append((index, start, end, None))
    return places


def _parts(text: str) -> Iterator[tuple[int, int]]:
    for start, end in math_segments(text):
        yield from parts_of(text, start, end)


def _span(place: _Place, value: str, trace: ExpertTrace, domain: str) -> Span:
    """What stands in a place, as a kind whose placeholder does not mark it among other values."""
    turn, start, end, kind = place
    start = trace.turns[turn].text.index(value, start, end)
    without_sign = unsigned(value)
    start, value = start + len(value) - len(without_sign), without_sign
    if kind is None and canonical_number(value) is not None:
        kind = SpanKind.NUMBER
    elif kind is None:
        is_name = domain == "search" and value.casefold() not in _CLOSED
        kind = SpanKind.ENTITY if is_name else SpanKind.ANSWER
    end = start + len(value)
    return Span(turn=turn, start=start, end=end, kind=kind, value=value, detector=TARGET_DETECTOR)


def _innermost(equal: Iterable[Span]) -> Iterator[Span]:
    """Of places within each other, the inner one."""
    last: Span | None = None
    for place in sorted(equal, key=lambda span: (span.turn, span.end, -span.start)):
        if last is None or place.turn != last.turn or place.start > last.start:
            last = place
            yield place


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """What is told from an answer's text once."""

    text: str
    normal: str
    number: float | None
    variables: frozenset[str] | None
    """Its one-letter names; None if it holds words, which may be anything."""
    num_words: int
    is_list: bool
    is_plain_number: bool

    def is_spelled(self, value: str) -> bool:
        """Whether a value looks like the answer."""
        return normalize_latex(value) == self.normal

    def may_equal(self, value: str) -> bool:
        """Whether it is worth asking the verifier, which can take a tenth of a second."""
        number = _magnitude(value)
        if number is not None and self.number is not None:
            return _is_near(number, self.number)
        if number is not None and (self.is_list or self.variables is None or self.variables):
            return False
        if PLACEHOLDER.search(value) or _is_computation(value):
            return False
        if self.is_list and _INEQUALITY.search(value):
            return True  # -1 < x < 1 for (-1, 1)
        if ("," in value) != ("," in self.text) and self.number is None:
            return False
        # An alias may be longer; a quantity has a unit at most.
        if _num_words(value) > (2 * self.num_words + 2 if self.num_words else 1):
            return False
        variables = _variables(value)
        return variables is None or self.variables is None or variables == self.variables


@lru_cache(maxsize=4096)
def _answer(text: str) -> _Answer:
    normal = normalize_latex(text)
    return _Answer(
        text=text,
        normal=normal,
        number=_magnitude(text),
        variables=_variables(text),
        num_words=_num_words(text),
        is_list="," in text or normal[:1] in ("(", "[", "{", "\\{"),
        # Zero is also "no", "none" and "nothing", but to a verifier it is a number.
        is_plain_number=canonical_number(text) is not None and not normal.count("\\"),
    )


@lru_cache(maxsize=16384)
def _magnitude(value: str) -> float | None:
    """The size of a written number, in digits or words, without its sign; None for other text."""
    above, slash, below = canonical_value(value).partition("/")
    try:
        return float(above) / (float(below) if slash else 1.0)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def _is_near(one: float, other: float) -> bool:
    """Whether two sizes could be called equal: rounded, or one of them in per cent."""
    return any(
        abs(one - factor * other) <= 0.01 * max(one, factor * other) + 1e-9
        for factor in (1.0, 100.0, 0.01)
    )


def _is_computation(value: str) -> bool:
    is_arithmetic = _ARITHMETIC.fullmatch(value) and _OPERATOR.search(value)
    return bool(is_arithmetic) and not _RATIO.fullmatch(value)


def _num_words(value: str) -> int:
    """Words of at least two letters, commands not counted."""
    return sum(len(word) > 1 for word in _WORD.findall(_COMMAND.sub(" ", value)))


def _variables(value: str) -> frozenset[str] | None:
    words = _WORD.findall(_COMMAND.sub(" ", value))
    if any(len(word) > 1 for word in words):
        return None
    return frozenset(words)
