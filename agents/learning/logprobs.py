"""Hidden states in, log-probabilities and entropies out, without a [tokens, vocabulary] matrix."""

# M: trained tokens, D: hidden size, V: vocabulary, C: tokens of a chunk

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_CACHE_ELEMENTS = 2**19  # of logits on a CPU: two megabytes of float32 stay in its cache
_MIN_TILE_TOKENS = 128  # fewer rows make the product wait for the head's weights


def chunked_logprobs(
    hidden_MD: Tensor,
    weight_VD: Tensor,
    targets_M: Tensor,
    *,
    bias_V: Tensor | None = None,
    temperature: float = 1.0,
    chunk_tokens: int = 4096,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each prediction, under the temperature.

    ``log softmax((hidden @ weight.T + bias) / temperature)[target]`` and ``-sum(p log p)`` in nats,
    with gradients to hidden states, weight and bias. At most `chunk_tokens` rows of probabilities
    exist at any time: those of the last rows are kept for the backward pass, the others are
    computed again. Halves (bfloat16, float16) are multiplied as such and summed in float32.

    Args:
        hidden_MD: [M, D], the states that predict.
        weight_VD: [V, D], the head.
        targets_M: [M], the tokens.
        bias_V: [V], the head's bias.
        temperature: Above 0.
        chunk_tokens: Rows of [*, V] that exist at once.
        with_entropy: Computes the entropies; otherwise they are zeros.

    Returns:
        Two of [M], float32 (float64 for float64 input).
    """
    logprobs, entropies = _ChunkedHead.apply(  # type: ignore[no-untyped-call]
        hidden_MD,
        weight_VD,
        bias_V,
        targets_M,
        1.0 / temperature,
        chunk_tokens,
        with_entropy,
        torch.is_grad_enabled() and (hidden_MD.requires_grad or weight_VD.requires_grad),
    )
    return logprobs, entropies


class _ChunkedHead(torch.autograd.Function):
    """The head, the softmax and their gradient, tile by tile."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        inverse_temperature: float,
        chunk_tokens: int,
        with_entropy: bool,
        is_kept: bool,
    ) -> tuple[Tensor, Tensor]:
        num_tokens = len(targets)
        dtype = _wide(hidden.dtype)
        logprobs = torch.empty(num_tokens, dtype=dtype, device=hidden.device)
        entropies = torch.zeros(num_tokens, dtype=dtype, device=hidden.device)
        tile = _tile_tokens(chunk_tokens, weight)
        kept: dict[int, Tensor] = {}
        for start in range(0, num_tokens, tile):
            rows = slice(start, start + tile)
            logits = _logits(hidden[rows], weight, bias, inverse_temperature)
            picked, entropy = _fused(softmax_, logits)(logits, targets[rows], with_entropy)
            logprobs[rows] = picked
            if entropy is not None:
                entropies[rows] = entropy
            if is_kept and start >= num_tokens - chunk_tokens:
                kept[start] = logits
        ctx.save_for_backward(hidden, weight, bias, targets, entropies)
        ctx.kept, ctx.tile, ctx.inverse_temperature = kept, tile, inverse_temperature
        ctx.set_materialize_grads(False)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, entropies = ctx.saved_tensors
        grad_logprobs, grad_entropies = grads
        kept, ctx.kept = ctx.kept, {}
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        d_hidden = torch.zeros_like(hidden) if needs_hidden else None
        d_weight = _zeros(weight.shape, hidden) if needs_weight else None
        d_bias = _zeros(weight.shape[:1], hidden) if needs_bias else None
        for start in reversed(range(0, len(targets), ctx.tile)):
            rows = slice(start, start + ctx.tile)
            probs = kept.pop(start, None)
            if probs is None:
                probs = _logits(hidden[rows], weight, bias, ctx.inverse_temperature)
                _fused(softmax_, probs)(probs, targets[rows], False)
            d_logits = _fused(softmax_backward_, probs)(
                probs,
                targets[rows],
                None if grad_logprobs is None else grad_logprobs[rows] * ctx.inverse_temperature,
                None if grad_entropies is None else grad_entropies[rows] * ctx.inverse_temperature,
                entropies[rows],
            )
            if d_bias is not None:
                d_bias += d_logits.sum(0)
            d_logits = d_logits.to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[rows] = d_logits @ weight
            if d_weight is not None:
                _add_product_(d_weight, d_logits.T, hidden[rows])
        return (
            d_hidden,
            None if d_weight is None else d_weight.to(weight.dtype),
            None if d_bias is None else d_bias.to(weight.dtype),
            *([None] * 5),
        )


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _fused(function: Callable[..., Any], tensor: Tensor) -> Callable[..., Any]:
    """On a GPU one compiled kernel: pass by pass, the softmax costs more than the product."""
    return _compiled(function) if tensor.is_cuda else function


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=True)


