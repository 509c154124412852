"""Records in, the table of an evaluation out: a row for each benchmark, and their macro average."""

# Q: questions, M: metrics, R: resamples

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .evaluate import is_failed
from .records import EvaluationRecord
from .scores import METRICS, Metric
from .statistics import (
    NUM_RESAMPLES,
    Estimate,
    Floats,
    bootstrap_means,
    percentile_interval,
    wilson_interval,
)

METHOD = (
    f"Means over questions with 95% percentile bootstrap intervals ({NUM_RESAMPLES:,} resamples of the "
    "questions, seeded; Efron 1979). Equal scores everywhere give an interval without width."
)
MACRO = "macro average"
_MAX_LISTED = 20
_MAX_CELL_CHARS = 100
_OF_RETRIEVAL = ("all_gold_shown", "gold_recall", "answer_shown")
_RETRIEVAL = tuple(metric for metric in METRICS if metric.name in _OF_RETRIEVAL)
_COSTS = tuple(metric for metric in METRICS if metric.name == "answered" or not metric.is_share)
_ANSWERS = tuple(metric for metric in METRICS if metric not in (*_RETRIEVAL, *_COSTS))


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A question on which the two ways of comparing answers do not agree."""

    task_id: str
    answer: str
    gold: tuple[str, ...]
    strict: float
    search_r1: float


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """What one benchmark found."""

    name: str
    num_questions: int
    num_missing: int
    """Questions that were asked for and have no record yet."""

    estimates: Mapping[str, Estimate]
    """By name of the metric; those that no question has are left out."""

    accuracy_wilson: Estimate | None
    """The accuracy with Wilson's interval, which has a width at 0 and 1 too; not in the printed table."""

    num_verifier_errors: int
    """Questions that could not be graded; they are left out of the accuracy."""

    num_failed: int
    """Episodes that something else than the policy ended; they count as not correct."""

    end_reasons: Mapping[str, int]
    recall_by_turn: tuple[float, ...]
    """Mean share of the gold passages shown after each turn; an episode that is over keeps its share."""

    disagreements: tuple[Disagreement, ...]


