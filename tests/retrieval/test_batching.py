import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from maskgym.retrieval import BM25Index, Hit, Passage, Retriever
from maskgym.retrieval.batching import MicroBatcher


class Counted:
    """A real index that notes each call, takes its time, and refuses what it is told to."""

    fingerprint = "counted"

    def __init__(self, takes_s: float = 0.0) -> None:
        self.index = BM25Index.build(Passage(id=str(n), text=f"all w{n}") for n in range(80))
        self.takes_s = takes_s
        self.calls: list[list[str]] = []
        self.num_running = self.max_running = 0
        self.lock = threading.Lock()
        self.is_closed = False
        self.error: Exception | None = None

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        with self.lock:
            self.calls.append(list(queries))
            self.num_running += 1
            self.max_running = max(self.max_running, self.num_running)
        time.sleep(self.takes_s)
        with self.lock:
            self.num_running -= 1
        if self.error is not None:
            raise self.error
        if "bad" in queries:
            raise ValueError("'bad' cannot be searched")
        return self.index.search(queries, top_k)

    def close(self) -> None:
        self.is_closed = True


def test_concurrent_searches_share_calls_and_each_gets_its_own_hits() -> None:
    inner = Counted(takes_s=0.05)
    batcher = MicroBatcher(inner, max_batch=64, window_s=0.02)
    assert isinstance(batcher, Retriever)
    batches = [[f"w{n}", f"w{n + 40}"] for n in range(40)]
    with ThreadPoolExecutor(40) as threads:
        found = list(threads.map(lambda batch: batcher.search(batch, 2), batches, timeout=30))
    assert found == [inner.index.search(batch, 2) for batch in batches]
    assert sum(map(len, inner.calls)) == 80
    assert len(inner.calls) <= 10
    assert max(map(len, inner.calls)) <= 64
    assert inner.max_running == 1


def test_searches_for_different_numbers_of_hits_do_not_mix() -> None:
    inner = Counted(takes_s=0.02)
    batcher = MicroBatcher(inner, window_s=0.02)
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda k: batcher.search(["all"], k), [1, 2, 3] * 4, timeout=30))
    assert [len(hits) for [hits] in found] == [1, 2, 3] * 4


def test_a_lone_search_waits_no_longer_than_the_window_and_a_full_one_not_at_all() -> None:
    inner = Counted()
    start = time.monotonic()
    assert len(MicroBatcher(inner, window_s=0.0).search(["w1"], 1)[0]) == 1
    many = MicroBatcher(inner, max_batch=2, window_s=60).search(["w1", "w2", "w3"], 1)
    assert [hits[0].passage.id for hits in many] == ["1", "2", "3"]
    assert MicroBatcher(inner).search([], 1) == []
    assert time.monotonic() - start < 10


def test_a_batch_that_fills_up_is_searched_before_its_window_ends() -> None:
    batcher = MicroBatcher(Counted(), max_batch=4, window_s=60)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda n: batcher.search([f"w{n}"], 1), range(4), timeout=20))
    assert [hits[0].passage.id for [hits] in found] == ["0", "1", "2", "3"]


def test_a_bad_query_fails_alone() -> None:
    batcher = MicroBatcher(Counted(), window_s=0.2)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(batcher.search, [f"w{n}"], 1) for n in range(7)]
        bad = threads.submit(batcher.search, ["bad"], 1)
        assert [answer.result(20)[0][0].passage.id for answer in asked] == list("0123456")
        assert isinstance(bad.exception(20), ValueError)


def test_an_index_that_is_out_of_reach_is_asked_once_and_all_are_told() -> None:
    inner = Counted(takes_s=0.05)
    inner.error = ConnectionError("down")
    batcher = MicroBatcher(inner, window_s=0.2)
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(batcher.search, [f"w{n}"], 1) for n in range(8)]
        assert all(isinstance(answer.exception(20), ConnectionError) for answer in asked)
    assert len(inner.calls) < 8
    inner.error = None
    assert len(batcher.search(["w1"], 1)[0]) == 1


def test_too_few_lists_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Counted()
    monkeypatch.setattr(inner, "search", lambda queries, top_k: [])
    with pytest.raises(RuntimeError, match="Counted gave 0 lists of hits for 1 queries"):
        MicroBatcher(inner).search(["w1"], 1)


def test_several_calls_run_at_once_where_they_may() -> None:
    inner = Counted(takes_s=0.1)
    batcher = MicroBatcher(inner, max_batch=1, max_concurrent=4)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: batcher.search([f"w{n}"], 1), range(8), timeout=20))
    assert 1 < inner.max_running <= 4


def test_it_pickles_and_closes_what_is_behind_it() -> None:
    inner = Counted()
    copy = pickle.loads(pickle.dumps(MicroBatcher(inner.index, 7, 0.5, max_concurrent=3)))
    assert (copy.max_batch, copy.window_s, copy.max_concurrent) == (7, 0.5, 3)
    assert copy.fingerprint == inner.index.fingerprint
    MicroBatcher(inner).close()
    assert inner.is_closed


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"max_batch": 0}, "max_batch is 0"), ({"window_s": -1}, "window_s is -1")],
)
def test_bad_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MicroBatcher(Counted(), **settings)
    with pytest.raises(ValueError, match="top_k is 0"):
        MicroBatcher(Counted()).search(["w1"], 0)
