"""In: an index of embeddings. Out: its folder; and back, memory-mapped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .encoder import EncoderConfig, SentenceEncoder
from .faiss_index import FaissIndex
from .index_folder import (
    REBUILD,
    IndexMetadata,
    file_sizes,
    open_index_arrays,
    read_index_metadata,
    write_metadata,
)
from .passage_store import CONTENT, OFFSETS, PassageStore

BACKEND = "dense"
VECTORS_FILE = "vectors.faiss"

_ENCODER_PREFIX = "encoder."


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseContent:
    """An index as a value."""

    passages: PassageStore
    passages_hash: str
    """Of all passages in their order."""
    vectors: FaissIndex
    factory: str
    """What FAISS built."""
    vectors_hash: str = ""
    """Of the file that another program wrote; what was built here follows from all the rest."""

    def fingerprint(self, encoder: SentenceEncoder) -> str:
        """Names passages in their order, encoder and kind of index."""
        named = [BACKEND, self.factory, self.passages_hash, encoder.fingerprint]
        if self.vectors_hash:
            named.append(self.vectors_hash)
        return f"{BACKEND}-{hashlib.sha256(json.dumps(named).encode()).hexdigest()[:32]}"


def write_dense_folder(folder: Path, content: DenseContent, encoder: SentenceEncoder) -> None:
    """Writes the embeddings, and what the folder says about itself, beside the passages.

    Raises:
        OSError: If they cannot be written.
    """
    content.vectors.write(folder / VECTORS_FILE)
    write_dense_metadata(folder, content, encoder)


def write_dense_metadata(folder: Path, content: DenseContent, encoder: SentenceEncoder) -> None:
    """Writes what the folder, whose files are there, says about itself.

    Raises:
        OSError: If it cannot be written.
    """
    vectors = {"vectors": content.vectors_hash} if content.vectors_hash else {}
    settings = {_ENCODER_PREFIX + name: value for name, value in asdict(encoder.config).items()}
    files = {**file_sizes(folder), VECTORS_FILE: (folder / VECTORS_FILE).stat().st_size}
    write_metadata(
        folder,
        IndexMetadata(
            backend=BACKEND,
            fingerprint=content.fingerprint(encoder),
            parameters={
                "factory": content.factory,
                "passages": content.passages_hash,
                "encoder": encoder.fingerprint,
                **vectors,
                **settings,
            },
            counts={"passages": len(content.passages), "dimensions": content.vectors.dimensions},
            files=files,
        ),
    )


def open_dense_folder(folder: Path, *, num_threads: int) -> tuple[DenseContent, EncoderConfig, str]:
    """The index in a folder, how its passages were embedded, and the encoder's fingerprint.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no dense index, damaged, or of another version.
    """
    metadata = read_index_metadata(folder)
    if metadata.backend != BACKEND:
        raise ValueError(f"{folder} is a {metadata.backend!r} index. Open it with load_index.")
    arrays = open_index_arrays(folder, metadata, (CONTENT, OFFSETS))
    store = PassageStore(content=arrays[CONTENT], offsets=arrays[OFFSETS])
    path = folder / VECTORS_FILE
    expected = metadata.files.get(VECTORS_FILE)
    found = path.stat().st_size if path.is_file() else None
    if found is None or found != expected:
        raise ValueError(f"{path} has {found} bytes instead of {expected}. {REBUILD}")
    try:
        vectors = FaissIndex.read(path, num_threads=num_threads)
        content = DenseContent(
            passages=store,
            passages_hash=str(metadata.parameters["passages"]),
            vectors=vectors,
            vectors_hash=str(metadata.parameters.get("vectors", "")),
            factory=str(metadata.parameters["factory"]),
        )
        config = _encoder_config(metadata.parameters)
        fingerprint = str(metadata.parameters["encoder"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is damaged: {error}. {REBUILD}") from error
    if len(store) != len(vectors):
        raise ValueError(
            f"{folder} has {len(store)} passages and {len(vectors)} embeddings. {REBUILD}"
        )
    return content, config, fingerprint


def _encoder_config(parameters: Mapping[str, Any]) -> EncoderConfig:
    return EncoderConfig(
        **{
            name.removeprefix(_ENCODER_PREFIX): value
            for name, value in parameters.items()
            if name.startswith(_ENCODER_PREFIX)
        }
    )
