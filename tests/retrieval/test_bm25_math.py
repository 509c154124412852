import math

import numpy as np
import pytest

from maskgym.retrieval.bm25_math import (
    LENGTHS,
    clause_scores,
    clause_weight,
    denominators,
    length_bytes,
)


def test_lengths_are_kept_exactly_to_39_and_then_with_four_bits() -> None:
    kept = LENGTHS[
        length_bytes(np.array([0, 1, 23, 24, 39, 40, 41, 42, 55, 56, 100, 1000, 2**31 - 1]))
    ]
    assert kept.tolist() == [0, 1, 23, 24, 39, 40, 40, 42, 54, 56, 96, 984, 2013265944]


def test_the_length_table_ascends_over_all_bytes() -> None:
    assert len(LENGTHS) == 256
    assert (np.diff(LENGTHS) > 0).all()
    assert (length_bytes(LENGTHS) == np.arange(256)).all()


def test_the_weight_is_robertsons_with_one_added() -> None:
    weight = clause_weight(num_documents=100, document_frequency=3, query_frequency=2)
    assert weight.dtype == np.float32
    assert weight == pytest.approx(2 * math.log(1 + 97.5 / 3.5), rel=1e-6)


def test_a_clause_is_weight_times_saturated_frequency() -> None:
    frequency, length, mean, k1, b = 3, 30, 20.0, 0.9, 0.4
    found = clause_scores(
        np.float32(2.5),
        denominators(
            np.array([frequency]), length_bytes(np.array([length])), mean_length=mean, k1=k1, b=b
        ),
    )
    expected = 2.5 * frequency / (frequency + k1 * (1 - b + b * length / mean))
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(expected, rel=1e-6)


def test_without_saturation_every_document_gets_the_whole_weight() -> None:
    by_pair = denominators(
        np.array([1, 9]), length_bytes(np.array([5, 500])), mean_length=9, k1=0, b=1
    )
    assert clause_scores(np.float32(2), by_pair).tolist() == [2, 2]
