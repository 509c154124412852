"""Tasks in, an endless stream of them out, in an order that is a function of the seed."""

import random
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..envs import Task

_MAX_SHUFFLED = 100_000


class TaskStream:
    """What one rank plays: every `size`-th task of one global order, from its own place on.

    Each epoch has an order of its own. More than 100,000 tasks are drawn with replacement instead: no
    permutation has to be kept.
    """

    def __init__(self, tasks: Sequence[Task], *, seed: int, rank: int = 0, size: int = 1) -> None:
        """A stream at its beginning.

        Raises:
            ValueError: If there is no task.
        """
        if not tasks:
            raise ValueError("There is no task to train on. Give --tasks with at least one.")
        self.position = 0
        """Tasks that were taken by this rank."""
        self._tasks = tasks
        self._seed = seed
        self._rank = rank
        self._size = size
        self._epoch = -1
        self._order: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def __iter__(self) -> Iterator[Task]:
        return self

    def __next__(self) -> Task:
        place = self.position * self._size + self._rank
        self.position += 1
        count = len(self._tasks)
        if count > _MAX_SHUFFLED:
            return self._tasks[random.Random(f"{self._seed}|{place}").randrange(count)]
        epoch, index = divmod(place, count)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng((self._seed, epoch)).permutation(count)
        return self._tasks[int(self._order[index])]
