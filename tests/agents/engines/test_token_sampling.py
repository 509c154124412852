"""Sampling: distributions, restrictions by hand, and numbers that depend on seed and step alone."""

import math

import numpy as np
import pytest
import torch

from maskgym.agents.engines.engine import SamplingParams
from maskgym.agents.engines.token_sampling import restrict, sample_tokens, uniform

PROBS = [0.5, 0.25, 0.15, 0.1]
LOGITS = torch.tensor([[math.log(p) for p in PROBS]])


def kept(top_k: int, top_p: float) -> list[int]:
    logits = restrict(LOGITS, top_k=torch.tensor([top_k]), top_p=torch.tensor([top_p]))
    return logits[0].isfinite().nonzero()[:, 0].tolist()


def test_top_k_and_top_p_by_hand() -> None:
    assert kept(-1, 1.0) == [0, 1, 2, 3]
    assert kept(2, 1.0) == [0, 1]
    assert kept(-1, 0.6) == [0, 1]  # 0.5 is not enough, 0.75 is
    assert kept(-1, 0.01) == [0]
    assert kept(3, 0.8) == [0, 1]  # over what top-k leaves: 0.75 / 0.9 is above 0.8


def test_samples_follow_the_distribution() -> None:
    count = 20_000
    params = [SamplingParams(max_tokens=1)] * count
    tokens, logprobs = sample_tokens(
        LOGITS.repeat(count, 1), params, seeds=list(range(count)), steps=[0] * count
    )
    shares = np.bincount(tokens, minlength=4) / count
    assert shares == pytest.approx(PROBS, abs=0.015)
    assert logprobs[:50] == pytest.approx([math.log(PROBS[t]) for t in tokens[:50]], abs=1e-5)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 50, generator=generator)
    params = [SamplingParams(max_tokens=1, temperature=t) for t in (0, 0.5, 1, 1, 2, 0)]
    seeds, steps = [3, 1, 4, 1, 5, 9], [0, 1, 2, 3, 4, 5]
    together, _ = sample_tokens(logits.clone(), params, seeds, steps)
    alone = [
        sample_tokens(logits[i : i + 1].clone(), [params[i]], [seeds[i]], [steps[i]])[0][0]
        for i in range(6)
    ]
    assert together == alone


def test_numbers_are_uniform_and_differ_between_seeds_and_steps() -> None:
    numbers = uniform(list(range(5000)), [7] * 5000)
    assert len(set(numbers.tolist())) == 5000
    assert abs(numbers.mean() - 0.5) < 0.02
    assert uniform([1], [2])[0] == uniform([1], [2])[0] != uniform([1], [3])[0]


def test_logits_that_are_not_finite_are_an_error() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        sample_tokens(torch.full((1, 4), float("nan")), [SamplingParams(max_tokens=1)], [0], [0])
