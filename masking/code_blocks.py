"""Code blocks: what the code finders hand on, and the text that is left between the blocks."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class CodePiece(NamedTuple):
    """A range of a text that is code; it may have white space at its ends."""

    start: int
    end: int
    detector: str
    """The form it has, such as "code:inline"."""


class CodeBlock(NamedTuple):
    """A marked block with its marks (fences, tags), and the code inside it."""

    start: int
    end: int
    pieces: tuple[CodePiece, ...]


def gaps(blocks: Iterable[CodeBlock], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The ranges of `start:end` that no block covers; the blocks are in order, without overlaps."""
    for block in blocks:
        if start < block.start:
            yield start, block.start
        start = block.end
    if start < end:
        yield start, end
