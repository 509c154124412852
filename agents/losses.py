"""Log-probabilities and advantages of the trained tokens in, loss out: pure functions of tensors."""

# M: trained tokens (loss mask 1) of a micro-batch, V: vocabulary

import torch
from torch import Tensor


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


def clipped_policy_loss(
    logprobs_M: Tensor,
    old_logprobs_M: Tensor,
    advantages_M: Tensor,
    *,
    num_tokens: float,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
) -> Tensor:
    """Clipped token loss: ``-sum(min(r A, clip(r, 1 - low, 1 + high) A)) / num_tokens``.

    ``r = exp(logprobs - old_logprobs)`` per token, with the log-ratio clamped to +-20. `num_tokens` is
    that of the whole optimiser step, so micro-batches add up to the loss of the undivided batch.
    Source: Schulman et al. 2017, arXiv:1707.06347; token mean over the step as in DAPO,
    arXiv:2503.14476.

    Args:
        logprobs_M: [M], with gradient.
        old_logprobs_M: [M], under the policy that sampled.
        advantages_M: [M], each token's share: the advantage of its trajectory.
        num_tokens: Trained tokens of the optimiser step, above 0.
        clip_low: How far a ratio may fall below 1.
        clip_high: How far a ratio may rise above 1.

    Returns:
        A scalar.

    Raises:
        ValueError: If `num_tokens` is not above 0.
    """
    if num_tokens <= 0:
        raise ValueError("The optimiser step has no token to learn from (num_tokens is 0).")
    ratio = torch.exp((logprobs_M - old_logprobs_M).clamp(-20.0, 20.0))
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -torch.minimum(ratio * advantages_M, clipped * advantages_M).sum() / num_tokens


def supervised_loss(logprobs_M: Tensor, *, num_tokens: float) -> Tensor:
    """Negative log-likelihood per token to imitate: ``-sum(logprobs) / num_tokens``, in nats.

    Args:
        logprobs_M: [M], with gradient.
        num_tokens: Tokens to imitate in the optimiser step, above 0.

    Returns:
        A scalar.

    Raises:
        ValueError: If `num_tokens` is not above 0.
    """
    if num_tokens <= 0:
        raise ValueError("The batch has no token to imitate (num_tokens is 0).")
    return -logprobs_M.sum() / num_tokens
