"""A run folder in, one self-contained HTML page out: numbers, curves, sample trajectories."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .curves import draw_curves
from .rollouts.trajectory import Trajectory
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
        f"<h2>Curves</h2><img alt='Curves of the run' src='data:image/png;base64,{image}'>",
    ]
    for heading, trajectories in samples.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        parts += [_trajectory(trajectory) for trajectory in trajectories]
    parts.append(
        "<h2>Files</h2><p><code>config.json</code> resolved configuration, "
        "<code>metrics.jsonl</code> one line a step, <code>trajectories/</code> every token with its "
        "log-probability, <code>checkpoints/</code> models in Hugging Face form.</p></body></html>"
    )
    page = folder.path / "report.html"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


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
    blocks = [_block("question", "question", trajectory.question)]
    if trajectory.scaffold:
        blocks.append(
            _block("scaffold", f"scaffold ({trajectory.scaffold_policy})", trajectory.scaffold)
        )
    for turn in trajectory.turns:
        blocks.append(_block("model", f"model ({turn.action})", turn.action_text))
        if turn.observation:
            blocks.append(_block("tool", "environment", turn.observation))
    return (
        f"<details><summary><span class='badge {html.escape(verdict)}'>{html.escape(verdict)}</span> "
        f"reward {trajectory.reward:g}, {len(trajectory.turns)} turns: "
        f"{html.escape(trajectory.question[:120])} (gold: "
        f"{html.escape(', '.join(trajectory.gold) or 'tests')})</summary>{''.join(blocks)}</details>"
    )


def _block(kind: str, label: str, text: str) -> str:
    return f"<pre class='{kind}'><b>{html.escape(label)}</b>\n{html.escape(text)}</pre>"
