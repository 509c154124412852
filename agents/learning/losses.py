"""Log-probabilities and advantages of the trained tokens in, a loss per token out: pure functions of tensors.

Nothing here is reduced. The loss of an optimiser step is ``sum_M weight[sequence_M] * loss_M`` with the
weights of `reductions`, which are known before the step is cut into micro-batches; so micro-batches and
ranks add up to the undivided loss whatever the cut. A sequence must lie whole in one micro-batch.
"""

# M: trained tokens (loss mask 1) of a micro-batch, N: its sequences, V: vocabulary

from dataclasses import dataclass

import torch
from torch import Tensor

from .corrections import LEVELS
from .reductions import REDUCTIONS

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to this distance from 0: `exp` stays finite, as in verl."""

KINDS = ("clip", "gspo", "luspo", "cispo", "dcpo", "reinforce")
KL_ESTIMATORS = ("k1", "k2", "k3")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What a token's loss is, and how tokens become one number."""

    kind: str = "clip"
    """"clip" (PPO and GRPO), "gspo" and "luspo" (one ratio per sequence), "cispo", "dcpo" or "reinforce"."""

    clip_low: float = 0.2
    """How far a ratio may fall below 1. DCPO: its epsilon_low. GSPO wants about 3e-4, LUSPO 2e-3;
    CISPO as published has no lower bound, which is 1."""

    clip_high: float = 0.2
    """How far a ratio may rise above 1 (DAPO 0.28, SMEPO's scripts 5 with `clip_low` 0, GSPO 4e-4)."""

    dual_clip: float | None = None
    """Above this ratio a bad action's loss stays constant (3 in verl); None never."""

    reduction: str = "token"
    """"token" (mean over the step's tokens; DAPO), "sequence" (mean over sequences of token means; GRPO),
    "prompt" (mean over prompt groups of token means) or "constant" (Dr. GRPO)."""

    constant_tokens: int | None = None
    """Reduction "constant": the length that every sequence's token sum is divided by."""

    kl_coef: float = 0.0
    """Weight of the KL estimate against the reference policy; 0 needs no reference."""

    kl_estimator: str = "k3"
    """"k1", "k2" or "k3"; "k2" has the gradient of KL(policy || reference), see `kl_estimate`."""

    entropy_coef: float = 0.0
    """Weight of the entropy bonus: the loss is less this times the entropy, in nats."""

    old_logprobs: str = "engine"
    """What a ratio compares with: "engine", the log-probabilities of the sampler (one ratio corrects
    staleness and numerics at once), or "trainer", recomputed before the first update of a batch."""

    importance: str = "none"
    """With `old_logprobs` "trainer": the weight trainer / engine, by "token" or "sequence"; "none" leaves
    it out."""

    importance_cap: float = 2.0
    """Importance weights are truncated at this."""

    importance_floor: float | None = None
    """Below this an importance weight becomes 0; None never."""

    off_policy_gamma: float | None = None
    """Tokens sampled under another prompt: the shape ``p / (p + gamma)`` (0.1 in LUFFY); None takes log p."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("kind", KINDS),
            ("reduction", REDUCTIONS),
            ("kl_estimator", KL_ESTIMATORS),
            ("old_logprobs", ("engine", "trainer")),
            ("importance", LEVELS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}."
                )
        if not (0 <= self.clip_low <= 1 and self.clip_high >= 0):
            raise ValueError(
                f"clip_low is {self.clip_low} and clip_high {self.clip_high}; a ratio lies between "
                "1 - clip_low and 1 + clip_high, so give clip_low in [0, 1] and clip_high of at least 0."
            )
        if self.dual_clip is not None and not self.dual_clip > 1:
            raise ValueError(f"dual_clip is {self.dual_clip}; it must be above 1 (or None).")
        if self.kind == "luspo" and self.reduction != "sequence":
            raise ValueError(
                "LUSPO multiplies a sequence's loss by its length and needs reduction 'sequence'; "
                f"{self.reduction!r} would count the length once more or not at all."
            )
        if (self.reduction == "constant") != (self.constant_tokens is not None):
            raise ValueError(
                f"reduction is {self.reduction!r} and constant_tokens {self.constant_tokens}; give "
                "constant_tokens with reduction 'constant' (such as the longest allowed trajectory), "
                "and with no other."
            )
        if self.constant_tokens is not None and self.constant_tokens < 1:
            raise ValueError(f"constant_tokens is {self.constant_tokens}; give at least 1.")
        if self.importance != "none" and self.old_logprobs != "trainer":
            raise ValueError(
                f"importance is {self.importance!r} with old_logprobs 'engine': the ratio to the engine "
                "would count twice. Set old_logprobs = 'trainer', or importance = 'none'."
            )
        if not self.importance_cap > (self.importance_floor or 0.0) >= 0:
            raise ValueError(
                f"importance_floor is {self.importance_floor} and importance_cap {self.importance_cap}; "
                "the floor must be at least 0 and below the cap."
            )
        if self.off_policy_gamma is not None and not self.off_policy_gamma > 0:
            raise ValueError(
                f"off_policy_gamma is {self.off_policy_gamma}; it must be above 0 (or None)."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyLoss:
    """What `policy_loss` gives."""

    loss_M: Tensor
    """[M], with gradient, not reduced."""

    clipped_M: Tensor
    """[M] bool: the clip stopped the token's gradient (CISPO: changed its weight)."""


