"""In: an index folder of any backend. Out: the retriever that its metadata names."""

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from .bm25 import BACKEND, BM25Index
from .index_folder import read_index_metadata
from .retriever import Retriever

_LOADERS: dict[str, Callable[[Path], Retriever]] = {BACKEND: BM25Index.load}


def load_index(folder: str | Path) -> Retriever:
    """Opens an index with the backend that wrote it.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no index, damaged, or of another version.
        LookupError: If this maskgym does not know the backend.
    """
    folder = Path(folder)
    name = read_index_metadata(folder).backend
    loader = _LOADERS.get(name)
    if loader is None:
        nearest = get_close_matches(str(name), _LOADERS, n=1) or sorted(_LOADERS)
        raise LookupError(
            f"{folder} needs the backend {name!r}, which this maskgym does not have. "
            f"Build it with {nearest[0]!r}, or use the version of maskgym that wrote it."
        )
    return loader(folder)
