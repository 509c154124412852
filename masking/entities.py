"""Alias detector: a turn in, every mention of the task's answers and bridge entities out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from .alias_values import number_forms
from .aliases import SurfaceForm, surfaces_of
from .matcher import AliasIndex, Mention
from .normal_text import normal_words
from .numbers import PLAIN, canonical_number
from .spans import MaskableTask, Span, SpanKind
from .traces import TraceTurn

TARGET_DETECTOR = "answers"
"""`Span.detector` of the mentions of the target."""

ENTITY_DETECTOR = "entities"
"""`Span.detector` of the mentions of bridge entities."""

_NUMBER_FREE_DOMAINS = ("code", "search")  # there, no detector of numbers runs
_PLAIN_NUMBER = re.compile(rf"-?{PLAIN}")
_NAMES = (SurfaceForm.WORDS, SurfaceForm.CAPITALISED)
_TRUTH_WORDS = ("yes", "no", "true", "false")


class TaskEntities:
    """The answers and bridge entities of one task, ready to be found in its traces."""

    def __init__(self, answers: Sequence[str], entities: Sequence[str], question: str, domain: str):
        self._num_answers = len(answers)
        question_words = normal_words(question) if answers or entities else []
        # A number that the number detectors see anyway costs nothing here.
        has_numbers = domain in _NUMBER_FREE_DOMAINS
        wanted = [a if has_numbers or number_forms(a)[0] is None else "" for a in answers]
        self.index = AliasIndex.of((*wanted, *entities), frozenset(question_words))
        self._domain = domain
        self._given: frozenset[int] = frozenset()
        if entities:
            named = AliasIndex.of((*answers, *entities), has_partials=False).find(question)
            self._given = frozenset(mention.alias for mention in named)

    def is_target(self, mention: Mention) -> bool:
        """Whether a mention names an answer."""
        return mention.alias < self._num_answers

    def is_given(self, mention: Mention) -> bool:
        """Whether a mention names a bridge entity that the question names, in whatever form."""
        return not self.is_target(mention) and mention.alias in self._given

    def span(self, mention: Mention, text: str) -> Span:
        """The span of a mention; all mentions of one entity are of one group, the target's is 0."""
        value = text[mention.start : mention.end]
        is_target = self.is_target(mention)
        return Span(
            start=mention.start,
            end=mention.end,
            kind=_target_kind(value, self._domain) if is_target else SpanKind.ENTITY,
            value=value,
            is_given=self.is_given(mention),
            detector=TARGET_DETECTOR if is_target else ENTITY_DETECTOR,
            group=0 if is_target else mention.alias - self._num_answers + 1,
        )


def entities_of(task: MaskableTask) -> TaskEntities | None:
    """The entities of a task, prepared once for all its turns; None if it has nothing to find."""
    answers, entities = tuple(task.answers), tuple(task.entities)
    if not entities and (not answers or _are_plain_numbers(answers, task.domain)):
        return None
    known = _task_entities(answers, entities, task.question, str(task.domain))
    return known if known.index else None


def _are_plain_numbers(answers: Sequence[str], domain: str) -> bool:
    """Whether the number detectors see all answers; most mathematics tasks end here."""
    is_seen = domain not in _NUMBER_FREE_DOMAINS
    return is_seen and all(_PLAIN_NUMBER.fullmatch(answer) for answer in answers)


@lru_cache(maxsize=256)
def _task_entities(
    answers: tuple[str, ...], entities: tuple[str, ...], question: str, domain: str
) -> TaskEntities:
    return TaskEntities(answers, entities, question, domain)


def find_aliases(turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
    """Mentions of the target and of bridge entities, also inside tool calls."""
    known = entities_of(task)
    if known is None:
        return
    for mention in known.index.find(turn.text):
        yield known.span(mention, turn.text)


class KnownEntities:
    """A detector of entities known for a whole data set, such as the titles of its corpus.

    Names count as they are written, not in part; numbers are no entities.

    ``register_detector("titles", KnownEntities(titles))``
    """

    def __init__(self, aliases: Iterable[str]):
        """Builds the index of all aliases; some ten microseconds for each."""
        forms = (surfaces_of(a, has_partials=False, has_orders=False) for a in aliases)
        self._index = AliasIndex([s for s in surfaces if s.form in _NAMES] for surfaces in forms)

    def __call__(self, turn: TraceTurn, task: MaskableTask) -> Iterator[Span]:
        """One span for each mention."""
        for start, end, _ in self._index.find(turn.text):
            value = turn.text[start:end]
            yield Span(start=start, end=end, kind=SpanKind.ENTITY, value=value)


def _target_kind(value: str, domain: str) -> SpanKind:
    """What kind of value a mention of the target is, so that its placeholder does not mark it."""
    if len(value) == 1 and value.isalpha():
        return SpanKind.CHOICE
    if domain == "search" and value.casefold() not in _TRUTH_WORDS:
        return SpanKind.ENTITY
    return SpanKind.ANSWER if canonical_number(value) is None else SpanKind.NUMBER
