"""In: a FAISS file that another program wrote, and its passages. Out: a dense index of both.

Search-R1 publishes its embeddings this way (``e5_Flat.index`` beside ``wiki-18.jsonl``): row n of the
file is passage n of the corpus.
"""

# R: passages that are compared, D: dimensions

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from .bm25_arrays import FolderSink
from .dense import DenseIndex, hash_passages, store_passages
from .dense_folder import VECTORS_FILE, DenseContent, write_dense_metadata
from .encoder import SentenceEncoder
from .faiss_index import FaissIndex, SearchWidth
from .index_folder import check_replaceable, new_index_folder
from .passage_store import PassageStore
from .passages import Passage

_PROGRESS_EVERY = 1000
_NUM_COMPARED = 16
_NEAR = 10
_SAME = 1e-3


def import_faiss(
    passages: Iterable[Passage],
    encoder: SentenceEncoder,
    file: str | Path,
    folder: str | Path,
    *,
    progress: Callable[[int], object] | None = None,
    num_threads: int = 1,
) -> DenseIndex:
    """A dense index of vectors that are there already.

    A few passages are embedded anew, to see that encoder, rows and passages belong together.

    Args:
        passages: In the order of the vectors; read once.
        encoder: The model that made the vectors, with the same settings; embeds the queries.
        file: As ``faiss.write_index`` writes it, of any kind that compares by inner products. It
            becomes a part of the index: linked where the file system can, which takes no room,
            else copied. Nobody may write into it afterwards; it may be deleted.
        folder: Of the new index. An older one stays until it is whole.
        progress: Called now and then with the number of passages read since the last call.
        num_threads: Of torch and FAISS, each.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If FAISS cannot read it, it compares otherwise, or vectors, passages and encoder
            do not belong together; if two passages have one id, or one is no `Passage`.
        OSError: If the folder cannot be written; what was there stays.
    """
    file, folder = Path(file), Path(folder).absolute()
    check_replaceable(folder)
    if not file.is_file():
        raise FileNotFoundError(f"No file {file}. Give the one that faiss.write_index wrote.")
    vectors = FaissIndex.read(file, num_threads=num_threads)
    _check_kind(vectors, file)
    with new_index_folder(folder) as unfinished:
        sink = FolderSink(unfinished, "")
        try:
            store = store_passages(_counted(passages, progress), sink)
        finally:
            sink.abort()
        if len(store) != len(vectors):
            raise ValueError(
                f"{file} has {len(vectors)} vectors, and there are {len(store)} passages. Give the "
                "corpus that it was made of: row n is passage n."
            )
        _check_rows(vectors, store, encoder, file)
        _take(file, unfinished / VECTORS_FILE)
        with file.open("rb") as opened:
            vectors_hash = hashlib.file_digest(opened, "sha256").hexdigest()[:32]
        content = DenseContent(
            passages=store,
            passages_hash=hash_passages(store),
            vectors=vectors,
            vectors_hash=vectors_hash,
            factory=vectors.kind,
        )
        write_dense_metadata(unfinished, content, encoder)
    return DenseIndex.load(folder, encoder=encoder, num_threads=num_threads)


def _counted(
    passages: Iterable[Passage], progress: Callable[[int], object] | None
) -> Iterator[Passage]:
    number = 0
    for number, passage in enumerate(passages, start=1):
        yield passage
        if progress is not None and number % _PROGRESS_EVERY == 0:
            progress(_PROGRESS_EVERY)
    if progress is not None:
        progress(number % _PROGRESS_EVERY)


def _check_kind(vectors: FaissIndex, file: Path) -> None:
    if not vectors.has_products:
        raise ValueError(
            f"{file} compares by distances, and hits are ranked by inner products. Build it with "
            "faiss.METRIC_INNER_PRODUCT."
        )
    if vectors.has_own_ids:
        raise ValueError(
            f"{file} gives its vectors numbers of its own ({vectors.kind}); here they go by their "
            "rows. Write what it wraps: faiss.write_index(index.index, FILE)."
        )


def _check_rows(
    vectors: FaissIndex, store: PassageStore, encoder: SentenceEncoder, file: Path
) -> None:
    """Refuses vectors of another encoder, or of other passages than those of the same number."""
    rows_R = np.unique(np.linspace(0, len(store) - 1, _NUM_COMPARED).astype(np.int64))
    made_RD = encoder.encode_passages(store.many(rows_R))
    if made_RD.shape[1] != vectors.dimensions:
        raise ValueError(
            f"{file} has vectors of {vectors.dimensions} dimensions, {encoder.config.model} makes "
            f"{made_RD.shape[1]}. Give the model that made them."
        )
    stored_RD = vectors.at(rows_R)
    if stored_RD is not None:  # each nearer to its own row than to the other fifteen
        scores_RR = made_RD @ stored_RD.T
        is_own_R = scores_RR.diagonal() >= scores_RR.max(axis=1) - _SAME * np.abs(scores_RR).max()
    else:
        found = vectors.search(made_RD, _NEAR, SearchWidth())
        is_own_R = np.array([row in near for row, (near, _) in zip(rows_R, found, strict=True)])
    if 2 * is_own_R.sum() < len(rows_R):  # duplicates and approximations take a few away
        raise ValueError(
            f"{file} does not fit: of {len(rows_R)} passages embedded anew by "
            f"{encoder.config.model} only {is_own_R.sum()} are nearest to their own rows. Give the "
            "corpus in its original order, and the model with the pooling and prefixes that made "
            "the vectors."
        )


def _take(file: Path, target: Path) -> None:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, target)
