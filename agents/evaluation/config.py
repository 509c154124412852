"""What was asked for in, one evaluation out: its configuration, its questions, and that it is bare."""

import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...envs import SearchConfig, Task, TaskSource
from ...envs.benchmarks import load_benchmarks
from ...envs.shared_retrievers import lease_retriever
from ...retrieval import RetrieverError
from ..play_config import PlayConfig, env_domain, make_env, task_source
from ..policies import POLICIES
from ..rollouts.rollout import RolloutConfig
from ..run_folder import RunFolder, plain_values

_MAX_NAMED = 6
_MAX_ASKING_S = 5.0


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig(PlayConfig):
    """A whole evaluation: who plays what, where. It is saved, and a run goes on only under the same."""

    tasks: str = ""
    """A file of rows, or a testbed such as "testbed:level=2,split=test"; empty to play `benchmarks`."""

    benchmarks: str = ""
    """Names of benchmarks between commas."""

    data_folder: str = ""
    """Folder of the benchmarks' files; empty for the default."""

    num_questions: int | None = None
    """Only the first so many questions of each benchmark; None for all."""

    policy: str = ""
    """Scripted policy that plays; empty for a model."""

    endpoint: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `EndpointConfig`; empty for a model that runs here."""

    rollout: RolloutConfig = field(default_factory=lambda: RolloutConfig(temperature=0.0))
    """How episodes are sampled."""

    seed: int = 0
    """Fixes what is sampled, and the resamples of the table."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """The questions of one benchmark."""

    source: TaskSource
    """What environments are made over: it may bring the passages, as a testbed does."""

    tasks: tuple[Task, ...]
    """What is played."""


def check_bare(settings: Mapping[str, Any]) -> None:
    """Refuses settings that show a scaffold.

    Args:
        settings: In plain values, as a command line names them or a run folder saves them.

    Raises:
        ValueError: Naming the setting.
    """
    shown = [
        f"{name}={value}"
        for name, value in _flat(settings).items()
        if value and (name.startswith("env_kwargs.scaffold") or "guidance." in name)
    ]
    if shown:
        raise ValueError(
            f"An evaluation is always bare, and {', '.join(shown)} shows a scaffold. Leave it out; "
            "rollouts with scaffolds are made by `maskgym train`."
        )


def load_suites(config: EvaluationConfig) -> dict[str, Suite]:
    """The questions of each benchmark, by its name.

    Raises:
        ValueError: If a benchmark is of another domain than the environment, or has no questions.
        LookupError: If there is no benchmark of that name.
        FileNotFoundError: If its file is nowhere; says what to put where.
    """
    if not config.benchmarks:
        name = _suite_name(config.tasks)
        return {name: _suite(name, task_source(config.tasks, config), config.num_questions)}
    suites = load_benchmarks(
        config.benchmarks,
        domain=env_domain(config.env_id),
        data_folder=config.data_folder or None,
        limit=config.num_questions,
    )
    return {name: _suite(name, tasks, None) for name, tasks in suites.items()}


def describe_suites(suites: Mapping[str, Suite]) -> dict[str, Any]:
    """Number and fingerprint of each benchmark's questions: a run goes on only with the same ones."""
    described = {}
    for name, suite in suites.items():
        digest = hashlib.sha256()
        for task in suite.tasks:
            digest.update(repr((task.task_id, task.question, task.answers, task.tests)).encode())
        described[name] = {"num_questions": len(suite.tasks), "sha256": digest.hexdigest()[:16]}
    return described


def index_fingerprint(config: EvaluationConfig) -> str:
    """What names the content of the index that is searched; empty where there is none.

    Raises:
        ValueError, FileNotFoundError: If it is no index.
        ConnectionError: If it is a service that cannot be asked.
    """
    if not config.index:
        return ""
    timeout_s = (config.search or SearchConfig()).timeout_s or _MAX_ASKING_S
    try:
        with closing(
            lease_retriever(config.index, timeout_s=min(timeout_s, _MAX_ASKING_S))
        ) as lease:
            return lease.retriever.fingerprint
    except RetrieverError as error:
        raise ConnectionError(str(error)) from None


