import math
import pickle
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.retrieval import BM25Config, BM25Index, Passage, bm25_search, load_index, postings
from maskgym.retrieval.bm25 import KernelName
from maskgym.retrieval.bm25_numba import has_numba
from maskgym.retrieval.bm25_segments import SEGMENT_ARRAYS

# Short words that are neither stopped nor stemmed: what the slow version below takes for terms.
WORDS = [first + second for first in "cdfgh" for second in "xyz1"]
Ranking = list[tuple[str, float]]
KERNELS: tuple[KernelName, KernelName] = ("numpy", "numba")


def ranking(index: BM25Index, query: str, top_k: int = 10) -> Ranking:
    return [(hit.passage.id, hit.score) for hit in index.search([query], top_k)[0]]


def kept_length(length: int) -> int:
    """Lucene's length after its byte: exact below 24, then four significant bits of the rest."""
    if length < 24:
        return length
    rest = length - 24
    shift = max(0, rest.bit_length() - 4)
    return 24 + (rest >> shift << shift)


def slow_ranking(texts: dict[str, str], query: str, top_k: int, config: BM25Config) -> Ranking:
    """BM25 as the formula reads, document by document, in 32-bit floats where Lucene has them."""
    documents = {name: Counter(text.split()) for name, text in texts.items()}
    lengths = [sum(counts.values()) for counts in documents.values()]
    num_nonempty = sum(length > 0 for length in lengths)
    f, k1, b = np.float32, np.float32(config.k1), np.float32(config.b)
    scores: dict[str, float] = {}
    for name, counts in documents.items():
        clauses = []
        for term, query_frequency in Counter(query.split()).items():
            frequency = counts[term]
            if not frequency:
                continue
            having = sum(term in other for other in documents.values())
            idf = f(math.log(1 + (num_nonempty - having + 0.5) / (having + 0.5)))
            weight = f(query_frequency) * idf
            mean = f(sum(lengths) / num_nonempty)
            with np.errstate(divide="ignore"):
                norm = f(1) / (k1 * ((f(1) - b) + b * f(kept_length(sum(counts.values()))) / mean))
            clauses.append(float(weight - weight / (f(1) + f(frequency) * norm)))
        if clauses:
            scores[name] = float(f(math.fsum(clauses)))
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:top_k]


TEXTS = st.lists(
    st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join), min_size=1, max_size=25
)
QUERIES = st.lists(st.sampled_from([*WORDS, "unknown"]), max_size=8).map(" ".join)
CONFIGS = st.builds(
    BM25Config, k1=st.sampled_from([0, 0.9, 1.2, 10]), b=st.sampled_from([0, 0.4, 1])
)


@settings(max_examples=300, deadline=None)
@given(TEXTS, QUERIES, st.integers(1, 30), CONFIGS)
def test_hits_are_those_of_a_slow_obvious_version(
    texts: list[str], query: str, top_k: int, config: BM25Config
) -> None:
    by_id = {str(number): text for number, text in enumerate(texts)}
    passages = [Passage(id=name, text=text) for name, text in by_id.items()]
    index = BM25Index.build(passages, config=config)
    assert ranking(index, query, top_k) == slow_ranking(by_id, query, top_k, config)


def test_a_score_is_what_the_formula_gives_by_hand() -> None:
    index = BM25Index.build([Passage(id="1", text="hx hx cy"), Passage(id="2", text="dz")])
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    saturated = 2 / (2 + 0.9 * (0.6 + 0.4 * 3 / 2))
    assert index.search(["hx"], 1)[0][0].score == pytest.approx(idf * saturated, rel=1e-6)


def test_titles_are_searched_like_texts() -> None:
    index = BM25Index.build(
        [Passage(id="1", title="Röntgen", text="won"), Passage(id="2", text="x-rays")]
    )
    assert [name for name, _ in ranking(index, "röntgen's")] == ["1"]


def test_equal_scores_are_ordered_by_id_as_text_whatever_the_order_of_the_corpus() -> None:
    ids = ["10", "9", "a", "B", "é", "100", "1"]
    for order in (ids, ids[::-1]):
        index = BM25Index.build([Passage(id=name, text="same words") for name in order])
        assert [name for name, _ in ranking(index, "words", 3)] == ["1", "10", "100"]
        assert [name for name, _ in ranking(index, "words", 99)] == sorted(ids)


