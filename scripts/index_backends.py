"""In: a backend's name and its options on the command line. Out: an index that it built."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from maskgym.retrieval import BM25Config, BM25Index, IndexMetadata, Passage, Retriever

Progress = Callable[[int], object]

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "bm25": ("k1", "b"),
    "lucene": ("k1", "b", "threads"),
    "dense": (
        "model",
        "pooling",
        "query_prefix",
        "passage_prefix",
        "max_tokens",
        "dtype",
        "factory",
        "faiss",
        "device",
        "threads",
    ),
}
"""The options of each backend, as the names of their arguments; None where one was not given."""

_PARAMETERS = {
    "k1": "k1",
    "b": "b",
    "factory": "factory",
    "model": "encoder.model",
    "pooling": "encoder.pooling",
    "query_prefix": "encoder.query_prefix",
    "passage_prefix": "encoder.passage_prefix",
    "max_tokens": "encoder.max_tokens",
    "dtype": "encoder.dtype",
}
"""Under which name an index keeps what an option set; the others do not change its hits."""
_SHOWN = {"k1": "k1", "b": "b", "factory": "factory", "encoder.model": "model"}

_DEFAULTS = BM25Config()


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """One group of options for each kind of backend."""
    group = parser.add_argument_group("options of bm25 and lucene")
    group.add_argument(
        "--k1", type=float, help=f"saturation of repeated terms (default: {_DEFAULTS.k1})"
    )
    group.add_argument(
        "--b", type=float, help=f"how far long passages are held back (default: {_DEFAULTS.b})"
    )
    group = parser.add_argument_group("options of dense")
    group.add_argument(
        "--model", metavar="MODEL", help="what embeds: a folder, or a name on the hub (needed)"
    )
    group.add_argument(
        "--pooling", choices=("mean", "cls", "last"), help="default: as known of the model"
    )
    group.add_argument(
        "--query-prefix", metavar="TEXT", help="before each query (default: as known of the model)"
    )
    group.add_argument(
        "--passage-prefix", metavar="TEXT", help="before each passage (default: likewise)"
    )
    group.add_argument(
        "--max-tokens", type=int, metavar="N", help="tokens read of a text (default: likewise)"
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the weights (default: float32)",
    )
    group.add_argument(
        "--factory",
        metavar="NAME",
        help="what FAISS builds: Flat, SQ8, IVF,Flat, IVF,SQ8, HNSW16 ... (default: by size)",
    )
    group.add_argument(
        "--faiss",
        metavar="FILE",
        help="take the vectors from this file (row n is passage n), such as Search-R1's "
        "e5_Flat.index; it is linked into INDEX, or copied to another disk",
    )
    group.add_argument("--device", help="where the model runs: cpu, cuda, cuda:1 (default: cpu)")
    group = parser.add_argument_group("options of lucene and dense")
    group.add_argument(
        "--threads", type=int, metavar="N", help="that work while it is built (default: 1)"
    )


def check_options(args: argparse.Namespace, backend: str) -> None:
    """Refuses options of another backend, which would do nothing.

    Raises:
        ValueError: If there is one.
    """
    for name in dict.fromkeys(name for names in OPTIONS.values() for name in names):
        if getattr(args, name) is None or name in OPTIONS[backend]:
            continue
        owners = [owner for owner, names in OPTIONS.items() if name in names]
        raise ValueError(
            f"{_flag(name)} is an option of {' and '.join(owners)}, and this index is {backend}. "
            f"Leave it out, or name the backend: --backend {owners[0]}."
        )


def check_same(args: argparse.Namespace, folder: Path, found: IndexMetadata) -> None:
    """Refuses to go on with an index that was built otherwise than these options ask.

    Raises:
        ValueError: If an option, or the backend, is another.
    """
    remedy = "Rebuild it with --force, or name another folder."
    if args.backend not in (None, found.backend):
        raise ValueError(
            f"{folder} holds an index of the backend {found.backend}, not {args.backend}. {remedy}"
        )
    if found.backend in OPTIONS:
        check_options(args, found.backend)
    for name, parameter in _PARAMETERS.items():
        asked, is_there = getattr(args, name), found.parameters.get(parameter)
        if asked is None or asked == is_there or (name, asked) == ("factory", "auto"):
            continue
        if name == "model" and str(Path(asked).expanduser().absolute()) == is_there:
            continue
        raise ValueError(f"{folder} holds an index with {name} = {is_there}, not {asked}. {remedy}")


def describe_parameters(found: IndexMetadata) -> str:
    """What matters of how an index was built: ``k1 = 0.9, b = 0.4``."""
    named = [
        f"{shown} = {found.parameters[name]}"
        for name, shown in _SHOWN.items()
        if name in found.parameters
    ]
    return ", ".join(named) or found.backend


def build_index(
    args: argparse.Namespace,
    backend: str,
    passages: Iterable[Passage],
    folder: Path,
    progress: Progress,
) -> Retriever:
    """Builds the index into the folder, and opens it.

    Raises:
        ValueError: If an option has a bad value or is missing, or as the backend says.
    """
    return _BUILDERS[backend](args, passages, folder, progress)


def _bm25_config(args: argparse.Namespace) -> BM25Config:
    return BM25Config(
        k1=_DEFAULTS.k1 if args.k1 is None else args.k1,
        b=_DEFAULTS.b if args.b is None else args.b,
    )


def _build_bm25(
    args: argparse.Namespace, passages: Iterable[Passage], folder: Path, progress: Progress
) -> Retriever:
    config = _bm25_config(args)
    return BM25Index.build(passages, config=config, progress=progress, folder=folder)


def _build_lucene(
    args: argparse.Namespace, passages: Iterable[Passage], folder: Path, progress: Progress
) -> Retriever:
    from maskgym.retrieval.lucene import LuceneIndex

    config = _bm25_config(args)
    num_threads = 1 if args.threads is None else args.threads
    return LuceneIndex.build(
        passages, folder, config=config, progress=progress, num_threads=num_threads
    )


def _build_dense(
    args: argparse.Namespace, passages: Iterable[Passage], folder: Path, progress: Progress
) -> Retriever:
    if args.model is None:
        raise ValueError(
            "A dense index needs --model: a folder, or a name on the hub such as intfloat/e5-base-v2."
        )
    import faiss  # noqa: F401 - before hours of embedding, which need torch alone
    import torch  # noqa: F401
    import transformers  # noqa: F401

    from maskgym.retrieval.dense import DenseIndex
    from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder

    names = ("pooling", "query_prefix", "passage_prefix", "max_tokens", "dtype")
    changes = {name: value for name in names if (value := getattr(args, name)) is not None}
    num_threads = 1 if args.threads is None else args.threads
    if args.faiss is not None and args.factory is not None:
        raise ValueError("--factory says what to build, and --faiss FILE is built. Leave one out.")
    encoder = SentenceEncoder(
        EncoderConfig.for_model(args.model, **changes),
        device=args.device or "cpu",
        num_threads=num_threads,
    )
    if args.faiss is not None:
        from maskgym.retrieval.dense_import import import_faiss

        return import_faiss(
            passages, encoder, args.faiss, folder, progress=progress, num_threads=num_threads
        )
    return DenseIndex.build(
        passages,
        encoder,
        factory=args.factory or "auto",
        folder=folder,
        progress=progress,
        num_threads=num_threads,
    )


_BUILDERS: Mapping[
    str, Callable[[argparse.Namespace, Iterable[Passage], Path, Progress], Retriever]
] = {"bm25": _build_bm25, "lucene": _build_lucene, "dense": _build_dense}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
