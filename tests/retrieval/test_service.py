import asyncio
import http.client
import json
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest

from maskgym.retrieval import BM25Index, Hit, Passage
from maskgym.retrieval.service import RetrievalApp
from maskgym.retrieval.service_config import ServiceConfig
from maskgym.retrieval.service_metrics import ServiceMetrics
from maskgym.retrieval.service_queue import OverloadedError, SearchQueue
from maskgym.retrieval.service_wire import FINGERPRINT_HEADER, SearchRequest

Serve = Callable[..., str]


class Held:
    """A real index whose searches wait until they may go on."""

    fingerprint = "held"

    def __init__(self) -> None:
        self.index = BM25Index.build(Passage(id=str(n), text=f"all w{n}") for n in range(100))
        self.may_answer = threading.Event()
        self.asked: list[list[str]] = []

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        if queries[0].startswith(("who", "capital", "year", "history", "film", "population")):
            time.sleep(0.01)  # the warm-up: a slow index, so that threads are used
        else:
            self.asked.append(list(queries))
            assert self.may_answer.wait(20)
        if "bad" in queries:
            raise ValueError("'bad' cannot be searched")
        return self.index.search(queries, top_k)

    def close(self) -> None:
        self.may_answer.set()


def ask(
    url: str,
    body: object = None,
    *,
    path: str = "/retrieve",
    method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, Any, dict[str, str]]:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, body=sent, headers=headers or {})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    names = {name.lower(): value for name, value in response.getheaders()}
    if names.get("content-type") == "application/json":
        return response.status, json.loads(content or "null"), names
    return response.status, content.decode(), names


@pytest.fixture
def index() -> BM25Index:
    return BM25Index.build(Passage(id=str(n), title=f"T{n}", text=f"all w{n}") for n in range(60))


def metric(url: str, name: str) -> float:
    _, text, _ = ask(url, path="/metrics", method="GET")
    return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(name)))


@pytest.mark.parametrize("path", ["/retrieve", "/search", "/retrieve/"])
def test_one_two_and_three_queries_with_and_without_scores(
    index: BM25Index, serve: Serve, path: str
) -> None:
    url = serve(index)
    for num in (1, 2, 3):
        queries = [f"w{n}" for n in range(num)]
        for has_scores in (True, False):
            fields = {"queries": queries, "topk": 2, "return_scores": has_scores}
            status, reply, headers = ask(url, fields, path=path)
            assert status == 200
            assert headers[FINGERPRINT_HEADER] == index.fingerprint
            assert len(reply["result"]) == num
            for n, hits in enumerate(reply["result"]):
                document = {"id": str(n), "contents": f'"T{n}"\nall w{n}'}
                score = index.search([f"w{n}"], 2)[0][0].score
                assert hits == (
                    [{"document": document, "score": score}] if has_scores else [document]
                )


def test_no_hits_no_queries_and_a_single_query(index: BM25Index, serve: Serve) -> None:
    url = serve(index)
    assert ask(url, {"queries": ["unheard"]})[1] == {"result": [[]]}
    assert ask(url, {"queries": []})[1] == {"result": []}
    assert ask(url, {"query": ""})[1] == {"result": [[]]}
    assert len(ask(url, {"query": "all", "topk": -1})[1]["result"][0]) == 3
    assert len(ask(url, {"query": "all", "topk": 10**9})[1]["result"][0]) == 60


def test_bad_requests_are_told_why_and_never_get_422(index: BM25Index, serve: Serve) -> None:
    url = serve(index, ServiceConfig(max_body_bytes=1000, max_queries=3))
    status, reply, _ = ask(url, b"nonsense")
    assert (status, "not JSON" in reply["error"]) == (400, True)
    assert ask(url, {"queries": ["a"] * 4})[0] == 413
    assert ask(url, {"query": "a" * 2000})[0] == 413
    status, reply, headers = ask(url, method="GET")
    assert (status, headers["allow"]) == (405, "POST")
    status, reply, _ = ask(url, {}, path="/v1/retrieve")
    assert (status, "POST to /retrieve" in reply["error"]) == (404, True)
    assert ask(url, {"query": "w1"})[0] == 200  # none of them did any harm


