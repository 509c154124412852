import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskgym.retrieval import BM25Config, BM25Index, Hit, Passage, load_index
from maskgym.retrieval.bm25_numba import has_numba
from maskgym.retrieval.index_folder import locked, read_index_metadata

WORDS = [first + second for first in "cdfgh" for second in "xyz1"]
QUERIES = [*WORDS, " ".join(WORDS), "cx cx dy", "cz fz unknown", "h1 gx cx dx fx"]
KERNELS = ["numpy", *(["numba"] if has_numba() else [])]

TEXTS = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
CHANGES = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"), st.dictionaries(st.integers(0, 40), TEXTS, min_size=1, max_size=6)
        ),
        st.tuples(st.just("delete"), st.sets(st.integers(0, 40), max_size=6)),
        st.tuples(st.just("compact"), st.none()),
    ),
    max_size=6,
)


def passages_of(texts: dict[str, str]) -> list[Passage]:
    return [Passage(id=name, title="title", text=text) for name, text in texts.items()]


def everything(index: BM25Index) -> list[list[Hit]]:
    return index.search(QUERIES, 100) + index.search(QUERIES, 2)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(TEXTS, min_size=1, max_size=12),
    CHANGES,
    st.sampled_from([0, 0.9]),
    st.sampled_from([0.4, 1]),
)
def test_a_changed_index_scores_as_one_built_anew(
    texts: list[str], changes: list[tuple[str, object]], k1: float, b: float
) -> None:
    config = BM25Config(k1=k1, b=b)
    now = {str(number): text for number, text in enumerate(texts)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        index = BM25Index.build(passages_of(now), config=config, folder=path)
        for what, given_ in changes:
            if what == "append":
                assert isinstance(given_, dict)
                new = {str(number): text for number, text in given_.items()}
                index.append(passages_of(new), on_duplicate="replace")
                now = {**{name: now[name] for name in now if name not in new}, **new}
            elif what == "delete":
                assert isinstance(given_, set)
                gone = {str(number) for number in given_} & now.keys()
                if len(gone) < len(now):
                    index.delete(gone)
                    now = {name: text for name, text in now.items() if name not in gone}
            else:
                index.compact()
        fresh = BM25Index.build(passages_of(now), config=config)
        assert len(index) == len(fresh) == len(now)
        assert index.fingerprint == fresh.fingerprint
        expected = everything(fresh)
        for kernel in KERNELS:
            assert everything(BM25Index.load(path, kernel=kernel)) == expected  # type: ignore[arg-type]
        assert everything(index) == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    texts = (" ".join(rng.choice(WORDS, rng.integers(1, 40))) for _ in range(300))
    passages = (Passage(id=f"p{number}", text=text) for number, text in enumerate(texts))
    BM25Index.build(passages, folder=tmp_path / "index")
    return tmp_path / "index"


def test_the_fingerprint_changes_with_each_change_and_not_with_compaction(folder: Path) -> None:
    index = BM25Index.load(folder)
    first = index.fingerprint
    index.append([Passage(id="new", text="cx")])
    second = index.fingerprint
    index.delete(["p7"])
    third = index.fingerprint
    index.compact()
    assert index.fingerprint == third == load_index(folder).fingerprint
    assert len({first, second, third}) == 3
    seventh = load_index(folder)
    index.delete(["new"])
    assert seventh.fingerprint == third


def test_who_has_the_index_open_keeps_its_view(folder: Path) -> None:
    reader = BM25Index.load(folder)
    before = everything(reader)
    writer = BM25Index.load(folder)
    writer.delete([f"p{number}" for number in range(0, 300, 2)])
    writer.append([Passage(id="new", text="cx dy")])
    writer.compact()
    assert everything(reader) == before
    assert everything(BM25Index.load(folder)) == everything(writer) != before


def test_searches_go_on_while_the_index_changes(folder: Path) -> None:
    index = BM25Index.load(folder)

    def search(number: int) -> int:
        return len(index.search([QUERIES[number % len(QUERIES)]], 5)[0])

    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(search, number) for number in range(2000)]
        for number in range(12):
            index.append([Passage(id=f"new{number}", text="cx dy")])
            index.delete([f"p{number}"])
        assert all(found.result() <= 5 for found in searches)


def test_readers_that_open_while_the_index_changes_see_one_state_or_another(folder: Path) -> None:
    index = BM25Index.load(folder)
    states = {index.fingerprint: len(index)}

    def read() -> tuple[str, int]:
        opened = BM25Index.load(folder)
        return opened.fingerprint, sum(map(len, opened.search([" ".join(WORDS)], 1000)))

    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read) for _ in range(200)]
        for number in range(12):
            index.append([Passage(id=f"new{number}", text="cx dy")])
            states[index.fingerprint] = len(index)
            index.compact()
        seen = [done.result() for done in reads]
    assert all(states[fingerprint] == count for fingerprint, count in seen)


