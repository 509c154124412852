"""Fixtures shared by all tests: the folder of real public data, where it is there."""

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real public data beside the checkout; the test is skipped where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data beside this checkout (../shared/data)")
    return folder


@pytest.fixture
def cpu_seconds() -> Callable[[Callable[[], object]], float]:
    """Measures a call: processor seconds, the fastest of three, without the garbage collector.

    A collection walks everything that other tests have left in memory, so it would measure them.
    """

    def measure(work: Callable[[], object]) -> float:
        times_s: list[float] = []
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                started_s = time.process_time()
                work()
                times_s.append(time.process_time() - started_s)
        finally:
            gc.enable()
        return min(times_s)

    return measure


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """For tests that compare times: a collection walks what other tests have left in memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