def test_a_body_in_pieces_is_bounded_too(index: BM25Index, serve: Serve) -> None:
    address = urlsplit(serve(index, ServiceConfig(max_body_bytes=1000)))
    for num_pieces, expected in ((3, 200), (30, 413)):
        connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
        pieces = [b'{"query": "w1"}', *[b" " * 100] * num_pieces]
        connection.request("POST", "/retrieve", iter(pieces), encode_chunked=True)
        assert connection.getresponse().status == expected
        connection.close()


def test_health_and_metrics_tell_what_is_served_and_how(index: BM25Index, serve: Serve) -> None:
    url = serve(index, ServiceConfig(max_query_chars=5, max_top_k=9))
    ask(url, {"queries": ["w1", "w1", "w2", "a longer query"]})
    ask(url, {"queries": ["w1"]})
    ask(url, b"nonsense")
    status, health, _ = ask(url, path="/health", method="GET")
    assert status == 200
    assert health["fingerprint"] == index.fingerprint
    assert (health["status"], health["max_top_k"]) == ("ok", 9)
    expected = {
        'maskgym_requests_total{status="200"}': 3,
        'maskgym_requests_total{status="400"}': 1,
        "maskgym_queries_total": 5,
        "maskgym_cut_queries_total": 1,
        "maskgym_cache_hits_total": 1,
        "maskgym_cache_waits_total": 1,
        "maskgym_cache_misses_total": 3,
        "maskgym_ready_workers": 1,
        "maskgym_pending_queries": 0,
    }
    for name, value in expected.items():
        assert metric(url, name) == value, name
    assert metric(url, 'maskgym_request_seconds_bucket{le="+Inf"}') >= 4
    assert ask(url, path="/health", method="HEAD")[1] is None


def test_without_the_token_only_the_health_is_told(index: BM25Index, serve: Serve) -> None:
    url = serve(index, ServiceConfig(token="a secret"))
    right, wrong = {"Authorization": "Bearer a secret"}, {"Authorization": "Bearer a secreT"}
    assert ask(url, {"query": "w1"}, headers=right)[0] == 200
    for headers in (wrong, {}, {"Authorization": "a secret"}):
        assert ask(url, {"query": "w1"}, headers=headers)[0] == 401
        assert ask(url, path="/metrics", method="GET", headers=headers)[0] == 401
    assert ask(url, path="/health", method="GET")[0] == 200
    assert "a secret" not in repr(ServiceConfig(token="a secret"))


def test_too_many_get_503_at_once_and_those_taken_are_answered(serve: Serve) -> None:
    held = Held()
    url = serve(held, ServiceConfig(max_pending=8, num_threads=1, max_batch=4))
    with ThreadPoolExecutor(40) as threads:
        asked = [threads.submit(ask, url, {"query": f"w{n}"}) for n in range(40)]
        while sum(answer.done() for answer in asked) < 27:  # 1 to 4 are searched, 8 wait
            time.sleep(0.01)
        refused = [answer.result() for answer in asked if answer.done()]
        assert {status for status, _, _ in refused} == {503}
        assert all(int(headers["retry-after"]) >= 1 for _, _, headers in refused)
        assert ask(url, path="/health", method="GET")[0] == 200
        held.may_answer.set()
        statuses = [answer.result(20)[0] for answer in asked]
    assert statuses.count(200) + statuses.count(503) == 40
    assert statuses.count(200) >= 8
    assert metric(url, 'maskgym_requests_total{status="503"}') == statuses.count(503)
    assert ask(url, {"query": "w1"})[0] == 200


def test_a_batch_larger_than_the_queue_is_taken_when_nobody_waits(
    index: BM25Index, serve: Serve
) -> None:
    url = serve(index, ServiceConfig(max_pending=2))
    status, reply, _ = ask(url, {"queries": [f"w{n}" for n in range(50)], "topk": 1})
    assert status == 200
    assert [hits[0]["id"] for hits in reply["result"]] == [str(n) for n in range(50)]