def test_many_small_appends_leave_few_segments_and_no_files_behind(folder: Path) -> None:
    index = BM25Index.load(folder)
    for number in range(40):
        index.append([Passage(id=f"new{number}", text="cx")])
    metadata = read_index_metadata(folder)
    assert metadata.counts["segments"] <= 6
    assert metadata.counts["passages"] == len(index) == 340
    assert {path.name for path in folder.iterdir()} == {*metadata.files, "metadata.json"}


def test_ids_that_are_there_are_refused_or_replaced(folder: Path) -> None:
    index = BM25Index.load(folder)
    before = (index.fingerprint, everything(index))
    new = [Passage(id="p5", text="solitary"), Passage(id="q", text="cx")]
    with pytest.raises(
        ValueError, match=r"1 of the new ids are in the index already: 'p5'.*replace"
    ):
        index.append(new)
    with pytest.raises(ValueError, match="Passages 1 and 2 have the same id 'q'"):
        index.append([new[1], new[1]])
    assert (index.fingerprint, everything(BM25Index.load(folder))) == before
    index.append(new, on_duplicate="replace")
    assert [hit.passage for hit in index.search(["solitary"], 5)[0]] == [new[0]]
    assert len(index) == 301
    index.append((Passage(id=f"p{n}", text="all new") for n in range(300)), on_duplicate="replace")
    assert len(index.search(["new"], 1000)[0]) == 300
    with pytest.raises(ValueError, match="on_duplicate is 'keep'"):
        index.append(new, on_duplicate="keep")  # type: ignore[arg-type]


def test_a_deleted_id_can_come_back(folder: Path) -> None:
    index = BM25Index.load(folder)
    index.delete(["p5"])
    index.append([Passage(id="p5", text="solitary")])
    index.delete(["p5"])
    index.append([Passage(id="p5", text="solitary again")])
    assert [hit.passage.text for hit in index.search(["solitary"], 5)[0]] == ["solitary again"]


def test_what_cannot_be_deleted_is_refused_and_nothing_changes(folder: Path) -> None:
    index = BM25Index.load(folder)
    before = index.fingerprint
    with pytest.raises(
        LookupError, match=r"1 of 2 ids are not in .*: 'nobody'. Nothing was deleted"
    ):
        index.delete(["p1", "nobody"])
    with pytest.raises(ValueError, match="one string 'p1'"):
        index.delete("p1")
    with pytest.raises(ValueError, match="No passage would be left"):
        index.delete(f"p{number}" for number in range(300))
    with pytest.raises(ValueError, match="There are no passages"):
        index.append([])
    with pytest.raises(ValueError, match="Item 0 of passages is int"):
        index.append([1])  # type: ignore[list-item]
    assert before == index.fingerprint == load_index(folder).fingerprint
    index.delete(["p1", "p1"])
    with pytest.raises(LookupError, match="'p1'"):
        index.delete(["p1"])
    memory = BM25Index.build([Passage(id="1", text="x")])
    with pytest.raises(ValueError, match="in memory only"):
        memory.append([Passage(id="2", text="x")])
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.append([Passage(id="2", text="x")])


def test_one_writer_at_a_time(folder: Path) -> None:
    index = BM25Index.load(folder)
    with locked(folder), pytest.raises(ValueError, match="being changed by another process"):
        index.delete(["p1"])
    index.delete(["p1"])


def test_a_writer_that_fails_leaves_the_index(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = BM25Index.load(folder)
    files = {path.name for path in folder.iterdir()}

    def broken() -> Iterator[Passage]:
        yield Passage(id="new", text="cx")
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        index.append(broken())

    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match=r"No space left.*It is as it was"):
        index.delete(["p1"])
    assert {path.name for path in folder.iterdir()} == files
    assert load_index(folder).fingerprint == index.fingerprint


PROGRAM = """
import os, signal, sys
from maskgym.retrieval import BM25Index, Passage
from maskgym.retrieval import bm25_update, index_folder
calls = 0
def die_at(number, function):
    def wrapper(*args, **options):
        global calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **options)
    return wrapper
number = int(sys.argv[2])
os.fsync = die_at(number, os.fsync)
os.replace = die_at(number, os.replace)
index = BM25Index.load(sys.argv[1])
index.append([Passage(id="p1", text="cx"), Passage(id="new", text="cx")], on_duplicate="replace")
"""


def test_a_killed_writer_leaves_the_old_state_or_the_new_one(folder: Path) -> None:
    old = load_index(folder)
    states = []
    for number in (1, 5, 12, 100):
        copy = folder.with_name(f"copy{number}")
        shutil.copytree(folder, copy)
        done = subprocess.run(
            [sys.executable, "-P", "-c", PROGRAM, str(copy), str(number)], check=False
        )
        index = BM25Index.load(copy)
        states.append(index.fingerprint)
        assert done.returncode == (0 if number == 100 else -signal.SIGKILL)
        index.append([Passage(id="next", text="cx")])  # and the next writer can go on
        metadata = read_index_metadata(copy)
        assert {path.name for path in copy.iterdir()} == {*metadata.files, "metadata.json"}
    assert states[0] == states[1] == states[2] == old.fingerprint != states[3]
