from typing import Any

import pytest

from maskgym.retrieval import BM25Index, CachedRetriever, Passage, Retriever, check_search


def test_index_and_cache_are_retrievers() -> None:
    index = BM25Index.build([Passage(id="1", text="word")])
    assert isinstance(index, Retriever)
    assert isinstance(CachedRetriever(index), Retriever)


@pytest.mark.parametrize("top_k", [0, -1, True, 1.0, None])
def test_a_number_of_hits_below_one_is_refused(top_k: Any) -> None:
    with pytest.raises(ValueError, match="top_k is"):
        check_search(["query"], top_k)


def test_a_string_in_place_of_a_list_and_items_that_are_no_strings_are_refused() -> None:
    with pytest.raises(ValueError, match="give a list"):
        check_search("query", 1)
    queries: Any = ["query", None]
    with pytest.raises(ValueError, match="Query 1 is NoneType"):
        check_search(queries, 1)
    check_search([], 1)
