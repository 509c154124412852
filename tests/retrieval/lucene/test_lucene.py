"""Real Lucene indexes through Anserini, each test in a process of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.retrieval import BM25Index, Passage
from maskgym.retrieval.jvm import is_running
from maskgym.retrieval.lucene import LuceneIndex

JavaProcess = Callable[..., str]


def test_folders_that_are_no_index_are_refused_before_java_starts(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").touch()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "inner" / "segments_2").touch()
    BM25Index.build([Passage(id="1", text="x")], folder=tmp_path / "bm25")
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*notes"):
        LuceneIndex.load(tmp_path / "note")
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*notes"):
        LuceneIndex.open(tmp_path / "note")
    with pytest.raises(ValueError, match=r"no metadata\.json"):
        LuceneIndex.load(tmp_path / "notes")
    with pytest.raises(ValueError, match="no segments file"):
        LuceneIndex.open(tmp_path / "notes")
    with pytest.raises(ValueError, match=r"Did you mean .*inner\?"):
        LuceneIndex.open(tmp_path / "outer")
    with pytest.raises(ValueError, match="'bm25' index"):
        LuceneIndex.open(tmp_path / "bm25")
    assert not is_running()


def test_a_small_index_answers_as_the_embedded_one(java_process: JavaProcess) -> None:
    out = java_process(
        """
taken = []
index = LuceneIndex.build(PASSAGES, folder / "index", progress=taken.append)
assert sum(taken) == len(index) == len(PASSAGES)
assert isinstance(index, Retriever)
embedded = BM25Index.build(PASSAGES)
for query in QUERIES:
    [ours], [theirs] = index.search([query], 10), embedded.search([query], 10)
    assert ours, query
    assert [hit.passage for hit in ours] == [hit.passage for hit in theirs], query
    assert all(abs(a.score - b.score) < 1e-4 for a, b in zip(ours, theirs, strict=True)), query
assert index.search(["", "the of", "zzz", "😀"], 3) == [[], [], [], index.search(["😀"], 3)[0]]
assert index.search([], 3) == []
assert len(index.search(["prize"], 1)[0]) == 1
assert len(index.search(["prize"], 10**9)[0]) == 4
for wrong in (0, True, 1.5):
    refuses(ValueError, "top_k", lambda: index.search(["x"], wrong))
refuses(ValueError, "give a list", lambda: index.search("x", 3))

gigantic = " ".join(f"z{n}" for n in range(30_000)) + " prize"
assert index.search([gigantic], 3) == [[]]
assert ids(index.search(["prize " + gigantic], 9)) == ids(embedded.search(["prize " + gigantic], 9))
assert ids(index.search(["漢字" * 60_000, "prize \\ud800"], 9)) == [[], ids(index.search(["prize"], 9))[0]]

loaded = load_index(folder / "index")
assert type(loaded) is LuceneIndex and loaded.fingerprint == index.fingerprint
index.close()
index.close()
refuses(ValueError, "closed", lambda: index.search(["prize"], 3))
assert loaded.search(["prize"], 3)[0]
"""
    )
    assert out == ""


def test_ties_parameters_and_threads_as_in_the_embedded_index(java_process: JavaProcess) -> None:
    java_process(
        """
from concurrent.futures import ThreadPoolExecutor

passages, queries = random_passages(3000), random_queries(150)
index = LuceneIndex.build(passages, folder / "index", num_threads=2)
for config in (BM25Config(), BM25Config(k1=1.5, b=0.75), BM25Config(k1=0.0, b=0.0)):
    other = LuceneIndex.load(folder / "index", config=config)
    assert other.config == config
    embedded = BM25Index.build(passages, config=config)
    if config.k1:
        assert ids(other.search(queries, 10)) == ids(embedded.search(queries, 10)), config
    assert (other.fingerprint == index.fingerprint) == (config == BM25Config())

expected = index.search(queries, 10)
many = LuceneIndex.load(folder / "index", num_threads=3)
assert many.search(queries, 10) == expected
with ThreadPoolExecutor(16) as pool:
    assert list(pool.map(lambda query: index.search([query], 10)[0], queries * 4)) == expected * 4

# Closing while others search: each gets its answer, or is told.
failures, is_told = [], threading.Event()

def search_on():
    while True:
        try:
            assert many.search(queries[:5], 10) == expected[:5]
        except ValueError as error:
            is_told.set()
            assert "closed" in str(error)
            return
        except BaseException as error:
            failures.append(error)
            raise

threads = [threading.Thread(target=search_on) for _ in range(4)]
for thread in threads:
    thread.start()
many.close()
for thread in threads:
    thread.join()
assert is_told.is_set() and not failures

again = LuceneIndex.build(reversed(passages), folder / "again")
assert again.fingerprint == index.fingerprint
assert again.search(queries, 10) == expected
fewer = LuceneIndex.build(passages[1:], folder / "again")
assert fewer.fingerprint != index.fingerprint
own = LuceneIndex.build(passages, folder / "again", config=BM25Config(k1=1.5, b=0.75))
assert LuceneIndex.load(folder / "again").config == BM25Config(k1=1.5, b=0.75)
"""
    )


def test_a_forked_child_is_refused_and_a_spawned_one_searches(java_process: JavaProcess) -> None:
    java_process(
        """
import multiprocessing, os, pickle, time
from concurrent.futures import ProcessPoolExecutor


def search_in_child(index):
    return index.search(QUERIES, 5)


