import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maskgym.retrieval import BM25Index, Passage, Retriever
from maskgym.retrieval.replay import RecordingRetriever, ReplayRetriever


@pytest.fixture
def index() -> BM25Index:
    odd = Passage(id="odd", title='a "title"\n', text="lone \ud800 and\u2028line, \r w1")
    return BM25Index.build([odd, *(Passage(id=str(n), text=f"all w{n}") for n in range(40))])


def test_a_recording_answers_bit_for_bit_without_the_index(
    index: BM25Index, tmp_path: Path
) -> None:
    recording = RecordingRetriever(index, tmp_path / "new" / "searches.jsonl")
    assert isinstance(recording, Retriever)
    queries = ["w1", "all w2", "nothing", "", "\ud800 w3"]
    found = {k: recording.search(queries, k) for k in (1, 5)}
    recording.close()
    replay = ReplayRetriever(recording.path)
    assert isinstance(replay, Retriever)
    assert replay.fingerprint == index.fingerprint
    assert {k: replay.search(queries[::-1], k)[::-1] for k in (1, 5)} == found
    assert len(replay) == 10


def test_an_unknown_search_names_what_was_recorded(index: BM25Index, tmp_path: Path) -> None:
    recording = RecordingRetriever(index, tmp_path / "searches.jsonl")
    recording.search(["who won the prize"], 3)
    recording.close()
    replay = ReplayRetriever(tmp_path / "searches.jsonl")
    with pytest.raises(LookupError, match="nearest that was: 'who won the prize'"):
        replay.search(["who won the price"], 3)
    with pytest.raises(LookupError, match="recorded with top_k = 3"):
        replay.search(["who won the prize"], 4)
    with pytest.raises(ValueError, match="top_k is 0"):
        replay.search(["who won the prize"], 0)


def test_many_threads_write_whole_lines_and_each_search_once(
    index: BM25Index, tmp_path: Path
) -> None:
    recording = RecordingRetriever(index, tmp_path / "searches.jsonl")
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda n: recording.search([f"w{n % 20}", "all"], 2), range(400)))
    rows = [json.loads(line) for line in recording.path.read_text().splitlines()]
    assert sorted(row["query"] for row in rows) == sorted(["all", *(f"w{n}" for n in range(20))])


def test_a_recording_is_continued_after_a_kill(index: BM25Index, tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    first = RecordingRetriever(index, path)
    first.search(["w1"], 1)  # never closed: what search returned is in the file
    with path.open("ab") as file:
        file.write(b'{"fingerprint": "bm2')
    with pytest.raises(ValueError, match="line 2: not JSON"):
        ReplayRetriever(path)
    second = RecordingRetriever(index, path)
    second.search(["w1", "w2"], 1)
    second.close()
    replay = ReplayRetriever(path)
    assert len(replay) == 2


def test_another_index_and_another_file_are_refused(index: BM25Index, tmp_path: Path) -> None:
    path = tmp_path / "searches.jsonl"
    recording = RecordingRetriever(index, path)
    recording.search(["w1"], 1)
    recording.close()
    other = BM25Index.build([Passage(id="1", text="other")])
    with pytest.raises(ValueError, match=r"searches\.jsonl, line 1: a search in the index"):
        RecordingRetriever(other, path)
    (tmp_path / "rows.jsonl").write_text('{"question": "?"}\n')
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: no recorded search"):
        ReplayRetriever(tmp_path / "rows.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ValueError, match="holds no searches"):
        ReplayRetriever(tmp_path / "empty.jsonl")
    with pytest.raises(FileNotFoundError, match="No file"):
        ReplayRetriever(tmp_path / "searchs.jsonl")
    with pytest.raises(ValueError, match=r"Name it searches\.jsonl"):
        RecordingRetriever(other, tmp_path / "searches.txt")
