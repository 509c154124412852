"""A data set: traces with their tasks in, their scaffolds in the same order out, as a stream."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

from .audit import LeakLevel
from .checks import Checks
from .mask import mask
from .policies import MaskPolicy, policy_by_name
from .render import RenderConfig
from .scaffold import Scaffold
from .spans import MaskableTask
from .traces import ExpertTrace
from .workers import map_in_order

Pair = tuple[ExpertTrace | str, MaskableTask]

_BATCH_SIZE = 16
"""Traces sent to a worker at once: a trace takes less time than its journey alone."""


def mask_all(
    pairs: Iterable[Pair],
    policy: str | MaskPolicy = "all",
    *,
    render: RenderConfig | None = None,
    checks_of: Callable[[MaskableTask], Checks | None] | None = None,
    max_leak: LeakLevel | None = None,
    num_workers: int = 1,
) -> Iterator[Scaffold]:
    """The scaffold of each trace, in order, as `mask` makes it; what comes out depends on no worker.

    ``DatasetAudit.of(mask_all(pairs, "critical_keep_given", num_workers=8))`` audits a data set
    that need not fit in memory.

    Args:
        pairs: Traces with their tasks; taken as needed.
        policy: Name of a policy, such as "all" or "prefix(0.5)", or a policy itself.
        render: How scaffolds are written.
        checks_of: The verifier of a task, such as `maskgym.envs.mask_checks.mask_checks`.
        max_leak: The worst leak allowed; what leaks more is masked harder, then dropped.
        num_workers: Processes. With more than one, tasks, `policy` and `checks_of` must pickle, and
            audits are made there; with one, an audit is made when it is asked for.

    Raises:
        LookupError: If there is no policy of this name; at once.
        ValueError: If a policy or detector gives spans that do not fit the trace.
    """
    if isinstance(policy, str):
        policy_by_name(policy)
    masker = _Masker(
        policy=policy,
        render=render,
        checks_of=checks_of,
        max_leak=max_leak,
    )
    size = _BATCH_SIZE if num_workers > 1 else 1
    return chain.from_iterable(map_in_order(masker, _batches(pairs, size), num_workers=num_workers))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Masker:
    """What a worker has to know; called with a batch of pairs."""

    policy: str | MaskPolicy
    render: RenderConfig | None
    checks_of: Callable[[MaskableTask], Checks | None] | None
    max_leak: LeakLevel | None

    def __call__(self, pairs: list[Pair]) -> list[Scaffold]:
        return [
            mask(
                trace,
                task,
                self.policy,
                render=self.render,
                checks=self.checks_of(task) if self.checks_of else None,
                max_leak=self.max_leak,
            )
            for trace, task in pairs
        ]


def _batches(pairs: Iterable[Pair], size: int) -> Iterator[list[Pair]]:
    stream = iter(pairs)
    while batch := list(islice(stream, size)):
        yield batch
