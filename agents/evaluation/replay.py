"""Stored answers in, what our scorer says about them out, beside the scores stored with them.

Reads the files of others: rows with `question`, `golden_answers` and `pred` and their metrics, at the top
level or under `output` (FlashRAG, Search-R1), or with `gt`, `pred`, `em`, `f1` (FireAct).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...envs.verifiers import Normalization, contains_answer, exact_match, f1_score
from ...retrieval.rows import read_located_rows
from .statistics import NUM_RESAMPLES, Estimate, bootstrap_interval
from .table import benchmark_seed, markdown_table

_TOLERANCE = 1e-9
_MAX_LISTED = 20
SCORERS: dict[str, Callable[[str, Sequence[str], Normalization], float]] = {
    "exact_match": exact_match,
    "f1": f1_score,
    "contains": contains_answer,
}
_STORED_AS = {
    "exact_match": ("metric_em", "em"),
    "f1": ("metric_f1", "f1"),
    "contains": ("metric_acc", "acc"),
}
_GOLDS = ("golden_answers", "gold", "answers", "gt")
_PREDICTIONS = ("pred", "prediction", "answer")


@dataclass(frozen=True, kw_only=True)
class StoredAnswer:
    """An answer that someone else has scored."""

    source: str
    """The run that it is from: rows of one source are averaged together."""

    answer_id: str
    question: str
    golds: tuple[str, ...]
    answer: str
    stored: Mapping[str, float]
    """Scores stored with it, by the names of `SCORERS`; may be empty."""


@dataclass(frozen=True, kw_only=True)
class ReplayDifference:
    """An answer that our scorer scores otherwise than it was."""

    answer_id: str
    answer: str
    golds: tuple[str, ...]
    stored: float
    ours: float


@dataclass(frozen=True, kw_only=True)
class ReplayedMetric:
    """One metric of one source under one way of comparing."""

    source: str
    mode: str
    metric: str
    num_answers: int
    estimate: Estimate
    num_stored: int
    """Answers that have a stored score."""

    stored_mean: float | None
    differences: tuple[ReplayDifference, ...]


def replay(
    answers: Sequence[StoredAnswer], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> list[ReplayedMetric]:
    """Scores stored answers under every way of comparing.

    Raises:
        ValueError: If there is none.
    """
    if not answers:
        raise ValueError("There is no stored answer to score.")
    by_source: dict[str, list[StoredAnswer]] = {}
    for answer in answers:
        by_source.setdefault(answer.source, []).append(answer)
    found = []
    for source, rows in by_source.items():
        for mode in Normalization:
            for metric, score in SCORERS.items():
                ours = [score(row.answer, row.golds, mode) for row in rows]
                stored = [(row, value) for row, value in zip(rows, ours, strict=True)]
                stored = [(row, value) for row, value in stored if metric in row.stored]
                found.append(
                    ReplayedMetric(
                        source=source,
                        mode=mode.value,
                        metric=metric,
                        num_answers=len(rows),
                        estimate=bootstrap_interval(
                            np.array(ours),
                            num_resamples=num_resamples,
                            seed=benchmark_seed(source, seed),
                        ),
                        num_stored=len(stored),
                        stored_mean=sum(row.stored[metric] for row, _ in stored) / len(stored)
                        if stored
                        else None,
                        differences=tuple(
                            ReplayDifference(
                                answer_id=row.answer_id,
                                answer=row.answer,
                                golds=row.golds,
                                stored=row.stored[metric],
                                ours=value,
                            )
                            for row, value in stored
                            if abs(row.stored[metric] - value) > _TOLERANCE
                        ),
                    )
                )
    return found


def replay_to_json(found: Sequence[ReplayedMetric]) -> dict[str, Any]:
    """Everything that a replay found, as a JSON object."""
    return {"metrics": [asdict(each) for each in found]}


def replay_to_markdown(found: Sequence[ReplayedMetric]) -> str:
    """What a replay found, for people; differences from stored scores are listed at the end."""
    header = ["source", "mode", "metric", "answers", "ours [95%]", "stored", "rows that differ"]
    rows = [
        [
            each.source,
            each.mode,
            each.metric,
            str(each.num_answers),
            str(each.estimate),
            "-" if each.stored_mean is None else f"{each.stored_mean:.1%}",
            f"{len(each.differences)} of {each.num_stored}" if each.num_stored else "-",
        ]
        for each in found
    ]
    parts = ["# Stored answers, scored again", "", _verdict(found), ""]
    parts += markdown_table(header, rows)
    listed = [(each, row) for each in found for row in each.differences]
    if listed:
        listed.sort(
            key=lambda pair: pair[0].mode == Normalization.STRICT
        )  # that one differs by design
        parts += ["", f"Rows that differ from the stored score (at most {_MAX_LISTED}):", ""]
        parts += markdown_table(
            ["source", "mode", "metric", "row", "answer", "gold", "stored", "ours"],
            [
                [
                    each.source,
                    each.mode,
                    each.metric,
                    row.answer_id,
                    row.answer,
                    " / ".join(row.golds),
                    f"{row.stored:.3f}",
                    f"{row.ours:.3f}",
                ]
                for each, row in listed[:_MAX_LISTED]
            ],
        )
    return "\n".join(parts) + "\n"


def _verdict(found: Sequence[ReplayedMetric]) -> str:
    """How many stored scores the way of comparing that claims to reproduce them gives again."""
    said = []
    for metric in SCORERS:
        compat = [e for e in found if e.mode == Normalization.COMPAT and e.metric == metric]
        num_stored = sum(each.num_stored for each in compat)
        num_equal = num_stored - sum(len(each.differences) for each in compat)
        said += [f"{metric} of {num_equal} of {num_stored} rows"] if num_stored else []
    return f"{Normalization.COMPAT.value} gives the stored " + (
        ", ".join(said) or "scores of no row"
    )


def read_answers(path: str | Path) -> list[StoredAnswer]:
    """The stored answers of a JSON list, JSONL (both also gzipped) or Parquet file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such file, or a row has no answer or no gold.
    """
    name = Path(path).name.partition(".")[0]
    answers = []
    for item in read_located_rows(path):
        try:
            answers.append(_stored_answer(item.row, source=name, default_id=f"row {item.number}"))
        except ValueError as error:
            raise ValueError(f"{item.where}: {error}") from None
    if not answers:
        raise ValueError(f"{path} holds no rows.")
    return answers


def _stored_answer(row: Mapping[str, Any], *, source: str, default_id: str) -> StoredAnswer:
    output = row.get("output")
    inner: Mapping[str, Any] = output if isinstance(output, Mapping) else row
    scores = inner.get("metric_score")
    metrics: Mapping[str, Any] = scores if isinstance(scores, Mapping) else inner
    answer = _first(inner, _PREDICTIONS, "the answer")
    golds = _first(row, _GOLDS, "the gold answers")
    golds = [golds] if isinstance(golds, str) else golds
    if not isinstance(golds, list) or not golds:
        raise ValueError(f"the gold answers are {golds!r:.60}; expected text or a list of texts.")
    stored = {
        name: float(metrics[key])
        for name, keys in _STORED_AS.items()
        for key in keys
        if isinstance(metrics.get(key), int | float)
    }
    return StoredAnswer(
        source=str(row.get("src") or source),
        answer_id=str(row.get("id", default_id)),
        question=str(row.get("question", "")),
        golds=tuple(map(str, golds)),
        answer="" if answer is None else str(answer),
        stored=stored,
    )


def _first(row: Mapping[str, Any], names: Sequence[str], what: str) -> Any:
    for name in names:
        if name in row:
            return row[name]
    raise ValueError(f"no column with {what}; expected one of {', '.join(names)}.")
