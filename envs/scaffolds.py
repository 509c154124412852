"""In: tasks and mask policies. Out: their scaffolds, each made once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..masking import MaskPolicy, Scaffold, mask
from ..masking.audit import LeakLevel
from ..masking.checks import Checks
from .tasks import Task

_MAX_KEPT = 64


class Scaffolds:
    """Masks expert traces; keeps the last scaffolds, as a group of rollouts asks for one many times."""

    def __init__(
        self, make_checks: Callable[[Task], Checks | None], max_leak: LeakLevel | None
    ) -> None:
        """Masks with the verifier that `make_checks` gives, and no worse a leak than `max_leak`."""
        self._make_checks = make_checks
        self._max_leak = max_leak
        self._made: OrderedDict[tuple[str, str], tuple[Task, Scaffold]] = OrderedDict()

    def make(self, task: Task, choice: Any) -> Scaffold | None:
        """The scaffold that `choice` names: a policy, its name, or a scaffold; None for "" or no trace."""
        if isinstance(choice, Scaffold):
            return choice
        if not choice or task.expert_trace is None:
            return None
        if not isinstance(choice, str):
            return self._masked(task, choice)
        key = (task.task_id, choice)
        known_task, scaffold = self._made.pop(key, (None, None))
        if scaffold is None or (known_task is not task and known_task != task):
            scaffold = self._masked(task, choice)
        self._made[key] = (task, scaffold)
        if len(self._made) > _MAX_KEPT:
            self._made.popitem(last=False)
        return scaffold

    def _masked(self, task: Task, policy: str | MaskPolicy) -> Scaffold:
        assert task.expert_trace is not None
        checks = self._make_checks(task)
        return mask(task.expert_trace, task, policy, checks=checks, max_leak=self._max_leak)
