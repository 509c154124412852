"""In: a corpus file and the name of a folder. Out: an index in that folder; hits, when asked."""

import argparse
import gzip
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from maskgym.retrieval import (
    BM25Index,
    Retriever,
    check_replaceable,
    load_index,
    read_index_metadata,
    read_passages,
)
from maskgym.retrieval.bm25 import OnDuplicate
from maskgym.retrieval.loading import BACKENDS, naming_the_extra

from .console import cut
from .index_backends import (
    add_backend_options,
    build_index,
    check_options,
    check_same,
    describe_parameters,
)

SUMMARY = "build an index of passages, or search one"

EXAMPLES = """\
  maskgym index passages.jsonl.gz indexes/wiki
  maskgym index passages.jsonl.gz indexes/wiki --query "who won the first nobel prize" --top-k 5
  maskgym index passages.parquet indexes/wiki --k1 1.2 --b 0.75 --force
  maskgym index more.jsonl indexes/wiki --append
  maskgym index ids.txt indexes/wiki --delete
  maskgym index passages.jsonl.gz indexes/e5 --backend dense --model intfloat/e5-base-v2
  maskgym index wiki-18.jsonl indexes/e5 --backend dense --model intfloat/e5-base-v2 \\
      --faiss e5_Flat.index

A row of the corpus is {"id", "title", "text"} or, as in Search-R1, {"id", "contents"}. An index
that is there already is searched as it is; --force builds it anew. Many queries: maskgym search."""

