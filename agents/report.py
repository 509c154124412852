"""A run folder in, one self-contained HTML page out: numbers, curves, sample trajectories."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from .curves import Rows, draw_curves, metric
from .rollouts.trajectory import Trajectory, Turn
from .run_folder import RunFolder

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1e21; background: #fff; }
h1 { margin-bottom: 0; } .lead { font-size: 1.15rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { text-align: left; padding: .3rem .9rem;
  border-bottom: 1px solid #d8dbe0; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; } details { border: 1px solid #d8dbe0; border-radius: .4rem; margin: .6rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; } pre { white-space: pre-wrap; overflow-wrap: anywhere;
  margin: 0; padding: .5rem .8rem; border-left: .4rem solid #888; font-size: .9rem; }
.question { border-color: #596275; } .scaffold { border-color: #b7791f; background: #fdf6e3; }
.model { border-color: #2156a5; background: #eef4fc; } .tool { border-color: #2f7d4f; background: #eef8f1; }
.badge { border-radius: .3rem; padding: .05rem .45rem; color: #fff; background: #596275; }
.error { border-color: #b03a2e; background: #fdecea; } a img { border: 0; }
.correct { background: #2f7d4f; } .wrong { background: #b03a2e; }
"""


def write_report(
    folder: RunFolder,
    *,
    title: str,
    lead: Sequence[str],
    table: Sequence[Sequence[str]] = (),
    samples: Mapping[str, Sequence[Trajectory]],
) -> Path:
    """Writes `curves.png` and `report.html` of a run.

    Args:
        folder: The run.
        title: What the run was.
        lead: Sentences that say what came out.
        table: Rows of text, the first of them the header.
        samples: Trajectories to show, under a heading each.

    Returns:
        The page.
    """
    curves = draw_curves(folder.metrics(), folder.path / "curves.png")
    image = base64.b64encode(curves.read_bytes()).decode()
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        *(f"<p class='lead'>{html.escape(line)}</p>" for line in lead),
        _table(table),
        "<h2>Curves</h2><a href='curves.png'>"
        f"<img alt='Curves of the run' src='data:image/png;base64,{image}'></a>",
        _table(run_numbers(folder.metrics())),
    ]
    for heading, trajectories in samples.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        parts += [_trajectory(trajectory) for trajectory in trajectories]
    parts.append(
        "<h2>Files</h2><p><code>recipe.toml</code> every setting, <code>metrics.jsonl</code> one line a "
        "step, <code>trajectories/</code> every token with its log-probability, "
        "<code>checkpoints/</code> models in Hugging Face form.</p></body></html>"
    )
    page = folder.path / "report.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def run_numbers(metrics: Rows) -> list[tuple[str, str]]:
    """How fast a run was, how near engine and trainer were, and what broke: rows of text, header first.

    Empty before the first step.
    """
    steps = [row for row in metrics if "train/loss" in row]
    if not steps:
        return []

    def values(name: str) -> list[float]:
        return [value for row in steps if (value := metric(row, name)) is not None]

    def typical(name: str) -> float:
        return median(values(name) or [0.0])

    learnt = [row for row in steps if metric(row, "train/grad_norm")]
    trained = [metric(row, "time/trained_tokens_per_s") or 0.0 for row in learnt]
    rows = [
        ("of the run's steps", ""),
        (
            "seconds a step, median",
            f"{typical('time/step_s'):.2f} (rollouts {typical('time/rollout_s'):.2f}, updates "
            f"{typical('time/update_s'):.2f}, weights to the engine {typical('time/push_s'):.2f})",
        ),
        (
            "tokens a second, median",
            f"{typical('time/sampled_tokens_per_s'):,.0f} sampled, "
            f"{median(trained or [0.0]):,.0f} trained",
        ),
        ("steps that moved the weights", f"{len(learnt)} of {len(steps)}"),
        (
            "largest gap engine to trainer",
            f"{max(values('train/logprob_gap') or [0.0]):.1e} nats a token",
        ),
        ("rollouts ended by an error", f"{sum(values('num_failed')):.0f}"),
    ]
    if skipped := sum(values("train/num_skipped")):
        rows.append(("updates left out, loss or gradient not finite", f"{skipped:.0f}"))
    return rows


