"""Building an index: what is refused, and what a failure leaves."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.retrieval.jvm import is_running
from maskgym.retrieval.lucene import LuceneIndex

JavaProcess = Callable[..., str]


def test_the_number_of_threads_is_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_threads is 0"):
        LuceneIndex.build([], tmp_path / "x", num_threads=0)
    assert not is_running()


def test_bad_passages_leave_the_earlier_index_as_it_was(java_process: JavaProcess) -> None:
    java_process(
        """
target = folder / "index"
expected = LuceneIndex.build(PASSAGES, target).search(QUERIES, 5)
many = random_passages(2500)


def failing():
    yield from many
    raise KeyError("source")


def build(passages):
    return lambda: LuceneIndex.build(passages, target)


refuses(ValueError, "Passages 1 and 3 have the same id", build([many[0], many[1], many[0]]))
refuses(ValueError, "no passages", build([]))
refuses(ValueError, "Item 1 of passages is str", build([many[0], "text"]))
refuses(ValueError, "surrogate", build([Passage(id="\\ud800", text="x")]))
refuses(KeyError, "source", build(failing()))
refuses(ValueError, "num_threads", lambda: LuceneIndex.build(many, target, num_threads=0))
assert LuceneIndex.load(target).search(QUERIES, 5) == expected
assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []

from maskgym.retrieval import lucene_build
lucene_build._RECENT_IDS = 2  # so that only the last look finds it
refuses(ValueError, "Passages 1 and 2501 have the same id", build([*many, many[0]]))
assert LuceneIndex.load(target).search(QUERIES, 5) == expected
"""
    )
