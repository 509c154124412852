import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from maskgym.retrieval import BM25Index, Passage, Retriever
from maskgym.retrieval.rerank import CrossEncoderReranker, RerankConfig

CROSS_ENCODER = "BertForSequenceClassification"
PASSAGES = [
    Passage(id="1", title="red", text="apple tree"),
    Passage(id="2", text="apple pear"),
    Passage(id="3", text="the cat sat on a green apple tree far away"),
    Passage(id="4", text="apple apple dog"),
    Passage(id="5", text="dog"),
]
QUERIES = ["apple", "green apple tree", "dog"]


@pytest.fixture(scope="module")
def cross_encoder(make_tiny_bert: Callable[..., Path]) -> Path:
    return make_tiny_bert("cross-encoder", model_class=CROSS_ENCODER)


@pytest.fixture(scope="module")
def bm25() -> BM25Index:
    return BM25Index.build(PASSAGES)


@pytest.fixture(scope="module")
def config(cross_encoder: Path) -> RerankConfig:
    return RerankConfig(model=str(cross_encoder), max_tokens=64)


def ids(retriever: Retriever, queries: list[str], top_k: int) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in retriever.search(queries, top_k)]


def logit(folder: Path, query: str, text: str) -> float:
    """One pair, as the model card shows it; of two outputs the yes less the no."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(folder)
    encoded = AutoTokenizer.from_pretrained(folder)(query, text, return_tensors="pt")
    with torch.inference_mode():
        logits: list[float] = model(**encoded).logits[0].tolist()
    return logits[0] if len(logits) == 1 else logits[1] - logits[0]


@pytest.mark.parametrize("num_labels", [1, 2])
def test_hits_are_ordered_by_the_models_logit(
    bm25: BM25Index, make_tiny_bert: Callable[..., Path], num_labels: int
) -> None:
    folder = make_tiny_bert("labels", model_class=CROSS_ENCODER, num_labels=num_labels)
    reranker = CrossEncoderReranker(bm25, RerankConfig(model=str(folder), max_tokens=64))
    assert isinstance(reranker, Retriever)
    found = reranker.search(QUERIES, 10)
    for query, hits, before in zip(QUERIES, found, bm25.search(QUERIES, 10), strict=True):
        assert {hit.passage.id for hit in hits} == {hit.passage.id for hit in before}
        assert [hit.score for hit in hits] == sorted((h.score for h in hits), reverse=True)
        for hit in hits:
            text = "\n".join(filter(None, [hit.passage.title, hit.passage.text]))
            assert hit.score == pytest.approx(logit(folder, query, text), abs=1e-4)
    assert len({hit.score for hits in found for hit in hits}) > 5
    assert ids(reranker, QUERIES, 10) != ids(bm25, QUERIES, 10)


def test_only_the_first_hits_are_reordered(bm25: BM25Index, config: RerankConfig) -> None:
    shallow = CrossEncoderReranker(bm25, replace(config, depth=2))
    (first,) = ids(bm25, ["apple"], 2)
    assert set(ids(shallow, ["apple"], 2)[0]) == set(first)
    assert ids(shallow, ["apple"], 1)[0] == ids(shallow, ["apple"], 2)[0][:1]
    assert len(ids(shallow, ["apple"], 4)[0]) == 4


def test_queries_without_hits_get_none_and_long_ones_are_cut(
    bm25: BM25Index, config: RerankConfig
) -> None:
    reranker = CrossEncoderReranker(bm25, config)
    assert ids(reranker, ["", "unknown"], 3) == [[], []]
    assert reranker.search([], 3) == []
    assert len(ids(reranker, ["apple " * 1000], 3)[0]) == 3
    with pytest.raises(ValueError, match="top_k is 0"):
        reranker.search(["apple"], 0)


def test_equal_scores_are_ordered_by_id(config: RerankConfig) -> None:
    passages = [Passage(id=name, text="apple tree") for name in "bca"]
    reranker = CrossEncoderReranker(BM25Index.build(passages), config)
    assert ids(reranker, ["apple"], 3) == [["a", "b", "c"]]


def test_the_fingerprint_names_retriever_model_and_settings(
    bm25: BM25Index, config: RerankConfig, make_tiny_bert: Callable[..., Path]
) -> None:
    other = make_tiny_bert("other-cross-encoder", model_class=CROSS_ENCODER, seed=1)
    rerankers = [
        CrossEncoderReranker(bm25, config),
        CrossEncoderReranker(BM25Index.build(PASSAGES[:3]), config),
        CrossEncoderReranker(bm25, replace(config, model=str(other))),
        CrossEncoderReranker(bm25, replace(config, depth=9)),
        CrossEncoderReranker(bm25, replace(config, max_tokens=30)),
    ]
    assert len({reranker.fingerprint for reranker in rerankers}) == 5
    same = CrossEncoderReranker(bm25, replace(config, batch_tokens=10))
    assert same.fingerprint == rerankers[0].fingerprint


def test_a_pickled_reranker_gives_the_same(bm25: BM25Index, config: RerankConfig) -> None:
    reranker = CrossEncoderReranker(bm25, config)
    copy = pickle.loads(pickle.dumps(reranker))
    assert copy.fingerprint == reranker.fingerprint
    assert ids(copy, QUERIES, 5) == ids(reranker, QUERIES, 5)


def test_closing_closes_the_retriever_behind_it(config: RerankConfig) -> None:
    inner = BM25Index.build(PASSAGES)
    CrossEncoderReranker(inner, config).close()
    with pytest.raises(ValueError, match="closed"):
        inner.search(["apple"], 1)


def test_what_is_no_cross_encoder_is_refused(
    bm25: BM25Index, tiny_bert: Path, make_tiny_bert: Callable[..., Path]
) -> None:
    three = make_tiny_bert("three", model_class=CROSS_ENCODER, num_labels=3)
    for folder in (tiny_bert, three):
        with pytest.raises(ValueError, match="is no cross-encoder with one or two outputs"):
            CrossEncoderReranker(bm25, RerankConfig(model=str(folder)))


@pytest.mark.parametrize("changes", [{"depth": 0}, {"max_tokens": 0}, {"dtype": "int8"}])
def test_bad_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        RerankConfig(**{"model": "m", **changes})
