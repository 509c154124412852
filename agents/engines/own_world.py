"""A `torch.distributed` world of one, which vLLM alone sees; the trainer's stays out of its sight.

vLLM takes whatever process group is the default one for its own: under `torchrun` it would make
subgroups of all ranks, so that an engine could start on no rank before it starts on every rank, and
closing one engine would destroy the trainer's groups.

PyTorch has no public way to exchange the default group. The names used here are those of 2.9 to 2.13.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.distributed import distributed_c10d as c10d

# Groups are named by a counter that all ranks of the trainer must agree on, and a name has one group
# in a process: vLLM's groups are named from here on, and the trainer's counter stays where it was.
_FIRST_GROUP_NUMBER = 1_000_000
_TABLES = (  # what is known of each group
    *("_pg_map", "_pg_names", "_pg_group_ranks", "_pg_backend_config"),
    *("_pg_to_tag", "_tags_to_pg"),
)


class _OwnWorld:
    """The process groups of all vLLM engines of this process, which share them."""

    def __init__(self) -> None:
        self._num_engines = 0
        self._group: Any = None
        self._num_groups = 0
        self._tables: dict[str, Any] = {name: {} for name in _TABLES}

    def add_engine(self) -> None:
        """Counts an engine that has started; `engine_closed` ends its membership."""
        self._num_engines += 1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, the only groups are vLLM's; the default one is made by the first engine."""
        outside, count = c10d.GroupMember.WORLD, c10d._world.group_count
        hook = sys.excepthook  # opening a group prefixes tracebacks with a rank: the wrong one here
        theirs = self._exchange(self._tables)
        c10d._update_default_pg(self._group)
        c10d._world.group_count = _FIRST_GROUP_NUMBER + self._num_groups
        try:
            yield
        finally:
            self._group = c10d.GroupMember.WORLD
            self._num_groups = c10d._world.group_count - _FIRST_GROUP_NUMBER
            self._tables = self._exchange(theirs)
            c10d._update_default_pg(outside)
            c10d._world.group_count = count
            sys.excepthook = hook

    @contextmanager
    def engine_closed(self) -> Iterator[None]:
        """Inside, an engine may shut down: vLLM's groups go with the last one, others stay.

        vLLM would destroy the default group, and with it all groups of the process.
        """
        import vllm.v1.engine.core as core

        self._num_engines -= 1
        clean_up = core.cleanup_dist_env_and_memory
        if self._num_engines:
            core.cleanup_dist_env_and_memory = lambda: None
        try:
            with self.entered():
                own = c10d.GroupMember.WORLD
                c10d._update_default_pg(None)  # nobody can destroy what is not there
                try:
                    yield
                finally:
                    c10d._update_default_pg(own)
                    if not self._num_engines and own is not None:
                        c10d._update_default_pg(None)
                        c10d.destroy_process_group(own)  # as if it were any group
        finally:
            core.cleanup_dist_env_and_memory = clean_up

    @staticmethod
    def _exchange(tables: dict[str, Any]) -> dict[str, Any]:
        """Puts these tables in place; gives those that were there."""
        before = {name: getattr(c10d, name) for name in tables}
        for name, table in tables.items():
            setattr(c10d, name, table)
        return before


OWN_WORLD = _OwnWorld()
