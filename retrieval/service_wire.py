r"""In: the bytes of a search request in any dialect. Out: queries and limits; hits as bytes again.

Search-R1 and verl send ``{"queries": [...], "topk", "return_scores"}``, SkyRL sends ``{"query": ""}``.
All read ``{"result": [[{"document": {"id", "contents": "\"Title\"\ntext"}, "score"}]]}``, one inner
list for each query; without scores the inner items are bare documents.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .passages import Hit, Passage
from .service_config import ServiceConfig

FINGERPRINT_HEADER = "x-maskgym-fingerprint"
"""Names the index in every answer, so that a client notices when another is served."""
MAX_TOP_K_HEADER = "x-maskgym-max-top-k"
"""Says how many hits there are at most, so that a client notices when it gets fewer than it asked."""
SEARCH_PATHS = ("/retrieve", "/search")

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class BadRequestError(ValueError):
    """A request that no retry mends, with the status that says so."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchRequest:
    """What a client asks."""

    queries: tuple[str, ...]
    top_k: int
    has_scores: bool
    num_cut: int = 0
    """Queries that were longer than the service reads."""


def parse_request(body: bytes, config: ServiceConfig) -> SearchRequest:
    """The request in the body, its limits applied.

    ``queries`` may be a list or one string, and so may ``query``. Fields that are not known are
    ignored, as the peers' servers do.

    Raises:
        BadRequestError: If it is no request; the message says what one looks like.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(
            f'The body is not JSON ({error}). Send {{"queries": ["..."], "topk": 3}}.'
        ) from error
    if not isinstance(fields, dict):
        raise BadRequestError(
            f"The body is {_kind(fields)}, not an object. "
            'Send {"queries": ["..."], "topk": 3, "return_scores": true}.'
        )
    queries = _queries(fields)
    if len(queries) > config.max_queries:
        raise BadRequestError(
            f"{len(queries)} queries in one request; this service takes {config.max_queries}. "
            "Send them in parts.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    longest = config.max_query_chars
    return SearchRequest(
        queries=tuple(query[:longest] for query in queries),
        top_k=_top_k(fields, config),
        has_scores=_has_scores(fields),
        num_cut=sum(len(query) > longest for query in queries),
    )


def encode_hits(hits: Iterable[Hit], *, has_scores: bool) -> bytes:
    """The inner list of one query."""
    # In ASCII: a lone surrogate in a passage is valid JSON when escaped, and never valid UTF-8.
    documents = [json.dumps(_document(hit.passage)) for hit in hits]
    if has_scores:
        documents = [
            f'{{"document": {document}, "score": {json.dumps(float(hit.score), allow_nan=False)}}}'
            for document, hit in zip(documents, hits, strict=True)
        ]
    return f"[{', '.join(documents)}]".encode("ascii")


def encode_reply(answers: Sequence[bytes]) -> bytes:
    """The body of a reply from the inner lists of its queries."""
    return b'{"result": [' + b", ".join(answers) + b"]}"


def parse_reply(body: bytes, num_queries: int) -> list[list[Hit]]:
    """The hits in a reply of any of the servers, one list for each query.

    Raises:
        ValueError: If it is no such reply, or one for another number of queries.
    """
    reply = json.loads(body)
    result = reply.get("result") if isinstance(reply, dict) else None
    if not isinstance(result, list) or not all(isinstance(hits, list) for hits in result):
        raise ValueError('no "result" with a list of lists')
    if len(result) != num_queries:
        raise ValueError(f"{len(result)} lists of hits for {num_queries} queries")
    return [[_hit(item) for item in hits] for hits in result]


def _queries(fields: dict[str, Any]) -> list[str]:
    name = next((name for name in ("queries", "query") if fields.get(name) is not None), None)
    if name is None:
        raise BadRequestError(
            f'No "queries" (a list of strings) and no "query" (a string) among the fields '
            f"{', '.join(map(repr, list(fields)[:8])) or '(none)'}."
        )
    queries = fields[name]
    if isinstance(queries, str):
        return [queries]
    if not isinstance(queries, list):
        raise BadRequestError(f'"{name}" is {_kind(queries)}; send a list of strings.')
    for place, query in enumerate(queries):
        if not isinstance(query, str):
            raise BadRequestError(f'"{name}"[{place}] is {_kind(query)}; queries are strings.')
    return queries


def _top_k(fields: dict[str, Any], config: ServiceConfig) -> int:
    name = "topk" if fields.get("topk") is not None else "top_k"
    asked = fields.get(name)
    if asked is None:
        return config.default_top_k
    if isinstance(asked, str):
        try:
            asked = int(asked)
        except ValueError:
            asked = None
    if isinstance(asked, float) and asked.is_integer():
        asked = int(asked)
    if isinstance(asked, bool) or not isinstance(asked, int):
        raise BadRequestError(f'"{name}" is {fields[name]!r:.40}; send a whole number, or null.')
    return min(asked, config.max_top_k) if asked > 0 else config.default_top_k


def _has_scores(fields: dict[str, Any]) -> bool:
    asked = fields.get("return_scores")
    if asked is None:
        return False
    known = _BOOLEANS.get(str(asked).lower())
    if known is None:
        raise BadRequestError(f'"return_scores" is {asked!r:.40}; send true or false.')
    return known


def _document(passage: Passage) -> dict[str, str]:
    document = {"id": passage.id, "contents": passage.contents}
    if "\n" in passage.title:  # then the first line of the contents is not the title
        document |= {"title": passage.title, "text": passage.text}
    return document


def _hit(item: object) -> Hit:
    if not isinstance(item, dict):
        raise ValueError(f"a hit is {_kind(item)}, not an object")
    document = item.get("document", item)
    if not isinstance(document, dict):
        raise ValueError(f"a document is {_kind(document)}, not an object")
    score = item.get("score", 0.0)
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise ValueError(f"a score is {_kind(score)}, not a number")
    return Hit(passage=_passage(document), score=float(score))


def _passage(document: dict[str, Any]) -> Passage:
    title, text, contents = (document.get(name) for name in ("title", "text", "contents"))
    if not isinstance(text, str) or not isinstance(title, str):
        if not isinstance(contents, str):
            raise ValueError(f"a document has no contents among {', '.join(list(document)[:8])}")
        first, newline, rest = contents.partition("\n")
        is_titled = len(first) >= 2 and first[0] == first[-1] == '"'
        if is_titled:
            title, text = first[1:-1], rest
        else:
            title, text = (first, rest) if newline else ("", contents)
    identity = next(
        (document[n] for n in ("id", "_id", "docid") if document.get(n) is not None), None
    )
    # A server that leaves the id out still names the passage by what it says.
    return Passage(id=str(identity if identity not in (None, "") else text), title=title, text=text)


def _kind(value: object) -> str:
    names = {list: "a list", dict: "an object", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")
