import json
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskgym.retrieval import Passage, Retriever, read_index_metadata, read_passages
from maskgym.retrieval.dense import DenseIndex
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
from maskgym.retrieval.faiss_index import SearchWidth

pytest.importorskip("faiss", reason="dense indexes need faiss-cpu")

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "on",
    "ran",
    "far",
    "apple",
    "pear",
    "tree",
    "green",
    "red",
]


def passages_of(count: int) -> list[Passage]:
    """Of one to ten words, in a fixed random order."""
    random = np.random.default_rng(0)
    return [
        Passage(
            id=f"p{number:03d}",
            title="red" if number % 3 else "",
            text=" ".join(random.choice(WORDS, random.integers(1, 11))),
        )
        for number in range(count)
    ]


PASSAGES = passages_of(100)
QUERIES = ["the cat sat", "green apple", "dog", "a red pear tree", "cat"]


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64))


@pytest.fixture(scope="module")
def index(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> DenseIndex:
    folder = tmp_path_factory.mktemp("dense") / "index"
    return DenseIndex.build(PASSAGES, encoder, folder=folder, shard_passages=16)


def ids(index: Retriever, queries: list[str], top_k: int) -> list[list[str]]:
    return [[hit.passage.id for hit in hits] for hits in index.search(queries, top_k)]


def test_hits_are_those_of_highest_product_best_first(
    index: DenseIndex, encoder: SentenceEncoder
) -> None:
    assert isinstance(index, Retriever)
    assert len(index) == 100 and index.factory == "Flat"
    embeddings = encoder.encode_passages(PASSAGES)
    for query, hits in zip(QUERIES, index.search(QUERIES, 10), strict=True):
        products = embeddings @ encoder.encode_queries([query])[0]
        expected = sorted(products.tolist(), reverse=True)[:10]
        assert [hit.score for hit in hits] == pytest.approx(expected, abs=1e-6)
        for hit in hits:
            place = PASSAGES.index(hit.passage)
            assert hit.score == pytest.approx(products[place], abs=1e-6)


def test_minilm_finds_by_meaning(minilm_folder: Path) -> None:
    texts = [
        "The physician prescribed a new drug to the sick child.",
        "Share prices fell sharply on Monday.",
        "The orchestra rehearsed Beethoven's last symphony.",
    ]
    passages = [Passage(id=str(number), text=text) for number, text in enumerate(texts)]
    index = DenseIndex.build(passages, SentenceEncoder(EncoderConfig.for_model(minilm_folder)))
    queries = ["medicine from a doctor", "stock market losses", "classical music concert"]
    assert ids(index, queries, 1) == [["0"], ["1"], ["2"]]


def test_equal_scores_are_ordered_by_id_whatever_the_limit(encoder: SentenceEncoder) -> None:
    passages = [Passage(id=f"{number * 7 % 40:02d}", text="the cat sat") for number in range(40)]
    index = DenseIndex.build([*passages, Passage(id="a", text="green pear")], encoder)
    for top_k in (1, 3, 39):
        assert ids(index, ["the cat sat"], top_k) == [[f"{n:02d}" for n in range(top_k)]]


def test_empty_queries_get_nothing_and_others_never_more_than_there_is(index: DenseIndex) -> None:
    assert index.search([], 3) == []
    assert ids(index, ["", " \n", "cat"], 2)[:2] == [[], []]
    assert len(index.search(["cat"], 1000)[0]) == 100
    with pytest.raises(ValueError, match="top_k is 0"):
        index.search(["cat"], 0)
    with pytest.raises(ValueError, match="give a list"):
        index.search("cat", 1)


def test_a_query_gets_the_same_alone_in_a_batch_and_from_many_threads(index: DenseIndex) -> None:
    queries = [passage.text for passage in PASSAGES]
    together = index.search(queries, 5)
    with ThreadPoolExecutor(8) as pool:
        alone = list(pool.map(lambda query: index.search([query], 5)[0], queries))
    assert ids(index, queries, 5) == [[hit.passage.id for hit in hits] for hits in together]
    for one, other in zip(together, alone, strict=True):
        assert [hit.passage.id for hit in one] == [hit.passage.id for hit in other]
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-6)


