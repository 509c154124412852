"""In: an index. Out: its place in a keyed permutation of `range(size)`, without a table."""

from __future__ import annotations

from hashlib import blake2b

_NUM_ROUNDS = 6


def keyed_bytes(key: str, num_bytes: int) -> bytes:
    """At most 64 bytes that depend on nothing but `key`: the same on every machine and version."""
    return blake2b(key.encode(), digest_size=num_bytes).digest()


def permute(index: int, size: int, key: str) -> int:
    """The image of `index` under a permutation of ``range(size)`` that `key` selects.

    A balanced Feistel network over the smallest 4**h >= size, walked until the image falls below
    `size` (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): fewer than four steps
    on average.

    >>> sorted(permute(i, 10, "key") for i in range(10))
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """
    if not 0 <= index < size:
        raise ValueError(f"index is {index}; it must be at least 0 and below size {size}.")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    secret = key.encode()
    image = index
    while True:
        left, right = image >> half_bits, image & mask
        for turn in range(_NUM_ROUNDS):
            word = blake2b(b"%d:%d:%s" % (turn, right, secret), digest_size=8).digest()
            left, right = right, left ^ (int.from_bytes(word, "big") & mask)
        image = left << half_bits | right
        if image < size:
            return image
