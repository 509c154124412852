"""In: the name of a benchmark. Out: its tasks, from a data folder or, where that has none, the hub."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from .benchmark_table import BENCHMARKS, Benchmark, BenchmarkFile, BenchmarkSplit
from .datasets import tasks_from_rows
from .hub_files import HubError, hub_file
from .mappings import ColumnMapping, find
from .task_rows import TaskRow, read_qrels, read_task_rows
from .tasks import Domain, Task

DATA_VARIABLE = "MASKGYM_DATA"
"""The environment variable that names the data folder."""

PREFIX = "bench:"
"""What a text that names a benchmark begins with, where a file would do as well."""

_EXAMPLE = '"bench:nq,split=dev,limit=100,data=FOLDER"'


def benchmark_by_name(name: str) -> Benchmark:
    """The benchmark called `name`; an unknown name raises with the nearest one."""
    if name not in BENCHMARKS:
        near = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.0)[0]
        raise LookupError(
            f"No benchmark {name!r}. Did you mean {near!r}? There are: {', '.join(BENCHMARKS)}."
        )
    return BENCHMARKS[name]


def default_data_folder() -> Path | None:
    """The folder that $MASKGYM_DATA names, else ./data; None if there is neither.

    Raises:
        FileNotFoundError: If the variable names what is no folder.
    """
    named = os.environ.get(DATA_VARIABLE)
    if named:
        return _checked_folder(named, f"${DATA_VARIABLE}")
    folder = Path("data")
    return folder if folder.is_dir() else None


def load_benchmark(
    name: str,
    *,
    split: str = "",
    data_folder: str | Path | None = None,
    limit: int | None = None,
    use_hub: bool = True,
) -> list[Task]:
    """The tasks of a benchmark, in file order; ids begin with its name, such as "nq/test_0".

    A local file wins over the hub. Questions without any gold answer are left out, and a number of
    questions that is not the published one is said, both as a warning.

    Args:
        name: One of `BENCHMARKS`.
        split: Its name; empty for the one to evaluate on.
        data_folder: Where local files are looked for; None for `default_data_folder`.
        limit: Only the first so many tasks.
        use_hub: Whether to download (or take from the hub's cache) what is not there.

    Raises:
        LookupError: If there is no such benchmark or split.
        FileNotFoundError: If there is neither a local file nor a hub; the message says what to
            put where.
        ValueError: If a row is bad; the message names file, row and field.
    """
    benchmark = benchmark_by_name(name)
    wanted = _find_split(benchmark, split)
    if limit is not None and limit < 1:
        raise ValueError(f"limit is {limit}; use 1 or more, or None for all tasks of {name}.")
    folder = (
        default_data_folder()
        if data_folder is None
        else _checked_folder(data_folder, "the data folder")
    )
    file, path = _find_local(wanted, folder) or (
        BenchmarkFile(path=wanted.hub_file),
        _download(benchmark, wanted, folder, use_hub=use_hub),
    )
    counts = _Counts()
    rows = _numbered(_selected(read_task_rows(path), file), file)
    if benchmark.domain is not Domain.CODE:
        rows = _answerable(rows, benchmark.mapping, counts)
    tasks = tasks_from_rows(
        islice(rows, limit), path=path, domain=benchmark.domain, mapping=benchmark.mapping
    )
    if limit is None:
        _warn_of_number(benchmark, wanted, path, len(tasks), counts.num_unanswered)
    gold = _gold_passages(file, path)
    return [
        replace(
            task,
            task_id=f"{name}/{task.task_id}",
            split=wanted.name,
            gold_passages=gold.get(task.task_id, task.gold_passages),
        )
        for task in tasks
    ]


def load_benchmarks(
    names: str,
    *,
    domain: Domain | None = None,
    data_folder: str | Path | None = None,
    limit: int | None = None,
    use_hub: bool = True,
) -> dict[str, list[Task]]:
    """Several benchmarks, as a command line names them: "nq,hotpotqa" or "nq:dev,hotpotqa".

    Args:
        names: Names, each perhaps with a split after a colon, between commas.
        domain: Refuse the benchmarks of other domains; None takes all.
        data_folder: As for `load_benchmark`.
        limit: Only the first so many tasks of each.
        use_hub: As for `load_benchmark`.

    Returns:
        The tasks of each, in the order named, by what was written: "nq:dev".
    """
    loaded: dict[str, list[Task]] = {}
    for item in filter(None, (part.strip() for part in names.split(","))):
        name, _, split = item.partition(":")
        if domain is not None:
            _check_domain(benchmark_by_name(name), domain)
        loaded[item] = load_benchmark(
            name, split=split, data_folder=data_folder, limit=limit, use_hub=use_hub
        )
    if not loaded:
        raise ValueError(f"{names!r} names no benchmark. There are: {', '.join(BENCHMARKS)}.")
    return loaded


def load_benchmark_spec(text: str, domain: Domain) -> list[Task]:
    """The tasks that a text such as "bench:nq,split=dev,limit=100" names, where a file could stand.

    Raises:
        ValueError: If it has a setting that is none, or the benchmark is of another domain.
    """
    name, *items = text.removeprefix(PREFIX).split(",")
    settings: dict[str, str] = {}
    for item in items:
        key, equals, value = item.partition("=")
        if key not in ("split", "limit", "data") or not equals:
            raise ValueError(
                f"{item!r} in {text!r} is no setting of a benchmark; write it like {_EXAMPLE}."
            )
        settings[key] = value
    limit = settings.get("limit")
    if limit is not None and not limit.isdecimal():
        raise ValueError(f"limit={limit} in {text!r} needs a whole number, as in {_EXAMPLE}.")
    _check_domain(benchmark_by_name(name), domain)
    return load_benchmark(
        name,
        split=settings.get("split", ""),
        data_folder=settings.get("data"),
        limit=int(limit) if limit else None,
    )


def _check_domain(benchmark: Benchmark, domain: Domain) -> None:
    if benchmark.domain is not domain:
        names = ", ".join(b.name for b in BENCHMARKS.values() if b.domain is domain)
        raise ValueError(
            f"{benchmark.name} is a {benchmark.domain} benchmark, not a {domain} one: play it in "
            f"the {benchmark.domain} environment, or choose among {names}."
        )


def _checked_folder(folder: str | Path, what: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"No folder {path} ({what}). Make it, or name the one you have.")
    return path


def _find_split(benchmark: Benchmark, name: str) -> BenchmarkSplit:
    for split in benchmark.splits:
        if name in ("", split.name):
            return split
    names = ", ".join(split.name for split in benchmark.splits)
    raise LookupError(f"{benchmark.name} has no split {name!r}. There are: {names}.")


def _find_local(split: BenchmarkSplit, folder: Path | None) -> tuple[BenchmarkFile, Path] | None:
    for file in split.files if folder else ():
        assert folder is not None
        path = _plain_or_gzipped(folder / file.path)
        if path is not None:
            return file, path
    return None


def _plain_or_gzipped(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(f"{path.name}.gz")) if p.is_file()), None)


def _download(
    benchmark: Benchmark, split: BenchmarkSplit, folder: Path | None, *, use_hub: bool
) -> Path:
    cause: HubError | None = None
    if not use_hub:
        reason = "the hub is not to be asked"
    elif not split.hub_file:
        reason = "the hub has no file of this split"
    else:
        try:
            return hub_file(benchmark.hub_repo, split.hub_file)
        except HubError as error:
            reason, cause = str(error), error
    raise FileNotFoundError(_missing(benchmark, split, folder, reason)) from cause


def _missing(benchmark: Benchmark, split: BenchmarkSplit, folder: Path | None, reason: str) -> str:
    searched = folder or Path("data")
    target = searched / split.files[0].path
    text = (
        f"{benchmark.name} ({split.name}): no file of it in {searched.absolute()}, and {reason}. "
    )
    if split.hub_file:
        url = f"https://huggingface.co/datasets/{benchmark.hub_repo}/resolve/main/{split.hub_file}"
        if split.hub_file.endswith(".parquet"):
            target = target.with_suffix(".parquet")
        text += f"Download {url} and put it at {target.absolute()}"
    else:
        qrels = split.files[0].qrels
        text += f"Put its questions at {target.absolute()}"
        text += f" and its gold passages at {(searched / qrels).absolute()}" if qrels else ""
    others = [file.path for file in split.files[1:]]
    if others:
        text += f" (or, as others publish it, {' or '.join(others)} in that data folder)"
    text += f"; or name the folder that has it: ${DATA_VARIABLE}, {PREFIX}{benchmark.name},data=FOLDER, "
    text += "or --data FOLDER of `maskgym eval`."
    here = [s.name for s in benchmark.splits if s is not split and _find_local(s, folder)]
    if here:
        name, there = benchmark.name, here[0]
        text += f" The split {there} is there: {name}:{there}, or {PREFIX}{name},split={there}."
    return text


class _Counts:
    """What was left out while rows were read."""

    num_unanswered = 0


def _selected(rows: Iterable[TaskRow], file: BenchmarkFile) -> Iterator[TaskRow]:
    rows = islice(rows, *file.rows) if file.rows else iter(rows)
    if not file.id_prefix:
        return rows
    return (r for r in rows if str(find(r.row, "qid|id|_id")).startswith(file.id_prefix))


def _numbered(rows: Iterator[TaskRow], file: BenchmarkFile) -> Iterator[TaskRow]:
    for item in rows:
        if file.row_ids and "id" not in item.row:
            row = {"id": file.row_ids.format(item.number - 1), **item.row}
            item = replace(item, row=row)
        yield item


def _answerable(
    rows: Iterator[TaskRow], mapping: ColumnMapping, counts: _Counts
) -> Iterator[TaskRow]:
    for item in rows:
        value = find(item.row, mapping.answers)
        values = value if isinstance(value, list) else [value]
        if any(v is not None and str(v).strip() for v in values):
            yield item
        else:
            counts.num_unanswered += 1


def _gold_passages(file: BenchmarkFile, path: Path) -> dict[str, tuple[str, ...]]:
    if not file.qrels:
        return {}
    # Its folder is known from the questions: both are named from the same data folder.
    root = path.parents[len(Path(file.path).parts) - 1]
    qrels = _plain_or_gzipped(root / file.qrels)
    if qrels is None:
        warnings.warn(
            f"No {root / file.qrels} beside {path}: gold passages are not known.", stacklevel=3
        )
        return {}
    return read_qrels(qrels)


def _warn_of_number(
    benchmark: Benchmark, split: BenchmarkSplit, path: Path, num_tasks: int, num_unanswered: int
) -> None:
    if num_tasks == split.num_rows:
        return
    left_out = f" ({num_unanswered} without an answer are left out)" if num_unanswered else ""
    warnings.warn(
        f"{benchmark.name} ({split.name}): {path} holds {num_tasks} questions{left_out}; the "
        f"published split has {split.num_rows}.",
        stacklevel=3,
    )