@dataclass(frozen=True, kw_only=True)
class EvaluationTable:
    """All benchmarks of one evaluation."""

    benchmarks: tuple[BenchmarkResult, ...]
    macro: Mapping[str, Estimate] = field(default_factory=dict)
    """Mean over benchmarks of each metric that all of them have; empty for a single benchmark."""

    def to_json(self) -> dict[str, Any]:
        """The whole table as a JSON object."""
        return {
            "method": METHOD,
            "benchmarks": {result.name: asdict(result) for result in self.benchmarks},
            "macro": {name: asdict(estimate) for name, estimate in self.macro.items()},
        }

    def to_markdown(self, *, who: str) -> str:
        """The table for people: what was scored, what it cost, how it ended, what is disputed."""
        parts = [f"# Evaluation of {who}", "", "Bare: no episode showed a scaffold.", METHOD]
        doubts = [line for result in self.benchmarks for line in _doubts(result)]
        parts += ["", *doubts] if doubts else []
        for title, metrics in (("Answers", _ANSWERS), ("Retrieval", _RETRIEVAL), ("Cost", _COSTS)):
            table = self._estimates(metrics)
            parts += ["", f"## {title}", "", *table] if table else []
            parts += self._recall() if metrics is _RETRIEVAL else []
        parts += ["", "## Ends of episodes", "", *markdown_table(*self._ends())]
        parts += self._disagreements()
        return "\n".join(parts) + "\n"

    def _estimates(self, metrics: Sequence[Metric]) -> list[str]:
        rows = [(r.name, str(r.num_questions), r.estimates) for r in self.benchmarks]
        if self.macro:
            total = sum(result.num_questions for result in self.benchmarks)
            rows.append((MACRO, str(total), self.macro))
        metrics = [m for m in metrics if any(m.name in estimates for _, _, estimates in rows)]
        if not metrics:
            return []
        header = ["benchmark", "questions", *(metric.title for metric in metrics)]
        cells = [
            [name, count, *(_cell(estimates.get(metric.name), metric) for metric in metrics)]
            for name, count, estimates in rows
        ]
        legend = "; ".join(f"{metric.title}: {metric.meaning}" for metric in metrics)
        return [*markdown_table(header, cells), "", f"({legend})"]

    def _ends(self) -> tuple[list[str], list[list[str]]]:
        reasons = sorted({reason for r in self.benchmarks for reason in r.end_reasons})
        header = [
            "benchmark",
            "missing",
            "verifier errors",
            "failed",
            *(f"end: {r}" for r in reasons),
        ]
        rows = [
            [
                r.name,
                *map(str, (r.num_missing, r.num_verifier_errors, r.num_failed)),
                *(str(r.end_reasons.get(reason, 0)) for reason in reasons),
            ]
            for r in self.benchmarks
        ]
        return header, rows

    def _recall(self) -> list[str]:
        results = [result for result in self.benchmarks if result.recall_by_turn]
        if not results:
            return []
        num_turns = max(len(result.recall_by_turn) for result in results)
        header = ["gold recall after turn", *map(str, range(1, num_turns + 1))]
        rows = [
            [r.name, *(f"{share:.1%}" for share in r.recall_by_turn)]
            + [""] * (num_turns - len(r.recall_by_turn))
            for r in results
        ]
        return ["", *markdown_table(header, rows)]

    def _disagreements(self) -> list[str]:
        listed = [
            (result.name, each) for result in self.benchmarks for each in result.disagreements
        ]
        if not listed and not any("exact_match" in r.estimates for r in self.benchmarks):
            return []
        if not listed:
            return ["", "EM strict and EM search-r1 agree on every question."]
        rows = [
            [name, d.task_id, d.answer, " / ".join(d.gold), f"{d.strict:.0f}", f"{d.search_r1:.0f}"]
            for name, d in listed[:_MAX_LISTED]
        ]
        more = f"; the first {_MAX_LISTED}" if len(listed) > _MAX_LISTED else ""
        return [
            "",
            f"EM strict and EM search-r1 disagree on {len(listed)} questions{more}:",
            "",
            *markdown_table(
                ["benchmark", "question", "answer", "gold", "strict", "search-r1"], rows
            ),
        ]


