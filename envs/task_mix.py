"""In: several task sources. Out: `TaskMix`, one source that takes from each in turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from .tasks import Task, TaskSource


class TaskMix(Sequence[Task]):
    """Tasks of several sources in turn: a1, b1, c1, a2, b2, c2, ..., up to the shortest source."""

    def __init__(self, sources: Sequence[TaskSource]) -> None:
        """Takes the sources, at least one, none of them empty."""
        if not sources or not all(len(source) for source in sources):
            raise ValueError(
                f"A mix needs sources with tasks; found {len(sources)}, or an empty one."
            )
        self.sources = tuple(sources)

    def __len__(self) -> int:
        return len(self.sources) * min(len(source) for source in self.sources)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"index {index} is outside a mix of {len(self)} tasks.")
        place, source = divmod(position, len(self.sources))
        return self.sources[source][place]