@pytest.fixture(scope="module")
def index() -> BM25Index:
    rng = np.random.default_rng(0)
    texts = (" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(500))
    return BM25Index.build(Passage(id=f"p{n}", title="", text=text) for n, text in enumerate(texts))


@pytest.mark.parametrize("query", ["", "   ", "the of and", "unknown", "!?…", "\ud800\x00", "___"])
def test_a_query_without_a_known_word_finds_nothing(index: BM25Index, query: str) -> None:
    assert index.search([query], 3) == [[]]


@pytest.mark.parametrize(
    "query",
    [
        " ".join(WORDS) * 20_000,
        "x" * 5_000_000,
        " ".join(f"w{n}" for n in range(200_000)),
        "日本" * 300_000 + " hx",
    ],
    ids=["known words", "one word", "unknown words", "ideographs"],
)
def test_a_gigantic_query_is_answered(index: BM25Index, query: str) -> None:
    assert len(index.search([query], 3)[0]) in (0, 3)


def test_many_known_words_in_one_query_are_answered_in_time() -> None:
    index = BM25Index.build(Passage(id=str(n), text=f"w{n} all w{n % 100}") for n in range(10_000))
    query = " ".join(f"w{n}" for n in range(10_000)) + " all"
    assert len(index.search([query], 5)[0]) == 5


def test_of_a_gigantic_query_the_first_words_count() -> None:
    index = BM25Index.build(Passage(id=str(n), text=f"w{n}") for n in range(3000))
    query = " ".join(f"w{n}" for n in range(3000))
    found = index.search([query], 3000)[0]
    assert {hit.passage.id for hit in found} == {str(n) for n in range(bm25_search.MAX_QUERY_TERMS)}
    far = "w1 " + "!" * bm25_search.MAX_QUERY_CHARS + " w2"
    assert [hit.passage.id for hit in index.search([far], 5)[0]] == ["1"]


@pytest.mark.skipif(not has_numba(), reason="numba is not installed (maskgym[fast])")
def test_both_kernels_answer_a_whole_index_alike(index: BM25Index, tmp_path: Path) -> None:
    index.save(tmp_path / "index")
    rng = np.random.default_rng(2)
    queries = [" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(300)]
    plain, compiled = (BM25Index.load(tmp_path / "index", kernel=k) for k in KERNELS)
    for top_k in (1, 10, 1000):
        assert compiled.search(queries, top_k) == plain.search(queries, top_k)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda query: compiled.search([query], 7)[0], queries))
    assert found == plain.search(queries, 7)


@pytest.mark.skipif(not has_numba(), reason="numba is not installed (maskgym[fast])")
def test_a_warm_index_has_nothing_left_to_compile(
    index: BM25Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskgym.retrieval import bm25_numba

    index.save(tmp_path / "index")
    cold, warm = (BM25Index.load(tmp_path / "index", kernel="numba") for _ in range(2))
    warm.warm_up()

    def compile_now() -> None:
        raise AssertionError("a search compiles")

    monkeypatch.setattr(bm25_numba, "_compiled", compile_now)
    assert warm.search(WORDS, 5) == index.search(WORDS, 5)
    with pytest.raises(AssertionError, match="a search compiles"):
        cold.search(WORDS, 5)


def test_any_index_that_is_open_can_be_warmed_up(index: BM25Index, tmp_path: Path) -> None:
    index.warm_up()
    nothing = BM25Index.build([Passage(id="1", text="")], folder=tmp_path / "index")
    nothing.warm_up()
    nothing.append([Passage(id="2", text="one more")])
    nothing.delete(["2"])
    nothing.warm_up()
    assert nothing.search(["more"], 1) == [[]]
    nothing.close()
    with pytest.raises(ValueError, match="is closed"):
        nothing.warm_up()


def test_an_unknown_kernel_is_refused_and_a_missing_one_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passages = [Passage(id="1", text="word")]
    name: Any = "cuda"
    with pytest.raises(ValueError, match="kernel is 'cuda'; it is one of auto, numba, numpy"):
        BM25Index.build(passages, kernel=name)
    monkeypatch.setattr(bm25_search, "has_numba", lambda: False)
    monkeypatch.setattr(bm25_search, "_MIN_COMPILED", 1)
    with pytest.raises(ImportError, match=r"pip install 'maskgym\[fast\]'"):
        BM25Index.build(passages, kernel="numba")
    assert len(BM25Index.build(passages, kernel="auto").search(["word"], 1)[0]) == 1


def test_a_large_corpus_is_indexed_as_a_small_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(4)
    passages = [
        Passage(id=f"é{n}", title="a title", text=" ".join(rng.choice(WORDS, rng.integers(0, 30))))
        for n in range(400)
    ]
    small = BM25Index.build(passages)
    monkeypatch.setattr(postings, "_PLAIN_CHUNK_PIECES", 100)
    monkeypatch.setattr(postings, "_CHUNK_PIECES", 1000)
    large = BM25Index.build(passages, folder=tmp_path / "index")
    assert large.fingerprint == small.fingerprint
    assert large.search(WORDS, 400) == small.search(WORDS, 400)
    assert len(list((tmp_path / "index").iterdir())) == len(SEGMENT_ARRAYS) + 1


def test_more_hits_than_passages_gives_all_that_match(index: BM25Index) -> None:
    assert len(index.search([" ".join(WORDS)], 10**9)[0]) == len(index) == 500


def test_a_batch_gives_the_same_as_its_queries_one_by_one(index: BM25Index) -> None:
    queries = ["hx cy", "", "dz dz f1", "hx cy"]
    assert index.search(queries, 5) == [index.search([query], 5)[0] for query in queries]
    assert index.search([], 5) == []


def test_sixteen_threads_get_the_same_hits_as_one(index: BM25Index) -> None:
    rng = np.random.default_rng(1)
    queries = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(600)]
    expected = index.search(queries, 7)
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda query: index.search([query], 7)[0], queries))
    assert found == expected


