"""Speed: traces in, MB/s of the released behaviour and of ours out, measured in turns in one process."""

from __future__ import annotations

import ast
import gzip
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path

from maskgym.envs import Task
from maskgym.masking import mask

from .released_masker import ReleasedMasker
from .synthetic_traces import alias_text, aliases, math_trace
from .tables import Table
from .trace_sets import gsm8k, search_r1_turns

TARGET_RATIO = 3.0
TARGET_ALIAS_MB_S = 50.0
NUM_ALIASES = 10_000
NUM_ROUNDS = 7
_MAX_ROUND_S = 3.0  # a slower thing runs in fewer rounds


def measure_speed(data: Path, released: ReleasedMasker, limit: int | None) -> list[Table]:
    """CPU time, one core; all text detectors of the math domain on; the median of several rounds."""
    table = Table(
        title="Speed, MB/s of CPU time (one core)",
        columns=(
            "traces",
            "num",
            "MB",
            "released",
            "ours, all",
            "ratio",
            "ours, all, with audit",
            "ratio with audit",
        ),
        notes=[
            f"Target: {TARGET_RATIO:g} times the released masker's. Median of up to {NUM_ROUNDS - 1} rounds, "
            "ours and theirs in turns; `released`: " + released.source + "."
        ],
    )
    num_short, num_long = (800, 80) if limit is None else (min(800, limit), min(80, limit))
    random_long = random.Random(0)
    long = [(_task(index), math_trace(random_long, 8000)) for index in range(num_long)]
    path = data / "gsm8k" / "train.jsonl.gz"
    if path.is_file():
        cases = islice(gsm8k(path), num_short)
        short = [(case.task, case.trace.text) for case in cases]
    else:
        table.notes.append(f"{path} is not there: short traces are made up as well.")
        random_short = random.Random(1)
        short = [(_task(index), math_trace(random_short, 280)) for index in range(num_short)]
    rows = [("GSM8K size", short), ("8 kB", long)]
    for name, traces in rows:
        megabytes = sum(len(text.encode()) for _, text in traces) / 1e6
        speeds = _speeds(
            megabytes,
            {
                "released": partial(_run, traces, lambda _, text: released.math(text)),
                "ours": partial(_run, traces, lambda task, text: mask(text, task, "all")),
                "audit": partial(_run, traces, lambda task, text: mask(text, task, "all").audit),
            },
        )
        table.add(
            name,
            len(traces),
            megabytes,
            speeds["released"],
            speeds["ours"],
            speeds["ours"] / speeds["released"],
            speeds["audit"],
            speeds["audit"] / speeds["released"],
        )
    return [table]


def measure_aliases(data: Path, limit: int | None) -> list[Table]:
    """Matching of a data set's 10,000 aliases at once, by `masking.matcher.AliasIndex`."""
    table = Table(
        title="Aliases, MB/s of CPU time (one core)",
        columns=("aliases", "text", "forms", "MB", "mentions", "build, s", "MB/s", "target"),
        notes=["`all forms`: also reordered and partial names; `as written`: the aliases alone."],
    )
    try:
        from maskgym.masking.matcher import AliasIndex
    except ImportError:
        table.notes.append("There is no masking.matcher.AliasIndex yet; not measured.")
        return [table]
    rng = random.Random(2)
    num_texts = 500 if limit is None else min(500, limit)
    made_up = aliases(rng, NUM_ALIASES)
    pairs = [("made up", made_up, [alias_text(rng, made_up, 8000) for _ in range(num_texts)])]
    try:
        golds = _trivia_aliases(data / "triviaqa" / "topics.dpr.trivia.test.txt.gz")
        cases = islice(search_r1_turns(data, "v1_triviaqa"), num_texts)
        pairs.append(("TriviaQA on Search-R1", golds, [case.trace.text for case in cases]))
    except FileNotFoundError as error:
        table.notes.append(f"no file {error.filename}: real aliases are left out.")
    for name, names, texts in pairs:
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        for forms in ("all forms", "as written"):
            is_all = forms == "all forms"
            started = time.process_time()
            index = AliasIndex.of(names, has_partials=is_all, has_orders=is_all)
            build_s = time.process_time() - started
            num = sum(len(index.find(text)) for text in texts)
            find = partial(_find_all, index.find, texts)
            speed = _speeds(megabytes, {"find": find})["find"]
            table.add(len(names), name, forms, megabytes, num, build_s, speed, TARGET_ALIAS_MB_S)
    return [table]


def _trivia_aliases(path: Path) -> list[str]:
    """The first distinct answers of the file, a question and a Python list on each line."""
    found: dict[str, None] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        for line in file:
            answers = line.rpartition("\t")[2].strip()
            if answers.startswith("["):  # a few are quoted as CSV, which is not worth a reader
                found |= dict.fromkeys(ast.literal_eval(answers))
    return list(found)[:NUM_ALIASES]


def _run(traces: Iterable[tuple[Task, str]], run: Callable[[Task, str], object]) -> None:
    for task, text in traces:
        run(task, text)


def _find_all(find: Callable[[str], object], texts: Iterable[str]) -> None:
    for text in texts:
        find(text)


def _speeds(megabytes: float, runs: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """The median speed of each; every round runs all of them, so that a busy machine is fair."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(NUM_ROUNDS):
        for name, run in runs.items():
            if round_ >= 3 and max(seconds[name]) > _MAX_ROUND_S:
                continue
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    # The first round warms caches up.
    return {name: megabytes / statistics.median(each[1:]) for name, each in seconds.items()}


def _task(index: int) -> Task:
    return Task(
        task_id=f"made-up-{index}",
        question=f"A train of {index + 3} wagons leaves at noon. How many seats are free?",
        answers=(str(17 * index + 4),),
    )
