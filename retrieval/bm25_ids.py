"""In: the ids of a segment's passages. Out: their order as text, which breaks ties; look-up by id."""

# N: passages

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from .bm25_arrays import let_go
from .passage_store import PassageStore
from .passages import raise_duplicate

_MAX_TABLE_BYTES = 1 << 28
_BLOCK = 1 << 16


def order_of_ids(store: PassageStore) -> NDArray[np.int64]:
    """[N], the passages' numbers in the order of their ids by code point.

    Raises:
        ValueError: If two passages have one id.
    """
    starts, ends = store.offsets[0:-1:3], store.offsets[1::3]
    num_passages, longest = len(store), int((ends - starts).max(initial=1))
    table = None
    if num_passages * longest <= _MAX_TABLE_BYTES:
        table = _table(store, starts, ends, longest)
    if table is not None:
        order = np.argsort(table, kind="stable")
        is_again = np.flatnonzero(table[order[1:]] == table[order[:-1]])
    else:
        ids = [store.content[s:e].tobytes() for s, e in zip(starts, ends, strict=True)]
        order = np.array(sorted(range(num_passages), key=ids.__getitem__), np.int64)
        ordered = order.tolist()
        same = [ids[a] == ids[b] for a, b in zip(ordered[1:], ordered, strict=False)]
        is_again = np.flatnonzero(same)
    if len(is_again):
        first = is_again[np.argmin(order[is_again + 1])]
        raise_duplicate(store.id_at(int(order[first])), int(order[first]), int(order[first + 1]))
    return order.astype(np.int64, copy=False)


def ranks(order_N: NDArray[np.int64]) -> NDArray[np.int32]:
    """The place of each passage in the order."""
    rank = np.empty(len(order_N), np.int32)
    rank[order_N] = np.arange(len(order_N), dtype=np.int32)
    return rank


def find_id(store: PassageStore, order_N: NDArray[np.int64], identity: str) -> int:
    """The number of the passage with this id, -1 where there is none."""
    place = bisect_left(order_N, identity, key=lambda number: store.id_at(int(number)))
    if place < len(order_N) and store.id_at(int(order_N[place])) == identity:
        return int(order_N[place])
    return -1


def _table(
    store: PassageStore, starts: NDArray[np.int64], ends: NDArray[np.int64], longest: int
) -> NDArray[np.bytes_] | None:
    """The ids as fixed-width bytes, or None where an id holds the byte that fills them up."""
    table = np.zeros((len(store), longest), np.uint8)
    for first in range(0, len(store), _BLOCK):
        rows = slice(first, first + _BLOCK)
        for column in range(longest):
            has = np.flatnonzero(ends[rows] - starts[rows] > column)
            letters = store.content[starts[rows][has] + column]
            if (letters == 0).any():
                return None
            table[first + has, column] = letters
        let_go(store.content)
    return table.view(f"S{longest}")[:, 0]