def test_equal_queries_in_flight_are_searched_once(serve: Serve) -> None:
    held = Held()
    url = serve(held, ServiceConfig(cache_bytes=0))
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask, url, {"queries": ["w1", "w2"]}) for _ in range(8)]
        while metric(url, "maskgym_cache_waits_total") < 14:
            time.sleep(0.01)
        held.may_answer.set()
        assert len({json.dumps(answer.result(20)[1]) for answer in asked}) == 1
    assert sorted(query for batch in held.asked for query in batch) == ["w1", "w2"]


def test_waiting_queries_are_searched_together(serve: Serve) -> None:
    held = Held()
    url = serve(held, ServiceConfig(num_threads=1))
    with ThreadPoolExecutor(30) as threads:
        asked = [threads.submit(ask, url, {"query": f"w{n}", "topk": 1}) for n in range(30)]
        while metric(url, "maskgym_cache_misses_total") < 30:
            time.sleep(0.01)
        held.may_answer.set()
        found = [answer.result(20)[1]["result"][0][0]["id"] for answer in asked]
    assert found == [str(n) for n in range(30)]
    assert len(held.asked) <= 5


def test_a_search_that_fails_fails_alone_and_is_tried_again(serve: Serve) -> None:
    held = Held()
    url = serve(held, ServiceConfig(num_threads=1))
    with ThreadPoolExecutor(4) as threads:
        queries = ["w1", "w2", "bad", "w3"]
        asked = [threads.submit(ask, url, {"query": query}) for query in queries]
        while metric(url, "maskgym_cache_misses_total") < 4:
            time.sleep(0.01)
        held.may_answer.set()
        replies = [answer.result(20) for answer in asked]
    assert [status for status, _, _ in replies] == [200, 200, 500, 200]
    assert replies[2][1]["error"] == "The search failed: ValueError: 'bad' cannot be searched"
    assert ask(url, {"query": "bad"})[0] == 500
    assert metric(url, "maskgym_failed_searches_total") == 2


def test_a_search_that_takes_too_long_is_given_up(serve: Serve) -> None:
    held = Held()
    url = serve(held, ServiceConfig(timeout_s=0.2))
    start = time.monotonic()
    status, reply, _ = ask(url, {"query": "w1"})
    assert (status, time.monotonic() - start < 10) == (504, True)
    assert "No answer within 0.2 s" in reply["error"]
    held.may_answer.set()
    assert ask(url, {"query": "w2"})[0] == 200


def test_kept_answers_stay_within_their_bytes(index: BM25Index, serve: Serve) -> None:
    url = serve(index, ServiceConfig(cache_bytes=2000))
    for n in (0, 1, 0, 2, 3, 4, 5, 6, 7, 0):
        ask(url, {"query": f"w{n}"})
    assert metric(url, "maskgym_cache_hits_total") == 1  # the second w0; then it was pushed out


