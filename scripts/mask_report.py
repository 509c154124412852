"""The totals and examples of a masking run in, one self-contained HTML page out."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maskgym.masking import SpanKind
from maskgym.masking.audit import LeakLevel

from .mask_examples import Example, Piece
from .mask_rows import Leak
from .mask_totals import Totals

_HUES = {
    SpanKind.NUMBER: 212,
    SpanKind.NUMBER_WORD: 190,
    SpanKind.EXPRESSION: 232,
    SpanKind.CONSTANT: 250,
    SpanKind.ANSWER: 2,
    SpanKind.CHOICE: 20,
    SpanKind.DATE: 96,
    SpanKind.ENTITY: 140,
    SpanKind.QUERY: 165,
    SpanKind.DOCUMENT: 60,
    SpanKind.CODE: 285,
    SpanKind.OUTPUT: 38,
    SpanKind.WORD: 320,
    SpanKind.CUT: 0,
}
"""Hue of each kind, in degrees; lightness follows the light or dark theme."""

_MAX_OPEN_LEAKS = 30
"""A longer list of leaks is folded."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fff; --line: #d8dbe0; --soft: #5b6270;
  --block: #f6f7f9; --bar: #2156a5; --bad: #b03a2e; --good: #2f7d4f; --mark: 89%; --markink: 20%; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6ea; --paper: #16181c; --line: #383d46;
  --soft: #a0a7b4; --block: #1f2329; --bar: #6ea0e8; --bad: #f08a7d; --good: #74c795; --mark: 26%;
  --markink: 88%; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--paper); }
h1 { margin-bottom: 0; overflow-wrap: anywhere; } h2 { margin-top: 2.2rem; }
.lead { font-size: 1.15rem; } .soft { color: var(--soft); }
table { border-collapse: collapse; margin: 1rem 0; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .3rem .9rem; border-bottom: 1px solid var(--line);
  vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
td.name { white-space: nowrap; } td.text { overflow-wrap: anywhere; }
.track { display: block; width: 12rem; height: .8rem; margin-top: .35rem; background: var(--block);
  border-radius: .2rem; } .bar { display: block; height: 100%; border-radius: .2rem;
  background: var(--bar); } .bar.leak { background: var(--bad); }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .8rem 0; }
