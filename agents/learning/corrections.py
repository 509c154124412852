"""Weights for tokens whose sampler differs from the trainer: pure functions of tensors."""

# M: trained tokens of a micro-batch, N: its sequences

import torch
from torch import Tensor

LEVELS = ("none", "token", "sequence")


def importance_weights(
    old_M: Tensor,
    engine_M: Tensor,
    *,
    level: str,
    cap: float = 2.0,
    floor: float | None = None,
    sequence_M: Tensor,
    num_sequences: int,
) -> Tensor:
    """Truncated importance weights ``min(pi_old / pi_engine, cap)``, without gradient.

    The decoupled mode: the clip's ratio compares the current weights with the trainer's own old
    log-probabilities, and this weight corrects that the tokens came from the engine, whose kernels (or
    older weights) give other ones. At level "token" each token has its own ratio, which leaves a small
    bias; at level "sequence" all tokens of a sequence share the product of theirs, without bias before
    truncation but with a variance that grows with length: a gap of 0.012 nats a token is a factor of 3.3
    after 100 tokens.
    Source: truncation: Ionides 2008, doi:10.1198/106186008X320456, and Espeholt et al. 2018,
    arXiv:1802.01561 (IMPALA); a floor below which tokens are left out: Ling Team 2025,
    arXiv:2510.18855 (IcePop, which leaves out those above the cap too).

    Args:
        old_M: [M], trainer's log-probabilities at the weights that sampled.
        engine_M: [M], the engine's.
        level: "none" (all 1), "token" or "sequence".
        cap: Weights above this become this; above 0.
        floor: Weights below this become 0; None for never.
        sequence_M: [M] int64, each token's sequence, 0 to `num_sequences` - 1.
        num_sequences: Sequences of the micro-batch, each whole.

    Returns:
        [M], detached.

    Raises:
        ValueError: If `level` is none of these.
    """
    if level not in LEVELS:
        raise ValueError(f"No level {level!r} of importance; choose one of {', '.join(LEVELS)}.")
    log_ratio_M = (old_M - engine_M).detach()
    if level == "none":
        return torch.ones_like(log_ratio_M)
    if level == "sequence":
        log_ratio_N = torch.zeros(num_sequences, dtype=log_ratio_M.dtype, device=log_ratio_M.device)
        log_ratio_M = log_ratio_N.index_add(0, sequence_M, log_ratio_M)[sequence_M]
    weights_M = log_ratio_M.exp()
    kept_M = weights_M.clamp(max=cap)
    if floor is None:
        return kept_M
    return torch.where(weights_M < floor, torch.zeros_like(kept_M), kept_M)