def policy_loss(
    config: LossConfig,
    *,
    logprobs_M: Tensor,
    old_logprobs_M: Tensor,
    advantages_M: Tensor,
    sequence_M: Tensor,
    num_sequences: int,
    on_policy_M: Tensor,
    importance_M: Tensor | None = None,
) -> PolicyLoss:
    """The loss of each trained token under a configuration, before reduction.

    Tokens that were sampled under another prompt (`on_policy_M` False) have no ratio: they skip ratio,
    clip, dual clip and importance weight and get `off_policy_loss`. KL and entropy are not in here; see
    `kl_estimate`.

    Args:
        config: Which loss.
        logprobs_M: [M], under the current weights, with gradient.
        old_logprobs_M: [M], what the ratio compares with; not read where `on_policy_M` is False.
        advantages_M: [M], each token's share: the advantage of its trajectory.
        sequence_M: [M] int64, each token's sequence, 0 to `num_sequences` - 1.
        num_sequences: Sequences of the micro-batch, each whole.
        on_policy_M: [M] bool.
        importance_M: [M], detached weights of `corrections.importance_weights`; None for 1.
    """
    # The trainer's own value makes the ratio 1 where there is none, whatever stands in the record.
    old_M = torch.where(on_policy_M, old_logprobs_M, logprobs_M.detach())
    low, high = 1.0 - config.clip_low, 1.0 + config.clip_high
    log_ratio_M = logprobs_M - old_M
    if config.kind in ("gspo", "luspo"):
        log_ratio_M = sequence_log_ratios(log_ratio_M, sequence_M, num_sequences)[sequence_M]
    ratio_M = log_ratio_M.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if config.kind == "reinforce":
        loss_M = -advantages_M * logprobs_M
        clipped_M = torch.zeros_like(on_policy_M)
    elif config.kind == "cispo":
        loss_M = cispo_loss(logprobs_M, ratio_M, advantages_M, low=low, high=high)
        clipped_M = (ratio_M < low) | (ratio_M > high)
    else:
        low_M, high_M = torch.full_like(ratio_M, low), torch.full_like(ratio_M, high)
        if config.kind == "dcpo":
            low_M, high_M = dcpo_bounds(
                old_M.exp(),
                epsilon_low=config.clip_low,
                epsilon_high=config.clip_high,
                max_ratio=max(config.dual_clip or 0.0, 10.0),
            )
        loss_M = clip_loss(
            ratio_M, advantages_M, low_M=low_M, high_M=high_M, dual_clip=config.dual_clip
        )
        too_high_M = ratio_M > (config.dual_clip or float("inf"))
        clipped_M = ((advantages_M > 0) & (ratio_M > high_M)) | (
            (advantages_M < 0) & ((ratio_M < low_M) | too_high_M)
        )
    if config.kind == "luspo":
        loss_M = loss_M * sequence_lengths(sequence_M, num_sequences)[sequence_M]
    if importance_M is not None:
        # Off the sampled prompt it is not defined; a NaN there would reach the gradient through `where`.
        loss_M = loss_M * torch.where(on_policy_M, importance_M, torch.ones_like(importance_M))
    off_policy_M = off_policy_loss(logprobs_M, advantages_M, gamma=config.off_policy_gamma)
    return PolicyLoss(
        loss_M=torch.where(on_policy_M, loss_M, off_policy_M),
        clipped_M=clipped_M,
    )


