"""Log-probabilities of one micro-batch in, its share of the step's loss out, with what was measured.

Puts together the pure functions of `losses` and `corrections` for the learner.
"""

# M: trained tokens of a micro-batch, N: its sequences

import torch
from torch import Tensor

from .corrections import importance_weights
from .losses import LossConfig, kl_estimate, policy_loss
from .packing import MicroBatch
from .step_stats import Sums


def policy_objective(
    config: LossConfig,
    batch: MicroBatch,
    *,
    logprobs_M: Tensor,
    entropy_M: Tensor,
    weights_N: Tensor,
    old_logprobs_M: Tensor | None = None,
    reference_M: Tensor | None = None,
) -> tuple[Tensor, Sums]:
    """``sum_M weight[sequence] * (loss + kl_coef * KL - entropy_coef * entropy)``, and sums.

    With `old_logprobs` "engine" the ratio is to the engine's own log-probabilities (bypass). With
    "trainer" it is to the trainer's at the weights before the first update, and an importance weight
    corrects trainer against engine (decoupled). Tokens that were sampled under another prompt have no
    ratio and take part in neither.

    Args:
        config: Which loss.
        batch: Where the tokens come from.
        logprobs_M: [M], current, with gradient.
        entropy_M: [M]; with gradient where `entropy_coef` is not 0.
        weights_N: [N], the reduction: weight of each token of a sequence in the whole step.
        old_logprobs_M: [M], the trainer's before the first update; None where this is the first, whose
            old values are the current ones. Not read with "engine".
        reference_M: [M], of the reference; needed where `kl_coef` is not 0.
    """
    now_M = logprobs_M.detach()
    on_policy_M = batch.on_policy_M
    engine_M = torch.where(on_policy_M, batch.engine_logprobs_M, now_M)
    old_M, importance_M = engine_M, None
    if config.old_logprobs == "trainer":
        old_M = now_M if old_logprobs_M is None else old_logprobs_M
        if config.importance != "none":
            importance_M = importance_weights(
                old_M,
                torch.where(on_policy_M, engine_M, old_M),
                level=config.importance,
                cap=config.importance_cap,
                floor=config.importance_floor,
                sequence_M=batch.sequence_M,
                num_sequences=batch.num_sequences,
            )
    result = policy_loss(
        config,
        logprobs_M=logprobs_M,
        old_logprobs_M=old_M,
        advantages_M=batch.advantages_M,
        sequence_M=batch.sequence_M,
        num_sequences=batch.num_sequences,
        on_policy_M=on_policy_M,
        importance_M=importance_M,
    )
    loss_M = result.loss_M
    if config.kl_coef:
        assert reference_M is not None
        loss_M = loss_M + config.kl_coef * kl_estimate(logprobs_M, reference_M, config.kl_estimator)
    if config.entropy_coef:
        loss_M = loss_M - config.entropy_coef * entropy_M
    loss = (weights_N[batch.sequence_M] * loss_M).sum()
    with torch.no_grad():
        log_ratio_M = (now_M - old_M)[on_policy_M]
        ratio_M = log_ratio_M.clamp(max=20.0).exp()
        zero = loss.new_zeros(())
        # One transfer from the device for all of them.
        values = torch.stack(
            [
                loss.detach(),
                entropy_M.sum(),
                result.clipped_M.sum(),
                ratio_M.sum(),
                ratio_M.max() if len(ratio_M) else zero,
                (ratio_M - 1 - log_ratio_M).sum(),  # k3; its sum is 0 only where nothing moved
                zero if reference_M is None else kl_estimate(now_M, reference_M, "k3").sum(),
            ]
        ).tolist()
    names = ("loss", "entropy", "clipped", "ratio", "max_ratio", "kl", "reference_kl")
    sums: Sums = dict(zip(names, values, strict=True))
    sums |= {
        "tokens": float(len(now_M)),
        "entropy_tokens": float(len(now_M)),
        "ratio_tokens": float(len(ratio_M)),
    }
    if not len(ratio_M):
        del sums["max_ratio"]
    return loss, sums


def logprob_gap(batch: MicroBatch, logprobs_M: Tensor) -> Sums:
    """Sum, number and maximum of |trainer - engine| over the tokens that have both."""
    gap_M = (logprobs_M.detach() - batch.engine_logprobs_M)[batch.on_policy_M].abs()
    if not len(gap_M):
        return {}
    total, largest = torch.stack([gap_M.sum(), gap_M.max()]).tolist()
    return {"gap": total, "max_gap": largest, "gap_tokens": float(len(gap_M))}
