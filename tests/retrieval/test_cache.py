import pickle
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from maskgym.retrieval import BM25Index, CachedRetriever, CacheStats, Hit, Passage


class Recorder:
    """A real index that writes down what it is asked, and may be held up, fail or change."""

    def __init__(self) -> None:
        self.index = BM25Index.build(Passage(id=str(n), text=f"all w{n}") for n in range(50))
        self.asked: list[list[str]] = []
        self.fingerprint = "first"
        self.started = threading.Event()
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.error: BaseException | None = None
        self.is_closed = False

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        self.asked.append(list(queries))
        self.started.set()
        assert self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        return self.index.search(queries, top_k)

    def close(self) -> None:
        self.is_closed = True


def test_a_repeated_query_is_asked_once_and_answered_alike() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner)
    first = cached.search(["w1", "w2", "w1"], 3)
    assert (
        first == cached.search(["w1", "w2", "w1"], 3) == inner.index.search(["w1", "w2", "w1"], 3)
    )
    assert inner.asked == [["w1", "w2"]]
    assert cached.stats == CacheStats(num_hits=3, num_waits=1, num_misses=2)


def test_another_top_k_and_another_fingerprint_are_asked_anew() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner)
    assert [len(cached.search(["all"], k)[0]) for k in (1, 2, 1)] == [1, 2, 1]
    inner.fingerprint = "second"
    cached.search(["all"], 1)
    assert len(inner.asked) == 3
    assert cached.fingerprint == "second"


def test_the_longest_unused_query_goes_first() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner, max_entries=2)
    for query in ("w1", "w2", "w1", "w3", "w1", "w2"):
        cached.search([query], 1)
    assert inner.asked == [["w1"], ["w2"], ["w3"], ["w2"]]


def test_a_caller_may_change_its_list_without_spoiling_the_cache() -> None:
    cached = CachedRetriever(Recorder())
    cached.search(["w1"], 1)[0].clear()
    assert len(cached.search(["w1"], 1)[0]) == 1


def test_equal_queries_in_flight_share_one_search() -> None:
    inner = Recorder()
    inner.may_answer.clear()
    cached = CachedRetriever(inner, max_entries=0)
    with ThreadPoolExecutor(16) as threads:
        answers = [threads.submit(cached.search, ["w7", "all"], 2) for _ in range(16)]
        while cached.stats.num_waits < 30:  # all others have joined the first
            assert inner.started.wait(10)
        inner.may_answer.set()
        assert all(a.result(10) == inner.index.search(["w7", "all"], 2) for a in answers)
    assert inner.asked == [["w7", "all"]]
    assert cached.stats == CacheStats(num_hits=0, num_waits=30, num_misses=2)


def test_batches_that_overlap_crosswise_do_not_wait_for_each_other_for_ever() -> None:
    cached = CachedRetriever(Recorder(), max_entries=3)
    batches = [
        [f"w{(start + step * n) % 50}" for n in range(20)]
        for start in range(40)
        for step in (1, -1)
    ]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda batch: cached.search(batch, 2), batches, timeout=30))
    assert [[hits[0].passage.text for hits in answer] for answer in found] == [
        [f"all {query}" for query in batch] for batch in batches
    ]
    stats = cached.stats
    assert stats.num_hits + stats.num_waits + stats.num_misses == 80 * 20


@pytest.mark.parametrize("error", [TimeoutError("too slow"), KeyboardInterrupt()])
def test_a_failed_search_reaches_all_who_wait_and_is_not_kept(error: BaseException) -> None:
    inner = Recorder()
    inner.may_answer.clear()
    inner.error = error
    cached = CachedRetriever(inner)
    with ThreadPoolExecutor(2) as threads:
        leader = threads.submit(cached.search, ["w1"], 1)
        assert inner.started.wait(10)
        follower = threads.submit(cached.search, ["w1"], 1)
        while cached.stats.num_waits < 1:
            assert not follower.done()
        inner.may_answer.set()
        assert leader.exception(10) is error
        told = follower.exception(10)
    assert told is error or (isinstance(told, RuntimeError) and "stopped" in str(told))
    inner.error = None
    assert len(cached.search(["w1"], 1)[0]) == 1


def test_a_retriever_that_gives_too_few_lists_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Recorder()
    cached = CachedRetriever(inner)
    monkeypatch.setattr(inner, "search", lambda queries, top_k: [])
    with pytest.raises(RuntimeError, match="Recorder gave 0 lists of hits for 1 queries"):
        cached.search(["w1"], 1)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="max_entries is -1"):
        CachedRetriever(Recorder(), max_entries=-1)
    with pytest.raises(ValueError, match="top_k is 0"):
        CachedRetriever(Recorder()).search(["w1"], 0)


def test_it_pickles_empty_and_closes_what_is_behind_it() -> None:
    inner = Recorder()
    cached = CachedRetriever(inner.index, max_entries=5)
    cached.search(["w1"], 1)
    copy = pickle.loads(pickle.dumps(cached))
    assert copy.max_entries == 5
    assert copy.stats == CacheStats()
    assert copy.search(["w1"], 1) == cached.search(["w1"], 1)
    CachedRetriever(inner).close()
    assert inner.is_closed
