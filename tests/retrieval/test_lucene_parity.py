"""Rankings of real collections against Lucene's: published numbers, a published run, and digests.

The digests are of the top-ten ids that Anserini 1.7.1 (Lucene 10, k1 = 0.9, b = 0.4) gave for the
same passages and queries, indexed as `title + " " + text`.
"""

import gzip
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from maskgym.retrieval import BM25Index, read_passages, read_rows


def ids(index: BM25Index, queries: Sequence[str], top_k: int) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in index.search(queries, top_k)]


def digest(rankings: Iterable[Sequence[str]]) -> str:
    return hashlib.sha256("\n".join(map(" ".join, rankings)).encode()).hexdigest()[:16]


def lines(path: Path) -> list[str]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [line for line in text.split("\n") if line]


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line in lines(path):
        query, _, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    return qrels


def average_precision(relevant: Mapping[str, int], ranking: Sequence[str]) -> float:
    hits = [place for place, name in enumerate(ranking, start=1) if name in relevant]
    return sum(number / place for number, place in enumerate(hits, start=1)) / len(relevant)


def ndcg(grades: Mapping[str, int], ranking: Sequence[str], k: int = 10) -> float:
    def gain(found: Sequence[int]) -> float:
        return sum(grade / math.log2(place) for place, grade in enumerate(found[:k], start=2))

    best = sorted(grades.values(), reverse=True)
    return gain([grades.get(name, 0) for name in ranking]) / gain(best)


def test_cacm_gives_the_published_scores_and_ranking(shared_data: Path) -> None:
    folder = shared_data / "cacm"
    index = BM25Index.build(read_passages(folder / "cacm_corpus.jsonl.gz"))
    text = (folder / "topics.cacm.txt").read_text()
    topics = dict(re.findall(r"<DOCNO>\s*(\d+)\s*</DOCNO>(.*?)</DOC>", text, re.DOTALL))
    run = dict(zip(topics, ids(index, list(topics.values()), 1000), strict=True))
    assert len(run) == 64

    qrels = read_qrels(folder / "qrels.cacm.txt")
    assert len(qrels) == 52
    mean_ap = sum(average_precision(qrels[q], run[q]) for q in qrels) / len(qrels)
    precision_30 = sum(len(qrels[q].keys() & set(run[q][:30])) / 30 for q in qrels) / len(qrels)
    assert mean_ap == pytest.approx(0.3123, abs=0.0001)
    assert precision_30 == pytest.approx(0.1942, abs=0.0001)

    published: dict[str, list[str]] = {}
    for line in lines(folder / "cacm-bm25.txt"):
        query, _, document, *_ = line.split()
        published.setdefault(query, []).append(document)
    assert {q: run[q][:10] for q in run} == {q: published[q][:10] for q in published}


def test_scifact_gives_the_published_score_and_lucenes_order(shared_data: Path) -> None:
    folder = shared_data / "scifact_beir"
    index = BM25Index.build(read_passages(folder / "corpus.jsonl.gz"))
    topics = dict(line.split("\t") for line in lines(folder / "topics.tsv"))
    rankings = ids(index, list(topics.values()), 10)
    qrels = read_qrels(folder / "qrels.txt")
    scores = [ndcg(qrels[q], found) for q, found in zip(topics, rankings, strict=True)]
    assert sum(scores) / len(scores) == pytest.approx(0.6789, abs=0.0005)
    assert digest(rankings) == "98f0f60c8a438c88"


@pytest.fixture(scope="module")
def wiki_index(shared_data: Path) -> BM25Index:
    return BM25Index.build(read_passages(shared_data / "wiki_passages" / "corpus.jsonl.gz"))


@pytest.fixture(scope="module")
def wiki_queries(shared_data: Path) -> dict[str, str]:
    rows = read_rows(shared_data / "wiki_passages" / "queries.jsonl.gz")
    return {row["qid"]: row["question"] for row in rows}


def test_questions_over_wikipedia_get_lucenes_top_ten_in_order(
    wiki_index: BM25Index, wiki_queries: dict[str, str]
) -> None:
    rankings = ids(wiki_index, list(wiki_queries.values()), 10)
    assert len(rankings) == 8722
    assert digest(rankings) == "5941db0c2fd2e2d3"


def test_gold_passages_of_natural_questions_are_recalled(
    wiki_index: BM25Index, wiki_queries: dict[str, str], shared_data: Path
) -> None:
    qrels = read_qrels(shared_data / "wiki_passages" / "qrels.tsv.gz")
    names = [name for name in wiki_queries if name.startswith("qed-dev")][:300]
    rankings = ids(wiki_index, [wiki_queries[name] for name in names], 10)
    for k, least in ((1, 0.45), (5, 0.76), (10, 0.82)):
        found = [
            bool(qrels[name].keys() & set(ranking[:k]))
            for name, ranking in zip(names, rankings, strict=True)
        ]
        assert sum(found) / len(found) > least
