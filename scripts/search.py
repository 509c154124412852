"""In: the folders of indexes, or a service, and a file of queries. Out: the hits, a line a query."""

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from maskgym.retrieval import Hit, Retriever, load_index
from maskgym.retrieval.loading import backend_of, naming_the_extra

from .query_files import Query, read_queries

SUMMARY = "search an index, several at once or a service for a file of queries"

EXAMPLES = """\
  maskgym search indexes/wiki --queries questions.jsonl --top-k 10 --out hits.jsonl
  maskgym search indexes/wiki --queries topics.tsv --format trec --top-k 1000 --out run.txt
  maskgym search indexes/bm25 indexes/e5 --queries questions.jsonl --rerank BAAI/bge-reranker-base
  echo "who won the first nobel prize" | maskgym search indexes/wiki --queries - --text
  maskgym search --url http://127.0.0.1:8000 --queries questions.jsonl

A query is a row {"id", "query"} of .jsonl, .json or .parquet (query_id, task_id, qid or _id, and
question or text, serve too), a line ID<TAB>QUERY, or a line of text, whose id is then its number.
Several indexes of one corpus are fused by reciprocal ranks."""

TOKEN_VARIABLE = "MASKGYM_TOKEN"

_RUN_NAME = "maskgym"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym search`."""
    parser.add_argument(
        "indexes",
        metavar="INDEX",
        nargs="*",
        help="folders of indexes, of any backend, Lucene's own, or pyserini:NAME (a prebuilt index)",
    )
    parser.add_argument(
        "--queries", metavar="FILE", required=True, help="- is standard input; gzip by its name"
    )
    parser.add_argument(
        "--top-k", type=int, default=10, metavar="K", help="hits for a query (default: %(default)s)"
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="takes its name when it is whole (default: stdout)"
    )
    parser.add_argument(
        "--format",
        choices=("jsonl", "trec"),
        default="jsonl",
        help='{"query_id", "hits": [{"id", "score"}]} or a TREC run (default: %(default)s)',
    )
    parser.add_argument("--text", action="store_true", help="with the passages' titles and texts")
    parser.add_argument(
        "--url", help=f"ask this search service; {TOKEN_VARIABLE} is sent as its token"
    )
    parser.add_argument(
        "--rerank", metavar="MODEL", help="let this cross-encoder reorder the first --depth hits"
    )
    parser.add_argument(
        "--depth",
        type=int,
        metavar="N",
        help="hits of each index that are fused (default: 100), or reranked (default: 50)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="where the model of a dense index lies now, if it moved"
    )
    parser.add_argument(
        "--device", default="cpu", help="where models run, such as cuda (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=64,
        metavar="N",
        help="queries searched together (default: %(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="batches searched at once (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Writes the hits of every query in the order of the queries, then says how fast it was."""
    _check(args)
    queries = read_queries(args.queries)
    retriever = open_retriever(args)
    is_stdout = args.out is None
    try:
        with (
            _naming_extras(args),
            _output(args.out) as file,
            tqdm(desc="searching", unit=" queries", disable=True if is_stdout else None) as bar,
        ):
            start = time.perf_counter()
            num = num_hits = 0
            for batch, found in search_in_batches(
                retriever, queries, args.top_k, size=args.batch_size, num_threads=args.threads
            ):
                for query, hits in zip(batch, found, strict=True):
                    num_hits += len(hits)
                    file.write(_FORMATS[args.format](query, hits, args.text))
                if is_stdout:
                    file.flush()  # who reads a pipe waits for no other batch
                num += len(batch)
                bar.update(len(batch))
            took_s = time.perf_counter() - start
    finally:
        retriever.close()
    print(
        f"{num:,} queries, {num_hits / max(num, 1):.1f} hits each, in {took_s:.2f} s: "
        f"{num / max(took_s, 1e-9):,.0f} queries/s{'' if is_stdout else f' -> {args.out}'}",
        file=sys.stderr if is_stdout else sys.stdout,
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    for name in ("top_k", "batch_size", "threads"):
        if (value := getattr(args, name)) < 1:
            raise ValueError(f"--{name.replace('_', '-')} is {value}; it is 1 or more.")
    if args.depth is not None and args.depth < args.top_k:
        raise ValueError(
            f"--depth is {args.depth}, fewer than the {args.top_k} hits of --top-k. Raise it."
        )
    if bool(args.indexes) == bool(args.url):
        raise ValueError("Give either the folder of an index (or several), or --url of a service.")
    if args.depth is not None and len(args.indexes) < 2 and args.rerank is None:
        raise ValueError("--depth is for several indexes or --rerank; leave it out.")
    if args.text and args.format == "trec":
        raise ValueError("A TREC run holds no text. Leave out --text, or use --format jsonl.")


def open_retriever(args: argparse.Namespace) -> Retriever:
    """What answers: an index, several as one, or a service; reranked where that is asked."""
    with ExitStack() as stack:
        retriever: Retriever
        if args.url:
            from maskgym.retrieval.client import RemoteRetriever

            retriever = RemoteRetriever(args.url, token=os.environ.get(TOKEN_VARIABLE) or None)
        else:
            opened = []
            for folder in args.indexes:
                opened.append(load_index(folder, device=args.device, model=_model(args, folder)))
                stack.callback(opened[-1].close)
            retriever = opened[0]
            if len(opened) > 1:
                from maskgym.retrieval.hybrid import HybridRetriever

                retriever = HybridRetriever(opened, depth=args.depth or 100)
        if args.rerank:
            from maskgym.retrieval.rerank import CrossEncoderReranker, RerankConfig

            config = RerankConfig(model=args.rerank, depth=args.depth or 50)
            retriever = CrossEncoderReranker(retriever, config, device=args.device)
        stack.pop_all()
        return retriever


def _model(args: argparse.Namespace, folder: str) -> str | None:
    is_dense = args.model is not None and backend_of(folder) == "dense"
    return args.model if is_dense else None


@contextmanager
def _naming_extras(args: argparse.Namespace) -> Iterator[None]:
    """Models are loaded by the first search: what is missing shows itself only there."""
    backends = [backend_of(folder) for folder in args.indexes]
    with ExitStack() as stack:
        for backend in ["dense"] if args.rerank else backends:
            stack.enter_context(naming_the_extra(backend))
        yield


def search_in_batches(
    retriever: Retriever, queries: Iterable[Query], top_k: int, *, size: int, num_threads: int
) -> Iterator[tuple[list[Query], list[list[Hit]]]]:
    """Batches of queries with their hits, in order; no more are read than are being searched."""
    batches = iter(queries)

    def search(batch: Sequence[Query]) -> list[list[Hit]]:
        return retriever.search([query.text for query in batch], top_k)

    if num_threads == 1:
        while batch := list(islice(batches, size)):
            yield batch, search(batch)
        return
    pending: deque[tuple[list[Query], Future[list[list[Hit]]]]] = deque()
    with ThreadPoolExecutor(num_threads) as threads:
        try:
            while batch := list(islice(batches, size)):
                pending.append((batch, threads.submit(search, batch)))
                if len(pending) > num_threads:
                    first, answer = pending.popleft()
                    yield first, answer.result()
            while pending:
                first, answer = pending.popleft()
                yield first, answer.result()
        finally:
            for _, answer in pending:
                answer.cancel()


def _as_jsonl(query: Query, hits: Sequence[Hit], has_text: bool) -> str:
    found: list[dict[str, object]] = []
    for hit in hits:
        row: dict[str, object] = {"id": hit.passage.id, "score": hit.score}
        if has_text:
            row |= {"title": hit.passage.title, "text": hit.passage.text}
        found.append(row)
    line = json.dumps({"query_id": query.query_id, "hits": found}, ensure_ascii=False)
    # A lone surrogate: JSON can say it, UTF-8 cannot.
    return line.encode("utf-8", "backslashreplace").decode() + "\n"


def _as_trec(query: Query, hits: Sequence[Hit], has_text: bool) -> str:
    lines = []
    for rank, hit in enumerate(hits, start=1):
        for name in (query.query_id, hit.passage.id):
            if name.split() != [name]:
                raise ValueError(
                    f"The id {name!r} has white space in it, which a TREC run cannot hold. "
                    "Use --format jsonl."
                )
        lines.append(f"{query.query_id} Q0 {hit.passage.id} {rank} {hit.score!r} {_RUN_NAME}\n")
    return "".join(lines)


_FORMATS: dict[str, Callable[[Query, Sequence[Hit], bool], str]] = {
    "jsonl": _as_jsonl,
    "trec": _as_trec,
}


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a hidden file that takes the name when all is written."""
    if path is None:
        yield sys.stdout
        return
    if path.is_dir():
        raise ValueError(f"--out {path} is a folder. Name a file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