def clip_loss(
    ratio_M: Tensor,
    advantages_M: Tensor,
    *,
    low_M: Tensor,
    high_M: Tensor,
    dual_clip: float | None = None,
) -> Tensor:
    """Clipped surrogate ``max(-A r, -A clip(r, low, high))``; for A < 0 at most ``-A dual_clip``.

    The gradient of a good action stops above `high`, that of a bad one below `low` and, with the dual
    clip, above `dual_clip`. A ratio of exactly `low` or `high` still has its gradient.
    Source: Schulman et al. 2017, arXiv:1707.06347 (PPO); separate bounds as in Yu et al. 2025,
    arXiv:2503.14476 (DAPO); dual clip: Ye et al. 2020, arXiv:1912.09729.

    Args:
        ratio_M: [M], probability now over probability then, with gradient.
        advantages_M: [M].
        low_M: [M], lowest ratio that a bad action's gradient passes at.
        high_M: [M], highest ratio that a good action's gradient passes at.
        dual_clip: Above 1; None leaves the loss of a bad action unbounded.
    """
    # Not minimum(maximum(...)): at a tie those halve the gradient, and a clip of 0 starts at a tie.
    clipped_M = torch.clamp(ratio_M, low_M, high_M)
    loss_M = torch.maximum(-advantages_M * ratio_M, -advantages_M * clipped_M)
    if dual_clip is None:
        return loss_M
    bounded_M = torch.minimum(loss_M, -advantages_M * dual_clip)
    return torch.where(advantages_M < 0, bounded_M, loss_M)


def cispo_loss(
    logprobs_M: Tensor, ratio_M: Tensor, advantages_M: Tensor, *, low: float, high: float
) -> Tensor:
    """``-A clip(r, low, high) log p`` with the clipped ratio as a constant weight: no token goes silent.

    Source: MiniMax 2025, arXiv:2506.13585 (CISPO), which sets no lower bound (`low` 0).

    Args:
        logprobs_M: [M], with gradient.
        ratio_M: [M]; detached here.
        advantages_M: [M].
        low: Least weight.
        high: Greatest weight. TRL's `epsilon_high` for this loss is this number, not the distance to 1.
    """
    return -advantages_M * ratio_M.detach().clamp(low, high) * logprobs_M


def dcpo_bounds(
    old_probs_M: Tensor, *, epsilon_low: float, epsilon_high: float, max_ratio: float = 10.0
) -> tuple[Tensor, Tensor]:
    """Clip bounds that widen for rare tokens, from ``|r - 1| p <= epsilon`` with p = r q.

    ``low = 1/2 + sqrt(max(1 - 4 epsilon_low / q, 0)) / 2`` and
    ``high = min(1/2 + sqrt(1 + 4 epsilon_high / q) / 2, max_ratio)``.
    Source: Yang et al. 2025, arXiv:2509.02333 (DCPO); the cap of 10 stands in its code.

    Args:
        old_probs_M: [M], q: probability of each token when sampled.
        epsilon_low: 0.16 in the paper.
        epsilon_high: 0.2 in the paper.
        max_ratio: Upper bound of the upper bound.

    Returns:
        The lowest and the highest ratio, [M] each.
    """
    q = old_probs_M.clamp(min=1e-20)
    low = 0.5 + 0.5 * (1.0 - 4.0 * epsilon_low / q).clamp(min=0.0).sqrt()
    high = (0.5 + 0.5 * (1.0 + 4.0 * epsilon_high / q).sqrt()).clamp(max=max_ratio)
    return low, high


