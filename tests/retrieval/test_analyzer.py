# ruff: noqa: RUF001  (letters that look alike are the point)
import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from maskgym.retrieval import read_passages
from maskgym.retrieval.analyzer import analyze


def digest(texts: Iterable[str]) -> str:
    lines = "\n".join(" ".join(analyze(text)) for text in texts)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("text", "terms"),
    [  # as Anserini's DefaultEnglishAnalyzer gives them
        (
            "The U.S.A.'s 1,000.5 km² O'Neill's cafés, e-mails: foo_bar a.b.c 3.14.15 don't 10:30",
            "u.s.a s 1,000.5 km o'neil café e mail foo_bar a.b.c 3.14.15 don't 10 30",
        ),
        (
            "___ _a_ a_1 's X's ’tis rock’n’roll AT&T C++ .NET 1st 50% $5 1'000 a,b 1,b a;1 x·y",
            "_a_ a_1 s x ti rock’n’rol t c net 1st 50 5 1'000 b 1 b 1 x·y",
        ),
        ("ΟΔΥΣΣΕΥΣ İstanbul Straße 2½ Müllers’s", "οδυσσευσ istanbul straße 2 müller"),
        ("to be or not to be", ""),
        ("", ""),
        ("\ud800 \x00 \n\t", ""),
    ],
)
def test_terms_are_those_of_lucene(text: str, terms: str) -> None:
    assert analyze(text) == terms.split()


def test_repeated_words_stay_repeated_and_in_order() -> None:
    assert analyze("Dogs and dog, cats. DOG'S") == ["dog", "dog", "cat", "dog"]


def test_words_beyond_255_letters_are_chopped() -> None:
    assert [len(term) for term in analyze("x" * 600 + " short")] == [255, 255, 90, 5]


@pytest.mark.parametrize("piece", ["a", "_", "a.", "1,", "a'", "yyaey", "é", "é_", "\u0301_"])
def test_a_gigantic_text_takes_linear_time(piece: str) -> None:
    start = time.process_time()
    analyze(piece * 200_000)
    assert time.process_time() - start < 5  # quadratic time would take minutes


# Digests of the term streams of Anserini 1.7.1 (Lucene 10) for the texts `title + " " + text`.
@pytest.mark.parametrize(
    ("corpus", "lucene"),
    [
        ("cacm/cacm_corpus", "fdd814a15763c983"),
        ("scifact_beir/corpus", "50dffe1187390d01"),
        ("wiki_passages/corpus", "f0bef442bc6ad88a"),
    ],
)
def test_every_term_of_a_real_corpus_is_lucenes(
    shared_data: Path, corpus: str, lucene: str
) -> None:
    passages = read_passages(shared_data / f"{corpus}.jsonl.gz")
    assert digest(f"{passage.title} {passage.text}" for passage in passages) == lucene
