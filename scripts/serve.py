"""In: the folder of an index. Out: a search service over HTTP, until it is stopped."""

import argparse
import os
import shlex
from dataclasses import fields

from maskgym.retrieval.service_config import ServiceConfig
from maskgym.retrieval.service_process import run_service

SUMMARY = "serve an index over HTTP, as Search-R1, verl and SkyRL ask for it"

EXAMPLES = """\
  maskgym serve indexes/wiki
  maskgym serve indexes/wiki --port 8001 --workers 4
  maskgym serve indexes/wiki --host 0.0.0.0 --token LONG_RANDOM_STRING

POST {"queries": [...], "topk": 3, "return_scores": true} (or one "query") to /retrieve; GET /health
and /metrics. Ctrl-C stops it when the requests under way are answered."""

TOKEN_VARIABLE = "MASKGYM_TOKEN"

_DEFAULTS = ServiceConfig()
_LIMITS = {
    "default_top_k": "hits where a request names no number",
    "max_top_k": "hits at most",
    "max_queries": "queries in a request at most",
    "max_query_chars": "characters of a query that are read",
    "max_pending": "queries of one worker that may wait; more get 503",
    "max_wait_s": "seconds that a query may wait, as estimated; more get 503",
    "timeout_s": "seconds until a search is given up",
    "num_threads": "searches of one worker at once, where they take long",
    "max_batch": "waiting queries that are searched together at most",
    "batch_window_s": "seconds that a dense index's first query waits for others to go with",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym serve`."""
    parser.add_argument(
        "index",
        metavar="INDEX",
        help="folder of an index, of any backend, Lucene's own, or pyserini:NAME (a prebuilt index)",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="processes that answer (default: %(default)s)"
    )
    parser.add_argument(
        "--token",
        help="what clients must send as Authorization: Bearer; demanded beyond this machine "
        f"(default: the environment variable {TOKEN_VARIABLE}, which `ps` does not show)",
    )
    parser.add_argument(
        "--cache-mb", type=float, help="megabytes of answers kept by each worker (default: 67)"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="where the model of a dense index runs, such as cuda (default: %(default)s)",
    )
    parser.add_argument(
        "--model", metavar="MODEL", help="where the model of a dense index lies now, if it moved"
    )
    types = {
        field.name: float if field.type in ("float", float) else int for field in fields(_DEFAULTS)
    }
    for name, help_text in _LIMITS.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=types[name],
            default=getattr(_DEFAULTS, name),
            help=f"{help_text} (default: %(default)s)",
        )


def run(args: argparse.Namespace) -> int:
    """Serves until it is stopped."""
    if args.workers < 1:
        raise ValueError(f"--workers is {args.workers}; at least 1 process answers.")
    cache_bytes = _DEFAULTS.cache_bytes if args.cache_mb is None else round(args.cache_mb * 1e6)
    config = ServiceConfig(
        **{name: getattr(args, name) for name in _LIMITS},
        cache_bytes=cache_bytes,
        token=args.token or os.environ.get(TOKEN_VARIABLE) or None,
    )

    def say(url: str) -> None:
        print(f"{args.index} is served at {url}/retrieve (Ctrl-C stops it).", flush=True)
        request = '{"queries": ["your question"], "topk": 3, "return_scores": true}'
        token = ["-H", "Authorization: Bearer TOKEN"] if config.token else []
        command = ["curl", f"{url}/retrieve", *token, "-d", request]
        print(f"Try it: {shlex.join(command)}", flush=True)

    run_service(
        args.index,
        config=config,
        host=args.host,
        port=args.port,
        num_workers=args.workers,
        device=args.device,
        model=args.model,
        on_ready=say,
    )
    print("Stopped.")
    return 0
