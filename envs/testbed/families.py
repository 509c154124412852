"""In: the name of a domain. Out: `testbed`, that domain's procedural family."""

from __future__ import annotations

from ..tasks import Domain
from .chains import ArithmeticChains
from .family import TaskFamily
from .programs import SmallPrograms
from .world import FictionalWorld

FAMILIES: dict[Domain, type[TaskFamily]] = {
    Domain.MATH: ArithmeticChains,
    Domain.CODE: SmallPrograms,
    Domain.SEARCH: FictionalWorld,
}


def testbed(
    domain: Domain | str,
    *,
    level: int = 2,
    split: str = "train",
    seed: int = 0,
    size: int | None = None,
    **settings: int,
) -> TaskFamily:
    """The procedural tasks of a domain: exact targets, expert traces, offline, disjoint splits.

    `settings` are those of the family alone, such as the `num_people` of a fictional world.
    """
    return FAMILIES[Domain.from_name(domain)](level, split, seed, size, **settings)


testbed.__test__ = False  # type: ignore[attr-defined]  # pytest would collect a function called test*
