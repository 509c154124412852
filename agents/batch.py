"""Token sequences in, padded micro-batches of tensors out."""

# N: sequences, T: tokens, M: trained tokens

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .trajectory import TokenSequence


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Right-padded sequences, and where their trained tokens are."""

    ids_NT: Tensor
    attention_NT: Tensor
    """1 on tokens, 0 on padding: from lengths only, never from ids (pad may equal end-of-turn)."""

    rows_M: Tensor
    columns_M: Tensor
    """Row and column of each trained token."""

    old_logprobs_M: Tensor
    weights_M: Tensor
    """One number per trained token: the advantage of its trajectory, or 1 for imitation."""

    on_policy_M: Tensor
    """False where the loss conditions on another prompt than the sample did: no ratio exists."""

    @property
    def num_tokens(self) -> int:
        """Trained tokens."""
        return int(self.rows_M.numel())


def micro_batches(
    sequences: Sequence[TokenSequence],
    weights: Sequence[float],
    *,
    max_tokens: int,
    device: torch.device | str = "cpu",
) -> list[MicroBatch]:
    """Cuts sequences into padded micro-batches of at most `max_tokens` (padding counted).

    Sequences are sorted by length, so that little is padding; the order is a function of the input.

    Args:
        sequences: What to train on; one without trained tokens is left out.
        weights: One number per sequence, given to each of its trained tokens.
        max_tokens: Rows times the longest row, at most; a longer single sequence stands alone.
        device: Where the tensors go.
    """
    if len(sequences) != len(weights):
        raise ValueError(f"{len(sequences)} sequences but {len(weights)} weights.")
    order = sorted(
        (i for i in range(len(sequences)) if any(sequences[i].loss_mask)),
        key=lambda i: (len(sequences[i].ids), i),
    )
    batches: list[MicroBatch] = []
    rows: list[int] = []
    for i in order:
        if rows and (len(rows) + 1) * len(sequences[i].ids) > max_tokens:
            batches.append(_pad(sequences, weights, rows, device))
            rows = []
        rows.append(i)
    if rows:
        batches.append(_pad(sequences, weights, rows, device))
    return batches


def _pad(
    sequences: Sequence[TokenSequence],
    weights: Sequence[float],
    rows: Sequence[int],
    device: torch.device | str,
) -> MicroBatch:
    longest = max(len(sequences[i].ids) for i in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    attention = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    logprobs = torch.zeros(len(rows), longest)
    for row, i in enumerate(rows):
        length = len(sequences[i].ids)
        ids[row, :length] = torch.tensor(sequences[i].ids)
        attention[row, :length] = 1
        mask[row, :length] = torch.tensor(sequences[i].loss_mask, dtype=torch.bool)
        logprobs[row, :length] = torch.tensor(sequences[i].logprobs)
    if mask[:, 0].any():
        raise ValueError("The first token of a sequence cannot be trained on: nothing predicts it.")
    rows_M, columns_M = mask.nonzero(as_tuple=True)
    weight_N = torch.tensor([weights[i] for i in rows], dtype=torch.float32)
    on_policy_N = torch.tensor([sequences[i].is_on_policy for i in rows])
    return MicroBatch(
        ids_NT=ids.to(device),
        attention_NT=attention.to(device),
        rows_M=rows_M.to(device),
        columns_M=columns_M.to(device),
        old_logprobs_M=logprobs[rows_M, columns_M].to(device),
        weights_M=weight_N[rows_M].to(device),
        on_policy_M=on_policy_N[rows_M].to(device),
    )
