"""The retrieval benchmark: its measures are right, and every table is made from little data."""

import asyncio
import gzip
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from maskgym.scripts.benchmarks import retrieval
from maskgym.scripts.benchmarks.retrieval_anserini import why_missing
from maskgym.scripts.benchmarks.retrieval_corpus import SyntheticConfig, make_corpus
from maskgym.scripts.benchmarks.retrieval_env import measure_env
from maskgym.scripts.benchmarks.retrieval_load import (
    LoadPlan,
    LoadResult,
    generate,
    percentile_ms,
)
from maskgym.scripts.benchmarks.retrieval_parity import (
    MEASURES,
    load_cacm,
    mean_recall,
    measure_parity,
    same,
)
from maskgym.scripts.benchmarks.retrieval_servers import body_of
from maskgym.scripts.benchmarks.retrieval_service import measure_service
from maskgym.scripts.benchmarks.retrieval_soak import measure_soak
from maskgym.scripts.benchmarks.retrieval_speed import measure_speed, same_order

needs_lucene = pytest.mark.skipif(
    why_missing() is not None, reason="Lucene needs pip install 'maskgym[lucene]'"
)


def test_a_corpus_is_the_same_every_time_and_a_beginning_of_a_larger_one(tmp_path: Path) -> None:
    def rows(name: str, num: int, seed: int = 7) -> tuple[list[dict[str, str]], list[str]]:
        config = SyntheticConfig(
            num_passages=num, num_queries=20, asked_of=50, vocabulary=2000, seed=seed
        )
        corpus = make_corpus(tmp_path / name, config)
        lines = corpus.passages.read_text().splitlines()
        return [json.loads(line) for line in lines], json.loads(corpus.queries.read_text())

    small, queries = rows("small", 60)
    assert (small, queries) == rows("again", 60)
    large, same_queries = rows("large", 120)
    assert large[:60] == small and same_queries == queries and len(queries) == 20
    assert rows("other", 60, seed=8)[0] != small
    lengths = [len(row["contents"].split()) for row in large]
    assert min(lengths) >= 20 and 90 < sum(lengths) / len(lengths) < 110
    words = [set(row["contents"].split()) for row in small[:50]]
    assert all(any(set(query.split()) <= known for known in words) for query in queries)
    assert all(len(set(query.split())) == 6 for query in queries)


def test_words_follow_zipf_mandelbrot(tmp_path: Path) -> None:
    config = SyntheticConfig(num_passages=2000, num_queries=1, vocabulary=1000)
    counts: dict[str, int] = {}
    for line in make_corpus(tmp_path, config).passages.read_text().splitlines():
        for word in json.loads(line)["contents"].split():
            counts[word] = counts.get(word, 0) + 1
    found = sorted(counts.values(), reverse=True)
    for rank in (2, 10, 100):  # shares of 1 / (rank + 2.7)
        assert found[0] / found[rank - 1] == pytest.approx((rank + 2.7) / 3.7, rel=0.25)


def test_measures_agree_with_numbers_worked_by_hand() -> None:
    qrels = {"q": {"a": 1, "b": 1, "c": 0}, "r": {"a": 2, "d": 1}}
    run = {"q": ["a", "c", "b"], "r": ["x", "d"]}
    assert MEASURES["MAP"](qrels, run) == pytest.approx(((1 + 2 / 3) / 2 + (1 / 2) / 2) / 2)
    assert MEASURES["P30"](qrels, run) == pytest.approx((2 + 1) / 30 / 2)
    assert mean_recall(qrels, run, 1) == pytest.approx(1 / 2 / 2)
    ideal_q, ideal_r = 1 + 1 / math.log2(3), 2 + 1 / math.log2(3)
    expected = ((1 + 1 / math.log2(4)) / ideal_q + (1 / math.log2(3)) / ideal_r) / 2
    assert MEASURES["nDCG@10"](qrels, run) == pytest.approx(expected)
    assert same(run, {"q": ["a", "c", "b"], "r": ["d", "x"]}) == "1/2"
    assert same_order([["a"], ["b", "c"]], [["a"], ["c", "b"]]) == "1/2"


