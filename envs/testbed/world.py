"""In: level, split, seed, size. Out: `FictionalWorld`, search tasks of several hops with pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from ...masking import ExpertTrace, TraceTurn, TurnKind
from ...retrieval import Passage
from ..tasks import Domain, Task
from .family import DEFAULT_SIZE, TaskFamily
from .names import NAMES
from .permutation import permute

RELATIONS = (
    "mentor",
    "spouse",
    "rival",
    "doctor",
    "neighbor",
    "captain",
    "teacher",
    "partner",
)
_FACTS_PER_PAGE = 4
_CIRCLES = 8  # more than the persons of the longest chain, so that no chain meets itself
_NUM_NAMES = len(NAMES)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fact:
    """`relation` leads from the owner of a page to `person`, a number in the world."""

    relation: str
    person: int


class FictionalWorld(TaskFamily):
    """Search: "Who is the rival of the spouse of Belvatorrek ?", answered by looking pages up.

    A world is `num_people` persons with one page each; a page names four of the eight relations in
    shuffled order, and four different persons. Persons stand in eight circles and a page only names
    persons of the next circle, so a chain of up to four hops never meets a person twice. A question
    is a start and a path along the pages; it has exactly one answer.

    All levels of one (split, seed, num_people) ask about the same world. Splits and seeds are
    worlds of their own: train and test of one seed share no name, nor do the first ``4096 //
    (2 * num_people)`` seeds among each other (four with 512 people). Later seeds use the names
    again, for other pages.
    """

    family: ClassVar[str] = "world"
    max_level: ClassVar[int] = 4

    def __init__(
        self,
        level: int = 2,
        split: str = "train",
        seed: int = 0,
        size: int | None = None,
        num_people: int = 512,
    ) -> None:
        """As in `TaskFamily`; `num_people` is a multiple of 8 from 32 to 2048."""
        if not 32 <= num_people <= _NUM_NAMES // 2 or num_people % _CIRCLES:
            raise ValueError(
                f"num_people is {num_people}; it must be a multiple of {_CIRCLES} "
                f"from 32 to {_NUM_NAMES // 2}."
            )
        self.num_people = num_people
        super().__init__(level, split, seed, size)

    @property
    def num_problems(self) -> int:
        """Persons times the choices of each hop, in this split's world."""
        return int(self.num_people * _FACTS_PER_PAGE**self.level)

    def passages(self) -> list[Passage]:
        """One page for each person of this split's world; the same at every level."""
        return [self._page(person) for person in range(self.num_people)]

    def _default_size(self) -> int:
        return min(DEFAULT_SIZE, self.num_problems)

    def _check_fit(self) -> None:
        if self.size > self.num_problems:
            raise ValueError(
                f"A world of {self.num_people} people has {self.num_problems} questions of level "
                f"{self.level}, found size {self.size}. Use a smaller size, a higher level or "
                "more people."
            )

    def _rank(self, index: int) -> int:
        return permute(index, self.num_problems, f"{self._world}:level{self.level}")

    @property
    def _world(self) -> str:
        return f"world-{self.num_people}-seed{self.seed}-{self.split}"

    def _identity(self) -> tuple[object, ...]:
        return (*super()._identity(), self.num_people)

    def __reduce__(self) -> tuple[Callable[..., FictionalWorld], tuple[Any, ...]]:
        return FictionalWorld, (self.level, self.split, self.seed, self.size, self.num_people)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, num_people={self.num_people})"

    def _name(self, person: int) -> str:
        round_, slot = divmod(self.seed, _NUM_NAMES // (2 * self.num_people))
        place = (2 * slot + (self.split == "test")) * self.num_people + person
        return NAMES[permute(place, _NUM_NAMES, f"names:{round_}")]

    def _facts(self, person: int) -> list[_Fact]:
        """The facts of a person's page in the order of the page."""
        key = f"{self._world}:{person}"
        in_circle = self.num_people // _CIRCLES
        next_circle = (person + 1) % _CIRCLES
        return [
            _Fact(
                relation=RELATIONS[permute(i, len(RELATIONS), f"{key}:relation")],
                person=permute(i, in_circle, f"{key}:person") * _CIRCLES + next_circle,
            )
            for i in range(_FACTS_PER_PAGE)
        ]

    def _page_id(self, person: int) -> str:
        return f"{self._world}-{person}"

    def _page(self, person: int) -> Passage:
        facts = [f"{fact.relation} {self._name(fact.person)} ." for fact in self._facts(person)]
        # The owner's name stands in the text too, so that a search for it finds this page before the
        # pages that merely mention the person.
        name = self._name(person)
        return Passage(id=self._page_id(person), title=name, text=" ".join([name, *facts]))

    def _decode(self, rank: int, index: int) -> Task:
        rank, start = divmod(rank, self.num_people)
        person, chain, relations, turns = start, [start], [], []
        for _ in range(self.level):
            rank, choice = divmod(rank, _FACTS_PER_PAGE)
            page, fact = self._page(person), self._facts(person)[choice]
            turns += [
                TraceTurn(kind=TurnKind.TOOL_CALL, text=page.title, tool="search"),
                TraceTurn(kind=TurnKind.TOOL_RESULT, text=page.text, tool="search"),
                TraceTurn(kind=TurnKind.THOUGHT, text=f"{fact.relation} {self._name(fact.person)}"),
            ]
            relations.append(fact.relation)
            person = fact.person
            chain.append(person)
        answer = self._name(person)
        turns.append(TraceTurn(kind=TurnKind.ANSWER, text=answer))
        path = " of the ".join(reversed(relations))
        return Task(
            task_id=f"{self._task_id(index)}-{self.num_people}",
            question=f"Who is the {path} of {self._name(start)} ?",
            answers=(answer,),
            domain=Domain.SEARCH,
            expert_trace=ExpertTrace(turns=tuple(turns)),
            entities=tuple(self._name(each) for each in chain[1:]),
            gold_passages=tuple(self._page_id(each) for each in chain[:-1]),
            level=self.level,
            split=self.split,
        )
