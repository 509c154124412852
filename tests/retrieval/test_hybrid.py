import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskgym.retrieval import BM25Index, CachedRetriever, Hit, Passage, Retriever, check_search
from maskgym.retrieval.hybrid import HybridRetriever, reciprocal_rank_fusion

PASSAGES = [
    Passage(id="1", text="red apple"),
    Passage(id="2", text="red red pear"),
    Passage(id="3", text="green apple tree"),
    Passage(id="4", text="apple apple apple"),
]


class Fixed:
    """Answers each query with the passages named, the best first."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[int] = []
        self.is_closed = False

    @property
    def fingerprint(self) -> str:
        return "fixed-" + "-".join(self.names)

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        check_search(queries, top_k)
        self.asked.append(top_k)
        hits = [
            Hit(passage=Passage(id=name, text=f"{name} of {len(self.names)}"), score=-place)
            for place, name in enumerate(self.names)
        ]
        return [hits[:top_k] if query else [] for query in queries]

    def close(self) -> None:
        self.is_closed = True


def ids(retriever: Retriever, query: str, top_k: int = 10) -> list[str]:
    return [hit.passage.id for hit in retriever.search([query], top_k)[0]]


def test_the_score_is_the_sum_of_reciprocal_ranks() -> None:
    scores = reciprocal_rank_fusion([["a", "b"], ["b", "c"]], [1, 1], k=60)
    assert scores == {"a": 1 / 61, "b": pytest.approx(1 / 62 + 1 / 61), "c": 1 / 62}
    weighted = reciprocal_rank_fusion([["a", "b"], ["b", "c"]], [2, 1], k=1)
    assert weighted == pytest.approx({"a": 2 / 2, "b": 2 / 3 + 1 / 2, "c": 1 / 3})


@given(st.permutations(range(1, 6)))
def test_the_order_of_rankings_of_equal_weight_changes_no_bit(places: list[int]) -> None:
    def scores(of: Sequence[int]) -> float:
        rankings = [[f"other{n}" for n in range(place - 1)] + ["x"] for place in of]
        return reciprocal_rank_fusion(rankings, [1.0] * len(of))["x"]

    assert scores(places) == scores(sorted(places))


def test_what_both_find_comes_before_what_one_finds_and_ties_go_by_id() -> None:
    hybrid = HybridRetriever([Fixed("c", "b", "z"), Fixed("a", "b", "y")])
    assert isinstance(hybrid, Retriever)
    assert ids(hybrid, "q") == ["b", "a", "c", "y", "z"]
    assert ids(hybrid, "q", 2) == ["b", "a"]
    assert hybrid.search(["q"], 1)[0][0].passage.text == "b of 3"
    assert ids(HybridRetriever([Fixed("a"), Fixed("b")], [1, 2]), "q") == ["b", "a"]


def test_each_is_asked_to_the_depth_or_further_if_more_is_asked_for() -> None:
    inner = Fixed("a", "b")
    hybrid = HybridRetriever([inner], depth=5)
    hybrid.search(["q"], 2)
    hybrid.search(["q"], 9)
    assert inner.asked == [5, 9]


def test_queries_keep_their_order_and_those_without_hits_get_none() -> None:
    hybrid = HybridRetriever([BM25Index.build(PASSAGES), BM25Index.build(PASSAGES[:2])])
    found = hybrid.search(["tree", "", "unknown", "pear"], 3)
    assert [[hit.passage.id for hit in hits] for hits in found] == [["3"], [], [], ["2"]]
    assert hybrid.search([], 3) == []
    with pytest.raises(ValueError, match="top_k is 0"):
        hybrid.search([], 0)


def test_the_fingerprint_names_retrievers_weights_and_settings() -> None:
    one, other = Fixed("a"), Fixed("b")
    hybrids = [
        HybridRetriever([one, other]),
        HybridRetriever([other, one]),
        HybridRetriever([one]),
        HybridRetriever([one, other], [1, 2]),
        HybridRetriever([one, other], k=10),
        HybridRetriever([one, other], depth=10),
    ]
    assert len({hybrid.fingerprint for hybrid in hybrids}) == len(hybrids)
    same = HybridRetriever([Fixed("a"), Fixed("b")], [1.0, 1.0], k=60.0)
    assert same.fingerprint == hybrids[0].fingerprint


def test_the_fingerprint_follows_an_index_that_grows(tmp_path: Path) -> None:
    index = BM25Index.build(PASSAGES, folder=tmp_path / "index")
    hybrid = HybridRetriever([index])
    before = hybrid.fingerprint
    index.append([Passage(id="5", text="pear tree")])
    assert hybrid.fingerprint != before


def test_a_failing_retriever_fails_the_search_and_closing_closes_all() -> None:
    index, other = BM25Index.build(PASSAGES), Fixed("a")
    hybrid = HybridRetriever([other, index])
    hybrid.close()
    assert other.is_closed
    with pytest.raises(ValueError, match="closed"):
        hybrid.search(["apple"], 1)


def test_hybrids_nest_are_cached_and_pickled() -> None:
    index = BM25Index.build(PASSAGES)
    hybrid = HybridRetriever([index, HybridRetriever([index], depth=2)], [1, 0.5], k=7, depth=3)
    copy = pickle.loads(pickle.dumps(hybrid))
    assert copy.fingerprint == hybrid.fingerprint
    assert CachedRetriever(copy).search(["apple"], 3) == hybrid.search(["apple"], 3)


def test_bad_settings_are_refused() -> None:
    one = Fixed("a")
    with pytest.raises(ValueError, match="no retriever"):
        HybridRetriever([])
    with pytest.raises(ValueError, match="2 weights for 1 retrievers"):
        HybridRetriever([one], [1, 1])
    for weight in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="each is a number above 0"):
            HybridRetriever([one], [weight])
    with pytest.raises(ValueError, match="k is -1"):
        HybridRetriever([one], k=-1)
    with pytest.raises(ValueError, match="depth is 0"):
        HybridRetriever([one], depth=0)
