"""Peak memory of log-probabilities, loss and backward pass, by chunk, vocabulary and length."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryRow:
    """One measurement."""

    vocabulary: int
    num_tokens: int
    chunk_tokens: int
    peak_bytes: int
    dense_bytes: int
    """A single [tokens, vocabulary] matrix of float32."""


def loss_memory(
    *, vocabulary: int, num_tokens: int, chunk_tokens: int, hidden_size: int = 64
) -> int:
    """Bytes by which the peak of a process grows through head, loss and backward pass.

    A fresh process measures, since a peak never falls. Hidden states and weights
    exist before; the gradients to them are in the number.

    Args:
        vocabulary: Rows of the head.
        num_tokens: Trained tokens.
        chunk_tokens: Tokens whose logits may exist at once.
        hidden_size: Width of the states.
    """
    settings = (vocabulary, num_tokens, chunk_tokens, hidden_size)
    program = f"from {__name__} import measure; print(measure{settings})"
    command = [sys.executable, "-c", program]
    # Each block is mapped and unmapped by itself, or what the heap keeps makes peaks differ by half.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return int(answer.stdout)


def memory_rows(
    *,
    vocabularies: Sequence[int] = (8_000, 32_000, 128_000),
    lengths: Sequence[int] = (2048, 8192, 32_768),
    chunks: Sequence[int] = (128, 512, 2048),
) -> list[MemoryRow]:
    """Each of the three grows alone; the others keep their first value (the length its second)."""
    settings = [(v, lengths[1], chunks[0]) for v in vocabularies]
    settings += [(vocabularies[0], n, chunks[0]) for n in lengths if n != lengths[1]]
    settings += [(vocabularies[0], lengths[1], c) for c in chunks[1:]]
    return [
        MemoryRow(
            vocabulary=vocabulary,
            num_tokens=num_tokens,
            chunk_tokens=chunk,
            peak_bytes=loss_memory(
                vocabulary=vocabulary, num_tokens=num_tokens, chunk_tokens=chunk
            ),
            dense_bytes=4 * vocabulary * num_tokens,
        )
        for vocabulary, num_tokens, chunk in settings
    ]


def measure(vocabulary: int, num_tokens: int, chunk_tokens: int, hidden_size: int) -> int:
    """`loss_memory`, in this process; a later call sees only what goes beyond an earlier peak."""
    import torch

    from ...agents.learning.logprobs import chunked_logprobs

    torch.set_num_threads(1)

    def run(tokens: int, words: int) -> Any:
        hidden = torch.randn(tokens, hidden_size, requires_grad=True)
        weight = torch.randn(words, hidden_size, requires_grad=True)
        targets = torch.randint(words, (tokens,))

        def step() -> None:
            logprobs, entropy = chunked_logprobs(
                hidden, weight, targets, chunk_tokens=chunk_tokens, with_entropy=True
            )
            (logprobs.exp() + 0.01 * entropy).sum().backward()  # type: ignore[no-untyped-call]

        return step

    run(8, 16)()  # loads what the first call loads
    step = run(num_tokens, vocabulary)
    before = _peak_bytes()
    step()
    return _peak_bytes() - before


def _peak_bytes() -> int:
    # Not getrusage: on Linux a fresh process inherits the peak of the one that started it.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("This kernel does not report VmHWM in /proc/self/status; measure on Linux.")
