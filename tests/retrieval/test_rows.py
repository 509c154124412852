import gzip
import json
import sys
from pathlib import Path

import pytest

from maskgym.retrieval import Row, read_located_rows, read_rows, write_rows

ROWS: list[Row] = [
    {"id": "1", "text": "first\u2028still first\rand still"},
    {"id": "2", "text": None, "n": [1, 2]},
]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet"])
def test_written_rows_read_back_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / "new folder" / name
    assert write_rows(path, ROWS) == 2
    assert [entry.name for entry in path.parent.iterdir()] == [name]
    read = list(read_rows(path))
    assert read[0]["text"] == ROWS[0]["text"]
    assert read[1]["n"] == [1, 2]
    assert (read == ROWS) != (name == "rows.parquet")  # a table fills in the missing keys


def test_parquet_keeps_columns_that_the_first_row_lacks(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, [{"a": 1}, {"b": "x"}])
    assert list(read_rows(path)) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_json_lists_are_read_plain_and_gzipped(tmp_path: Path) -> None:
    text = json.dumps(ROWS)
    (tmp_path / "rows.json").write_text("\ufeff" + text)
    (tmp_path / "rows.json.gz").write_bytes(gzip.compress(text.encode()))
    assert list(read_rows(tmp_path / "rows.json")) == ROWS
    assert list(read_rows(str(tmp_path / "rows.json.gz"))) == ROWS


def test_blank_lines_and_a_byte_order_mark_are_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n   \n{"a": 2}')
    assert list(read_rows(path)) == [{"a": 1}, {"a": 2}]
    assert [row.number for row in read_located_rows(path)] == [1, 4]


def test_lone_surrogates_survive_writing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"text": "half \ud83d of a pair"}])
    assert list(read_rows(path)) == [{"text": "half \ud83d of a pair"}]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"a": 1', "not JSON"),
        (b"[1, 2]", "holds a list, not an object"),
        (b"3", "holds a number, not an object"),
        (b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(
    tmp_path: Path, line: bytes, complaint: str
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2") as error:
        list(read_rows(path))
    assert complaint in str(error.value)
    with pytest.warns(UserWarning, match="Skipped 1 bad rows.*line 2"):
        assert list(read_rows(path, on_bad_row="skip")) == [{"a": 1}, {"a": 3}]


def test_a_missing_file_offers_the_nearest_name_at_the_call(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*corpus\.jsonl\.gz"):
        read_rows(tmp_path / "corpsu.jsonl")
    with pytest.raises(FileNotFoundError, match=r"Data files in its folder: corpus\.jsonl\.gz"):
        read_rows(tmp_path / "zzzzzzzz.parquet")
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_rows(tmp_path / "nowhere" / "corpus.jsonl")


def test_folders_and_unknown_suffixes_say_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder.*\.parquet"):
        read_rows(tmp_path)
    with pytest.raises(ValueError, match=r"must end in \.jsonl"):
        read_rows(tmp_path / "rows.csv")
    with pytest.raises(ValueError, match=r"Name it rows\.jsonl"):
        write_rows(tmp_path / "rows.json", ROWS)
    with pytest.raises(ValueError, match="'raise' or 'skip'"):
        read_rows(tmp_path / "rows.jsonl", on_bad_row="ignore")  # type: ignore[arg-type]


def test_files_that_are_cut_off_or_something_else_say_so(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 50_000, mtime=0)
    for name, content, complaint in [
        ("cut.jsonl.gz", whole[: len(whole) // 2], "cut off"),
        ("plain.jsonl.gz", b'{"a": 1}\n', "not gzip"),
        ("cut.json.gz", gzip.compress(b"[]" * 999)[:20], "cut off"),
        ("lines.json", b'{"a": 1}\n{"a": 2}\n', "rename it to .jsonl"),
        ("broken.json", b'[\n{"a": }]', "line 2"),
        ("object.json", b'{"data": []}', "one object with the keys data"),
        ("latin.json", b'["\xe9"]', "not UTF-8"),
        ("text.parquet", b"hello", "not a Parquet file"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=name) as error:
            list(read_rows(path))
        assert complaint in str(error.value)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    write_rows(path, ROWS)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Row 2 cannot be written"):
        write_rows(path, [{"a": 1}, {"a": object()}])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_equal_rows_give_equal_gzip_bytes(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl.gz", ROWS)
    write_rows(tmp_path / "b.jsonl.gz", ROWS)
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_without_pyarrow_parquet_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'maskgym\[parquet\]'"):
        list(read_rows(tmp_path / "rows.parquet"))
    with pytest.raises(ImportError, match=r"pip install 'maskgym\[parquet\]'"):
        write_rows(tmp_path / "new.parquet", ROWS)
