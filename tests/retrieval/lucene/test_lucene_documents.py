"""What Lucene stores of a passage, and what others have stored."""

import pytest

from maskgym.retrieval import Passage
from maskgym.retrieval.lucene_documents import document_json, passage_of


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("", ""),
        ("T", "x"),
        ("two\nlines", "x"),
        ('"q"', '"r"\nx'),
        ("", '"r"\nx'),
        ("é😀", "\x00\t"),
    ],
)
def test_a_stored_passage_comes_back(title: str, text: str) -> None:
    passage = Passage(id="1", title=title, text=text)
    assert passage_of("1", document_json(passage), None) == passage


@pytest.mark.parametrize(
    ("raw", "contents", "title", "text"),
    [
        ('{"id": "1", "contents": "\\"T\\"\\nx"}', None, "T", "x"),
        ('{"id": "1", "contents": "first\\nsecond"}', None, "", "first\nsecond"),
        ('{"id": "1", "title": "T", "contents": "x"}', None, "T", "x"),
        ('{"_id": "1", "title": "T", "text": "x", "metadata": {}}', None, "T", "x"),
        ("<DOC>x</DOC>", "x", "", "<DOC>x</DOC>"),
        ("{no json", None, "", "{no json"),
        ('{"id": "1", "url": "u"}', "x", "", "x"),
        ('{"id": "1", "url": "u"}', None, "", '{"id": "1", "url": "u"}'),
        (None, "x", "", "x"),
    ],
)
def test_what_other_indexes_store_is_read(
    raw: str | None, contents: str | None, title: str, text: str
) -> None:
    assert passage_of("1", raw, contents) == Passage(id="1", title=title, text=text)


def test_an_index_without_text_says_how_to_build_it() -> None:
    with pytest.raises(ValueError, match="-storeRaw"):
        passage_of("1", None, None)


def test_an_id_that_lucene_cannot_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="surrogate"):
        document_json(Passage(id="\ud800", text="x"))
