import pickle
from pathlib import Path
from typing import Any

import pytest

from maskgym.retrieval import Hit, Passage, Row, read_passages, write_rows


def read(tmp_path: Path, *rows: Row) -> list[Passage]:
    write_rows(tmp_path / "corpus.jsonl", rows)
    return list(read_passages(tmp_path / "corpus.jsonl"))


def test_contents_is_the_quoted_title_then_the_text() -> None:
    assert Passage(id="1", title="A", text="b\nc").contents == '"A"\nb\nc'
    assert Passage(id="1", text="b").contents == '""\nb'


@pytest.mark.parametrize("title", ["A", "", 'the "inner" one', '"'])
@pytest.mark.parametrize("text", ["one line", "two\nlines", "", '"quoted"\nfirst line'])
def test_contents_reads_back_as_title_and_text(tmp_path: Path, title: str, text: str) -> None:
    passage = Passage(id="7", title=title, text=text)
    assert read(tmp_path, {"id": "7", "contents": passage.contents}) == [passage]


def test_the_layouts_of_other_tools_are_read(tmp_path: Path) -> None:
    assert read(
        tmp_path,
        {"id": "a", "title": "T", "text": "x"},
        {"_id": "b", "title": "T", "text": "x"},
        {"docid": 12, "text": "x", "title": None},
        {"id": "c", "contents": "no title\nhere"},
        {"id": "d", "contents": '"T"\nx'},
    ) == [
        Passage(id="a", title="T", text="x"),
        Passage(id="b", title="T", text="x"),
        Passage(id="12", text="x"),
        Passage(id="c", text="no title\nhere"),
        Passage(id="d", title="T", text="x"),
    ]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"text": "x"}, "no id among the keys text"),
        ({"id": "a"}, 'no string in "text" or "contents" among the keys id'),
        ({"id": "a", "text": 3}, "text is int"),
        ({"id": "a", "text": "x", "title": ["t"]}, "title is list"),
        ({"id": "", "text": "x"}, "empty id"),
        ({"id": True, "text": "x"}, "id is bool"),
        ({"id": 1.5, "text": "x"}, "id is float"),
        ({"id": "a", "contents": {"text": "x"}}, "no string"),
    ],
)
def test_a_row_that_is_no_passage_is_named_with_file_and_line(
    tmp_path: Path, row: Row, complaint: str
) -> None:
    with pytest.raises(ValueError, match=r"corpus\.jsonl, line 2") as error:
        read(tmp_path, {"id": "ok", "text": "x"}, row)
    assert complaint in str(error.value)
    with pytest.warns(UserWarning, match="Skipped 1 bad passages"):
        found = list(read_passages(tmp_path / "corpus.jsonl", on_bad_row="skip"))
    assert [passage.id for passage in found] == ["ok"]


@pytest.mark.parametrize("field", ["id", "title", "text"])
def test_a_passage_holds_text_only(field: str) -> None:
    fields: dict[str, Any] = {"id": "1", "title": "t", "text": "x", field: b"bytes"}
    with pytest.raises(ValueError, match=f"{field} is bytes"):
        Passage(**fields)


def test_passages_and_hits_pickle() -> None:
    hit = Hit(passage=Passage(id="1", title="t", text="x"), score=1.5)
    assert pickle.loads(pickle.dumps(hit)) == hit


def test_the_real_corpus_has_29505_passages(shared_data: Path) -> None:
    passages = list(read_passages(shared_data / "wiki_passages" / "corpus.jsonl.gz"))
    assert len(passages) == len({passage.id for passage in passages}) == 29_505
