"""The rival service: FastAPI over Lucene in the shape of Search-R1's retrieval server.

    python -m maskgym.scripts.benchmarks.retrieval_rival LUCENE_INDEX PORT

Written from what that server does: a synchronous endpoint, which FastAPI runs in its threads;
Lucene's batch search over as many threads as there are CPUs where a request has several queries, a
single search where it has one; each hit's stored JSON parsed, its text returned with the score. It is
faster than the original in three ways: the text comes with the hit and is not looked up by its id, no
progress bar is made for a request, and the replies have no title and text beside the contents.
"""

# Annotations stay objects here: FastAPI reads them.

import json
import os
import sys
from pathlib import Path
from typing import Any

from .retrieval_anserini import AnseriniSearcher


def make_app(index: Path) -> Any:
    """The ASGI application."""
    import fastapi
    import pydantic

    searcher = AnseriniSearcher(index)
    num_threads = os.cpu_count() or 1

    class Request(pydantic.BaseModel):
        queries: list[str]
        topk: int | None = None
        return_scores: bool = False

    app = fastapi.FastAPI()

    def retrieve(request: Request) -> dict[str, Any]:
        top_k = request.topk or 3
        if len(request.queries) == 1:
            found = [searcher.search_with_text(request.queries[0], top_k)]
        else:
            found = searcher.batch_with_text(request.queries, top_k, num_threads)
        return {"result": [[_item(hit, request.return_scores) for hit in hits] for hits in found]}

    app.post("/retrieve")(retrieve)
    return app


def _item(hit: tuple[str, float, str], has_score: bool) -> dict[str, Any]:
    name, score, raw = hit
    document = {"id": name, "contents": json.loads(raw)["contents"]}
    return {"document": document, "score": score} if has_score else document


def main(arguments: list[str]) -> int:
    """Serves until it is ended."""
    import uvicorn

    index, port = Path(arguments[0]), int(arguments[1])
    uvicorn.run(make_app(index), host="127.0.0.1", port=port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