def tabulate(
    records: Iterable[EvaluationRecord],
    *,
    expected: Mapping[str, int] | None = None,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> EvaluationTable:
    """The table of some records; it does not depend on their order.

    Args:
        records: Of one run, each question once.
        expected: Number of questions asked for, by benchmark; also the order of the rows.
        seed: With the benchmark's name, fixes the resamples.
        num_resamples: Of the bootstrap.

    Raises:
        ValueError: If there is no record.
    """
    by_name: dict[str, list[EvaluationRecord]] = {name: [] for name in expected or {}}
    for record in records:
        by_name.setdefault(record.benchmark, []).append(record)
    by_name = {name: found for name, found in by_name.items() if found}
    if not by_name:
        raise ValueError("There is no record to make a table of.")
    results, resampled = [], []
    for name, found in by_name.items():
        found.sort(key=lambda record: record.key)
        scores_QM = score_matrix(found, METRICS)
        means_RM = bootstrap_means(
            scores_QM, num_resamples=num_resamples, seed=benchmark_seed(name, seed)
        )
        resampled.append(means_RM)
        results.append(
            _result(name, found, _estimates(scores_QM, means_RM), (expected or {}).get(name))
        )
    return EvaluationTable(benchmarks=tuple(results), macro=_macro(results, resampled))


def score_matrix(records: Sequence[EvaluationRecord], metrics: Sequence[Metric]) -> Floats:
    """[Q, M] scores of the records, NaN where a question has none."""
    rows = [[getattr(record.scores, metric.name) for metric in metrics] for record in records]
    return np.array(rows, dtype=np.float64)  # None becomes NaN


def benchmark_seed(name: str, seed: int) -> tuple[int, int]:
    """A seed of the benchmark's own: the same whatever other benchmarks stand beside it."""
    return seed, zlib.crc32(name.encode())


def _estimates(scores_QM: Floats, means_RM: Floats) -> dict[str, Estimate]:
    return {
        metric.name: percentile_interval(float(np.nanmean(scores_QM[:, m])), means_RM[:, m])
        for m, metric in enumerate(METRICS)
        if not np.isnan(scores_QM[:, m]).all()
    }


def _macro(results: Sequence[BenchmarkResult], resampled: Sequence[Floats]) -> dict[str, Estimate]:
    if len(results) < 2:
        return {}
    means_RM = np.mean(resampled, axis=0)
    return {
        metric.name: percentile_interval(
            float(np.mean([result.estimates[metric.name].mean for result in results])),
            means_RM[:, m],
        )
        for m, metric in enumerate(METRICS)
        if all(metric.name in result.estimates for result in results)
    }


def _result(
    name: str,
    records: Sequence[EvaluationRecord],
    estimates: Mapping[str, Estimate],
    num_expected: int | None,
) -> BenchmarkResult:
    scores = [record.scores for record in records]
    graded = [each.accuracy for each in scores if each.accuracy is not None]
    return BenchmarkResult(
        name=name,
        num_questions=len(records),
        num_missing=max((num_expected or 0) - len(records), 0),
        estimates=estimates,
        accuracy_wilson=wilson_interval(round(sum(graded)), len(graded)) if graded else None,
        num_verifier_errors=sum(each.accuracy is None for each in scores),
        num_failed=sum(is_failed(record.trajectory) for record in records),
        end_reasons=dict(sorted(Counter(r.trajectory.end_reason for r in records).items())),
        recall_by_turn=_mean_by_turn(
            [each.gold_recall_by_turn for each in scores if each.gold_recall is not None]
        ),
        disagreements=tuple(
            Disagreement(
                task_id=record.trajectory.task_id,
                answer=record.trajectory.answer,
                gold=record.trajectory.gold,
                strict=each.exact_match,
                search_r1=each.exact_match_search_r1,
            )
            for record, each in zip(records, scores, strict=True)
            if each.exact_match is not None
            and each.exact_match_search_r1 is not None
            and each.exact_match != each.exact_match_search_r1
        ),
    )


def _mean_by_turn(shares: Sequence[Sequence[float]]) -> tuple[float, ...]:
    num_turns = max(map(len, shares), default=0)
    full = [[*each, *[(each or [0.0])[-1]] * (num_turns - len(each))] for each in map(list, shares)]
    return tuple(float(mean) for mean in np.mean(full, axis=0)) if num_turns else ()


def _doubts(result: BenchmarkResult) -> list[str]:
    """What a reader should know before the numbers."""
    means = {name: estimate.mean for name, estimate in result.estimates.items()}
    lines = []
    if result.num_missing:
        total = result.num_questions + result.num_missing
        lines.append(f"only {result.num_questions} of {total} questions were played so far.")
    if result.num_failed or result.num_verifier_errors:
        lines.append(
            f"{result.num_failed} episodes failed and {result.num_verifier_errors} answers could not be "
            "graded; --retry-failed plays them again."
        )
    if means["tool_failures"] > 0:
        share = means["tool_failures"] / max(means["tool_calls"], means["tool_failures"])
        lines.append(f"{share:.1%} of the tool calls failed.")
    elif means["tool_calls"] > 0 and means.get("gold_recall") == 0:
        lines.append("no gold passage was ever shown: is the index one of another corpus?")
    return [f"- **{result.name}**: {line}" for line in lines]


def _cell(estimate: Estimate | None, metric: Metric) -> str:
    if estimate is None:
        return "-"
    if metric.is_share:
        return str(estimate)
    return f"{estimate.mean:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table; a cell cannot break out of its row."""
    lines = [[_plain(cell) for cell in line] for line in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]


def _plain(cell: str) -> str:
    text = " ".join(cell.split())
    text = text if len(text) <= _MAX_CELL_CHARS else f"{text[:_MAX_CELL_CHARS]}..."
    return text.replace("|", "\\|")
