"""In: an index folder of any backend. Out: the retriever that its metadata names.

A folder that Lucene wrote without us, and the name of a prebuilt index, are Lucene's. A backend's
module is imported when an index of it is opened: one without the extras of the others is enough.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

from .index_folder import METADATA_FILE, read_index_metadata
from .retriever import Retriever

EXTRAS: Mapping[str, str] = {"lucene": "lucene", "dense": "dense"}
"""Which extra of pyproject.toml a backend needs; one that is not here needs none."""

PREBUILT = "pyserini:"
"""What comes before the name of one of Pyserini's prebuilt indexes, where a folder is expected."""


def _load_bm25(folder: Path, device: str, model: str | Path | None) -> Retriever:
    from .bm25 import BM25Index

    return BM25Index.load(folder)


def _load_lucene(folder: Path, device: str, model: str | Path | None) -> Retriever:
    from .lucene import LuceneIndex

    name = str(folder)
    if name.startswith(PREBUILT):
        return LuceneIndex.open_prebuilt(name.removeprefix(PREBUILT))
    return LuceneIndex.open(folder)


def _load_dense(folder: Path, device: str, model: str | Path | None) -> Retriever:
    from .dense import DenseIndex

    return DenseIndex.load(folder, device=device, model=model)


_LOADERS: dict[str, Callable[[Path, str, str | Path | None], Retriever]] = {
    "bm25": _load_bm25,
    "lucene": _load_lucene,
    "dense": _load_dense,
}

BACKENDS = tuple(_LOADERS)
"""The kinds of index that `load_index` opens."""


def load_index(
    folder: str | Path, *, device: str = "cpu", model: str | Path | None = None
) -> Retriever:
    """Opens an index with the backend that wrote it.

    Args:
        folder: Of the index; or ``pyserini:NAME``, a prebuilt index, downloaded at the first use.
        device: Where the model of a dense index runs, as torch names it. Others have no model.
        model: Where the model of a dense index lies now, if not where it was.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no index, damaged, or of another version.
        LookupError: If this maskgym does not know the backend.
        ImportError: If what the backend needs is not installed.
    """
    name = backend_of(folder)
    folder = Path(folder)
    loader = _LOADERS.get(name)
    if loader is None:
        nearest = get_close_matches(str(name), _LOADERS, n=1) or sorted(_LOADERS)
        raise LookupError(
            f"{folder} needs the backend {name!r}, which this maskgym does not have. "
            f"Build it with {nearest[0]!r}, or use the version of maskgym that wrote it."
        )
    with naming_the_extra(name):
        return loader(folder, device, model)


def backend_of(folder: str | Path) -> str:
    """Which backend opens this index.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no index, or one of another version.
    """
    folder = Path(folder)
    if str(folder).startswith(PREBUILT):
        return "lucene"
    if any(folder.glob("segments_*")) and not (folder / METADATA_FILE).is_file():
        return "lucene"
    return read_index_metadata(folder).backend


@contextmanager
def naming_the_extra(backend: str) -> Iterator[None]:
    """Says which extra to install where a module that this backend needs is missing.

    Raises:
        ImportError: Instead of the ``ModuleNotFoundError`` of an outside module.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(backend)
        missing = (error.name or "").partition(".")[0]
        if extra is None or not missing or missing == __name__.partition(".")[0]:
            raise
        raise ImportError(
            f"The backend {backend} needs {missing}: pip install 'maskgym[{extra}]'."
        ) from error
