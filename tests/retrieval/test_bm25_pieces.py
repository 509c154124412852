# ruff: noqa: RUF001  (letters that look alike are the point)
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.retrieval import bm25_pieces, read_passages
from maskgym.retrieval.analyzer import BREAKS, analyze, split_at_breaks
from maskgym.retrieval.bm25_numba import has_numba
from maskgym.retrieval.bm25_pieces import CompiledPieces, Pieces, PlainPieces, TermNumbering

KINDS = [
    PlainPieces,
    pytest.param(
        CompiledPieces,
        marks=pytest.mark.skipif(not has_numba(), reason="numba is not installed (maskgym[fast])"),
    ),
]
# Letters, joiners, digits and breaks of all classes, dense enough to meet one another.
CHARACTERS = st.one_of(
    st.sampled_from(
        "aZé日ひカ한ก1٣_.,:;'\"’·-–\u0301\u200d\u00ad\u202f\u00a0\u3000🙂👍🏽🇩🇪אב#*\x1c\x00\n \ud800"
    ),
    st.characters(),
)
TEXT = st.text(CHARACTERS, max_size=40)


def terms_of(pieces: Pieces, numbering: TermNumbering) -> list[list[str]]:
    """For each text taken its terms, by way of the numbers."""
    numbers, sizes = pieces.take()
    names = list(numbering)
    ends = np.cumsum(pieces.found.counts).tolist()
    counts = list(pieces.found.counts)
    texts, start = [], 0
    for size in sizes.tolist():
        terms: list[str] = []
        for number in numbers[start : start + size].tolist():
            clip = slice(ends[number] - counts[number], ends[number])
            terms += [names[term] for term in pieces.found.terms[clip]]
        texts.append(terms)
        start += size
    return texts


@settings(max_examples=500, deadline=None)
@given(TEXT)
def test_a_text_has_the_terms_of_its_parts(text: str) -> None:
    assert [term for part in split_at_breaks(text) for term in analyze(part)] == analyze(text)


@pytest.mark.parametrize("character", BREAKS)
@pytest.mark.parametrize("around", ["a", "1", "é", "日", "א", "_", "ก", "カ"])
def test_no_word_reaches_over_a_break(character: str, around: str) -> None:
    whole = analyze(f"x{around}{character}{around}x")
    assert whole == analyze(f"x{around}") + analyze(f"{around}x")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT, max_size=12), st.lists(TEXT, max_size=4), st.sampled_from([1, 30, 1 << 18]))
def test_numbered_pieces_give_the_terms_of_each_text(
    kind: type[PlainPieces] | type[CompiledPieces], texts: list[str], more: list[str], batch: int
) -> None:
    numbering = TermNumbering()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bm25_pieces, "_BATCH_BYTES", batch)
        pieces = kind(numbering)
        for part in (texts, more):
            for text in part:
                pieces.add(text)
            assert terms_of(pieces, numbering) == [analyze(text) for text in part]


@pytest.mark.parametrize("kind", KINDS)
def test_every_term_of_real_passages_is_the_analysers(
    kind: type[PlainPieces] | type[CompiledPieces], shared_data: Path
) -> None:
    passages = read_passages(shared_data / "scifact_beir" / "corpus.jsonl.gz")
    texts = [f"{passage.title} {passage.text}" for passage in passages]
    numbering = TermNumbering()
    pieces = kind(numbering)
    for text in texts:
        pieces.add(text)
    assert terms_of(pieces, numbering) == [analyze(text) for text in texts]
    assert len(set(numbering.values())) == len(numbering)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_gigantic_text_and_many_distinct_words_are_taken(
    kind: type[PlainPieces] | type[CompiledPieces],
) -> None:
    numbering = TermNumbering()
    pieces = kind(numbering)
    texts = [
        "x" * 600_000,
        " ".join(f"w{number}" for number in range(300_000)),
        "",
        "x1 " * 300_000,
    ]
    for text in texts:
        pieces.add(text)
    assert terms_of(pieces, numbering) == [analyze(text) for text in texts]
