"""Parity: real collections in, our scores beside the published ones and Lucene's rankings out."""

from __future__ import annotations

import gzip
import json
import math
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from maskgym.retrieval import BM25Index, Passage, read_passages, read_rows

from .retrieval_anserini import AnseriniSearcher, build_anserini, why_missing
from .tables import Table

_TOP_K = 10
_DEPTH = 1000
_NUM_WIKI_QUERIES = 1000


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Passages, queries, and what is known of both."""

    name: str
    passages: list[Passage]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    published: Mapping[str, float]
    """By the name of the measure."""
    published_run: Mapping[str, list[str]]
    """Rankings that came with the collection, or none."""


def measure_parity(data: Path) -> list[Table]:
    """CACM, SciFact and passages of Wikipedia, as far as they are in the folder ``data``."""
    scores = Table(
        title="Scores on real collections",
        columns=("collection", "measure", "ours", "Lucene here", "published"),
        notes=["k1 = 0.9, b = 0.4. MAP and P30 of CACM with the qrels ids as shipped."],
    )
    orders = Table(
        title=f"Same top {_TOP_K} in the same order",
        columns=("collection", "passages", "queries", "as Lucene here", "as the published run"),
    )
    missing = why_missing()
    if missing:
        orders.notes.append(f"Lucene was left out: {missing}")
    for load in (load_cacm, load_scifact, load_wiki):
        try:
            collection = load(data)
        except FileNotFoundError as error:
            scores.notes.append(f"{error.filename or error} is not there: left out.")
            continue
        ours = _ours(collection)
        lucene = None if missing else lucene_run(collection.passages, collection.queries)
        for measure, published in collection.published.items():
            found = [
                None if run is None else MEASURES[measure](collection.qrels, run)
                for run in (ours, lucene)
            ]
            scores.add(collection.name, measure, *[_rounded(one) for one in (*found, published)])
        orders.add(
            collection.name,
            len(collection.passages),
            len(collection.queries),
            None if lucene is None else same(ours, lucene),
            same(ours, collection.published_run) if collection.published_run else None,
        )
    return [scores, orders]


def _rounded(score: float | None) -> str | None:
    return None if score is None else f"{score:.4f}"


def same(run: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> str:
    """Queries whose first ten are equal, of all: ``64/64``."""
    num = sum(list(run[query][:_TOP_K]) == list(found[:_TOP_K]) for query, found in other.items())
    return f"{num}/{len(other)}"


def _ours(collection: Collection) -> dict[str, list[str]]:
    index = BM25Index.build(collection.passages)
    found = index.search(list(collection.queries.values()), _DEPTH)
    return {
        name: [hit.passage.id for hit in hits]
        for name, hits in zip(collection.queries, found, strict=True)
    }


def lucene_run(passages: Sequence[Passage], queries: Mapping[str, str]) -> dict[str, list[str]]:
    """The rankings of Lucene for the same passages, each as one text with its title first."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, index = Path(scratch, "passages"), Path(scratch, "index")
        folder.mkdir()
        with (folder / "passages.jsonl").open("w", encoding="utf-8") as file:
            for passage in passages:
                row = {"id": passage.id, "contents": f"{passage.title} {passage.text}"}
                file.write(json.dumps(row) + "\n")
        build_anserini(folder, index)
        searcher = AnseriniSearcher(index)
        found = searcher.rankings(list(queries.values()), _DEPTH)
        searcher.close()
    return dict(zip(queries, found, strict=True))


def load_cacm(data: Path) -> Collection:
    """3,204 abstracts, 64 topics, and a run of Anserini's repository."""
    folder = data / "cacm"
    text = (folder / "topics.cacm.txt").read_text()
    run: dict[str, list[str]] = {}
    for line in _lines(folder / "cacm-bm25.txt"):
        query, _, document, *_ = line.split()
        run.setdefault(query, []).append(document)
    return Collection(
        name="CACM",
        passages=list(read_passages(folder / "cacm_corpus.jsonl.gz")),
        queries=dict(re.findall(r"<DOCNO>\s*(\d+)\s*</DOCNO>(.*?)</DOC>", text, re.DOTALL)),
        qrels=read_qrels(folder / "qrels.cacm.txt"),
        published={"MAP": 0.3123, "P30": 0.1942},
        published_run=run,
    )


def load_scifact(data: Path) -> Collection:
    """5,183 abstracts and the 300 claims of BEIR's test split."""
    folder = data / "scifact_beir"
    return Collection(
        name="SciFact",
        queries=dict(line.split("\t") for line in _lines(folder / "topics.tsv")),
        passages=list(read_passages(folder / "corpus.jsonl.gz")),
        qrels=read_qrels(folder / "qrels.txt"),
        published={"nDCG@10": 0.6789, "R@100": 0.9253, "R@1000": 0.9767},
        published_run={},
    )


def load_wiki(data: Path) -> Collection:
    """Passages of Wikipedia and the first thousand questions about them."""
    folder = data / "wiki_passages"
    rows = islice(read_rows(folder / "queries.jsonl.gz"), _NUM_WIKI_QUERIES)
    return Collection(
        name="Wikipedia",
        queries={row["qid"]: row["question"] for row in rows},
        passages=list(read_passages(folder / "corpus.jsonl.gz")),
        qrels={},
        published={},
        published_run={},
    )


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and document, of a TREC file."""
    qrels: dict[str, dict[str, int]] = {}
    for line in _lines(path):
        query, _, document, grade = line.split()
        qrels.setdefault(query, {})[document] = int(grade)
    return qrels


def mean_average_precision(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]]
) -> float:
    """The mean over judged queries of ``sum(precision at each relevant hit) / num_relevant``."""
    total = 0.0
    for query, grades in qrels.items():
        places = [place for place, name in enumerate(run[query], start=1) if grades.get(name)]
        precisions = [number / place for number, place in enumerate(places, start=1)]
        total += sum(precisions) / sum(grade > 0 for grade in grades.values())
    return total / len(qrels)


def mean_precision(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]], k: int = 30
) -> float:
    """The mean share of the first ``k`` that is relevant."""
    found = [sum(bool(grades.get(name)) for name in run[q][:k]) for q, grades in qrels.items()]
    return sum(found) / k / len(qrels)


def mean_recall(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]], k: int
) -> float:
    """The mean share of what is relevant that is among the first ``k``."""
    total = 0.0
    for query, grades in qrels.items():
        num = sum(bool(grades.get(name)) for name in run[query][:k])
        total += num / sum(grade > 0 for grade in grades.values())
    return total / len(qrels)


def mean_ndcg(
    qrels: Mapping[str, Mapping[str, int]], run: Mapping[str, Sequence[str]], k: int = 10
) -> float:
    """The mean of ``sum(grade / log2(place + 1))`` over the first ``k`` by its highest value."""
    total = 0.0
    for query, grades in qrels.items():
        best = _gain(sorted(grades.values(), reverse=True)[:k])
        total += _gain([grades.get(name, 0) for name in run[query][:k]]) / best
    return total / len(qrels)


def _gain(grades: Sequence[int]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, start=1))


Measure = Callable[[Mapping[str, Mapping[str, int]], Mapping[str, Sequence[str]]], float]

MEASURES: Mapping[str, Measure] = {
    "MAP": mean_average_precision,
    "P30": mean_precision,
    "nDCG@10": mean_ndcg,
    "R@100": lambda qrels, run: mean_recall(qrels, run, 100),
    "R@1000": lambda qrels, run: mean_recall(qrels, run, 1000),
}


def _lines(path: Path) -> list[str]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    return [line for line in text.split("\n") if line]