def test_a_search_that_dies_spoils_no_later_one(
    index: BM25Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = index.search(["hx cy dz"], 5)
    from maskgym.retrieval import bm25_kernel

    def die(values: Any, k: int) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bm25_kernel, "_kth_largest", die)
        with pytest.raises(KeyboardInterrupt):
            index.search(["hx cy dz"], 5)
    assert index.search(["hx cy dz"], 5) == expected


def test_saved_and_loaded_gives_identical_hits(index: BM25Index, tmp_path: Path) -> None:
    queries = [f"{first} {second}" for first in WORDS for second in WORDS]
    index.save(tmp_path / "index")
    loaded = load_index(tmp_path / "index")
    assert loaded.search(queries, 10) == index.search(queries, 10)
    assert loaded.fingerprint == index.fingerprint


def test_passages_without_any_word_are_kept_and_never_found(tmp_path: Path) -> None:
    passages = [Passage(id="1", text=""), Passage(id="2", text="the of")]
    BM25Index.build(passages).save(tmp_path / "index")
    loaded = BM25Index.load(tmp_path / "index")
    assert len(loaded) == 2
    assert loaded.search(["the of anything"], 5) == [[]]


def test_the_fingerprint_tells_passages_and_parameters_apart() -> None:
    passages = [Passage(id="1", title="a", text="b"), Passage(id="2", text="c")]
    variants: list[tuple[Sequence[Passage], BM25Config]] = [
        (passages, BM25Config()),
        (passages, BM25Config(k1=1.2)),
        (passages, BM25Config(b=0.75)),
        (passages[:1], BM25Config()),
        ([Passage(id="1", title="ab", text=""), passages[1]], BM25Config()),
        ([Passage(id="1a", title="", text="b"), passages[1]], BM25Config()),
    ]
    prints = [BM25Index.build(given, config=config).fingerprint for given, config in variants]
    assert len(set(prints)) == len(prints)
    assert BM25Index.build(iter(passages)).fingerprint == prints[0]


def test_an_index_pickles_in_memory_and_by_its_folder(index: BM25Index, tmp_path: Path) -> None:
    fresh = BM25Index.build([Passage(id="1", text="in memory")])
    assert ranking(pickle.loads(pickle.dumps(fresh)), "memory") == ranking(fresh, "memory")
    fresh.save(tmp_path / "index")
    sent = pickle.dumps(fresh)
    assert len(sent) < 1000
    assert ranking(pickle.loads(sent), "memory") == ranking(fresh, "memory")
    BM25Index.build([Passage(id="1", text="other")]).save(tmp_path / "index")
    with pytest.raises(ValueError, match="built anew"):
        pickle.loads(sent)


def test_progress_counts_every_passage() -> None:
    for count in (1, 999, 1000, 2500):
        seen: list[int] = []
        BM25Index.build((Passage(id=str(n), text="x") for n in range(count)), progress=seen.append)
        assert sum(seen) == count


def test_a_closed_index_says_so(tmp_path: Path) -> None:
    index = BM25Index.build([Passage(id="1", text="word")])
    index.close()
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search(["word"], 1)


def test_what_cannot_be_indexed_is_refused() -> None:
    with pytest.raises(ValueError, match="no passages"):
        BM25Index.build([])
    with pytest.raises(ValueError, match="Passages 1 and 3 have the same id 'a'"):
        BM25Index.build([Passage(id=name, text="x") for name in "aba"])
    rows: Any = [{"id": "1", "text": "x"}]
    with pytest.raises(ValueError, match="Item 0 of passages is dict"):
        BM25Index.build(rows)
    path: Any = "corpus.jsonl"
    with pytest.raises(ValueError, match="read_passages"):
        BM25Index.build(path)


@pytest.mark.parametrize(
    "values", [{"k1": -0.1}, {"k1": math.inf}, {"k1": math.nan}, {"b": 1.1}, {"b": -1}]
)
def test_parameters_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))} is"):
        BM25Config(**values)


def test_top_k_below_one_is_refused(index: BM25Index) -> None:
    with pytest.raises(ValueError, match="top_k is 0"):
        index.search(["hx"], 0)
