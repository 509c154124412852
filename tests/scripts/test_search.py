import argparse
import gzip
import io
import json
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from maskgym.retrieval import BM25Config, BM25Index, Hit, Passage, write_rows
from maskgym.scripts import search
from maskgym.scripts.query_files import Query, read_queries
from maskgym.scripts.search import search_in_batches

PASSAGES = [
    Passage(id="p1", title="Röntgen", text="won the first prize in physics"),
    Passage(id="p2", text="the second prize was shared"),
    Passage(id="p3", text="a physics of snow"),
]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    BM25Index.build(PASSAGES).save(tmp_path / "index")
    return tmp_path / "index"


def run(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    search.add_arguments(parser)
    return search.run(parser.parse_args([str(argument) for argument in arguments]))


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.split("\n") if line]


def test_hits_come_in_the_order_of_the_queries_as_the_index_gives_them(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = [f"{'physics' if n % 3 else 'second'} prize {n}" for n in range(40)]
    write_rows(tmp_path / "q.jsonl", [{"id": n, "query": q} for n, q in enumerate(queries)])
    expected = BM25Index.load(index).search(queries, 2)
    for options in ([], ["--batch-size", 7], ["--batch-size", 1, "--threads", 3]):
        assert run(index, "--queries", tmp_path / "q.jsonl", "--top-k", 2, *options) == 0
        out, err = capsys.readouterr()
        assert rows_of(out) == [
            {
                "query_id": str(n),
                "hits": [{"id": hit.passage.id, "score": hit.score} for hit in hits],
            }
            for n, hits in enumerate(expected)
        ]
        assert err.startswith("40 queries, 2.0 hits each, in ") and "queries/s" in err


def test_options_may_stand_before_the_indexes(index: Path, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("prize\n")
    assert run("--queries", tmp_path / "q.txt", index) == 0


def test_the_text_of_passages_is_given_when_asked_and_a_file_is_written_whole(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.tsv").write_text("a\tphysics first\nb\tnothing known here\n")
    out = tmp_path / "new" / "hits.jsonl"
    assert run(index, "--queries", tmp_path / "q.tsv", "--out", out, "--text", "--top-k", 1) == 0
    assert "2 queries" in capsys.readouterr().out
    first, second = rows_of(out.read_text())
    [hit] = first["hits"]
    assert (hit["id"], hit["title"], hit["text"]) == ("p1", "Röntgen", PASSAGES[0].text)
    assert second == {"query_id": "b", "hits": []}

    (tmp_path / "bad.tsv").write_text("a\tphysics\nno tab\n")
    with pytest.raises(ValueError, match=r"bad.tsv, line 2: no id and tab"):
        run(index, "--queries", tmp_path / "bad.tsv", "--out", out, "--batch-size", 1)
    assert len(rows_of(out.read_text())) == 2  # the old file stays, and nothing beside it
    assert [path.name for path in out.parent.iterdir()] == ["hits.jsonl"]


def test_a_trec_run_has_ranks_and_takes_no_ids_with_spaces(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "q.txt").write_text("prize\nphysics\n")
    assert run(index, "--queries", tmp_path / "q.txt", "--format", "trec") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[1], line[3], line[5]) for line in lines] == [
        ("1", "Q0", "1", "maskgym"),
        ("1", "Q0", "2", "maskgym"),
        ("2", "Q0", "1", "maskgym"),
        ("2", "Q0", "2", "maskgym"),
    ]
    [hits] = BM25Index.load(index).search(["physics"], 5)
    assert [(line[2], float(line[4])) for line in lines[2:]] == [
        (hit.passage.id, hit.score) for hit in hits
    ]
    (tmp_path / "q.tsv").write_text("my id\tprize\n")
    with pytest.raises(ValueError, match=r"'my id' has white space.*--format jsonl"):
        run(index, "--queries", tmp_path / "q.tsv", "--format", "trec")


def test_several_indexes_are_fused_by_reciprocal_ranks(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    BM25Index.build(PASSAGES, config=BM25Config(k1=0, b=1)).save(other)
    (tmp_path / "q.txt").write_text("physics prize\n")
    found = [BM25Index.load(folder).search(["physics prize"], 10)[0] for folder in (index, other)]
    scores: dict[str, float] = {}
    for hits in found:
        for rank, hit in enumerate(hits, start=1):
            scores[hit.passage.id] = scores.get(hit.passage.id, 0) + 1 / (60 + rank)
    assert run(index, other, "--queries", tmp_path / "q.txt") == 0
    [row] = rows_of(capsys.readouterr().out)
    assert {hit["id"]: hit["score"] for hit in row["hits"]} == pytest.approx(scores)


def test_a_service_is_asked_instead_of_an_index(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="needs pip install 'maskgym[serve]'")
    from maskgym.retrieval.service import RetrievalApp

    listener = socket.create_server(("127.0.0.1", 0))
    app = RetrievalApp(lambda: BM25Index.load(index))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    (tmp_path / "q.txt").write_text("first prize\nsnow\n")
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert run("--url", url, "--queries", tmp_path / "q.txt") == 0
        answered = capsys.readouterr().out
    finally:
        server.should_exit = True
        thread.join(40)
    assert run(index, "--queries", tmp_path / "q.txt") == 0
    assert answered == capsys.readouterr().out != ""


def test_standard_input_is_read_and_answered_as_it_comes(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stdin = io.TextIOWrapper(io.BytesIO('{"qid": 7, "question": "Röntgen"}\n'.encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run(index, "--queries", "-", "--top-k", 1) == 0
    [row] = rows_of(capsys.readouterr().out)
    assert row["query_id"] == "7" and row["hits"][0]["id"] == "p1"


def test_no_more_queries_are_read_than_are_being_searched() -> None:
    num_read = 0

    class Nothing:
        fingerprint = "nothing"

        def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
            return [[] for _ in queries]

        def close(self) -> None:
            pass

    def queries() -> Iterator[Query]:
        nonlocal num_read
        while True:
            num_read += 1
            yield Query(query_id=str(num_read), text="x")

    for num_threads, most in ((1, 10), (3, 10 * 5)):
        num_read = 0
        batches = search_in_batches(Nothing(), queries(), 1, size=10, num_threads=num_threads)
        assert len(next(batches)[0]) == 10
        assert num_read <= most


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "q.jsonl",
            '{"query_id": "a", "question": "x"}\n{"task_id": 2, "query": "y"}\n',
            "a=x 2=y",
        ),
        ("q.json", '[{"_id": "a", "text": "x"}]', "a=x"),
        ("q.tsv", "a\tx\r\n\nb\ty\tz\n", "a=x b=y\tz"),
        ("q.txt", "\ufeffx\n\n  y \n", "1=x 3=y"),
        ("q.queries", '{"id": "a", "query": "x"}\n', "a=x"),
        ("q.txt", "x\u2028still x\n", "1=x\u2028still x"),
        ("q.txt", "", ""),
    ],
)
def test_queries_are_read_from_every_layout(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    (tmp_path / name).write_bytes(content.encode())
    found = list(read_queries(str(tmp_path / name)))
    assert " ".join(f"{query.query_id}={query.text}" for query in found) == expected
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content.encode()))
    assert list(read_queries(str(tmp_path / f"{name}.gz"))) == found


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"query": "x"}\n', "line 1: no id that is text among the keys query"),
        ('{"id": "1", "query": ["x"]}\n', "line 1: no query that is text"),
        ('{"id": "1", "query": "x"}\nx\n', "line 2: not JSON"),
        ("a\tx\na\ty\n", "Query 2 has the id 'a' of one before it"),
        (b"x\n\xff\n", "line 2: not UTF-8"),
    ],
)
def test_a_query_that_cannot_be_read_is_named(
    tmp_path: Path, content: str | bytes, complaint: str
) -> None:
    path = tmp_path / "queries"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=complaint):
        list(read_queries(str(path)))
    with pytest.raises(FileNotFoundError, match=r"No file .*none\. "):
        read_queries(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--queries", "q"], "either the folder of an index"),
        (["{index}", "--url", "http://x", "--queries", "q"], "either the folder of an index"),
        (["{index}", "--queries", "q", "--top-k", "0"], "--top-k is 0"),
        (["{index}", "--queries", "q", "--batch-size", "0"], "--batch-size is 0"),
        (["{index}", "--queries", "q", "--depth", "20"], "--depth is for several indexes"),
        (["{index}", "{index}", "--queries", "q", "--depth", "5"], "fewer than the 10 hits"),
        (["{index}", "--queries", "q", "--format", "trec", "--text"], "holds no text"),
        (["{index}", "--queries", "q", "--rerank", "/no/model"], "no model folder"),
        (["{index}", "--queries", "q", "--out", "."], "is a folder"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_search(
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q").write_text("prize\n")
    with pytest.raises(ValueError, match=complaint):
        run(*(argument.format(index=index) for argument in arguments))
