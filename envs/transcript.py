"""In: what was said in an episode, by whom. Out: `Transcript`, typed segments in order."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

# Bounded spaces: two unbounded runs side by side would take quadratic time on a turn of spaces.
_THINK_TAG = re.compile(r"<\s{0,8}(/?)\s{0,8}think\s{0,8}>", re.IGNORECASE)


def strip_thinking(text: str) -> str:
    """`text` without the model's think blocks; each leaves one space behind.

    A block that is never closed reaches to the end. A `</think>` that was never opened closes a
    block that a chat template opened, so all before it is thinking as well.

    >>> strip_thinking("a <think> b </think> c")
    'a   c'
    """
    kept: list[str] = []
    is_thinking = False
    start = 0
    for tag in _THINK_TAG.finditer(text):
        is_closing = bool(tag[1])
        if is_closing and not is_thinking:
            kept.clear()
        elif not is_closing and not is_thinking:
            kept.append(text[start : tag.start()])
        is_thinking = not is_closing
        start = tag.end()
    if not is_thinking:
        kept.append(text[start:])
    return " ".join(kept)  # a space, so that no tag can grow together over a removed block


class SegmentKind(StrEnum):
    """Who a segment comes from."""

    SYSTEM = "system"
    """The instructions."""
    QUESTION = "question"
    SCAFFOLD = "scaffold"
    """Never scored, never trained on."""
    MODEL = "model"
    """What the model wrote; the only kind that is ever scored."""
    TOOL_RESULT = "tool_result"
    NOTICE = "notice"
    """What the environment says about an action or a budget."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A piece of an episode."""

    kind: SegmentKind
    text: str
    turn: int
    """The turn that brought it, from 1; 0 for what stood there at reset."""


@dataclass(kw_only=True, slots=True)
class Transcript:
    """The segments of one episode, in the order in which they appeared."""

    segments: list[Segment] = field(default_factory=list)

    def append(self, kind: SegmentKind, text: str, *, turn: int) -> None:
        """Adds a segment at the end."""
        self.segments.append(Segment(kind=kind, text=text, turn=turn))

    def model_text(self, turn: int, *, without_thinking: bool = True) -> str:
        """What the model itself wrote in `turn`, without its think blocks unless asked for them."""
        text = "".join(
            segment.text
            for segment in self.segments
            if segment.turn == turn and segment.kind is SegmentKind.MODEL
        )
        return strip_thinking(text) if without_thinking else text

    def __str__(self) -> str:
        return "\n".join(f"[{segment.kind}] {segment.text}" for segment in self.segments)
