"""A guided trajectory in, how much of it was copied from the scaffold out."""

# W: words

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from ..rollouts.trajectory import Trajectory

Run = tuple[str, ...]
_WORD = re.compile(r"\w+|[^\w\s]")


def copied_share(trajectory: Trajectory, *, num_words: int = 8) -> float:
    """Share of the words of all actions that lie in runs of words that stand in the scaffold.

    A model that solves a task on its own repeats few runs of 8 words; one that learnt to copy repeats the
    scaffold. What the question says as well is no copy of the scaffold. Words rather than tokens are
    compared, since the same text has other tokens behind other text; each punctuation mark is a word.

    Args:
        trajectory: A bare one has copied nothing.
        num_words: Length of a run that counts as copied; a shorter scaffold counts as a whole.

    Returns:
        0 to 1.
    """
    if not trajectory.scaffold:
        return 0.0
    known, length = _known_runs(trajectory.scaffold, trajectory.question, num_words)
    num_copied = num_said = 0
    for turn in trajectory.turns:  # no run reaches from one action into the next
        words = words_of(turn.action_text)
        num_said += len(words)
        num_copied += num_covered(words, known, length)
    return num_copied / max(num_said, 1)


def num_covered(words_W: Sequence[str], known: frozenset[Run], length: int) -> int:
    """How many words lie in a run of `length` words that is among the known ones; linear in W."""
    count = covered = 0  # words before `covered` are counted
    for start, run in enumerate(runs_of(words_W, length)):
        if run in known:
            count += start + length - max(start, covered)
            covered = start + length
    return count


def runs_of(words_W: Sequence[str], length: int) -> Iterator[Run]:
    """Every run of `length` neighbours, in order; none where there are fewer words."""
    return zip(*(islice(words_W, start, None) for start in range(length)), strict=False)


def words_of(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    return _WORD.findall(text.casefold())


@lru_cache(maxsize=64)  # a group sees one scaffold
def _known_runs(scaffold: str, question: str, num_words: int) -> tuple[frozenset[Run], int]:
    words = words_of(scaffold)
    length = max(1, min(num_words, len(words)))
    return frozenset(runs_of(words, length)) - frozenset(
        runs_of(words_of(question), length)
    ), length
