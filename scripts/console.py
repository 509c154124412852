"""Terminal output: text and rows come in, the text coloured or laid out as a table goes out."""

import os
import shutil
import unicodedata
from collections.abc import Sequence
from enum import StrEnum
from typing import TextIO

MIN_CELL = 8
"""A table that must shrink to fit cuts no column below this width."""


class Style(StrEnum):
    """A look that a terminal can give to text, as its ANSI code."""

    BOLD = "1"
    DIM = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"
    BLUE = "34"
    MAGENTA = "35"
    CYAN = "36"


def is_colour_wanted(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: a terminal, and NO_COLOR is unset or empty."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def paint(text: str, *styles: Style, stream: TextIO) -> str:
    """The text in the given styles, or unchanged where `stream` wants no colour."""
    if not styles or not text or not is_colour_wanted(stream):
        return text
    return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"


class LiveLine:
    """A line that is rewritten in place on a terminal, between lines that stay; nothing elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_shown = False

    def show(self, text: str) -> None:
        """Puts `text` in the place of the line, cut to the terminal's width."""
        if not self._stream.isatty():
            return
        width = shutil.get_terminal_size().columns
        self._stream.write("\r\x1b[K" + cut(text, max(width - 1, MIN_CELL)))
        self._stream.flush()
        self._is_shown = True

    def print(self, text: str) -> None:
        """Writes a line that stays."""
        if self._is_shown:
            self._stream.write("\r\x1b[K")
            self._is_shown = False
        self._stream.write(text + "\n")
        self._stream.flush()


def display_width(text: str) -> int:
    """Columns that the text takes on a terminal: wide characters two, combining marks none.

    >>> display_width("masks"), display_width("\u65e5\u672c"), display_width("e\u0301")
    (5, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def cut(text: str, max_width: int) -> str:
    """The text in at most `max_width` columns, with an ellipsis where something was cut.

    >>> cut("a long question", 7)
    'a long\u2026'
    """
    if display_width(text) <= max_width:
        return text
    kept = ""
    for char in text:
        if display_width(kept + char) > max_width - 1:
            break
        kept += char
    return kept + "\u2026"


def format_table(
    headers: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    max_width: int | None = None,
    decimals: int = 3,
) -> str:
    """Rows under their headers, in columns; columns of numbers stand to the right.

    Floats are rounded to `decimals`, None is a dash, and line breaks within a cell become spaces.
    The widest columns are cut until the table fits in `max_width` columns (None: nothing is cut).

    >>> print(format_table(["task", "EM"], [["math", 0.5], ["search", 0.25]], decimals=2))
    task      EM
    ------  ----
    math    0.50
    search  0.25

    Raises:
        ValueError: If a row has not exactly one cell for each header.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"A row has {len(row)} cells for {len(headers)} headers: {row!r}.")
    cells = [list(headers), *([_cell_text(cell, decimals) for cell in row] for row in rows)]
    widths = [max(map(display_width, column)) for column in zip(*cells, strict=True)]
    if max_width is not None:
        widths = _shrink(widths, max_width - 2 * (len(widths) - 1))
    is_right = [
        bool(rows) and all(isinstance(cell, int | float | None) for cell in column)
        for column in (zip(*rows, strict=True) if rows else ((),) * len(headers))
    ]
    lines = [_line(row, widths, is_right) for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell_text(cell: object, decimals: int) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.{decimals}f}"
    return " ".join(str(cell).split())


def _shrink(widths: Sequence[int], room: int) -> list[int]:
    """The widths, the widest made smaller until all fit (or reach MIN_CELL)."""
    shrunk = list(widths)
    while sum(shrunk) > room and max(shrunk) > MIN_CELL:
        shrunk[shrunk.index(max(shrunk))] -= 1
    return shrunk


def _line(row: Sequence[str], widths: Sequence[int], is_right: Sequence[bool]) -> str:
    padded = []
    for cell, width, right in zip(row, widths, is_right, strict=True):
        text = cut(cell, width)
        space = " " * (width - display_width(text))
        padded.append(space + text if right else text + space)
    return "  ".join(padded).rstrip()
