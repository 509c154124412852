"""In: a text that names tasks: a file, a testbed or a benchmark. Out: the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .benchmarks import PREFIX, load_benchmark_spec
from .datasets import load_tasks
from .task_mix import TaskMix
from .tasks import Domain, TaskSource
from .testbed import testbed

_FAMILY_SETTINGS: dict[Domain, tuple[str, ...]] = {
    Domain.MATH: (),
    Domain.CODE: (),
    Domain.SEARCH: ("num_people",),
}


def resolve_tasks(source: TaskSource | str | Path, domain: Domain) -> TaskSource:
    """The tasks that `source` names.

    Testbeds joined by "+", such as "testbed:level=1+testbed:level=2", are taken from in turn;
    benchmarks joined by "+" follow one another.

    Args:
        source: A sequence of tasks, "testbed:level=3,split=test", "bench:nq,limit=100", or a file.
        domain: What the tasks are.

    Raises:
        ValueError: If there are none, or a testbed or benchmark is given a setting that it does
            not know.
    """
    if isinstance(source, str) and source.startswith(PREFIX):
        return [task for text in source.split("+") for task in load_benchmark_spec(text, domain)]
    if isinstance(source, str) and source.partition(":")[0] == "testbed":
        parts = [_testbed_tasks(text, domain) for text in source.split("+")]
        return TaskMix(parts) if len(parts) > 1 else parts[0]
    tasks = load_tasks(source, domain=domain) if isinstance(source, str | Path) else source
    if not len(tasks):
        raise ValueError(f"There are no tasks in {source!r}; an environment needs at least one.")
    return tasks


def _testbed_tasks(text: str, domain: Domain) -> TaskSource:
    settings: dict[str, Any] = {"level": 2, "split": "train", "seed": 0}
    for item in filter(None, text.partition(":")[2].split(",")):
        name, _, value = item.partition("=")
        if name not in ("level", "split", "seed", "size", *_FAMILY_SETTINGS[domain]):
            raise ValueError(
                f"{item!r} in {text!r} is no setting of the testbed; "
                'write it like "testbed:level=3,split=test,seed=1,size=1000".'
            )
        try:
            settings[name] = value if name == "split" else int(value)
        except ValueError:
            raise ValueError(f"{item!r} in {text!r} needs a whole number.") from None
    return testbed(domain, **settings)