def shown_samples(folder: RunFolder, *, count: int = 8) -> dict[str, list[Trajectory]]:
    """Trajectories to show of a run: of the last evaluation and of the last step, under their headings.

    Of each group what earned most and what earned least, where its advantages come from; groups that
    differ most come first.
    """
    names = sorted(path.stem for path in (folder.path / "trajectories").glob("*.jsonl"))
    samples = {}
    for kind, heading in (("eval", "Evaluation after step"), ("step", "Rollouts of step")):
        of_kind = [name for name in names if name.startswith(f"{kind}-")]
        if of_kind:
            number = int(of_kind[-1].rpartition("-")[2])
            samples[f"{heading} {number}"] = _varied(list(folder.trajectories(of_kind[-1])), count)
    return samples


def _varied(trajectories: Sequence[Trajectory], count: int) -> list[Trajectory]:
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group, []).append(trajectory)
    ranked = [sorted(group, key=lambda each: -each.reward) for group in groups.values()]
    ranked.sort(key=lambda group: group[-1].reward - group[0].reward)  # most to tell apart first
    ends = [each for group in ranked for each in (group[0], *group[1:][-1:])]
    between = [each for group in ranked for each in group[1:-1]]
    return [*ends, *between][:count]


def _table(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head, *body = rows
    cells = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    lines = [f"<tr>{cells}</tr>"]
    for row in body:
        cells = "".join(
            f"<td class='{'number' if i else ''}'>{html.escape(cell)}</td>"
            for i, cell in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _trajectory(trajectory: Trajectory) -> str:
    verdict: Any = trajectory.verdict.value if trajectory.verdict else trajectory.end_reason
    ending = "" if trajectory.end_reason in ("answered", verdict) else f", {trajectory.end_reason}"
    seen = f", saw scaffold {trajectory.scaffold_policy}" if trajectory.is_guided else ""
    blocks = [_block("question", "question", trajectory.question)]
    if trajectory.scaffold:
        blocks.append(
            _block("scaffold", f"scaffold ({trajectory.scaffold_policy})", trajectory.scaffold)
        )
    for turn in trajectory.turns:
        blocks.append(_block("model", _turn_label(turn), turn.action_text))
        if turn.observation:
            failed = f", failed: {turn.tool_error}" if turn.tool_error else ""
            blocks.append(_block("tool", f"environment{failed}", turn.observation))
    if trajectory.error:
        blocks.append(_block("error", "error", trajectory.error))
    num_turns = len(trajectory.turns)
    return (
        f"<details><summary><span class='badge {html.escape(verdict)}'>{html.escape(verdict)}</span> "
        f"reward {trajectory.reward:g}, {num_turns} {'turn' if num_turns == 1 else 'turns'}, "
        f"{trajectory.num_action_tokens} tokens{html.escape(ending + seen)}: "
        f"{html.escape(trajectory.question[:120])} (gold: "
        f"{html.escape(', '.join(trajectory.gold) or 'tests')})</summary>{''.join(blocks)}</details>"
    )


def _turn_label(turn: Turn) -> str:
    parts = [f"model: {turn.action}", f"{len(turn.action_ids)} tokens"]
    if turn.finish_reason == "length":
        parts.append("cut off at the limit")
    if turn.is_new_context:
        parts.append("in a context of its own: the chat format rewrote what came before")
    return ", ".join(parts)


def _block(kind: str, label: str, text: str) -> str:
    return f"<pre class='{kind}'><b>{html.escape(label)}</b>\n{html.escape(text)}</pre>"
