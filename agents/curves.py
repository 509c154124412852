"""Metric lines of a run in, curves as PNG out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = Sequence[Mapping[str, Any]]
_NUM_COLUMNS = 3
_MARKED_POINTS = 30  # a curve of fewer points shows each


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One pair of axes."""

    title: str
    series: Mapping[str, str]
    """Name of the metric -> its label."""

    scale: str = "linear"
    """"share" (0 to 1), "linear" (from 0 where nothing is negative) or "log"."""

    x: str = "num_rollouts"


PANELS = (
    Panel(
        title="bare accuracy on held-out tasks", series={"eval/accuracy": "accuracy"}, scale="share"
    ),
    Panel(
        title="reward of training rollouts",
        series={"reward/bare": "bare", "reward/guided": "guided"},
    ),
    Panel(
        title="share of groups and rollouts",
        series={
            "zero_variance_groups": "groups without variance",
            "guided_share": "guided rollouts",
            "copied_share": "copied from scaffold",
            "truncated_share": "ended at a limit",
            "failed_share": "ended by an error",
        },
        scale="share",
    ),
    Panel(title="sampled tokens a rollout", series={"mean_action_tokens": "tokens"}),
    Panel(title="entropy, nats a token", series={"train/entropy": "entropy"}),
    Panel(
        title="gap engine to trainer, nats a token",
        series={"train/logprob_gap": "mean"},
        scale="log",
    ),
    Panel(title="gradient norm before clipping", series={"train/grad_norm": "norm"}),
    Panel(
        title="seconds a step",
        series={
            "time/step_s": "whole step",
            "time/rollout_s": "rollouts",
            "time/update_s": "updates",
        },
    ),
    Panel(
        title="loss on expert traces, nats a token",
        series={"supervised/loss": "loss"},
        x="supervised_step",
    ),
)
_X_LABELS = {"num_rollouts": "rollouts", "supervised_step": "supervised steps"}


def metric(row: Mapping[str, Any], name: str) -> float | None:
    """A number of a metric line; "time/..." stand in an object of their own; None where there is none."""
    if name.startswith("time/"):
        row, name = row.get("time") or {}, name.removeprefix("time/")
    value = row.get(name)
    return None if value is None else float(value)


def draw_curves(metrics: Rows, path: Path) -> Path:
    """Draws the panels of a run; a metric that never occurs, and a panel without any, is left out.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no metric yet.
    """
    panels = [
        panel for panel in PANELS if any(_points(metrics, panel, key) for key in panel.series)
    ]
    if not panels:
        raise ValueError("There is no metric to draw yet.")
    try:
        import matplotlib
    except ImportError:
        raise ImportError("Curves need matplotlib: pip install 'maskgym[train]'.") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    num_rows = -(-len(panels) // _NUM_COLUMNS)
    figure, axes = pyplot.subplots(
        num_rows, _NUM_COLUMNS, figsize=(12.5, 3.1 * num_rows), layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel, metrics)
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_visible(False)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)
    return path


def _draw(axis: Any, panel: Panel, metrics: Rows) -> None:
    lowest = highest = 0.0
    for key, label in panel.series.items():
        points = _points(metrics, panel, key)
        if not points:
            continue
        xs, ys = zip(*points, strict=True)
        if panel.scale == "share" and key != next(iter(panel.series)) and not any(ys):
            continue  # nobody was guided, nothing failed: one line fewer
        lowest, highest = min(lowest, *ys), max(highest, *ys)
        axis.plot(xs, ys, marker="." if len(xs) <= _MARKED_POINTS else None, label=label)
        ends = [_points(metrics, panel, f"{key}_{end}") for end in ("low", "high")]
        if all(len(end) == len(points) for end in ends):
            low, high = ([y for _, y in end] for end in ends)
            axis.fill_between(xs, low, high, alpha=0.2, label="95% interval")
    axis.set_title(panel.title, fontsize="medium")
    axis.set_xlabel(_X_LABELS[panel.x])
    axis.grid(alpha=0.3)
    if panel.scale == "share":
        axis.set_ylim(-0.02, 1.02)
    elif panel.scale == "log":
        axis.set_yscale("log")
        exponents = [math.log10(y) for key in panel.series for _, y in _points(metrics, panel, key)]
        bottom, top = math.floor(min(exponents)) - 1, math.ceil(max(exponents)) + 1
        axis.set_ylim(10.0**bottom, 10.0**top)  # noise within a decade looks like it
    elif lowest >= 0:
        axis.set_ylim(0, 1.06 * highest or 1.0)
    if len(axis.get_legend_handles_labels()[0]) > 1:
        axis.legend(fontsize="small")


def _points(metrics: Rows, panel: Panel, key: str) -> list[tuple[float, float]]:
    """Where the curve of a metric goes: in the order of the run; a logarithm takes what is above 0."""
    found = [(metric(row, panel.x), metric(row, key)) for row in metrics]
    is_log = panel.scale == "log"
    return [(x, y) for x, y in found if x is not None and y is not None and (y > 0 or not is_log)]