def make_cacm(data: Path) -> None:
    """A collection of three passages in CACM's files."""
    folder = data / "cacm"
    folder.mkdir(parents=True)
    rows = [
        {"id": "C-1", "contents": "algebraic languages"},
        {"id": "C-2", "contents": "sorting of languages"},
        {"id": "C-3", "contents": "square roots"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "cacm_corpus.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "topics.cacm.txt").write_text(
        "<DOC>\n<DOCNO>\n1\n</DOCNO>\nsorting languages\n</DOC>\n"
        "<DOC>\n<DOCNO>2</DOCNO> roots of squares\n</DOC>\n"
    )
    (folder / "qrels.cacm.txt").write_text("1 0 C-2 1\n2 0 C-3 1\n2 0 C-1 1\n")
    (folder / "cacm-bm25.txt").write_text(
        "1 Q0 C-2 1 2.0 run\n1 Q0 C-1 2 1.0 run\n2 Q0 C-3 1 1.0 run\n"
    )


@needs_lucene
@pytest.mark.slow
def test_parity_stands_beside_lucene_and_the_published_run(tmp_path: Path) -> None:
    make_cacm(tmp_path)
    assert load_cacm(tmp_path).queries["2"].strip() == "roots of squares"
    scores, orders = measure_parity(tmp_path)
    assert scores.rows[0] == ("CACM", "MAP", "0.7500", "0.7500", "0.3123")
    assert orders.rows == [("CACM", 3, 2, "2/2", "2/2")]
    assert len(scores.notes) == 3  # SciFact and Wikipedia are not there


@needs_lucene
@pytest.mark.slow
def test_every_engine_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("numba", reason="the compiled kernel needs pip install 'maskgym[fast]'")
    building, searching = measure_speed(tmp_path, 300, num_queries=40, num_rounds=2)
    assert [row[0] for row in building.rows] == ["ours", "Lucene (Anserini)"]
    assert [row[0] for row in searching.rows] == [
        "ours, numba",
        "ours, numpy",
        "Lucene (Anserini)",
    ]
    assert [row[-1] for row in searching.rows] == ["40/40"] * 3
    for row in [*building.rows, *searching.rows]:
        assert all(isinstance(cell, int | float) and cell > 0 for cell in row[1:5])


@needs_lucene
@pytest.mark.slow
def test_both_services_answer_under_load(tmp_path: Path) -> None:
    for module in ("uvicorn", "fastapi"):
        pytest.importorskip(module, reason=f"a service of the benchmark needs {module}")
    closed, timed = measure_service(tmp_path, 300, num_queries=40, seconds=0.5, num_rounds=2)
    assert [row[0] for row in closed.rows] == ["ours"] * 2 + ["FastAPI + Lucene"] * 2
    for row in closed.rows:
        assert isinstance(row[2], int) and row[2] > 10 and row[6] == 0
    assert sum("x the rival's queries/s" in note for note in closed.notes) == 2
    assert [row[0] for row in timed.rows] == ["half load", "twice the capacity"]
    assert all(row[9:11] == (0, 0) for row in timed.rows)  # neither failed nor hung


@pytest.mark.slow
def test_a_soak_counts_answers_and_compares_hits(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs pip install 'maskgym[serve]'")
    [table] = measure_soak(tmp_path, 300, num_queries=40, minutes=0.02)
    [row] = table.rows
    assert row[1] == row[2] and isinstance(row[1], int) and row[1] > 10
    assert row[3:6] == (0, 0, 0)


class Answers:
    """A server that answers every request in turn as it is told: a status, None to hang up."""

    def __init__(self, statuses: Sequence[int | None], delay_s: float = 0.0) -> None:
        self.statuses, self.delay_s, self.num = list(statuses), delay_s, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"Content-Length: ")[1].split()[0]))
                status = self.statuses[self.num % len(self.statuses)]
                self.num += 1
                await asyncio.sleep(self.delay_s)
                if status is None:
                    break
                reply = f"HTTP/1.1 {status} Said\r\ncontent-length: 2\r\n\r\n[]"
                writer.write(reply.encode())
        writer.close()