def _zeros(shape: torch.Size, like: Tensor) -> Tensor:
    return torch.zeros(shape, dtype=_wide(like.dtype), device=like.device)


def _tile_tokens(chunk_tokens: int, weight_VD: Tensor) -> int:
    """Rows of logits at once: what the caller allows, on a CPU what its cache holds."""
    if weight_VD.device.type != "cpu":
        return chunk_tokens
    return min(chunk_tokens, max(_MIN_TILE_TOKENS, _CACHE_ELEMENTS // len(weight_VD)))


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, factor: float) -> Tensor:
    """[C, V] tempered logits in float32 or wider."""
    if hidden.dtype in (torch.float32, torch.float64):
        logits = hidden @ weight.T
    elif hidden.is_cuda:
        logits = torch.mm(hidden, weight.T, out_dtype=torch.float32)
    else:
        logits = hidden.float() @ weight.T.float()
    if bias is not None:
        logits += bias
    return logits if factor == 1.0 else logits.mul_(factor)


def softmax_(logits: Tensor, targets: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor | None]:
    """Overwrites [C, V] logits by probabilities; gives the targets' logs and the entropies, [C] each."""
    logits -= logits.amax(1, keepdim=True)
    picked = logits.gather(1, targets[:, None]).squeeze(1)
    shifted = logits.clone() if with_entropy else None
    total = logits.exp_().sum(1)
    logits /= total[:, None]
    log_total = total.log()
    if shifted is None:
        return picked - log_total, None
    return picked - log_total, log_total - torch.linalg.vecdot(logits, shifted)


def softmax_backward_(
    probs: Tensor,
    targets: Tensor,
    grad_logprobs: Tensor | None,
    grad_entropies: Tensor | None,
    entropies: Tensor,
) -> Tensor:
    """Overwrites [C, V] probabilities by the gradient of the logits.

    ``d logp[t] / dz = onehot - p`` and ``dH / dz = -p (log p + H)``.
    """
    extra = None
    if grad_entropies is not None:
        logs = probs.clamp_min(torch.finfo(probs.dtype).tiny).log_().add_(entropies[:, None])
        extra = logs.mul_(probs).mul_(-grad_entropies[:, None])
    if grad_logprobs is None:
        probs.zero_()
    else:
        probs *= -grad_logprobs[:, None]
        probs.scatter_add_(1, targets[:, None], grad_logprobs[:, None].to(probs.dtype))
    return probs if extra is None else probs.add_(extra)


def _add_product_(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Adds ``left @ right`` to a float32 (or wider) total."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    elif left.is_cuda:
        total += torch.mm(left, right, out_dtype=torch.float32)
    else:
        total.addmm_(left.float(), right.float())


def checkpointed_logprobs(
    hidden_MD: Tensor,
    head: Callable[[Tensor], Tensor],
    targets_M: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int = 4096,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """`chunked_logprobs` for any head, such as one with an adapter or a soft cap.

    Autograd differentiates each chunk, whose logits are computed again in the backward pass.

    Args:
        hidden_MD: [M, D].
        head: [C, D] to [C, V] logits.
        targets_M: [M].
        temperature: Above 0.
        chunk_tokens: Rows of [*, V] that exist at once.
        with_entropy: Computes the entropies; otherwise they are zeros.

    Returns:
        Two of [M], float32 (float64 for float64 logits).
    """

    def chunk(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden)
        logs = torch.log_softmax(logits.to(_wide(logits.dtype)) / temperature, dim=1)
        picked = logs.gather(1, targets[:, None]).squeeze(1)
        entropy = -(logs.exp() * logs).sum(1) if with_entropy else torch.zeros_like(picked)
        return picked, entropy

    parts = [
        checkpoint(
            chunk,
            hidden_MD[start : start + chunk_tokens],
            targets_M[start : start + chunk_tokens],
            use_reentrant=False,
        )
        for start in range(0, len(targets_M), chunk_tokens)
    ]
    if not parts:
        parts = [chunk(hidden_MD, targets_M)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
