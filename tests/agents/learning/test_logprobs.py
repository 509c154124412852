from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from maskgym.agents.learning import logprobs as module
from maskgym.agents.learning.logprobs import checkpointed_logprobs, chunked_logprobs
from maskgym.agents.learning.losses import token_entropy, token_logprobs
from maskgym.scripts.benchmarks.training_memory import loss_memory

TOKENS, WIDTH, VOCABULARY = 300, 24, 50


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tiles of 16 rows at most, so that small inputs are several."""
    monkeypatch.setattr(module, "_MIN_TILE_TOKENS", 16)
    monkeypatch.setattr(module, "_CACHE_ELEMENTS", 1)
    yield


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(TOKENS, WIDTH, generator=draw).to(dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=draw).to(dtype).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=draw).to(dtype).requires_grad_()
    return hidden, weight, bias, torch.randint(VOCABULARY, (TOKENS,), generator=draw)


def test_numbers_worked_by_hand() -> None:
    # Logits 0 and ln 3 after the temperature of 0.5: probabilities 1/4 and 3/4.
    hidden = torch.tensor([[1.0]])
    weight = torch.tensor([[0.0], [0.5493061443]])
    logprobs, entropy = chunked_logprobs(
        hidden, weight, torch.tensor([1]), temperature=0.5, with_entropy=True
    )
    assert logprobs.item() == pytest.approx(-0.2876821, abs=1e-6)  # ln 0.75
    assert entropy.item() == pytest.approx(0.5623351, abs=1e-6)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 16, 100, 10_000])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("with_entropy", [False, True])
def test_chunks_and_dense_logits_agree_and_so_do_their_gradients(
    chunk_tokens: int, has_bias: bool, with_entropy: bool
) -> None:
    hidden, weight, bias, targets = inputs()
    draw = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, TOKENS, generator=draw)
    results = []
    for is_dense in (False, True):
        for tensor in (hidden, weight, bias):
            tensor.grad = None
        if is_dense:
            logits = hidden @ weight.T + (bias if has_bias else 0.0)
            logprobs = token_logprobs(logits, targets, temperature=0.7)
            entropy = token_entropy(logits, temperature=0.7)
        else:
            logprobs, entropy = chunked_logprobs(
                hidden,
                weight,
                targets,
                bias_V=bias if has_bias else None,
                temperature=0.7,
                chunk_tokens=chunk_tokens,
                with_entropy=with_entropy,
            )
        loss = (logprobs * a).sum() + ((entropy * b).sum() if with_entropy else 0.0)
        loss.backward()
        wanted = [hidden.grad, weight.grad, *([bias.grad] if has_bias else [])]
        results.append([logprobs.detach(), *([entropy.detach()] if with_entropy else []), *wanted])
    for ours, dense in zip(*results, strict=True):
        assert ours is not None and dense is not None
        assert torch.allclose(ours, dense, atol=1e-5 * max(1.0, float(dense.abs().max())))


@pytest.mark.parametrize("chunk_tokens", [3, 100])
def test_gradients_are_those_of_finite_differences(chunk_tokens: int) -> None:
    draw = torch.Generator().manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()
        for shape in ((20, 3), (6, 3), (6,))
    )
    targets = torch.randint(6, (20,), generator=draw)

    def both(hidden: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return chunked_logprobs(
            hidden,
            weight,
            targets,
            bias_V=bias,
            temperature=1.3,
            chunk_tokens=chunk_tokens,
            with_entropy=True,
        )

    assert torch.autograd.gradcheck(both, (hidden, weight, bias))


def test_without_entropy_there_are_zeros_and_the_log_probabilities_stay() -> None:
    hidden, weight, _, targets = inputs()
    with_it = chunked_logprobs(hidden, weight, targets, with_entropy=True)
    without = chunked_logprobs(hidden, weight, targets)
    assert torch.equal(with_it[0], without[0])
    assert not without[1].any() and with_it[1].all()


def test_a_token_of_probability_zero_has_a_finite_logarithm_and_gradient() -> None:
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[0.0], [200.0]], requires_grad=True)
    logprobs, entropy = chunked_logprobs(hidden, weight, torch.tensor([0]), with_entropy=True)
    assert logprobs.item() == pytest.approx(-200.0)
    assert entropy.item() == pytest.approx(0.0)
    (logprobs + entropy).sum().backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None and weight.grad is not None
    assert hidden.grad.item() == pytest.approx(-200.0)
    assert torch.isfinite(weight.grad).all()


def test_a_second_backward_pass_gives_the_same_gradient() -> None:
    hidden, weight, _, targets = inputs()
    logprobs, _ = chunked_logprobs(hidden, weight, targets)
    first = torch.autograd.grad(logprobs.sum(), (hidden, weight), retain_graph=True)
    second = torch.autograd.grad(logprobs.sum(), (hidden, weight))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(first, second, strict=True))


def test_a_frozen_head_gets_no_gradient_and_the_states_do() -> None:
    hidden, weight, _, targets = inputs()
    logprobs, _ = chunked_logprobs(hidden, weight.detach(), targets)
    (grad,) = torch.autograd.grad(logprobs.sum(), hidden)
    wanted = torch.autograd.grad(token_logprobs(hidden @ weight.T, targets).sum(), hidden)[0]
    assert torch.allclose(grad, wanted, atol=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    hidden, weight, _, targets = inputs(torch.bfloat16)
    logprobs, entropy = chunked_logprobs(hidden, weight, targets, with_entropy=True)
    logits = hidden.float() @ weight.float().T
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert torch.allclose(logprobs, token_logprobs(logits, targets), atol=1e-5)
    assert torch.allclose(entropy, token_entropy(logits), atol=1e-5)
    logprobs.sum().backward()  # type: ignore[no-untyped-call]
    exact = torch.autograd.grad(token_logprobs(logits, targets).sum(), (hidden, weight))
    for ours, dense in zip((hidden.grad, weight.grad), exact, strict=True):
        assert ours is not None and ours.dtype == torch.bfloat16
        assert torch.allclose(ours.float(), dense.float(), atol=0.02 * float(dense.abs().max()))


def test_no_token_at_all_gives_empty_tensors() -> None:
    hidden, weight, _, targets = inputs()
    for logprobs, entropy in (
        chunked_logprobs(hidden[:0], weight, targets[:0]),
        checkpointed_logprobs(hidden[:0], lambda h: h @ weight.T, targets[:0]),
    ):
        assert logprobs.shape == entropy.shape == (0,)
        logprobs.sum().backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("chunk_tokens", [7, 1000])
def test_any_head_gives_the_same_by_checkpoints(chunk_tokens: int) -> None:
    hidden, weight, bias, targets = inputs()
    results = []
    for way in ("chunked", "checkpointed"):
        options: dict[str, Any] = {
            "temperature": 0.7,
            "chunk_tokens": chunk_tokens,
            "with_entropy": True,
        }
        if way == "chunked":
            both = chunked_logprobs(hidden, weight, targets, bias_V=bias, **options)
        else:
            both = checkpointed_logprobs(hidden, lambda h: h @ weight.T + bias, targets, **options)
        loss = both[0].sum() - 0.3 * both[1].sum()
        results.append([*both, *torch.autograd.grad(loss, (hidden, weight, bias))])
    for ours, other in zip(*results, strict=True):
        assert torch.allclose(ours, other, atol=1e-4)


@pytest.mark.slow
def test_fused_softmax_and_its_gradient_agree_with_the_plain_ones() -> None:
    """What runs compiled on a GPU, compiled here."""
    draw = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(40, 50, generator=draw), torch.randint(50, (40,), generator=draw)
    a, b = torch.randn(2, 40, generator=draw)
    results = []
    for function, backward in (
        (module.softmax_, module.softmax_backward_),
        (module._compiled(module.softmax_), module._compiled(module.softmax_backward_)),
    ):
        probs = logits.clone()
        picked, entropy = function(probs, targets, True)
        assert entropy is not None
        results.append([picked, entropy, probs.clone()])
        results[-1].append(backward(probs, targets, a, b, entropy))
        results[-1].append(probs)
    for plain, fused in zip(*results, strict=True):
        assert torch.allclose(plain, fused, atol=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks are read from /proc")
def test_memory_grows_with_the_chunk_and_not_with_vocabulary_times_length() -> None:
    mebibyte = 2**20
    base, longer, wider, larger = (
        loss_memory(vocabulary=vocabulary, num_tokens=num_tokens, chunk_tokens=chunk)
        for vocabulary, num_tokens, chunk in (
            (16_000, 4096, 512),
            (16_000, 16_384, 512),
            (64_000, 4096, 128),
            (16_000, 4096, 4096),
        )
    )
    # One dense matrix takes 250 MiB at the start, and 750 MiB more where length or words are fourfold.
    assert base < 80 * mebibyte
    assert longer - base < 20 * mebibyte
    # The chunk keeps its bytes; a tile of 128 rows and the gradient of the head take 40 MiB more.
    assert wider - base < 100 * mebibyte
    assert 180 * mebibyte < larger - base < 260 * mebibyte  # 219 MiB more logits
