"""In: an index folder, and passages to add or ids to take out. Out: the folder, changed as one.

Whoever is killed on the way leaves the index as it was; who has it open keeps what was opened.
What comes out ranks and scores exactly as an index built anew from the same passages.
"""

import shutil
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from math import log2
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from .bm25_arrays import FolderSink
from .bm25_build import build_segment, merge_segments
from .bm25_folder import IndexContent, metadata_of, open_index, prefix_of
from .bm25_ids import find_id
from .bm25_segments import Segment, deletion_arrays, without_passages
from .index_folder import (
    IndexMetadata,
    flush_to_disk,
    locked,
    read_index_metadata,
    write_metadata,
)
from .passage_store import digest_sum, record_digest
from .passages import Passage

OnDuplicate: TypeAlias = Literal["raise", "replace"]

# A new segment takes in those before it that are less than so many times its size: each passage is
# copied a few times in all, and the segments stay few.
_GROWTH = 4
_NUM_SHOWN = 5
_SCRATCH = ".runs-"


def append_passages(
    folder: Path,
    passages: Iterable[Passage],
    *,
    on_duplicate: OnDuplicate = "raise",
    progress: Callable[[int], object] | None = None,
) -> None:
    """Adds passages behind those that are there.

    Args:
        folder: Holds a BM25 index.
        passages: Read once; they are not held in memory.
        on_duplicate: With ``replace`` a passage takes the place of the one with its id, at the end.
        progress: As in `BM25Index.build`.

    Raises:
        ValueError: If there are no passages, an id is there already or twice among the new ones,
            one is no `Passage`, or another process is changing the index.
        OSError: If it cannot be written; nothing has changed then.
    """
    if on_duplicate not in ("raise", "replace"):
        raise ValueError(f"on_duplicate is {on_duplicate!r}; it is 'raise' or 'replace'.")
    with _changing(folder) as change:
        config = change.content.config
        with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
            number, sink = change.new_segment()
            added, digest = build_segment(
                passages, config, sink, scratch=Path(scratch), progress=progress
            )
        found = {old: _common(segment, added) for old, segment in change.content.segments.items()}
        if on_duplicate == "raise":
            _refuse(change.content.segments, found)
        change.delete(found)
        change.put({**change.content.segments, number: added}, digest)
        segments = change.content.segments
        group = [number]
        size = added.statistics.num_passages
        for old in sorted(segments, reverse=True)[1:]:
            if segments[old].statistics.num_passages >= _GROWTH * size:
                break
            group.insert(0, old)
            size += segments[old].statistics.num_passages
        change.merge(group)


def delete_passages(folder: Path, ids: Iterable[str]) -> None:
    """Takes passages out.

    Raises:
        LookupError: If an id is not there; nothing has changed then.
        ValueError: If no passage would be left, or another process is changing the index.
        OSError: If it cannot be written; nothing has changed then.
    """
    if isinstance(ids, str):
        raise ValueError(f"ids is the one string {ids[:40]!r}; give a list: [id].")
    wanted = dict.fromkeys(ids)
    with _changing(folder) as change:
        found: dict[int, list[int]] = {}
        missing = set(wanted)
        for number, segment in change.content.segments.items():
            places = _find(segment, missing)
            found[number] = list(places.values())
            missing -= set(places)
        if missing:
            shown = [name for name in wanted if name in missing][:_NUM_SHOWN]
            raise LookupError(
                f"{len(missing)} of {len(wanted)} ids are not in {folder}: "
                f"{', '.join(map(repr, shown))}. Nothing was deleted: leave them out."
            )
        change.delete(found)


def compact_index(folder: Path) -> None:
    """Writes one segment without what was deleted: the files shrink, searches get faster.

    Raises:
        ValueError: If another process is changing the index.
        OSError: If it cannot be written; nothing has changed then.
    """
    with _changing(folder) as change:
        segments = change.content.segments
        if len(segments) > 1 or any(segment.deletions for segment in segments.values()):
            change.merge(sorted(segments))


