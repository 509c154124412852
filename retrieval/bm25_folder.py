"""In: the segments of an index. Out: what its folder says about them; and back, memory-mapped."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from .analyzer import ANALYZER_NAME
from .bm25_config import BM25Config
from .bm25_segments import NO_PASSAGES, SEGMENT_ARRAYS, Segment, arrays_of, segment_of
from .index_folder import REBUILD, IndexMetadata, open_index_arrays, read_index_metadata

BACKEND = "bm25"

_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class IndexContent:
    """An index as a value; whoever changes it makes another."""

    config: BM25Config
    segments: Mapping[int, Segment]
    """By number, in the order of the passages; numbers are never used again."""
    digest: int
    """The sum of the passages' digests."""

    @property
    def fingerprint(self) -> str:
        """Names passages, tokeniser and parameters, however the index came about."""
        parameters = {"backend": BACKEND, **_parameters(self)}
        name = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()
        return f"{BACKEND}-{name[:32]}"


def prefix_of(number: int) -> str:
    """What the file names of a segment, or of a change to one, begin with."""
    return f"{number:06d}."


def metadata_of(content: IndexContent, files: Mapping[str, int]) -> IndexMetadata:
    """What the folder of this index says about itself."""
    statistics = NO_PASSAGES
    for segment in content.segments.values():
        statistics = statistics.plus(segment.statistics)
    return IndexMetadata(
        backend=BACKEND,
        fingerprint=content.fingerprint,
        parameters=_parameters(content),
        counts={
            "passages": statistics.num_passages,
            "nonempty_passages": statistics.num_nonempty,
            "tokens": statistics.num_tokens,
            "segments": len(content.segments),
        },
        files=files,
    )


def all_arrays(content: IndexContent) -> dict[str, NDArray[Any]]:
    """The arrays of all segments, under the names of their files."""
    return {
        prefix_of(number) + name: array
        for number, segment in content.segments.items()
        for name, array in arrays_of(segment).items()
    }


def open_index(folder: Path) -> tuple[IndexContent, IndexMetadata]:
    """The index in a folder.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it is no BM25 index, damaged, or of another version or analyser.
    """
    for attempt in range(_ATTEMPTS):
        metadata = read_index_metadata(folder)
        try:
            return _open(folder, metadata), metadata
        except (ValueError, FileNotFoundError):
            # A writer may have put another state in place since, and removed the files of this one.
            if attempt + 1 == _ATTEMPTS or read_index_metadata(folder) == metadata:
                raise
    raise AssertionError


def _open(folder: Path, metadata: IndexMetadata) -> IndexContent:
    if metadata.backend != BACKEND:
        raise ValueError(f"{folder} is a {metadata.backend!r} index. Open it with load_index.")
    if metadata.parameters.get("analyzer") != ANALYZER_NAME:
        raise ValueError(
            f"{folder} was tokenised by {metadata.parameters.get('analyzer')!r}, this maskgym "
            f"has {ANALYZER_NAME!r}. {REBUILD}"
        )
    try:
        config = BM25Config(k1=float(metadata.parameters["k1"]), b=float(metadata.parameters["b"]))
        digest = int(str(metadata.parameters["passages"]), 16)
        files = _files_by_segment(metadata)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"The metadata of {folder} lacks {error}. {REBUILD}") from error
    segments = {}
    for number in sorted(files):
        arrays = open_index_arrays(folder, metadata, tuple(files[number].values()))
        segments[number] = segment_of({name: arrays[files[number][name]] for name in files[number]})
    return IndexContent(config=config, segments=segments, digest=digest)


def _files_by_segment(metadata: IndexMetadata) -> dict[int, dict[str, str]]:
    """For each segment the name of each array and of its file, the latter without ``.npy``."""
    files: dict[int, dict[str, str]] = {}
    for file in metadata.files:
        stem = file.removesuffix(".npy")
        pieces = stem.split(".")  # segment.name, or segment.change.name
        files.setdefault(int(pieces[0]), {})[pieces[-1]] = stem
    for named in files.values():
        for name in SEGMENT_ARRAYS:
            if name not in named:
                raise KeyError(name)
    if not files:
        raise KeyError("files")
    return files


def _parameters(content: IndexContent) -> dict[str, float | str]:
    return {
        "k1": float(content.config.k1),
        "b": float(content.config.b),
        "analyzer": ANALYZER_NAME,
        "passages": f"{content.digest:032x}",
    }
