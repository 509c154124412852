"""In: passages, one at a time. Out: two flat arrays to map, and passages by number."""

# N: passages

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bm25_arrays import ArraySink
from .passages import Passage

CONTENT, OFFSETS = "passage_content", "passage_offsets"

# A lone surrogate is valid in JSON and in str, not in UTF-8: it must survive the round trip.
_ERRORS = "surrogatepass"
_BUFFER_BYTES = 1 << 20
_FOUR = np.arange(4)
_DIGEST_BYTES = 16
_DIGESTS = 1 << 8 * _DIGEST_BYTES


@dataclass(frozen=True, kw_only=True, slots=True)
class PassageStore:
    """Id, title and text of every passage as UTF-8, one after the other."""

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    """[3 N + 1], field f of passage n is ``content[offsets[3 n + f]:offsets[3 n + f + 1]]``."""

    def __len__(self) -> int:
        return len(self.offsets) // 3

    def __getitem__(self, number: int) -> Passage:
        return self.many([number])[0]

    def many(self, numbers: Sequence[int] | NDArray[np.integer]) -> list[Passage]:
        """Several passages, in the order of their numbers given."""
        places = np.asarray(numbers, np.int64)[:, None] * 3 + _FOUR
        passages = []
        for first, title, text, last in self.offsets[places].tolist():
            title, text = title - first, text - first
            record = self.content[first:last].tobytes()
            if record.isascii():  # bytes are letters: one decoding for all fields
                letters = record.decode("ascii")
                fields = letters[:title], letters[title:text], letters[text:]
            else:
                fields = (
                    _decoded(record[:title]),
                    _decoded(record[title:text]),
                    _decoded(record[text:]),
                )
            passages.append(Passage(id=fields[0], title=fields[1], text=fields[2]))
        return passages

    def id_at(self, number: int) -> str:
        """The id alone, without reading title and text."""
        first, title = self.offsets[3 * number : 3 * number + 2].tolist()
        return _decoded(self.content[first:title].tobytes())

    def records(self, numbers: NDArray[np.int64]) -> Iterator[tuple[bytes, list[int]]]:
        """The bytes of some passages and the sizes of their three fields."""
        for number in numbers.tolist():
            first, title, text, last = self.offsets[3 * number : 3 * number + 4].tolist()
            yield self.content[first:last].tobytes(), [title - first, text - title, last - text]


class PassageStoreBuilder:
    """Takes passages in order and hands their bytes to a sink."""

    def __init__(self, sink: ArraySink) -> None:
        self._sink = sink
        self._content = bytearray()
        self._written = 0
        self._offsets = array("q", [0])
        self._digest = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, passage: Passage) -> None:
        """Takes the next passage."""
        fields = [
            field.encode("utf-8", _ERRORS) for field in (passage.id, passage.title, passage.text)
        ]
        self.add_record(b"".join(fields), list(map(len, fields)))

    def add_record(self, record: bytes, sizes: list[int]) -> None:
        """Takes the next passage as `PassageStore.records` gives it."""
        self._digest += record_digest(record, sizes)
        self._count += 1
        end = self._written + len(self._content)
        for size in sizes:
            end += size
            self._offsets.append(end)
        self._content += record
        if len(self._content) >= _BUFFER_BYTES:
            self._flush()

    def finish(self) -> tuple[PassageStore, int]:
        """The store of all passages taken, and the sum of their digests; the builder is spent."""
        self._flush()
        arrays = self._sink.finish(CONTENT, OFFSETS)
        store = PassageStore(content=arrays[CONTENT], offsets=arrays[OFFSETS])
        return store, self._digest % _DIGESTS

    def _flush(self) -> None:
        self._written += len(self._content)
        self._sink.append(CONTENT, np.frombuffer(self._content, np.uint8))
        self._sink.append(OFFSETS, np.array(self._offsets, np.int64))
        self._content, self._offsets = bytearray(), array("q")


def _decoded(field: bytes) -> str:
    return field.decode("utf-8", _ERRORS)


def record_digest(record: bytes, sizes: list[int]) -> int:
    """A number below 2^128 for one passage. Their sum names a set of passages in any order."""
    digest = blake2b(b"%d %d " % (sizes[0], sizes[1]), digest_size=_DIGEST_BYTES)
    digest.update(record)
    return int.from_bytes(digest.digest(), "little")


def digest_sum(*digests: int) -> int:
    """The sum of digests; a negative one takes a passage away."""
    return sum(digests) % _DIGESTS


def store_arrays(store: PassageStore) -> dict[str, NDArray[Any]]:
    """The arrays of a store under the names that its builder gives them."""
    return {CONTENT: store.content, OFFSETS: store.offsets}
