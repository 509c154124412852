"""Metric lines of a run in, curves as PNG out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PANELS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("bare accuracy on held-out tasks", (("eval/accuracy", "accuracy"),)),
    ("reward of training rollouts", (("reward/bare", "bare"), ("reward/guided", "guided"))),
    (
        "share of groups and rollouts",
        (("zero_variance_groups", "groups without variance"), ("guided_share", "guided rollouts")),
    ),
    ("entropy, nats a token", (("train/entropy", "entropy"),)),
)


def draw_curves(metrics: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draws the panels of a run against its rollouts; a metric that never occurs is left out.

    Raises:
        ImportError: If matplotlib is missing.
        ValueError: If there is no metric yet.
    """
    if not metrics:
        raise ValueError("There is no metric to draw yet.")
    try:
        import matplotlib
    except ImportError:
        raise ImportError("Curves need matplotlib: pip install 'maskgym[train]'.") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(11, 7), layout="constrained")
    for axis, (title, series) in zip(axes.flat, PANELS, strict=True):
        for key, label in series:
            rows = [row for row in metrics if row.get(key) is not None]
            if not rows:
                continue
            xs = [row["num_rollouts"] for row in rows]
            ys = [row[key] for row in rows]
            axis.plot(xs, ys, marker="o" if key.startswith("eval/") else None, label=label)
            if f"{key}_low" in rows[0]:
                low, high = ([row[f"{key}_{end}"] for row in rows] for end in ("low", "high"))
                axis.fill_between(xs, low, high, alpha=0.2, label="95% interval")
        axis.set_title(title)
        axis.set_xlabel("rollouts")
        axis.grid(alpha=0.3)
        if "nats" not in title:
            axis.set_ylim(-0.02, 1.02)
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
