"""Two evaluations in, their differences out: paired on questions, with intervals and tests.

Only questions that both runs answered are compared; the others are named and counted.
"""

# Q: questions in both runs, M: metrics

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .records import EvaluationRecord
from .scores import METRICS, Metric
from .statistics import (
    NUM_RESAMPLES,
    Estimate,
    Floats,
    bootstrap_means,
    mcnemar_exact,
    paired_permutation,
    percentile_interval,
)
from .table import MACRO, benchmark_seed, markdown_table, score_matrix

METHOD = (
    "Shares are in percent. Differences are B less A over the questions that both runs answered, with "
    f"95% percentile bootstrap intervals ({NUM_RESAMPLES:,} resamples of the pairs, seeded; Efron 1979). "
    "p-values are two-sided and not corrected for the number of rows: McNemar's exact test where a "
    f"question is right or wrong, a permutation test of the signs ({NUM_RESAMPLES:,}) elsewhere."
)
_MAX_LISTED = 10
_YES_OR_NO = {
    "accuracy",
    "exact_match",
    "exact_match_search_r1",
    "contains",
    "contains_search_r1",
    "all_gold_shown",
    "answer_shown",
    "answered",
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one benchmark in both runs."""

    metric: str
    num_pairs: int
    """Questions that have this score in both runs."""

    mean_a: float
    mean_b: float
    difference: Estimate
    """B less A."""

    num_only_a: int
    """Questions on which A scores more."""

    num_only_b: int
    p_value: float | None
    """None for the macro average, whose benchmarks are of different sizes."""

    test: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkComparison:
    """One benchmark in both runs."""

    name: str
    num_pairs: int
    differences: tuple[Difference, ...]
    only_in_a: tuple[str, ...]
    """Task ids that only A has."""

    only_in_b: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All benchmarks that both runs have."""

    benchmarks: tuple[BenchmarkComparison, ...]
    macro: tuple[Difference, ...]
    """Means over benchmarks; empty for a single one."""

    unpaired_benchmarks: tuple[str, ...]
    """Benchmarks that only one of the runs has."""

    def to_json(self) -> dict[str, Any]:
        """The whole comparison as a JSON object."""
        return {"method": METHOD, **asdict(self)}

    def to_markdown(self, *, name_a: str, name_b: str) -> str:
        """The comparison for people."""
        titles = {metric.name: metric for metric in METRICS}
        blocks = [(b.name, b.differences) for b in self.benchmarks]
        if self.macro:
            blocks.append((MACRO, self.macro))
        rows = [_row(name, each, titles[each.metric]) for name, found in blocks for each in found]
        header = ["benchmark", "metric", "pairs", "A", "B", "B - A [95%]", "A only", "B only", "p"]
        lines = [
            "# Two evaluations compared",
            "",
            f"- A: {name_a}",
            f"- B: {name_b}",
            "",
            METHOD,
            "",
        ]
        lines += markdown_table([*header, "test"], rows)
        lines += [""]
        for each in self.benchmarks:
            for run, ids in (("A", each.only_in_a), ("B", each.only_in_b)):
                if ids:
                    more = ", ..." if len(ids) > _MAX_LISTED else ""
                    named = ", ".join(ids[:_MAX_LISTED]) + more
                    lines.append(f"{each.name}: {len(ids)} questions only in {run}: {named}")
        if self.unpaired_benchmarks:
            lines.append(f"Only in one of the runs: {', '.join(self.unpaired_benchmarks)}")
        return "\n".join(lines).rstrip() + "\n"


def compare(
    records_a: Sequence[EvaluationRecord],
    records_b: Sequence[EvaluationRecord],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Comparison:
    """Compares two runs question by question.

    Raises:
        ValueError: If they have no question in common, or one id stands for two different questions.
    """
    by_key_a = {record.key: record for record in records_a}
    by_key_b = {record.key: record for record in records_b}
    names_a, names_b = ({name: None for name, _ in keys} for keys in (by_key_a, by_key_b))
    shared = [name for name in names_a if name in names_b]
    found, resampled = [], []
    for name in shared:
        ids_a, ids_b = ({i for n, i in keys if n == name} for keys in (by_key_a, by_key_b))
        pairs = [(by_key_a[name, i], by_key_b[name, i]) for i in sorted(ids_a & ids_b)]
        if not pairs:
            continue
        _check_same_questions(name, pairs)
        a_QM, b_QM = (score_matrix(side, METRICS) for side in zip(*pairs, strict=True))
        # A score that one run lacks is no pair.
        a_QM, b_QM = np.where(np.isnan(b_QM), np.nan, a_QM), np.where(np.isnan(a_QM), np.nan, b_QM)
        drawn_RM = bootstrap_means(
            b_QM - a_QM, num_resamples=num_resamples, seed=benchmark_seed(name, seed)
        )
        resampled.append(drawn_RM)
        found.append(
            BenchmarkComparison(
                name=name,
                num_pairs=len(pairs),
                differences=tuple(
                    _difference(metric, a_QM[:, m], b_QM[:, m], drawn_RM[:, m], seed)
                    for m, metric in enumerate(METRICS)
                    if not np.isnan(a_QM[:, m]).all()
                ),
                only_in_a=tuple(sorted(ids_a - ids_b)),
                only_in_b=tuple(sorted(ids_b - ids_a)),
            )
        )
    if not found:
        raise ValueError(
            f"The runs have no question in common: A has {_listed(names_a)}, B has {_listed(names_b)}. "
            "Evaluate both on the same benchmarks."
        )
    paired = {each.name for each in found}
    return Comparison(
        benchmarks=tuple(found),
        macro=_macro(found, resampled),
        unpaired_benchmarks=tuple(n for n in {**names_a, **names_b} if n not in paired),
    )


def _check_same_questions(
    name: str, pairs: Sequence[tuple[EvaluationRecord, EvaluationRecord]]
) -> None:
    for a, b in pairs:
        asked_a, asked_b = (
            (record.trajectory.question, record.trajectory.gold) for record in (a, b)
        )
        if asked_a != asked_b:
            raise ValueError(
                f"{name}: {a.trajectory.task_id!r} is {asked_a[0]!r} with the answers {asked_a[1]} in A "
                f"and {asked_b[0]!r} with {asked_b[1]} in B. The runs were made on other versions of the "
                "data; evaluate one of them again."
            )


def _difference(metric: Metric, a_Q: Floats, b_Q: Floats, drawn_R: Floats, seed: int) -> Difference:
    is_pair = ~np.isnan(a_Q)
    a_Q, b_Q = a_Q[is_pair], b_Q[is_pair]
    num_only_a, num_only_b = int((a_Q > b_Q).sum()), int((b_Q > a_Q).sum())
    if metric.name in _YES_OR_NO:
        test, p_value = "McNemar exact", mcnemar_exact(num_only_a, num_only_b)
    else:
        test, p_value = "permutation", paired_permutation(b_Q - a_Q, seed=seed)
    return Difference(
        metric=metric.name,
        num_pairs=len(a_Q),
        mean_a=float(a_Q.mean()),
        mean_b=float(b_Q.mean()),
        difference=percentile_interval(float((b_Q - a_Q).mean()), drawn_R),
        num_only_a=num_only_a,
        num_only_b=num_only_b,
        p_value=p_value,
        test=test,
    )


def _macro(
    found: Sequence[BenchmarkComparison], resampled: Sequence[Floats]
) -> tuple[Difference, ...]:
    if len(found) < 2:
        return ()
    by_metric: list[Mapping[str, Difference]] = [
        {each.metric: each for each in comparison.differences} for comparison in found
    ]
    drawn_RM = np.mean(resampled, axis=0)
    macro = []
    for m, metric in enumerate(METRICS):
        rows = [each[metric.name] for each in by_metric if metric.name in each]
        if len(rows) < len(found):
            continue
        mean_a, mean_b = (
            float(np.mean([getattr(row, side) for row in rows])) for side in ("mean_a", "mean_b")
        )
        macro.append(
            Difference(
                metric=metric.name,
                num_pairs=sum(row.num_pairs for row in rows),
                mean_a=mean_a,
                mean_b=mean_b,
                difference=percentile_interval(mean_b - mean_a, drawn_RM[:, m]),
                num_only_a=sum(row.num_only_a for row in rows),
                num_only_b=sum(row.num_only_b for row in rows),
                p_value=None,
                test="",
            )
        )
    return tuple(macro)


def _row(name: str, each: Difference, metric: Metric) -> list[str]:
    scale, digits = (100.0, 1) if metric.is_share else (1.0, 2)
    values = [each.mean_a, each.mean_b]
    spread = each.difference
    return [
        name,
        metric.title,
        str(each.num_pairs),
        *(f"{scale * value:.{digits}f}" for value in values),
        f"{scale * spread.mean:+.{digits}f} "
        f"[{scale * spread.low:+.{digits}f}, {scale * spread.high:+.{digits}f}]",
        str(each.num_only_a),
        str(each.num_only_b),
        _p_value(each.p_value),
        each.test,
    ]


def _p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _listed(names: Mapping[str, None]) -> str:
    return ", ".join(names) or "nothing"
