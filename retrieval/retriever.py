"""In: queries. Out: for each its best passages. The one protocol that every backend satisfies."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from .passages import Hit


@runtime_checkable
class Retriever(Protocol):
    """Finds passages for queries; safe to call from several threads."""

    @property
    def fingerprint(self) -> str:
        """Names corpus, tokeniser and parameters: equal fingerprints give equal hits."""
        ...

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """One list of at most ``top_k`` hits per query, in the order of the queries, best first.

        A query without a match, an empty one included, gets an empty list.

        Raises:
            ValueError: If ``top_k`` is below 1.
        """
        ...

    def close(self) -> None:
        """Gives back files and connections; a closed retriever answers no more searches."""
        ...


def check_search(queries: Sequence[str], top_k: int) -> None:
    """Refuses what no backend can answer, before any work is done.

    Raises:
        ValueError: If ``top_k`` is no whole number from 1 up, or ``queries`` is no list of strings.
    """
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise ValueError(f"top_k is {top_k!r}; ask for at least 1 hit, as a whole number.")
    if isinstance(queries, str):
        raise ValueError(f"queries is the one string {queries[:40]!r}; give a list: [query].")
    for position, query in enumerate(queries):
        if not isinstance(query, str):
            raise ValueError(
                f"Query {position} is {type(query).__name__} ({query!r:.40}); queries are strings."
            )
