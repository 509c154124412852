"""Peaks of head, loss and backward pass in, their table and the gates on how they grow out."""

from __future__ import annotations

from collections.abc import Sequence

from .tables import Table
from .training_memory import MemoryRow
from .training_ranks import add_gate

MOST_OF_DENSE = 0.1
"""Of what a [tokens, vocabulary] matrix would grow by; gradients of states and head grow too."""
LEAST_OF_CHUNK = 0.5
"""Of what one chunk of logits grows by; the allocator gives some of it from what it had."""


def memory_tables(rows: Sequence[MemoryRow]) -> list[Table]:
    """The peaks, and three gates: with more tokens, a larger vocabulary, a larger chunk."""
    table = Table(
        title="Memory of head, loss and backward pass",
        columns=(
            "vocabulary",
            "tokens",
            "chunk",
            "peak MB",
            "one [tokens, vocabulary] matrix MB",
            "share",
        ),
    )
    for row in rows:
        table.add(
            row.vocabulary,
            row.num_tokens,
            row.chunk_tokens,
            row.peak_bytes / 1e6,
            row.dense_bytes / 1e6,
            f"{row.peak_bytes / row.dense_bytes:.1%}",
        )
    gates = Table(
        title="Correctness gate: memory of the loss",
        columns=("what", "value", "limit", "passed"),
    )
    for field in ("num_tokens", "vocabulary", "chunk_tokens"):
        _add_growth(gates, rows, field)
    return [table, gates]


def _add_growth(gates: Table, rows: Sequence[MemoryRow], field: str) -> None:
    """From the least to the most of one field, the others as in the first row."""
    names = ("num_tokens", "vocabulary", "chunk_tokens")
    others = [name for name in names if name != field]
    alike = [r for r in rows if all(getattr(r, n) == getattr(rows[0], n) for n in others)]
    low, high = (pick(alike, key=lambda row: getattr(row, field)) for pick in (min, max))
    span = f"{getattr(low, field)} to {getattr(high, field)}"
    grown = high.peak_bytes - low.peak_bytes
    if field == "chunk_tokens":
        logits = 4 * low.vocabulary * (high.chunk_tokens - low.chunk_tokens)
        what = f"growth with chunks of {span} tokens, of one chunk's logits"
        add_gate(gates, what, grown / logits, LEAST_OF_CHUNK, at_least=True)
        return
    thing = "tokens" if field == "num_tokens" else "words in the vocabulary"
    what = f"growth from {span} {thing}, of what the whole matrix grows by"
    add_gate(gates, what, grown / (high.dense_bytes - low.dense_bytes), MOST_OF_DENSE)
