"""In: a term as text. Out: its number in a segment, found without loading the vocabulary."""

from bisect import bisect_left, bisect_right

from .postings import Postings

_BLOCK = 64


class TermFinder:
    """Finds terms in the mapped vocabulary: every 64th is held in memory, the rest is looked up."""

    def __init__(self, postings: Postings) -> None:
        self._terms = postings.terms.data
        self._offsets_V = postings.term_offsets_V
        self._num_terms = len(postings.term_offsets_V) - 1
        firsts = postings.term_offsets_V[0 : self._num_terms : _BLOCK].tolist()
        ends = postings.term_offsets_V[1 : self._num_terms + 1 : _BLOCK].tolist()
        self._every_64th = [bytes(self._terms[s:e]) for s, e in zip(firsts, ends, strict=True)]

    def __call__(self, term: str) -> int:
        """The number of the term, -1 where it is unknown."""
        wanted = term.encode()
        first = (bisect_right(self._every_64th, wanted) - 1) * _BLOCK
        if first < 0:
            return -1
        offsets = self._offsets_V[first : first + _BLOCK + 1].tolist()
        start = offsets[0]
        block = bytes(self._terms[start : offsets[-1]])

        def at(place: int) -> bytes:
            return block[offsets[place] - start : offsets[place + 1] - start]

        place = bisect_left(range(len(offsets) - 1), wanted, key=at)
        return first + place if place < len(offsets) - 1 and at(place) == wanted else -1
