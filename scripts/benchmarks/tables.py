"""Tables: titled rows in, Markdown and JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from maskgym.agents.evaluation.statistics import wilson_interval

Cell = str | int | float | None


@dataclass(kw_only=True)
class Table:
    """One table with its title and the notes beneath it."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Adds a row; its length is that of the columns."""
        assert len(cells) == len(self.columns), (cells, self.columns)
        self.rows.append(cells)

    def to_markdown(self) -> str:
        """The table as GitHub writes it, title first, notes as a list."""
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [_line(self.columns), _line(["---"] * len(self.columns))]
            lines += [_line([shown(cell) for cell in row]) for row in self.rows]
            lines.append("")
        lines += [f"- {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def to_json(self) -> dict[str, object]:
        """The table as plain values."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {"title": self.title, "rows": rows, "notes": self.notes}


def shown(cell: Cell) -> str:
    """A cell as text: numbers with three digits that count, "-" for nothing."""
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 1000 else f"{cell:.0f}"
    return str(cell)


def rate(num: int, total: int) -> str:
    """A count, its rate and the 95% interval: ``3/100 = 3.0% [1.0, 8.5]``."""
    if not total:
        return "0/0"
    share = wilson_interval(num, total)
    return f"{num}/{total} = {share.mean:.2%} [{100 * share.low:.2f}, {100 * share.high:.2f}]"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