summary { cursor: pointer; padding: .5rem .8rem; overflow-wrap: anywhere; }
.badge { border-radius: .3rem; padding: .05rem .45rem; color: var(--paper); background: var(--soft); }
.badge.leak { background: var(--bad); } .badge.none { background: var(--good); }
.question { padding: .2rem .8rem .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; padding: 0 .8rem .8rem; }
@media (max-width: 48rem) { .pair { grid-template-columns: 1fr; } .track { width: 4rem; }
  th, td { padding: .3rem .5rem; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0 0 .5rem; padding: .5rem .8rem;
  font-size: .88rem; background: var(--block); border-left: .3rem solid var(--line); }
pre.out { opacity: .55; } .title { font-size: .8rem; color: var(--soft); }
mark { border-radius: .2rem; padding: 0 .15rem; background: hsl(var(--hue) 75% var(--mark));
  color: hsl(var(--hue) 80% var(--markink)); }
.legend mark { margin-right: .5rem; white-space: nowrap; }
"""


def report_page(totals: Totals, record: Mapping[str, Any]) -> str:
    """The page of a run: leak table, what is hidden, every visible target, examples in colour.

    It loads nothing: no script, no font, no image.
    """
    title = f"{record['input']['name']} masked by {record['policy']}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1><p class='lead'>{html.escape(totals.line())}</p>",
        "<h2>What the scaffolds still give away</h2>",
        _bars(("level", "what it says", "traces", "share", ""), totals.leak_rows(), "leak"),
        _facts(totals.fact_rows()),
        "<h2>What is hidden</h2>",
        _bars(("kind", "", "", "hidden", ""), totals.kind_rows(), ""),
        *_examples("Worst leaks", totals.worst, is_open=False),
        *_leaks(totals.leaks, totals.num_leaks),
        *_problems(totals.problems, totals.num_problems),
        *_examples("Examples", totals.examples, is_open=True),
        "<h2>Configuration</h2>",
        f"<pre>{html.escape(json.dumps(record, indent=2, ensure_ascii=False))}</pre>",
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _bars(
    head: Sequence[str], rows: Iterable[tuple[str, str, int | None, float]], style: str
) -> str:
    """A table with a bar for the share at the end of each row; columns without a head go."""
    lines = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head if cell) + "<th></th>"]
    for name, text, count, share in rows:
        cells = [f"<td class='name'>{html.escape(name)}</td>"]
        if text:
            cells.append(f"<td>{html.escape(text)}</td>")
        if count is not None:
            cells.append(f"<td class='number'>{count:,}</td>")
        width = f"{max(min(share, 1.0), 0.0):.2%}"
        cells.append(f"<td class='number'>{share:.1%}</td>")
        cells.append(
            f"<td><span class='track'><span class='bar {style}' style='width:{width}'></span>"
            "</span></td>"
        )
        lines.append("".join(cells))
    return _table(lines)


def _table(lines: Iterable[str]) -> str:
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<div class='wide'><table>{rows}</table></div>"


def _facts(rows: Iterable[tuple[str, str]]) -> str:
    return _table(
        f"<td>{html.escape(name)}</td><td class='number'>{html.escape(value)}</td>"
        for name, value in rows
    )


def _leaks(leaks: Sequence[Leak], num_leaks: int) -> list[str]:
    parts = ["<h2>Every scaffold that shows its target</h2>"]
    if not leaks:
        return [*parts, "<p>None does.</p>"]
    head = ("row", "task", "level", "shown as", "target")
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    for leak in leaks:
        values = (leak.where, leak.task_id, leak.level, leak.visible_as, leak.answer or "tests")
        lines.append("".join(f"<td class='text'>{html.escape(value)}</td>" for value in values))
    is_short = num_leaks <= _MAX_OPEN_LEAKS
    parts.append(f"<details{' open' if is_short else ''}><summary>{num_leaks:,} rows</summary>")
    parts.append(f"{_table(lines)}</details>")
    if num_leaks > len(leaks):
        parts.append(
            f"<p>And {num_leaks - len(leaks):,} more: the rows of OUT whose "
            "<code>audit.is_answer_visible</code> is true.</p>"
        )
    return parts


def _problems(problems: Sequence[str], num_problems: int) -> list[str]:
    if not problems:
        return []
    lines = [f"<td class='text'>{html.escape(problem)}</td>" for problem in problems]
    more = num_problems - len(problems)
    return ["<h2>Rows left out</h2>", _table(lines), f"<p>And {more:,} more.</p>" if more else ""]


def _examples(title: str, examples: Sequence[Example], *, is_open: bool) -> list[str]:
    if not examples:
        return []
    kinds = {
        kind
        for example in examples
        for pieces in (*(turn.pieces for turn in example.turns), example.scaffold)
        for _, kind in pieces
        if kind is not None
    }
    legend = "".join(_mark(_name(kind), kind) for kind in SpanKind if kind in kinds)
    return [
        f"<h2>{html.escape(title)}</h2><p class='legend'>{legend}</p>",
        *(_example(example, is_open=is_open or not i) for i, example in enumerate(examples)),
    ]


def _example(example: Example, *, is_open: bool) -> str:
    style = "none" if example.level is LeakLevel.NONE else ""
    style = "leak" if example.level >= LeakLevel.ONE_STEP else style
    badge = f"<span class='badge {style}'>{html.escape(example.level.label)}</span>"
    notes = [f"target: {example.answer or 'tests'}"]
    if example.visible_as:
        notes.append(f"shown: {example.visible_as}")
    if example.is_dropped:
        notes.append("dropped")
    elif example.policy != example.requested_policy:
        notes.append(f"masked harder: {example.policy}")
    before = [
        f"<div class='title'>{html.escape(turn.title)}{' (left out)' if turn.is_left_out else ''}"
        f"</div><pre class='{'out' if turn.is_left_out else ''}'>{_text(turn.pieces)}</pre>"
        for turn in example.turns
    ]
    if example.num_cut:
        before.append(f"<p class='soft'>{example.num_cut:,} characters more.</p>")
    scaffold = _text(example.scaffold) or "<span class='soft'>(empty)</span>"
    return (
        f"<details{' open' if is_open else ''}><summary>{badge} <b>{html.escape(example.task_id)}"
        f"</b> <span class='soft'>{html.escape(example.where)}; {html.escape('; '.join(notes))}"
        f"</span></summary><div class='question'>{html.escape(example.question)}</div>"
        f"<div class='pair'><div>{''.join(before)}</div>"
        f"<div><div class='title'>scaffold</div><pre>{scaffold}</pre></div></div></details>"
    )


def _text(pieces: Iterable[Piece]) -> str:
    return "".join(
        html.escape(text) if kind is None else _mark(text, kind) for text, kind in pieces
    )


def _mark(text: str, kind: SpanKind) -> str:
    return (
        f"<mark style='--hue:{_HUES.get(kind, 0)}' title='{_name(kind)}'>{html.escape(text)}</mark>"
    )


def _name(kind: SpanKind) -> str:
    return kind.value.replace("_", " ")
