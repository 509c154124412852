"""In: level, split, seed, size. Out: `TaskFamily`, a lazy sequence of tasks, disjoint by rank."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, SupportsIndex, overload

from ..tasks import Task
from .permutation import permute

DEFAULT_SIZE = 4096
_SEEDS_THAT_FIT = 4  # with the default size at a level that has few problems

SPLITS = ("train", "test")


class TaskFamily(Sequence[Task]):
    """A procedural family of tasks; `tasks[i]` is computed when asked for, in microseconds.

    Problem `index` of (split, seed) has the rank ``2 * (seed * size + index) + is_test``; a
    permutation keyed by family and level scatters the ranks over the problems of that level. Hence
    train and test never share a problem, whatever their sizes and seeds; and seeds share none as
    long as their sizes are equal. ("Problem" means content: two programs that happen to compute the
    same count as two.)
    """

    family: ClassVar[str]
    max_level: ClassVar[int]

    def __init__(
        self, level: int = 2, split: str = "train", seed: int = 0, size: int | None = None
    ) -> None:
        """Checks that seed and size fit the level.

        Args:
            level: Difficulty, from 1.
            split: "train" or "test".
            seed: From 0; another seed gives other tasks.
            size: How many tasks; None: 4096, or fewer at a level with few problems.

        Raises:
            ValueError: If a value is out of range; the message says which size or seed fits.
        """
        if not 1 <= level <= self.max_level:
            raise ValueError(f"level is {level}; {self.family} has levels 1 to {self.max_level}.")
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}; it must be 'train' or 'test'.")
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be 0 or more.")
        self.level, self.split, self.seed = level, split, seed
        self.size = self._default_size() if size is None else size
        if self.size < 1:
            raise ValueError(f"size is {self.size}; a family needs at least 1 task.")
        self._check_fit()

    @property
    @abstractmethod
    def num_problems(self) -> int:
        """How many different problems there are to draw from."""

    @abstractmethod
    def _decode(self, rank: int, index: int) -> Task:
        """The problem with the number `rank`, below `num_problems`, as task `index` of this set."""

    def _default_size(self) -> int:
        return min(DEFAULT_SIZE, self.num_problems // (2 * _SEEDS_THAT_FIT))

    def _check_fit(self) -> None:
        available = self.num_problems // 2  # one half for each split
        needed = (self.seed + 1) * self.size
        if needed > available:
            seeds = available // self.size - 1
            raise ValueError(
                f"{self.family} level {self.level} has {available} problems a split; seed "
                f"{self.seed} with size {self.size} needs {needed}. With this seed a size of at "
                f"most {available // (self.seed + 1)} fits"
                + (f", with this size a seed of at most {seeds}" if seeds >= 0 else "")
                + "; or raise the level."
            )

    def _rank(self, index: int) -> int:
        number = 2 * (self.seed * self.size + index) + (self.split == "test")
        return permute(number, self.num_problems, f"{self.family}:{self.level}")

    def _task_id(self, index: int) -> str:
        return f"{self.family}-level{self.level}-{self.split}-seed{self.seed}-{index}"

    @overload
    def __getitem__(self, index: SupportsIndex) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.size))]
        position = operator.index(index)
        if not -self.size <= position < self.size:
            raise IndexError(f"index {position} is outside a set of {self.size} tasks.")
        position %= self.size
        return self._decode(self._rank(position), position)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Task]:
        return (self[i] for i in range(self.size))

    def _identity(self) -> tuple[object, ...]:
        return (type(self), self.level, self.split, self.seed, self.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TaskFamily):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(level={self.level}, split={self.split!r}, "
            f"seed={self.seed}, size={self.size})"
        )
