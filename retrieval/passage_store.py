"""In: passages, one at a time. Out: two flat arrays to map, and passages by number."""

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .passages import Passage

# A lone surrogate is valid in JSON and in str, not in UTF-8: it must survive the round trip.
_ERRORS = "surrogatepass"


@dataclass(frozen=True, kw_only=True, slots=True)
class PassageStore:
    """Id, title and text of every passage as UTF-8, one after the other."""

    content: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    """[3 N + 1], field f of passage n is ``content[offsets[3 n + f]:offsets[3 n + f + 1]]``."""

    def __len__(self) -> int:
        return len(self.offsets) // 3

    def __getitem__(self, number: int) -> Passage:
        first, title, text, last = self.offsets[3 * number : 3 * number + 4].tolist()
        record = self.content[first:last].tobytes()
        return Passage(
            id=record[: title - first].decode("utf-8", _ERRORS),
            title=record[title - first : text - first].decode("utf-8", _ERRORS),
            text=record[text - first :].decode("utf-8", _ERRORS),
        )


class PassageStoreBuilder:
    """Takes passages in order."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._offsets = array("q", [0])

    def add(self, passage: Passage) -> None:
        """Takes the next passage."""
        for field in (passage.id, passage.title, passage.text):
            self._content += field.encode("utf-8", _ERRORS)
            self._offsets.append(len(self._content))

    def finish(self) -> PassageStore:
        """The store of all passages taken; the builder is spent."""
        return PassageStore(
            content=np.frombuffer(self._content, np.uint8),
            offsets=np.array(self._offsets, np.int64),
        )