_DEFAULT_BACKEND = "bm25"
_CORPUS_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet")
_LINE_CHARS = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `maskgym index`."""
    parser.add_argument(
        "corpus",
        metavar="CORPUS",
        help=".jsonl, .jsonl.gz, .json, .json.gz or .parquet; with --delete also a text file with "
        "an id on each line, or - for standard input",
    )
    parser.add_argument("index", metavar="INDEX", help="folder of the index")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        help=f"how passages are found (default: {_DEFAULT_BACKEND}); lucene and dense need their "
        "extras",
    )
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--force", action="store_true", help="replace an index that is there")
    change.add_argument(
        "--append", action="store_true", help="add the passages to a bm25 index that is there"
    )
    change.add_argument(
        "--delete", action="store_true", help="take the passages of CORPUS, by id, out of it"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="with --append: a passage takes the place of one with its id (default: an error)",
    )
    parser.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows that cannot be read"
    )
    parser.add_argument("--query", metavar="TEXT", help="search the index for this")
    parser.add_argument(
        "--top-k", type=int, default=3, help="hits of --query to show (default: %(default)s)"
    )
    add_backend_options(parser)


def run(args: argparse.Namespace) -> int:
    """Builds the index unless it is there, or changes it; then answers the query if there is one."""
    if args.top_k < 1:
        raise ValueError(f"--top-k is {args.top_k}; ask for at least 1 hit.")
    if args.replace and not args.append:
        raise ValueError("--replace goes with --append. To build an index anew, use --force.")
    folder = Path(args.index)
    check_replaceable(folder)
    is_there = folder.is_dir() and any(folder.iterdir())
    if args.append or args.delete:
        _change(args, folder)
    elif is_there and not args.force:
        check_same(args, folder, read_index_metadata(folder))
        if args.query is None:
            raise ValueError(
                f"{folder} already holds an index of {_num_passages(folder):,} passages. Search it "
                "with --query TEXT, add to it with --append, replace it with --force, or name "
                "another folder."
            )
        print(
            f"{folder} is there already: {_num_passages(folder):,} passages (--force rebuilds it)."
        )
    else:
        _build(args, folder)
    if args.query is not None:
        _answer(args, folder)
    elif not args.delete:
        words = ["maskgym", "index", args.corpus, args.index, "--query"]
        print(f'Try it: {shlex.join(words)} "your question"')
    return 0


def _num_passages(folder: Path) -> int:
    return read_index_metadata(folder).counts.get("passages", 0)


def _build(args: argparse.Namespace, folder: Path) -> None:
    backend = args.backend or _DEFAULT_BACKEND
    check_options(args, backend)
    start = time.perf_counter()
    passages = read_passages(args.corpus, on_bad_row="skip" if args.skip_bad_rows else "raise")
    with (
        naming_the_extra(backend),
        tqdm(desc="indexing", unit=" passages", disable=None) as bar,
    ):
        build_index(args, backend, passages, folder, bar.update).close()
    took_s = time.perf_counter() - start
    size_mb = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    metadata = read_index_metadata(folder)
    print(
        f"{folder} ({describe_parameters(metadata)}): {_num_passages(folder):,} passages "
        f"in {took_s:.1f} s, {size_mb:.1f} MB."
    )


def _change(args: argparse.Namespace, folder: Path) -> None:
    """Adds passages to a BM25 index, or takes them out."""
    found = read_index_metadata(folder)
    if found.backend != _DEFAULT_BACKEND:
        raise ValueError(
            f"{folder} is a {found.backend} index; --append and --delete change {_DEFAULT_BACKEND} "
            "ones only. Build it again from the whole corpus: --force."
        )
    check_same(args, folder, found)
    start, num_before = time.perf_counter(), _num_passages(folder)
    index = BM25Index.load(folder, kernel="numpy")
    if args.delete:
        ids = dict.fromkeys(_read_ids(args.corpus))
        index.delete(ids)
        done = f"{len(ids):,} passages deleted"
    else:
        num_added = _append(args, index)
        done = f"{num_added:,} passages appended"
        if args.replace:
            done += f", {num_before + num_added - len(index):,} of them in the place of others"
    took_s = time.perf_counter() - start
    print(f"{folder}: {done} in {took_s:.1f} s; {len(index):,} are there now.")
    index.close()


def _append(args: argparse.Namespace, index: BM25Index) -> int:
    """The number of passages appended."""
    num_added = 0
    passages = read_passages(args.corpus, on_bad_row="skip" if args.skip_bad_rows else "raise")
    with tqdm(desc="appending", unit=" passages", disable=None) as bar:

        def progress(num: int) -> None:
            nonlocal num_added
            num_added += num
            bar.update(num)

        on_duplicate: OnDuplicate = "replace" if args.replace else "raise"
        try:
            index.append(passages, on_duplicate=on_duplicate, progress=progress)
        except ValueError as error:  # in the words of this command line
            raise ValueError(str(error).replace("on_duplicate='replace'", "--replace")) from error
    return num_added


def _read_ids(source: str) -> Iterator[str]:
    """The ids in a corpus file, or the lines of a text file."""
    if source.lower().endswith(_CORPUS_SUFFIXES):
        yield from (passage.id for passage in read_passages(source))
        return
    if source == "-":
        lines = sys.stdin.buffer.read().split(b"\n")
    else:
        content = Path(source).read_bytes()
        lines = (gzip.decompress(content) if source.endswith(".gz") else content).split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise ValueError(f"{source}, line {number}: not UTF-8. Convert the file.") from error
        if text:
            yield text


def _answer(args: argparse.Namespace, folder: Path) -> None:
    backend = read_index_metadata(folder).backend
    retriever = load_index(folder, device=args.device or "cpu")
    try:
        with naming_the_extra(backend):
            _show_hits(retriever, args.query, args.top_k)
    finally:
        retriever.close()


def _show_hits(retriever: Retriever, query: str, top_k: int) -> None:
    [hits] = retriever.search([query], top_k)
    if not hits:
        print("No passage has any word of this query (common words such as 'the' do not count).")
    for place, hit in enumerate(hits, start=1):
        title = f"{hit.passage.title}: " if hit.passage.title else ""
        text = " ".join(f"{title}{hit.passage.text}".split())
        print(cut(f"{place:>3}  {hit.score:7.3f}  {hit.passage.id}  {text}", _LINE_CHARS))