if __name__ == "__main__":
    index = LuceneIndex.build(PASSAGES, folder / "index")
    expected = index.search(QUERIES, 5)
    for attempt in range(3):
        child = os.fork()
        if not child:
            started = time.monotonic()
            refusals = (
                lambda: index.search(["prize"], 3),
                lambda: LuceneIndex.load(folder / "index"),
                lambda: LuceneIndex.build(PASSAGES, folder / "other"),
                lambda: pickle.loads(pickle.dumps(index)).search(["prize"], 3),
            )
            for call in refusals:
                refuses(RuntimeError, "spawn", call)
            index.close()
            del index
            os._exit(0 if time.monotonic() - started < 5 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with multiprocessing.get_context("fork").Pool(1) as pool:
        refuses(RuntimeError, "spawn", lambda: pool.apply(index.search, (["prize"], 3)))
    assert index.search(QUERIES, 5) == expected

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(search_in_child, index).result(100) == expected

    message = pickle.dumps(index)
    LuceneIndex.build(PASSAGES[1:], folder / "index")
    refuses(ValueError, "built anew", lambda: pickle.loads(message))
    assert index.search(QUERIES, 5) == expected  # what it opened stays
"""
    )


def test_a_broken_index_is_refused(java_process: JavaProcess) -> None:
    java_process(
        """
import shutil

LuceneIndex.build(PASSAGES, folder / "index").close()


def broken(change):
    shutil.rmtree(folder / "broken", ignore_errors=True)
    shutil.copytree(folder / "index", folder / "broken")
    change(folder / "broken")
    return lambda: LuceneIndex.open(folder / "broken")


def rewrite(name, change):
    def rewritten(broken_folder):
        path = next(broken_folder.glob(name))
        path.write_bytes(change(path.read_bytes()))
    return rewritten


stored = "*.fdt"
refuses(ValueError, "bytes instead of", broken(rewrite(stored, lambda data: data[:-1])))
refuses(ValueError, "lacks its file", broken(lambda path: next(path.glob(stored)).unlink()))


def edited(old, new):
    return broken(rewrite("metadata.json", lambda data: data.replace(old, new)))


refuses(ValueError, "format version 99", edited(b'format_version": 2', b'format_version": 99'))
refuses(ValueError, "lacks 'k1'", edited(b'"k1"', b'"k"'))
refuses(ValueError, "tokenised by", edited(b"anserini-english", b"other"))
refuses(ValueError, "cannot be opened as a Lucene index",
        broken(rewrite("segments_*", lambda data: bytes(len(data)))))


def foreign(change):
    def changed(path):
        (path / "metadata.json").unlink()
        change(path)
    return changed


refuses(ValueError, "cannot be opened", broken(foreign(rewrite("segments_*", lambda data: data[:9]))))
refuses(ValueError, "cannot be opened", broken(foreign(lambda path: next(path.glob(stored)).unlink())))
"""
    )


def test_an_index_that_others_wrote_is_opened(java_process: JavaProcess) -> None:
    java_process(
        """
def write(name, *options):
    indexer = java_class("io.anserini.index.SimpleIndexer")(
        ["-input", "", "-collection", "JsonCollection", "-index", str(folder / name), *options]
    )
    rows = [
        {"id": "1", "contents": '"Marie Curie"\\nwon two Nobel prizes'},
        {"id": "2", "contents": "no title, one prize", "url": "u"},
        {"id": "3", "title": "T", "text": "kept apart", "contents": "T kept apart from the prize"},
    ]
    assert indexer.addRawDocuments([json.dumps(row) for row in rows]) == 3
    indexer.close()


write("raw", "-storeRaw")
index = LuceneIndex.open(folder / "raw")
assert sorted(((hit.passage for hit in index.search(["prize"], 9)[0])), key=lambda p: p.id) == [
    Passage(id="1", title="Marie Curie", text="won two Nobel prizes"),
    Passage(id="2", text="no title, one prize"),
    Passage(id="3", title="T", text="kept apart"),
]
assert {path.name for path in (folder / "raw").iterdir()}.isdisjoint({"metadata.json"})
assert LuceneIndex.open(folder / "raw").fingerprint == index.fingerprint
assert LuceneIndex.open(folder / "raw", config=BM25Config(b=0)).fingerprint != index.fingerprint

write("contents", "-storeContents")
other = LuceneIndex.open(folder / "contents")
assert other.fingerprint != index.fingerprint
assert other.search(["apart"], 9)[0][0].passage.text == "T kept apart from the prize"
write("nothing")
refuses(ValueError, "-storeRaw", lambda: LuceneIndex.open(folder / "nothing").search(["prize"], 1))
refuses(ValueError, "is no index", lambda: LuceneIndex.build(PASSAGES, folder / "raw"))
assert index.search(["prize"], 9)[0]
"""
    )


@pytest.mark.slow
def test_cacm_has_one_top_ten_in_both_backends(
    java_process: JavaProcess, shared_data: Path
) -> None:
    out = java_process(
        """
import re
from maskgym.retrieval import read_passages

data = Path(sys.argv[2])
passages = list(read_passages(data / "cacm_corpus.jsonl.gz"))
text = (data / "topics.cacm.txt").read_text()
topics = [body for _, body in
          re.findall(r"<DOCNO>\\s*(\\d+)\\s*</DOCNO>(.*?)</DOC>", text, re.DOTALL)]
with_lucene = LuceneIndex.build(passages, folder / "cacm").search(topics, 10)
embedded = BM25Index.build(passages).search(topics, 10)
assert len(topics) == 64 and all(len(hits) == 10 for hits in with_lucene)
assert [[h.passage for h in hits] for hits in with_lucene] == [[h.passage for h in hits] for hits in embedded]
pairs = [(a.score, b.score) for x, y in zip(with_lucene, embedded) for a, b in zip(x, y)]
print(max(abs(a - b) for a, b in pairs) < 1e-4)
""",
        shared_data / "cacm",
    )
    assert out == "True\n"
