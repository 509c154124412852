"""In: a corpus file and the name of a folder. Out: an index in that folder; hits, when asked."""

import argparse
import shlex
import time
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from maskgym.retrieval import (
    BM25Config,
    BM25Index,
    Retriever,
    check_replaceable,
    load_index,
    read_index_metadata,
    read_passages,
)

from .console import cut

SUMMARY = "build an index of passages, or search one"

EXAMPLES = """\
  maskgym index passages.jsonl.gz indexes/wiki
  maskgym index passages.jsonl.gz indexes/wiki --query "who won the first nobel prize" --top-k 5
  maskgym index passages.parquet indexes/wiki --k1 1.2 --b 0.75 --force

A row of the corpus is {"id", "title", "text"} or, as in Search-R1, {"id", "contents"}. An index
that is there already is searched as it is; --force builds it anew."""

_DEFAULTS = BM25Config()
_LINE_CHARS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym index`."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help=".jsonl, .jsonl.gz, .json, .json.gz or .parquet"
    )
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--k1", type=float, help=f"saturation of repeated terms (default: {_DEFAULTS.k1})"
    )
    parser.add_argument(
        "--b", type=float, help=f"how far long passages are held back (default: {_DEFAULTS.b})"
    )
    parser.add_argument("--force", action="store_true", help="replace an index that is there")
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows that cannot be read"
    )
    parser.add_argument("--query", metavar="TEXT", help="search the index for this")
    parser.add_argument(
        "--top-k", type=int, default=3, help="hits of --query to show (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Builds the index unless it is there, then answers the query if one is given."""
    if args.top_k < 1:
        raise ValueError(f"--top-k is {args.top_k}; ask for at least 1 hit.")
    folder = Path(args.index)
    check_replaceable(folder)
    is_there = folder.is_dir() and any(folder.iterdir())
    if is_there and not args.force:
        _check_reusable(folder, args)
        if args.query is None:
            raise ValueError(
                f"{folder} already holds an index of {_num_passages(folder):,} passages. Search it "
                "with --query TEXT, replace it with --force, or name another folder."
            )
        print(
            f"{folder} is there already: {_num_passages(folder):,} passages (--force rebuilds it)."
        )
    else:
        _build(args, folder)
    if args.query is None:
        words = ["maskgym", "index", args.corpus, args.index, "--query"]
        print(f'Try it: {shlex.join(words)} "your question"')
    else:
        retriever = load_index(folder)
        try:
            _show_hits(retriever, args.query, args.top_k)
        finally:
            retriever.close()
    return 0


def _config(args: argparse.Namespace) -> BM25Config:
    return BM25Config(
        k1=_DEFAULTS.k1 if args.k1 is None else args.k1,
        b=_DEFAULTS.b if args.b is None else args.b,
    )


def _check_reusable(folder: Path, args: argparse.Namespace) -> None:
    """Refuses to search an index with other parameters than those asked for."""
    found = read_index_metadata(folder).parameters
    asked = {name: value for name in ("k1", "b") if (value := getattr(args, name)) is not None}
    for name, value in asked.items():
        if found.get(name) != value:
            raise ValueError(
                f"{folder} holds an index with {name} = {found.get(name)}, not {value}. Rebuild it "
                "with --force, or name another folder."
            )


def _num_passages(folder: Path) -> int:
    return read_index_metadata(folder).counts.get("passages", 0)


def _build(args: argparse.Namespace, folder: Path) -> None:
    config = _config(args)
    start = time.perf_counter()
    passages = read_passages(args.corpus, on_bad_row="skip" if args.skip_bad_rows else "raise")
    with tqdm(desc="indexing", unit=" passages", disable=None) as bar:
        index = BM25Index.build(passages, config=config, progress=bar.update)
    index.save(folder)
    took_s = time.perf_counter() - start
    size_mb = sum(entry.stat().st_size for entry in folder.iterdir()) / 1e6
    parameters = ", ".join(f"{name} = {value}" for name, value in asdict(config).items())
    print(f"{folder} ({parameters}): {len(index):,} passages in {took_s:.1f} s, {size_mb:.1f} MB.")
    index.close()


def _show_hits(retriever: Retriever, query: str, top_k: int) -> None:
    [hits] = retriever.search([query], top_k)
    if not hits:
        print("No passage has any word of this query (common words such as 'the' do not count).")
    for place, hit in enumerate(hits, start=1):
        title = f"{hit.passage.title}: " if hit.passage.title else ""
        text = " ".join(f"{title}{hit.passage.text}".split())
        print(cut(f"{place:>3}  {hit.score:7.3f}  {hit.passage.id}  {text}", _LINE_CHARS))
