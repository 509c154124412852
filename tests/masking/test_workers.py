"""Ordered map: results come in the order of the stream, whatever the workers do."""

import math
import multiprocessing
import operator
import os
from collections.abc import Iterator
from itertools import count, islice

import pytest

from maskgym.masking.workers import map_in_order

# Functions of the standard library only: a spawned worker may be unable to import the tests.


@pytest.mark.parametrize("num_workers", [1, 3])
def test_results_come_in_the_order_of_the_stream(num_workers: int) -> None:
    numbers = [20_000, 3, 2, 9_000, 1, 0, *range(30)]  # the first takes longest
    results = list(map_in_order(math.factorial, numbers, num_workers=num_workers))
    assert results == [math.factorial(number) for number in numbers]
    assert multiprocessing.active_children() == []


def test_a_stream_without_end_is_taken_as_needed() -> None:
    stream = count()
    results = map_in_order(operator.neg, stream, num_workers=2)
    assert list(islice(results, 5)) == [0, -1, -2, -3, -4]
    assert next(stream) < 20
    results.close()
    assert multiprocessing.active_children() == []


def test_an_empty_stream_starts_no_worker() -> None:
    assert list(map_in_order(operator.neg, [], num_workers=4)) == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_is_raised_when_its_turn_comes(num_workers: int) -> None:
    results = map_in_order(math.sqrt, [4, 9, -1, 16], num_workers=num_workers)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)
    assert multiprocessing.active_children() == []


def test_an_error_of_the_stream_ends_the_workers() -> None:
    def stream() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(map_in_order(operator.neg, stream(), num_workers=2))
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_reported() -> None:
    with pytest.raises(ChildProcessError, match=r"died \(exit code 7"):
        list(map_in_order(os._exit, [7], num_workers=2))
    assert multiprocessing.active_children() == []


def test_what_cannot_travel_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="top level of a module"):
        map_in_order(lambda number: number, [1], num_workers=2)
    with pytest.raises(ValueError, match="num_workers is 0"):
        map_in_order(operator.neg, [1], num_workers=0)
