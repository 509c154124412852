"""Terminal output."""

import io

import pytest

from maskgym.scripts.console import LiveLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_live_line_is_rewritten_between_lines_that_stay() -> None:
    stream = Terminal()
    line = LiveLine(stream)
    line.show("1 of 3")
    line.show("2 of 3")
    line.print("done")
    line.print("next")
    assert stream.getvalue() == "\r\x1b[K1 of 3\r\x1b[K2 of 3\r\x1b[Kdone\nnext\n"


def test_a_live_line_leaves_no_trace_in_a_file() -> None:
    stream = io.StringIO()
    line = LiveLine(stream)
    line.show("1 of 3")
    line.print("done")
    assert stream.getvalue() == "done\n"


def test_a_live_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    LiveLine(stream).show("x" * 50)
    assert stream.getvalue() == "\r\x1b[K" + "x" * 18 + "\u2026"
