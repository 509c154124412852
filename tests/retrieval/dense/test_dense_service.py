"""A dense index behind the service: the hits of the index, many queries in one call of it."""

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from maskgym.retrieval import BM25Index, DenseIndex, Hit, MicroBatcher, Passage, RemoteRetriever
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
from maskgym.retrieval.service_config import ServiceConfig
from maskgym.retrieval.service_process import open_served

pytest.importorskip("faiss", reason="dense indexes need faiss-cpu")

WORDS = ["cat", "dog", "sat", "mat", "ran", "far", "apple", "pear", "tree", "green", "red"]


@pytest.fixture(scope="module")
def folder(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, 6)) for _ in range(200)]
    passages = [Passage(id=str(n), text=text) for n, text in enumerate(texts)]
    encoder = SentenceEncoder(EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64))
    folder = tmp_path_factory.mktemp("served") / "index"
    DenseIndex.build(passages, encoder, folder=folder).close()
    return folder


def test_concurrent_queries_are_embedded_and_searched_together(
    folder: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(1)
    queries = list(dict.fromkeys(" ".join(random.choice(WORDS, 3)) for _ in range(48)))
    expected = DenseIndex.load(folder).search(queries, 4)
    config = ServiceConfig(batch_window_s=0.1, cache_bytes=0)
    served = open_served(folder, config)
    assert isinstance(served, MicroBatcher) and isinstance(served.inner, DenseIndex)
    url = serve(served, config)
    sizes: list[int] = []
    search = served.inner.search

    def counting(batch: Sequence[str], top_k: int) -> list[list[Hit]]:
        sizes.append(len(batch))
        return search(batch, top_k)

    monkeypatch.setattr(served.inner, "search", counting)
    client = RemoteRetriever(url)
    with ThreadPoolExecutor(24) as threads:
        found = list(threads.map(lambda query: client.search([query], 4)[0], queries))
    for hits, others in zip(found, expected, strict=True):
        assert [hit.passage for hit in hits] == [hit.passage for hit in others]
        scores = [hit.score for hit in others]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-5)
    assert sum(sizes) == len(queries)
    assert len(sizes) < len(queries) / 2
    assert client.fingerprint == served.fingerprint


def test_what_opens_an_index_travels_to_a_worker(folder: Path) -> None:
    config = ServiceConfig(max_batch=7, batch_window_s=0.5)
    served = pickle.loads(pickle.dumps(partial(open_served, folder, config)))()
    assert isinstance(served, MicroBatcher)
    assert (served.max_batch, served.window_s) == (7, 0.5)


def test_a_sparse_index_is_served_as_it_is(tmp_path: Path) -> None:
    BM25Index.build([Passage(id="1", text="word")], folder=tmp_path / "index")
    assert isinstance(open_served(tmp_path / "index", ServiceConfig()), BM25Index)


def test_the_model_may_lie_elsewhere_now(folder: Path, make_tiny_bert: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="is not the model that embedded"):
        open_served(folder, ServiceConfig(), model=make_tiny_bert("stranger", seed=9))
    served = open_served(folder, ServiceConfig(), model=make_tiny_bert("moved"))
    assert len(served.search(["cat"], 3)[0]) == 3