def test_a_folder_alone_can_be_searched(index: DenseIndex, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    index.save(folder)
    metadata = read_index_metadata(folder)
    assert (metadata.backend, metadata.fingerprint) == ("dense", index.fingerprint)
    assert metadata.counts == {"passages": 100, "dimensions": 32}
    loaded = DenseIndex.load(folder)
    assert loaded.encoder.config == index.encoder.config
    assert ids(loaded, QUERIES, 10) == ids(index, QUERIES, 10)
    assert loaded.fingerprint == index.fingerprint


def test_built_in_memory_in_a_folder_and_by_other_shards_is_the_same(
    index: DenseIndex, encoder: SentenceEncoder, tmp_path: Path
) -> None:
    built = DenseIndex.build(iter(PASSAGES), encoder)
    assert built.fingerprint == index.fingerprint
    assert ids(built, QUERIES, 10) == ids(index, QUERIES, 10)
    built.save(tmp_path / "saved")
    assert ids(DenseIndex.load(tmp_path / "saved"), QUERIES, 10) == ids(index, QUERIES, 10)


@pytest.mark.parametrize("factory", ["SQ8", "IVF4,Flat", "HNSW8"])
def test_other_kinds_of_index_are_built_and_opened(
    encoder: SentenceEncoder, index: DenseIndex, factory: str, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    built = DenseIndex.build(PASSAGES, encoder, factory=factory, folder=folder)
    assert (built.factory, DenseIndex.load(folder).factory) == (factory, factory)
    assert built.fingerprint != index.fingerprint
    wide = built.with_width(nprobe=4, ef_search=100)
    assert len({built.fingerprint, wide.fingerprint}) == 2
    assert (
        wide.fingerprint
        == DenseIndex.load(folder, width=SearchWidth(nprobe=4, ef_search=100)).fingerprint
    )
    exact = ids(index, QUERIES, 10)
    same = [len({*a} & {*b}) for a, b in zip(ids(wide, QUERIES, 10), exact, strict=True)]
    assert sum(same) >= 45


def test_pickles_by_its_folder_or_else_by_its_content(
    index: DenseIndex, encoder: SentenceEncoder
) -> None:
    small = pickle.dumps(index)
    assert len(small) < 2000
    memory = pickle.dumps(DenseIndex.build(PASSAGES, encoder))
    for content in (small, memory):
        assert ids(pickle.loads(content), QUERIES, 5) == ids(index, QUERIES, 5)


def test_a_closed_index_says_so(encoder: SentenceEncoder) -> None:
    index = DenseIndex.build(PASSAGES[:5], encoder)
    index.close()
    with pytest.raises(ValueError, match="closed"):
        index.search(["cat"], 1)


def test_bad_passages_are_refused_before_any_is_embedded(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(SentenceEncoder, "encode_passages")
    again = [Passage(id="same", text="cat"), Passage(id="2", text="x"), Passage(id="same", text="")]
    strange: Any = [{"id": "1"}]
    for passages, options, message in (
        ([], {}, "no passages"),
        (again, {}, "Passages 1 and 3 have the same id 'same'"),
        (strange, {}, "Item 0 of passages is dict"),
        (PASSAGES, {"factory": "HSNW16"}, "FAISS cannot make 'HSNW16'"),
        (PASSAGES, {"factory": "IVF101,Flat"}, "more lists than the 100 passages"),
        (PASSAGES, {"shard_passages": 0}, "shard_passages is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            DenseIndex.build(passages, encoder, folder=tmp_path / "index", **options)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="is no index"):
        DenseIndex.build(PASSAGES, encoder, folder=tmp_path / "notes")
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes"]


KILLED_BUILD = """
import os, signal, sys
sys.path.insert(0, sys.argv[4])
from test_dense import PASSAGES
from maskgym.retrieval.dense import DenseIndex
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
embed, calls = SentenceEncoder.encode_passages, []
def embed_until_killed(self, passages):
    calls.append(1)
    if len(calls) > int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return embed(self, passages)
SentenceEncoder.encode_passages = embed_until_killed
encoder = SentenceEncoder(EncoderConfig(model=sys.argv[1], pooling="mean", max_tokens=64))
DenseIndex.build(PASSAGES, encoder, factory="IVF4,SQ8", folder=sys.argv[2], shard_passages=16)
"""


@pytest.fixture
def killed(tiny_bert: Path, tmp_path: Path) -> Path:
    """The folder of an index whose builder was killed when three of seven shards were there."""
    folder = tmp_path / "index"
    arguments = [str(tiny_bert), str(folder), "3", str(Path(__file__).parent)]
    done = subprocess.run([sys.executable, "-P", "-c", KILLED_BUILD, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not folder.exists()
    shards = tmp_path / ".index.embeddings"
    assert sorted(p.name for p in shards.glob("*.npy")) == [f"00000{n}.npy" for n in range(3)]
    return folder


def counting(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the numbers of passages that are embedded."""
    counts: list[int] = []
    embed = encoder.encode_passages

    def count(passages: Any) -> Any:
        counts.append(len(passages))
        return embed(passages)

    monkeypatch.setattr(encoder, "encode_passages", count)
    return counts


def test_a_killed_build_goes_on_where_it_was_and_gives_the_same_bytes(
    killed: Path, encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / ".index.embeddings"
    cut_off = shards / "000001.npy"
    cut_off.write_bytes(cut_off.read_bytes()[:-1])
    (shards / "000003.npy.abcd.partial").write_bytes(b"half")
    counts = counting(encoder, monkeypatch)
    reported: list[int] = []
    options: dict[str, Any] = {"factory": "IVF4,SQ8", "shard_passages": 16}
    DenseIndex.build(PASSAGES, encoder, folder=killed, progress=reported.append, **options)
    assert counts == [16, 16, 16, 16, 4]  # the second, and the last four
    assert reported == [16] * 6 + [4]
    whole = tmp_path / "whole"
    DenseIndex.build(PASSAGES, encoder, folder=whole, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "whole"]
    for path in whole.iterdir():
        assert path.read_bytes() == (killed / path.name).read_bytes(), path.name


def test_thousands_of_shards_need_few_open_files(
    encoder: SentenceEncoder, index: DenseIndex, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    num_open = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (num_open + 40, before[1]))
    try:
        built = DenseIndex.build(PASSAGES, encoder, folder=tmp_path / "index", shard_passages=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert ids(built, QUERIES, 10) == ids(index, QUERIES, 10)


def test_an_unfinished_build_of_something_else_is_not_gone_on_with(
    killed: Path, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SentenceEncoder(replace(encoder.config, pooling="cls"))
    changed = [*PASSAGES[:-1], Passage(id="new", text="cat")]
    for passages, its_encoder, size, message in (
        (changed, encoder, 16, "other passages"),
        (PASSAGES[::-1], encoder, 16, "other passages"),
        (PASSAGES, other, 16, "another encoder"),
        (PASSAGES, encoder, 17, "shards of another size"),
    ):
        with pytest.raises(ValueError, match=rf"{message}.*resume=False; or delete"):
            DenseIndex.build(passages, its_encoder, folder=killed, shard_passages=size)
    counts = counting(encoder, monkeypatch)
    DenseIndex.build(changed, encoder, folder=killed, resume=False)
    assert counts == [100]


def test_two_builders_of_one_index_do_not_mix(
    index: DenseIndex, encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = encoder.encode_passages
    refused: list[ValueError] = []

    def embed_beside_another(passages: Any) -> Any:
        with pytest.raises(ValueError, match="being changed by another") as caught:
            DenseIndex.build(PASSAGES, other, folder=tmp_path / "index")
        refused.append(caught.value)
        return embed(passages)

    other = SentenceEncoder(encoder.config)
    monkeypatch.setattr(encoder, "encode_passages", embed_beside_another)
    built = DenseIndex.build(PASSAGES, encoder, folder=tmp_path / "index")
    assert len(refused) == 1
    monkeypatch.undo()
    assert ids(built, QUERIES, 5) == ids(index, QUERIES, 5)


def test_a_model_that_is_gone_or_another_is_told_and_can_be_given(
    make_tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    model = make_tiny_bert("moving")
    encoder = SentenceEncoder(EncoderConfig(model=str(model), pooling="cls", max_tokens=64))
    folder = tmp_path / "index"
    expected = ids(DenseIndex.build(PASSAGES, encoder, folder=folder), QUERIES, 5)
    moved = tmp_path / "moved"
    shutil.move(model, moved)
    message = rf"embedded by the model {model}.*DenseIndex\.load\('{folder}', model=PATH\)"
    with pytest.raises(ValueError, match=message):
        DenseIndex.load(folder)
    assert ids(DenseIndex.load(folder, model=moved), QUERIES, 5) == expected
    with pytest.raises(ValueError, match="is not the model that embedded"):
        DenseIndex.load(folder, model=make_tiny_bert("other", seed=1))


def test_a_damaged_index_and_one_of_another_backend_are_refused(
    index: DenseIndex, tmp_path: Path
) -> None:
    def damage(name: str, change: Callable[[bytes], bytes]) -> Path:
        folder = tmp_path / name.replace(".", "-")
        shutil.rmtree(folder, ignore_errors=True)
        index.save(folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        return folder

    with pytest.raises(ValueError, match=r"bytes instead of .*Build it again"):
        DenseIndex.load(damage("vectors.faiss", lambda content: content[:-1]))
    with pytest.raises(ValueError, match=r"cannot be read by FAISS.*Build it again"):
        DenseIndex.load(damage("vectors.faiss", lambda content: bytes(len(content))))
    with pytest.raises(ValueError, match=r"bytes instead of .*Build it again"):
        DenseIndex.load(damage("passage_content.npy", lambda content: content[:-1]))

    def without_pooling(content: bytes) -> bytes:
        metadata = json.loads(content)
        del metadata["parameters"]["encoder.pooling"]
        return json.dumps(metadata).encode()

    with pytest.raises(ValueError, match=r"pooling.*Build it again"):
        DenseIndex.load(damage("metadata.json", without_pooling))
    with pytest.raises(ValueError, match="is a 'bm25' index"):
        DenseIndex.load(damage("metadata.json", lambda c: c.replace(b'"dense",', b'"bm25",')))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 150 s of one core that nobody else uses
def test_cacm_with_minilm_alone_and_fused_with_bm25(
    minilm_folder: Path, shared_data: Path, tmp_path: Path
) -> None:
    """Measured before with sentence-transformers and numpy: 0.3205, fused with Lucene's 0.3988."""
    from maskgym.retrieval import BM25Index
    from maskgym.retrieval.hybrid import HybridRetriever

    folder = shared_data / "cacm"
    passages = list(read_passages(folder / "cacm_corpus.jsonl.gz"))
    encoder = SentenceEncoder(EncoderConfig.for_model(minilm_folder))
    dense = DenseIndex.build(passages, encoder, folder=tmp_path / "index")
    bm25 = BM25Index.build(passages)
    text = (folder / "topics.cacm.txt").read_text()
    topics = dict(re.findall(r"<DOCNO>\s*(\d+)\s*</DOCNO>(.*?)</DOC>", text, re.DOTALL))
    relevant: dict[str, set[str]] = {}
    for line in (folder / "qrels.cacm.txt").read_text().splitlines():
        query, _, document, _ = line.split()
        collection, number = document.split("-")  # the shipped ids lack the zeros
        relevant.setdefault(query, set()).add(f"{collection}-{int(number):04d}")

    def mean_average_precision(retriever: Retriever) -> float:
        run = dict(zip(topics, ids(retriever, list(topics.values()), 1000), strict=True))
        total = 0.0
        for query, names in relevant.items():
            places = [place for place, name in enumerate(run[query], 1) if name in names]
            total += sum(n / place for n, place in enumerate(places, 1)) / len(names)
        return total / len(relevant)

    assert mean_average_precision(bm25) == pytest.approx(0.3241, abs=0.002)
    assert mean_average_precision(dense) == pytest.approx(0.3205, abs=0.004)
    fused = HybridRetriever([bm25, dense], depth=1000)
    assert mean_average_precision(fused) == pytest.approx(0.3988, abs=0.006)