def test_an_application_travels_to_a_worker_before_it_runs(index: BM25Index) -> None:
    app = RetrievalApp(partial(BM25Index.load, "nowhere"), ServiceConfig(max_top_k=7))
    assert pickle.loads(pickle.dumps(app)).config == app.config


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"max_top_k": 0}, "max_top_k is 0"),
        ({"max_top_k": 2}, "default_top_k is 3, above max_top_k, 2"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"cache_bytes": -1}, "cache_bytes is -1"),
        ({"token": " "}, "token is empty"),
        ({"token": "é"}, "plain ASCII"),
        ({"token": "a\nb"}, "plain ASCII"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ServiceConfig(**settings)


class Sleepy:
    """Takes a while for the queries it is told to."""

    fingerprint = "sleepy"
    takes_s: float = 0.0

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        time.sleep(self.takes_s * len(queries))
        return [[] for _ in queries]

    def close(self) -> None:
        pass


def test_long_searches_go_to_threads_and_come_back_when_they_are_short_again(serve: Serve) -> None:
    sleepy = Sleepy()
    url = serve(sleepy)
    assert metric(url, "maskgym_inline_workers") == 1
    for takes_s, is_inline in ((0.02, 0), (0.0, 1)):
        sleepy.takes_s = takes_s
        for n in range(120):
            assert ask(url, {"query": f"{takes_s} {n}"})[0] == 200
        assert metric(url, "maskgym_inline_workers") == is_inline


def test_one_long_search_changes_nothing(serve: Serve) -> None:
    sleepy = Sleepy()
    url = serve(sleepy)
    sleepy.takes_s = 0.5
    ask(url, {"query": "compiles"})
    sleepy.takes_s = 0.0
    with ThreadPoolExecutor(64) as threads:
        asked = [threads.submit(ask, url, {"query": str(n)}) for n in range(64)]
        assert {answer.result(20)[0] for answer in asked} == {200}
    assert metric(url, "maskgym_inline_workers") == 1


def test_who_would_wait_too_long_gets_503_before_the_queue_is_full(serve: Serve) -> None:
    sleepy = Sleepy()
    sleepy.takes_s = 0.05
    url = serve(sleepy, ServiceConfig(max_wait_s=0.2, num_threads=1, max_batch=1))
    with ThreadPoolExecutor(50) as threads:
        start = time.monotonic()
        asked = [threads.submit(ask, url, {"query": str(n)}) for n in range(50)]
        statuses = [answer.result(20)[0] for answer in asked]
    assert time.monotonic() - start < 2
    assert set(statuses) == {200, 503}
    assert 3 <= statuses.count(200) <= 30


def test_the_wait_is_foretold_by_how_fast_the_queue_moves_and_not_by_searches_alone() -> None:
    """A loop that is busy with other things searches but now and then."""

    async def outcomes() -> list[bool]:
        sleepy = Sleepy()
        sleepy.takes_s = 0.001
        config = ServiceConfig(max_wait_s=4.0, cache_bytes=0)
        queue = SearchQueue(sleepy, config, ServiceMetrics())
        await queue.warm_up()

        async def is_taken(query: str) -> bool:
            request = SearchRequest(queries=(query,), top_k=1, has_scores=False)
            try:
                await queue.answer(request)
            except OverloadedError:
                return False
            return True

        async def busy() -> None:
            while True:
                time.sleep(0.5)
                await asyncio.sleep(0)

        other = asyncio.create_task(busy())
        first = await asyncio.gather(*(is_taken(f"first {n}") for n in range(600)))
        second = [asyncio.create_task(is_taken(f"second {n}")) for n in range(3000)]
        await asyncio.sleep(0)
        refused = [task.result() for task in second if task.done()]
        other.cancel()
        queue.close()
        for task in second:
            task.cancel()
        return [all(first), len(refused) > 200, any(refused)]

    # At 1 ms a search all would have a place; at the 3 ms that they take the last ones have none.
    assert asyncio.run(outcomes()) == [True, True, False]


def test_a_slow_index_refuses_nobody_while_few_wait(serve: Serve) -> None:
    """Batches of very different sizes and times: the pace of one of them says nothing."""

    class Uneven(Sleepy):
        num_calls = 0

        def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
            self.num_calls += 1
            time.sleep(0.4 if self.num_calls % 3 == 0 else 0.02)
            return [[] for _ in queries]

    url = serve(Uneven())
    with ThreadPoolExecutor(32) as threads:
        asked = [threads.submit(ask, url, {"query": str(n)}) for n in range(320)]
        assert {answer.result(60)[0] for answer in asked} == {200}


def test_what_a_query_costs_in_a_batch_is_soon_known(serve: Serve) -> None:
    class Model(Sleepy):
        def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
            time.sleep(0.1)  # for however many
            return [[] for _ in queries]

    url = serve(Model())
    for n in range(5):
        assert ask(url, {"query": f"alone {n}"})[0] == 200
    with ThreadPoolExecutor(60) as threads:
        for wave in range(3):
            asked = [threads.submit(ask, url, {"query": f"{wave} {n}"}) for n in range(60)]
            statuses = [answer.result(60)[0] for answer in asked]
            assert wave == 0 or set(statuses) == {200}  # 0.1 s each would be 3 s for the last


def test_an_index_that_can_warm_up_does_so_before_it_is_ready(serve: Serve) -> None:
    class Compiled(Sleepy):
        is_warm = False

        def warm_up(self) -> None:
            self.is_warm = True

    compiled = Compiled()
    serve(compiled)
    assert compiled.is_warm
