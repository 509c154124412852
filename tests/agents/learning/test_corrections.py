"""Importance weights against numbers worked by hand and a slow second version."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maskgym.agents.learning.corrections import importance_weights


def weights_of(
    ratios: list[float], sequences: list[int], *, level: str, cap: float = 2.0, floor: float | None
) -> list[float]:
    old = torch.tensor(ratios, dtype=torch.float64).log().requires_grad_()
    weights = importance_weights(
        old,
        torch.zeros_like(old),
        level=level,
        cap=cap,
        floor=floor,
        sequence_M=torch.tensor(sequences),
        num_sequences=max(sequences) + 1,
    )
    assert not weights.requires_grad
    result: list[float] = weights.tolist()
    return result


def test_token_level_by_hand() -> None:
    ratios = [0.3, 1.0, 1.5, 4.0]
    assert weights_of(ratios, [0, 0, 1, 1], level="token", floor=None) == pytest.approx(
        [0.3, 1.0, 1.5, 2.0]
    )
    assert weights_of(ratios, [0, 0, 1, 1], level="token", floor=0.5) == pytest.approx(
        [0.0, 1.0, 1.5, 2.0]
    )


def test_sequence_level_shares_the_product() -> None:
    # Sequence 0: 0.5 * 1.6 = 0.8; sequence 1: 3 * 1.5 = 4.5, truncated; sequence 2: 0.1, below the floor.
    assert weights_of(
        [0.5, 3.0, 1.6, 1.5, 0.1], [0, 1, 0, 1, 2], level="sequence", floor=0.2
    ) == pytest.approx([0.8, 2.0, 0.8, 2.0, 0.0])


def test_a_small_gap_grows_to_a_factor_over_a_long_sequence() -> None:
    weights = weights_of([math.exp(0.012)] * 100, [0] * 100, level="sequence", cap=10, floor=None)
    assert weights[0] == pytest.approx(3.32, abs=0.01)


def test_a_gap_beyond_all_bounds_is_truncated_not_infinite() -> None:
    assert importance_weights(
        torch.tensor([0.0, 0.0]),
        torch.tensor([-600.0, -600.0]),
        level="sequence",
        cap=2.0,
        sequence_M=torch.tensor([0, 0]),
        num_sequences=1,
    ).tolist() == [2.0, 2.0]


def test_no_correction_is_one_and_an_unknown_level_is_refused() -> None:
    assert weights_of([0.3, 4.0], [0, 0], level="none", floor=0.5) == [1.0, 1.0]
    with pytest.raises(ValueError, match="choose one of none, token, sequence"):
        weights_of([1.0], [0], level="turn", floor=None)


@given(
    tokens=st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 3)), min_size=1, max_size=10),
    level=st.sampled_from(["token", "sequence"]),
    cap=st.floats(0.5, 4),
    floor=st.one_of(st.none(), st.floats(0.01, 0.4)),
)
def test_equal_to_the_slow_version(
    tokens: list[tuple[float, int]], level: str, cap: float, floor: float | None
) -> None:
    slow = []
    for ratio, sequence in tokens:
        weight = ratio
        if level == "sequence":
            weight = math.prod(other for other, i in tokens if i == sequence)
        is_masked = floor is not None and weight < floor * (1 - 1e-9)
        slow.append(0.0 if is_masked else min(weight, cap))
    ratios, sequences = [list(column) for column in zip(*tokens, strict=True)]
    assert weights_of(ratios, sequences, level=level, cap=cap, floor=floor) == pytest.approx(slow)