def off_policy_loss(
    logprobs_M: Tensor, advantages_M: Tensor, *, gamma: float | None = None
) -> Tensor:
    """Loss of tokens sampled under another prompt: ``-A log p``, or the shaped ``-A p / (p + gamma)``.

    The shape lifts rare tokens: its gradient is ``gamma p / (p + gamma)^2`` times that of log p,
    greatest at p = gamma. The probability then is taken as 1, so there is nothing to clip.
    Source: Yan et al. 2025, arXiv:2504.14945 (LUFFY), gamma 0.1.

    Args:
        logprobs_M: [M], with gradient.
        advantages_M: [M].
        gamma: Above 0; None for the plain log-likelihood.
    """
    if gamma is None:
        return -advantages_M * logprobs_M
    probs_M = logprobs_M.exp()
    return -advantages_M * probs_M / (probs_M + gamma)


def kl_estimate(logprobs_M: Tensor, reference_M: Tensor, kind: str = "k3") -> Tensor:
    """Estimate of KL(policy || reference) at each sampled token, in nats, with d = log p_ref - log p.

    "k1": ``-d``; "k2": ``d^2 / 2``; "k3": ``exp(d) - 1 - d``. As numbers k1 and k3 are unbiased (k3 with
    less variance and never negative), k2 is biased by third order. As losses they differ: over samples
    of the policy, the gradient of k1 is 0 in expectation (it only adds noise), that of k2 is the
    gradient of KL(policy || reference), and that of k3 the gradient of KL(reference || policy), unless k3
    is multiplied by the ratio first, as TRL does (DeepSeek-V3.2, arXiv:2512.02556).
    Source: Schulman 2020, joschu.net/blog/kl-approx.html; gradients: Tang and Munos 2025,
    arXiv:2506.09477.

    Args:
        logprobs_M: [M], with gradient.
        reference_M: [M], of the same tokens under the reference policy.
        kind: "k1", "k2" or "k3".

    Returns:
        [M].

    Raises:
        ValueError: If `kind` is none of these.
    """
    d = (reference_M - logprobs_M).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if kind == "k1":
        return -d
    if kind == "k2":
        return 0.5 * d.square()
    if kind == "k3":
        return torch.expm1(d) - d
    raise ValueError(f"No KL estimator {kind!r}; choose one of {', '.join(KL_ESTIMATORS)}.")


def sequence_lengths(sequence_M: Tensor, num_sequences: int) -> Tensor:
    """Trained tokens of each sequence, [N] float32."""
    lengths_N = torch.zeros(num_sequences, dtype=torch.float32, device=sequence_M.device)
    return lengths_N.index_add(0, sequence_M, torch.ones_like(sequence_M, dtype=torch.float32))


def sequence_log_ratios(log_ratio_M: Tensor, sequence_M: Tensor, num_sequences: int) -> Tensor:
    """Mean log-ratio of each sequence: the log of GSPO's length-normalised sequence ratio.

    Source: Zheng et al. 2025, arXiv:2507.18071 (GSPO); times the length it is the loss of LUSPO,
    arXiv:2602.05261, which undoes the bias towards short answers.

    Args:
        log_ratio_M: [M].
        sequence_M: [M] int64.
        num_sequences: N.

    Returns:
        [N]; 0 for a sequence without tokens.
    """
    sums_N = torch.zeros(num_sequences, dtype=log_ratio_M.dtype, device=log_ratio_M.device)
    sums_N = sums_N.index_add(0, sequence_M, log_ratio_M)
    return sums_N / sequence_lengths(sequence_M, num_sequences).clamp(min=1.0)


def token_logprobs(logits_MV: Tensor, ids_M: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Log-probability of each token under the sampling temperature.

    ``log softmax(logits / temperature)[ids]`` in float32. The division matters: an engine samples from
    the tempered distribution, and a ratio against another one is wrong everywhere (vLLM's default
    log-probabilities ignore the temperature).

    Args:
        logits_MV: [M, V], the predictions of the M tokens.
        ids_M: [M], the tokens themselves.
        temperature: Above 0.

    Returns:
        [M], float32.
    """
    logits = logits_MV.float() / temperature
    return logits.gather(1, ids_M[:, None]).squeeze(1) - torch.logsumexp(logits, dim=1)


def token_entropy(logits_MV: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Entropy of each prediction, ``-sum(p log p)`` in nats, under the sampling temperature.

    Args:
        logits_MV: [M, V].
        temperature: Above 0.

    Returns:
        [M], float32.
    """
    logprobs = torch.log_softmax(logits_MV.float() / temperature, dim=1)
    return -(logprobs.exp() * logprobs).sum(1)
