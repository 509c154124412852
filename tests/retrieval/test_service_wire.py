import json
from http import HTTPStatus
from typing import Any

import pytest

from maskgym.retrieval import Hit, Passage
from maskgym.retrieval.service_config import ServiceConfig
from maskgym.retrieval.service_wire import (
    BadRequestError,
    SearchRequest,
    encode_hits,
    encode_reply,
    parse_reply,
    parse_request,
)

CONFIG = ServiceConfig(max_top_k=50, max_queries=4, max_query_chars=20)


def parse(**fields: Any) -> SearchRequest:
    return parse_request(json.dumps(fields).encode(), CONFIG)


@pytest.mark.parametrize(
    ("fields", "queries"),
    [
        ({"queries": ["a"]}, ("a",)),
        ({"queries": ["a", "b"]}, ("a", "b")),
        ({"queries": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"queries": []}, ()),
        ({"queries": "a plain string"}, ("a plain string",)),
        ({"query": "a"}, ("a",)),
        ({"query": ""}, ("",)),
        ({"query": ["a", "b"]}, ("a", "b")),
        ({"queries": None, "query": "a"}, ("a",)),
        ({"queries": ["a"], "query": "b", "unknown": {"x": 1}}, ("a",)),
    ],
)
def test_every_dialect_is_understood(fields: dict[str, Any], queries: tuple[str, ...]) -> None:
    assert parse(**fields) == SearchRequest(queries=queries, top_k=3, has_scores=False)


@pytest.mark.parametrize(
    ("asked", "top_k"),
    [
        (None, 3),
        (0, 3),
        (-1, 3),
        (-(10**30), 3),
        (1, 1),
        (50, 50),
        (51, 50),
        (10**30, 50),
        (5.0, 5),
        ("7", 7),
    ],
)
def test_a_number_of_hits_out_of_range_is_brought_into_it(asked: Any, top_k: int) -> None:
    assert parse(query="a", topk=asked).top_k == top_k
    assert parse(query="a", top_k=asked).top_k == top_k


@pytest.mark.parametrize(
    ("asked", "has_scores"),
    [(True, True), (False, False), (None, False), (1, True), (0, False), ("true", True)],
)
def test_scores_are_given_when_asked_for(asked: Any, has_scores: bool) -> None:
    assert parse(query="a", return_scores=asked).has_scores is has_scores


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not JSON"),
        (b'{"queries": ["a"', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'["a"]', "The body is a list"),
        (b"null", "The body is null"),
        (b"{}", "among the fields (none)"),
        (b'{"question": "a"}', "among the fields 'question'"),
        (b'{"queries": 3}', '"queries" is a number'),
        (b'{"queries": ["a", null]}', '"queries"[1] is null'),
        (b'{"query": {"text": "a"}}', '"query" is an object'),
        (b'{"query": "a", "topk": "many"}', "\"topk\" is 'many'"),
        (b'{"query": "a", "topk": true}', '"topk" is True'),
        (b'{"query": "a", "topk": 1.5}', '"topk" is 1.5'),
        (b'{"query": "a", "topk": Infinity}', '"topk" is inf'),
        (b'{"query": "a", "return_scores": "maybe"}', "\"return_scores\" is 'maybe'"),
    ],
)
def test_what_is_no_request_is_refused_with_a_reason(body: bytes, complaint: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        parse_request(body, CONFIG)
    assert complaint in str(refused.value)
    assert refused.value.status == HTTPStatus.BAD_REQUEST


def test_long_queries_are_cut_and_too_many_refused() -> None:
    request = parse(queries=["x" * 20, "y" * 21])
    assert (request.queries[1], request.num_cut) == ("y" * 20, 1)
    with pytest.raises(BadRequestError, match="5 queries in one request; this service takes 4"):
        parse(queries=["a"] * 5)


def test_a_reply_looks_as_search_r1_clients_read_it() -> None:
    hit = Hit(passage=Passage(id="7", title='The "Gap"', text="one\ntwo"), score=1.5)
    document = {"id": "7", "contents": '"The "Gap""\none\ntwo'}
    scored = encode_reply([encode_hits([hit], has_scores=True), encode_hits([], has_scores=True)])
    assert json.loads(scored) == {"result": [[{"document": document, "score": 1.5}], []]}
    assert json.loads(encode_reply([encode_hits([hit], has_scores=False)])) == {
        "result": [[document]]
    }
    assert json.loads(encode_reply([])) == {"result": []}


@pytest.mark.parametrize("title", ["", "Title", 'A "quoted" one', "two\nlines", '"', "日本"])
def test_a_passage_survives_the_way_there_and_back(title: str) -> None:
    passage = Passage(id="x\ud800", title=title, text='"first"\nsecond\u2028 \ud800')
    hits = [Hit(passage=passage, score=0.1)]
    assert parse_reply(encode_reply([encode_hits(hits, has_scores=True)] * 2), 2) == [hits, hits]


def test_the_replies_of_other_servers_are_read() -> None:
    items = [
        {"document": {"id": "1", "contents": '"T"\nx'}, "score": 2},
        {"document": {"id": 2, "contents": "no title"}},
        {"document": {"contents": "Bare title\nx"}},
        {"id": "4", "title": "T", "text": "x", "contents": '"T"\nx'},
    ]
    [hits] = parse_reply(json.dumps({"result": [items]}).encode(), 1)
    shown = [(h.passage.id, h.passage.title, h.passage.text, h.score) for h in hits]
    assert shown == [
        ("1", "T", "x", 2.0),
        ("2", "", "no title", 0.0),
        ("x", "Bare title", "x", 0.0),
        ("4", "T", "x", 0.0),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        "<html>",
        '"text"',
        "{}",
        '{"result": null}',
        '{"result": ["a"]}',
        '{"result": [[]]}',
        '{"result": [[1], []]}',
        '{"result": [[{"document": null}], []]}',
        '{"result": [[{"document": {"id": "1"}}], []]}',
        '{"result": [[{"document": {"id": "1", "contents": "x"}, "score": "high"}], []]}',
        '{"result": [[{"document": {"id": "", "contents": ""}}], []]}',
    ],
)
def test_garbage_is_no_reply(reply: str) -> None:
    with pytest.raises(ValueError):
        parse_reply(reply.encode(), 2)
