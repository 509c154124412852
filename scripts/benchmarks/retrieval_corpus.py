"""In: a number of passages. Out: a synthetic corpus as JSONL and queries on it, the same every time.

Words follow Zipf-Mandelbrot (exponent 1, shift 2.7) over a vocabulary of 200,000; a passage has
Poisson(100) words, at least 20. A query is six distinct words of one passage, none of the fifty
commonest, which stand for stop words. Smaller corpora are the beginnings of larger ones.
"""

# V: words of the vocabulary, B: passages of a block, T: words of a block

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_SHIFT = 2.7
_BLOCK = 20_000
_NUM_LENGTHS = 1_000_000  # drawn for a million at once: smaller corpora are then beginnings
_NUM_COMMON = 50
_QUERY_WORDS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticConfig:
    """What is made up, and from which seed."""

    num_passages: int
    """Passages of the corpus."""
    num_queries: int = 4000
    """Queries, of passages among the first ``asked_of``; fewer where the corpus is smaller."""
    asked_of: int = 100_000
    """Queries ask for the first passages, so that they are the same for larger corpora."""
    vocabulary: int = 200_000
    """Distinct words."""
    seed: int = 7
    """Of all that is random."""

    def __post_init__(self) -> None:
        if self.num_passages < 1 or self.num_queries < 1 or self.vocabulary < 1000:
            raise ValueError(
                f"num_passages is {self.num_passages}, num_queries {self.num_queries} (1 or more), "
                f"vocabulary {self.vocabulary} (1,000 or more)."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SyntheticCorpus:
    """Where the files lie."""

    passages: Path
    """Rows of {id, contents}, as Pyserini's JsonCollection and `read_passages` take them."""
    queries: Path
    """A list of strings."""


def make_corpus(folder: Path, config: SyntheticConfig) -> SyntheticCorpus:
    """The corpus in the folder, written unless it is there. It takes half a minute a million."""
    corpus = SyntheticCorpus(
        passages=folder / "passages" / "passages.jsonl", queries=folder / "queries.json"
    )
    if corpus.queries.is_file():  # written last
        return corpus
    corpus.passages.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(config.seed)
    words_V = _vocabulary(config.vocabulary, rng)
    shares_V = 1 / (np.arange(config.vocabulary) + 1 + _SHIFT)
    cumulative_V = np.cumsum(shares_V / shares_V.sum())
    lengths = np.maximum(20, rng.poisson(100, max(_NUM_LENGTHS, config.num_passages)))
    asked_of = min(config.asked_of, config.num_passages)
    num_queries = min(config.num_queries, asked_of)
    # Generators of their own: queries take nothing from the random numbers of the passages.
    query_rng = np.random.default_rng([config.seed, 1])
    asked = set(query_rng.choice(asked_of, num_queries, replace=False).tolist())
    queries: list[str] = []
    with corpus.passages.open("w", encoding="utf-8") as file:
        for first in range(0, config.num_passages, _BLOCK):
            lengths_B = lengths[first : first + _BLOCK]
            drawn_T = np.searchsorted(cumulative_V, rng.random(lengths_B.sum()))
            drawn_T = np.minimum(drawn_T, config.vocabulary - 1)
            end = 0
            for number, length in enumerate(lengths_B[: config.num_passages - first], start=first):
                start, end = end, end + int(length)
                words = drawn_T[start:end]
                row = {"id": f"d{number}", "contents": " ".join(words_V[words])}
                file.write(json.dumps(row) + "\n")
                if number in asked:
                    rare = np.unique(words[words >= _NUM_COMMON])
                    chosen = query_rng.choice(rare, min(_QUERY_WORDS, len(rare)), replace=False)
                    queries.append(" ".join(words_V[chosen]))
    partial = corpus.queries.with_suffix(".partial")
    partial.write_text(json.dumps(queries), encoding="utf-8")
    os.replace(partial, corpus.queries)
    return corpus


def _vocabulary(size: int, rng: np.random.Generator) -> np.ndarray:
    """Distinct words of random letters; common ones are shorter, as in a language."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words: dict[str, None] = {}
    while len(words) < size:
        length = int(np.clip(rng.normal(3 + 1.1 * len(words) ** 0.13, 1.2), 3, 12))
        words["".join(letters[rng.integers(0, 26, length)])] = None
    return np.array(list(words), dtype=object)