@dataclass
class _Change:
    """The next state of an index folder, whose new files nobody knows of yet."""

    folder: Path
    before: IndexContent
    content: IndexContent
    metadata: IndexMetadata
    next_number: int
    sinks: list[FolderSink] = field(default_factory=list)

    def new_segment(self) -> tuple[int, FolderSink]:
        """A number, and where the arrays of that segment go."""
        number = self.next_number
        self.next_number += 1
        self.sinks.append(FolderSink(self.folder, prefix_of(number)))
        return number, self.sinks[-1]

    def put(self, segments: Mapping[int, Segment], *digests: int) -> None:
        """Replaces the segments; digests are those of the passages that came (or went, negative)."""
        self.content = replace(
            self.content,
            segments=dict(sorted(segments.items())),
            digest=digest_sum(self.content.digest, *digests),
        )

    def delete(self, found: Mapping[int, list[int]]) -> None:
        """Marks passages, given by segment and place."""
        segments = dict(self.content.segments)
        digests = []
        for number, places in found.items():
            if not places:
                continue
            numbers = np.array(sorted(places), np.int64)
            old = segments[number]
            digests += [-record_digest(*record) for record in old.passages.records(numbers)]
            segments[number] = without_passages(old, numbers)
            if not segments[number].statistics.num_passages:
                del segments[number]
        self.put(segments, *digests)

    def merge(self, group: list[int]) -> None:
        """Puts one segment in the place of neighbours at the end."""
        segments = dict(self.content.segments)
        if len(group) == 1 and segments[group[0]].deletions is None:
            return
        number, sink = self.new_segment()
        merged = merge_segments([segments.pop(old) for old in group], self.content.config, sink)
        self.put({**segments, number: merged})

    def finish(self) -> None:
        """Writes the marks, then makes the new state the folder's."""
        known = self.metadata.files
        files: dict[str, int] = {}
        for number, segment in self.content.segments.items():
            prefix = prefix_of(number)
            paths = [
                path for path in self.folder.glob(f"{prefix}*.npy") if path.name.count(".") == 2
            ]
            old = self.before.segments.get(number)
            if old is not None and old.deletions is segment.deletions:
                paths = [self.folder / name for name in known if name.startswith(prefix)]
            elif segment.deletions is not None:
                for name, array in deletion_arrays(segment.deletions).items():
                    paths.append(self.folder / f"{prefix}{prefix_of(self.next_number)}{name}.npy")
                    np.save(paths[-1], array, allow_pickle=False)
            files.update({path.name: path.stat().st_size for path in sorted(paths)})
        new = [self.folder / name for name in files if name not in known]
        flush_to_disk([*new, self.folder])
        write_metadata(self.folder, metadata_of(self.content, files))
        _remove_others(self.folder, files)


@contextmanager
def _changing(folder: Path) -> Iterator[_Change]:
    with ExitStack() as stack:
        read_index_metadata(folder)  # says so where there is none
        stack.enter_context(locked(folder))
        content, metadata = open_index(folder)
        _remove_others(folder, metadata.files)  # what a killed writer left
        numbers = [int(piece) for name in metadata.files for piece in name.split(".")[:-2]]
        change = _Change(
            folder=folder,
            before=content,
            content=content,
            metadata=metadata,
            next_number=max(numbers) + 1,
        )
        try:
            yield change
            if not change.content.segments:
                raise ValueError(
                    f"No passage would be left in {folder}; it stays as it is. Remove the folder, or "
                    "add passages first."
                )
            change.finish()
        except BaseException as error:
            for sink in change.sinks:
                sink.abort()
            _remove_others(folder, read_index_metadata(folder).files)
            if isinstance(error, OSError):
                raise OSError(
                    f"The index in {folder} could not be changed ({error}). Is there room on the "
                    "disk, and may you write there? It is as it was."
                ) from error
            raise


def _remove_others(folder: Path, files: Container[str]) -> None:
    """Removes what is not part of the index: of an earlier state, or of one never reached."""
    for path in folder.glob("*.npy"):
        if path.name not in files:
            path.unlink()
    for path in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


def _refuse(segments: Mapping[int, Segment], found: Mapping[int, list[int]]) -> None:
    same = [(number, place) for number, places in found.items() for place in places]
    if same:
        names = [segments[number].passages.id_at(place) for number, place in same[:_NUM_SHOWN]]
        raise ValueError(
            f"{len(same)} of the new ids are in the index already: {', '.join(map(repr, names))}. "
            "Leave these passages out, or replace them: on_duplicate='replace'."
        )


def _common(segment: Segment, added: Segment) -> list[int]:
    """Places in the segment of passages, not deleted, whose ids the added ones have too."""
    if len(added.passages) * 2 * log2(len(segment.passages) + 1) < len(segment.passages):
        ids = map(added.passages.id_at, range(len(added.passages)))
        return list(_find(segment, ids).values())
    new = {added.passages.id_at(place) for place in range(len(added.passages))}
    live = np.flatnonzero(segment.is_live_N()).tolist()
    return [place for place in live if segment.passages.id_at(place) in new]


def _find(segment: Segment, ids: Iterable[str]) -> dict[str, int]:
    """Ids that are there and not deleted, and their places."""
    order, is_live = np.argsort(segment.id_rank_N), segment.is_live_N()
    places = ((name, find_id(segment.passages, order, name)) for name in ids)
    return {name: place for name, place in places if place >= 0 and is_live[place]}