@contextmanager
def answering(answers: Answers) -> Iterator[int]:
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answers.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        server.close()
        loop.close()


def load(answers: Answers, plan: LoadPlan) -> LoadResult:
    with answering(answers) as port:
        return asyncio.run(generate(port, [body_of([f"q{n}"]) for n in range(10)], plan))


def test_load_in_a_closed_loop_counts_each_status() -> None:
    answers = Answers([200, 503, 200, 500], delay_s=0.01)
    found = load(answers, LoadPlan(seconds=0.5, num_connections=1))
    assert found.num_sent > 8
    assert found.num_answered == pytest.approx(found.num_sent / 2, abs=1)
    assert found.num_refused == pytest.approx(found.num_sent / 4, abs=1)
    assert found.num_failed == pytest.approx(found.num_sent / 4, abs=1)
    assert found.num_hung == 0
    assert 10 <= found.p50_ms <= found.p99_ms <= found.max_ms


def test_load_on_a_timetable_counts_the_wait_for_a_free_connection() -> None:
    plan = LoadPlan(seconds=0.5, num_connections=1, max_connections=1, rate=40)
    found = load(Answers([200], delay_s=0.05), plan)
    many = load(Answers([200], delay_s=0.05), replace(plan, max_connections=50))
    assert found.num_sent == found.num_answered == many.num_answered == 20
    assert found.num_connections == 1 and many.num_connections > 1
    assert found.max_ms > 400  # the last was due at 475 ms, and 19 of 50 ms were before it


def test_load_tells_lost_connections_and_requests_that_hang() -> None:
    lost = load(Answers([200, None]), LoadPlan(seconds=0.3, num_connections=1))
    assert (lost.num_answered, lost.num_failed, lost.num_hung) == (1, 1, 0)
    plan = LoadPlan(seconds=0.1, num_connections=2, timeout_s=0.3)
    hung = load(Answers([200], delay_s=60), plan)
    assert (hung.num_answered, hung.num_failed, hung.num_hung) == (0, 0, 2)


def test_percentiles_are_values_that_were_seen() -> None:
    values_s = [n / 1000 for n in range(1, 101)]
    assert [round(percentile_ms(values_s, share)) for share in (0.5, 0.99, 1)] == [51, 100, 100]
    assert percentile_ms([], 0.5) == 0


def test_the_environment_is_measured_with_passages_in_its_observations() -> None:
    [table] = measure_env(20)
    assert [(row[1], row[2]) for row in table.rows] == [("search", 60), ("answer", 20)] * 2
    assert all(isinstance(row[4], float) and 1 < row[4] < 1e5 for row in table.rows)


def test_the_command_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "tables.json"
    options = ["--only", "env", "--data", str(tmp_path / "none"), "--out", str(out)]
    assert retrieval.main(options) == 0
    titles = [table["title"] for table in json.loads(out.read_text())]
    assert titles[0] == "Retrieval benchmark" and "environment" in titles[1]
    assert "real data is left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (
            ["--only", "sped"],
            "--only 'sped' is no part; there are: parity, speed, service, soak, env",
        ),
        (["--passages", "1,x"], "write sizes like"),
        (["--passages", "0"], "write sizes like"),
        (["--seconds", "0"], "--seconds is 0.0; use more than 0"),
        (["--rounds", "0"], "--rounds is 0; use more than 0"),
        (["--out", "tables.csv"], "neither .md nor .json"),
    ],
)
def test_what_the_command_cannot_do_is_said(
    capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    assert retrieval.main(options) == 2
    assert complaint in capsys.readouterr().err