def open_run(path: str | Path, config: EvaluationConfig, suites: Mapping[str, Suite]) -> RunFolder:
    """The run folder of an evaluation: a new one, or one that the same evaluation has begun.

    Raises:
        ValueError: If the folder holds an evaluation of another configuration; names what differs.
            Or, before a folder is made, if there is no such environment or index.
        FileExistsError: If it holds something else.
    """
    folder = RunFolder(path)
    wanted = {"evaluation": config, "questions": describe_suites(suites)}
    if not (folder.path / "config.json").is_file():
        found = index_fingerprint(config)
        for suite in suites.values():
            _check_env(config, suite)
        return RunFolder.create(path, {**wanted, "index_fingerprint": found})
    saved = folder.config
    if "evaluation" not in saved:
        raise FileExistsError(
            f"{str(path)!r} is a run of another kind and is kept as it is. Give another --out folder."
        )
    wanted = plain_values(wanted)
    changed = differences(saved["evaluation"], wanted["evaluation"])
    changed = changed or differences(saved["questions"], wanted["questions"])
    if changed:
        more = f", and {len(changed) - _MAX_NAMED} more" if len(changed) > _MAX_NAMED else ""
        named = "; ".join(changed[:_MAX_NAMED])
        raise ValueError(
            f"{str(path)!r} holds an evaluation of another configuration ({named}{more}). Go on with "
            "the configuration of that run, or give another --out folder."
        )
    return folder


def check_index(folder: RunFolder, config: EvaluationConfig) -> None:
    """Refuses to go on with another index than the one that the run was begun with.

    Raises:
        ValueError: If the index is another one now.
        ConnectionError: If it is a service that cannot be asked.
    """
    was, found = folder.config["index_fingerprint"], index_fingerprint(config)
    if found != was:
        raise ValueError(
            f"{config.index!r} is another index than the one that {str(folder.path)!r} was begun with "
            f"({found} here, {was} there). Put that one back, or give another --out folder."
        )


def differences(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    *,
    sides: tuple[str, str] = ("there", "here"),
) -> list[str]:
    """The settings in which two saved configurations differ: "name: 1 there, 2 here"."""
    found = []
    for name in {**first, **second}:
        values = [side.get(name) for side in (first, second)]
        if all(isinstance(value, Mapping) for value in values):
            inner = differences(first[name], second[name], sides=sides)
            found += [f"{name}.{line}" for line in inner]
        elif values[0] != values[1]:
            found.append(f"{name}: {values[0]!r} {sides[0]}, {values[1]!r} {sides[1]}")
    return found


def _flat(values: Any, place: str = "") -> dict[str, Any]:
    if not isinstance(values, Mapping):
        return {place: values}
    return {
        name: value
        for key, inner in values.items()
        for name, value in _flat(inner, f"{place}.{key}" if place else str(key)).items()
    }


def _check_env(config: EvaluationConfig, suite: Suite) -> None:
    """Raises ValueError if the environment cannot be made, or the scripted policy cannot play in it."""
    try:
        env = make_env(config, suite.source, index=config.index)
    except TypeError as error:  # Gymnasium puts all tasks into the message
        reason = str(error).partition(" was raised from")[0]
        raise ValueError(
            f"{config.env_id} cannot be made with these settings ({reason}). See --index, --set."
        ) from None
    with closing(env):
        for task in suite.tasks if config.policy else ():
            POLICIES[config.policy]().begin(env, task)


def _suite_name(spec: str) -> str:
    if spec.startswith("testbed"):
        return spec
    return Path(spec).name.split(".")[0]


def _suite(name: str, source: TaskSource, limit: int | None) -> Suite:
    tasks = tuple(source[i] for i in range(min(len(source), limit or len(source))))
    if not tasks:
        raise ValueError(f"There are no questions in {name!r}; an evaluation needs at least one.")
    seen: set[str] = set()
    for task in tasks:
        if task.task_id in seen:
            raise ValueError(
                f"{name}: two questions have the id {task.task_id!r}. Records are kept by id; make ids "
                "unique."
            )
        seen.add(task.task_id)
    return Suite(source=source, tasks=tasks)
