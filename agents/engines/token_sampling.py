"""Logits and sampling settings in, one token a row with its log-probability out.

Shapes: N rows, V vocabulary, U rows that restrict their vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .engine import SamplingParams

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def sample_tokens(
    logits_NV: Tensor,
    params: Sequence[SamplingParams],
    seeds: Sequence[int],
    steps: Sequence[int],
) -> tuple[list[int], list[float]]:
    """One token a row, and its natural log-probability after temperature, top-k and top-p.

    A row's random number depends on its seed and step alone, so that its sample does not depend
    on the batch. A greedy row takes the likeliest token, its log-probability is that at
    temperature 1, and top-k and top-p are ignored (as in vLLM).

    Args:
        logits_NV: [N, V], float32; overwritten.
        params: [N].
        seeds: [N], each from 0 to 2**64 - 1.
        steps: [N], tokens that the row sampled before.

    Raises:
        FloatingPointError: If the logits of a row are not finite.
    """
    device = logits_NV.device
    temperatures = torch.tensor([p.temperature or 1.0 for p in params], device=device)
    is_greedy = torch.tensor([p.temperature == 0 for p in params], device=device)
    logits_NV.div_(temperatures[:, None])
    restricted = [
        row for row, p in enumerate(params) if p.temperature and (p.top_k > 0 or p.top_p < 1)
    ]
    if restricted:
        rows = torch.tensor(restricted, device=device)
        logits_NV[rows] = restrict(
            logits_NV[rows],
            top_k=torch.tensor([params[row].top_k for row in restricted], device=device),
            top_p=torch.tensor([params[row].top_p for row in restricted], device=device),
        )
    total_N = logits_NV.logsumexp(dim=-1)
    if not bool(total_N.isfinite().all()):
        raise FloatingPointError(
            "The model gave logits that are not finite: the weights have diverged, or a weight "
            "update wrote NaN."
        )
    cumulative_NV = (logits_NV - total_N[:, None]).exp_().cumsum(dim=-1, dtype=torch.float64)
    draws = torch.from_numpy(uniform(seeds, steps)).to(device)
    # right=True skips tokens of probability 0: their cumulative sum equals the one before.
    tokens = torch.searchsorted(cumulative_NV, (draws * cumulative_NV[:, -1])[:, None], right=True)
    tokens_N = tokens[:, 0].clamp_(max=logits_NV.shape[1] - 1)
    if bool(is_greedy.any()):
        tokens_N = torch.where(is_greedy, logits_NV.argmax(dim=-1), tokens_N)
    logprobs_N = logits_NV.gather(1, tokens_N[:, None])[:, 0] - total_N
    return tokens_N.tolist(), logprobs_N.tolist()


def restrict(logits_UV: Tensor, *, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Logits with -inf outside the `top_k` likeliest tokens and the nucleus of mass `top_p`.

    Top-k comes first, top-p is over what it leaves; ties with the last kept token stay, and the
    likeliest token always does.

    Args:
        logits_UV: [U, V].
        top_k: [U], -1 keeps all.
        top_p: [U], 1 keeps all. Source: Holtzman et al. 2019, arXiv:1904.09751.
    """
    num_tokens = logits_UV.shape[1]
    sorted_UV = logits_UV.sort(dim=-1, descending=True).values
    last = torch.where(top_k > 0, top_k, num_tokens).clamp(max=num_tokens) - 1
    lowest_U = sorted_UV.gather(1, last[:, None])
    sorted_UV = sorted_UV.masked_fill(sorted_UV < lowest_U, float("-inf"))
    probs_UV = sorted_UV.softmax(dim=-1)
    before_UV = probs_UV.cumsum(dim=-1) - probs_UV
    is_kept = (before_UV < top_p[:, None]) | (top_p[:, None] >= 1)
    is_kept &= sorted_UV.isfinite()  # not what top-k has left out
    is_kept[:, 0] = True
    lowest_U = sorted_UV.masked_fill(~is_kept, float("inf")).amin(dim=-1, keepdim=True)
    return logits_UV.masked_fill(logits_UV < lowest_U, float("-inf"))


def uniform(seeds: Sequence[int], steps: Sequence[int]) -> NDArray[np.float64]:
    """Numbers in [0, 1), a function of (seed, step) alone: SplitMix64 as a counter-based generator.

    Source: Steele, Lea and Flood 2014, doi:10.1145/2714064.2660195.
    """
    counters = _mix(np.asarray(seeds, dtype=np.uint64))
    with np.errstate(over="ignore"):
        counters = counters + (np.asarray(steps, dtype=np.uint64) + np.uint64(1)) * GOLDEN
    # 52 bits: the product with a sum near 1 then stays below that sum.
    return (_mix(counters) >> np.uint64(12)).astype(np.float64) * 2.0**-52


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
