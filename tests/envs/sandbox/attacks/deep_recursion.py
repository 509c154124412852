"""Recurses until the stack ends."""

import sys

sys.setrecursionlimit(10**9)


def descend(depth: int) -> list[object]:
    return [descend(depth + 1)]


descend(0)
