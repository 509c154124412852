"""FAISS files that faiss itself wrote, as those who publish embeddings do, become indexes of ours."""

import json
import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskgym.retrieval import DenseIndex, Passage, load_index
from maskgym.retrieval.dense_import import import_faiss
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder
from maskgym.scripts import cli

faiss: Any = pytest.importorskip("faiss", reason="dense indexes need faiss-cpu")

WORDS = ["cat", "dog", "sat", "mat", "ran", "far", "apple", "pear", "tree", "green", "red"]
QUERIES = ["cat sat", "green apple tree", "dog ran far"]


def make_passages(count: int = 60) -> list[Passage]:
    random = np.random.default_rng(3)
    return [
        Passage(
            id=f"id{n * 7 % 61}", title="red", text=" ".join(random.permutation(WORDS)[: 2 + n % 8])
        )
        for n in range(count)
    ]


PASSAGES = make_passages()


@pytest.fixture(scope="module")
def encoder(tiny_bert: Path) -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64))


@pytest.fixture(scope="module")
def vectors(encoder: SentenceEncoder) -> NDArray[np.float32]:
    return encoder.encode_passages(PASSAGES)


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes vectors with faiss alone; gives the file."""

    def write_file(
        vectors: NDArray[np.float32], factory: str = "Flat", metric: int | None = None
    ) -> Path:
        index = faiss.index_factory(
            vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT if metric is None else metric
        )
        index.train(vectors)
        if factory.startswith("IDMap"):
            index.add_with_ids(vectors, np.arange(len(vectors)) + 5)
        else:
            index.add(vectors)
        path = tmp_path / "theirs.index"
        faiss.write_index(index, str(path))
        return path

    return write_file


def test_hits_are_those_of_an_index_that_was_embedded_here(
    encoder: SentenceEncoder, vectors: NDArray[np.float32], write: Write, tmp_path: Path
) -> None:
    counts: list[int] = []
    file = write(vectors)
    index = import_faiss(iter(PASSAGES), encoder, file, tmp_path / "index", progress=counts.append)
    own = DenseIndex.build(PASSAGES, encoder)
    assert index.search(QUERIES, 7) == own.search(QUERIES, 7)
    assert sum(counts) == len(index) == len(PASSAGES) and index.factory == "Flat"
    opened = load_index(tmp_path / "index")
    assert opened.search(QUERIES, 7) == own.search(QUERIES, 7)
    assert opened.fingerprint == index.fingerprint != own.fingerprint


def test_the_file_takes_no_room_twice_and_may_go(
    encoder: SentenceEncoder,
    vectors: NDArray[np.float32],
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = write(vectors)
    found = import_faiss(PASSAGES, encoder, file, tmp_path / "linked").search(QUERIES, 3)
    assert (tmp_path / "linked" / "vectors.faiss").samefile(file)

    def no_links(*arguments: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", no_links)
    copied = import_faiss(PASSAGES, encoder, file, tmp_path / "copied")
    assert not (tmp_path / "copied" / "vectors.faiss").samefile(file)
    file.unlink()
    assert copied.search(QUERIES, 3) == load_index(tmp_path / "linked").search(QUERIES, 3) == found


@pytest.mark.parametrize("factory", ["SQ8", "HNSW8", "IVF4,Flat", "IVF4,SQ8"])
def test_other_kinds_are_taken_too(
    encoder: SentenceEncoder,
    vectors: NDArray[np.float32],
    write: Write,
    tmp_path: Path,
    factory: str,
) -> None:
    index = import_faiss(PASSAGES, encoder, write(vectors, factory), tmp_path / "index")
    exact = DenseIndex.build(PASSAGES, encoder).search(QUERIES, 5)
    for hits, expected in zip(index.search(QUERIES, 5), exact, strict=True):
        same = {hit.passage.id for hit in hits} & {hit.passage.id for hit in expected}
        assert len(same) >= 3


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat"])
def test_what_does_not_belong_together_is_refused_and_the_old_index_stays(
    encoder: SentenceEncoder,
    vectors: NDArray[np.float32],
    write: Write,
    tmp_path: Path,
    make_tiny_bert: Callable[..., Path],
    factory: str,
) -> None:
    folder = tmp_path / "index"
    before = DenseIndex.build(PASSAGES[:5], encoder, folder=folder).fingerprint
    other = SentenceEncoder(
        EncoderConfig(model=str(make_tiny_bert("other", seed=5)), pooling="mean", max_tokens=64)
    )
    file = write(vectors, factory)
    shuffled = [PASSAGES[n] for n in np.random.default_rng(0).permutation(len(PASSAGES))]
    for passages, model, complaint in (
        (PASSAGES[:-1], encoder, "has 60 vectors, and there are 59 passages"),
        (shuffled, encoder, "does not fit: of 16 passages"),
        (PASSAGES, other, "does not fit: of 16 passages"),
        ([*PASSAGES[:-1], PASSAGES[0]], encoder, "have the same id"),
    ):
        with pytest.raises(ValueError, match=complaint):
            import_faiss(passages, model, file, folder)
        assert load_index(folder).fingerprint == before
    wide = np.concatenate([vectors, vectors], axis=1)
    with pytest.raises(ValueError, match=r"vectors of 64 dimensions.* makes 32"):
        import_faiss(PASSAGES, encoder, write(wide, factory), folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "theirs.index"]


def test_a_file_that_is_none_or_compares_otherwise_is_refused(
    encoder: SentenceEncoder, vectors: NDArray[np.float32], write: Write, tmp_path: Path
) -> None:
    folder = tmp_path / "index"
    with pytest.raises(FileNotFoundError, match=r"No file .*faiss\.write_index"):
        import_faiss(PASSAGES, encoder, tmp_path / "none", folder)
    (tmp_path / "text").write_text("no index at all")
    with pytest.raises(ValueError, match="cannot be read by FAISS"):
        import_faiss(PASSAGES, encoder, tmp_path / "text", folder)
    with pytest.raises(ValueError, match="compares by distances"):
        import_faiss(PASSAGES, encoder, write(vectors, "Flat", faiss.METRIC_L2), folder)
    with pytest.raises(ValueError, match="numbers of its own"):
        import_faiss(PASSAGES, encoder, write(vectors, "IDMap,Flat"), folder)
    file = write(vectors)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read by FAISS"):
        import_faiss(PASSAGES, encoder, file, folder)
    assert not folder.exists()


def test_search_r1s_pair_of_files_is_indexed_from_the_shell(
    minilm_folder: Path, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its program embeds the contents as they are, with the quotes around the title."""
    subjects = ["Paris", "Whales", "Chess", "Volcanoes", "Bread", "Mozart", "Football", "Cancer"]
    predicates = ["are often written about.", "were unknown to the Romans.", "cost a lot of money."]
    passages = [
        Passage(id=str(n), title=subject, text=f"{subject} {predicate}")
        for n, (subject, predicate) in enumerate(product(subjects, predicates))
    ]
    folder, corpus = tmp_path / "index", tmp_path / "wiki-18.jsonl"
    rows = [{"id": passage.id, "contents": passage.contents} for passage in passages]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = SentenceEncoder(EncoderConfig.for_model(minilm_folder))
    theirs = model.encode_passages([Passage(id=row["id"], text=row["contents"]) for row in rows])
    options = ["--backend", "dense", "--model", str(minilm_folder)]
    options += ["--faiss", str(write(theirs)), "--query", "an expensive composer"]
    assert cli.main(["index", str(corpus), str(folder), *options]) == 0
    made, first, *_ = capsys.readouterr().out.splitlines()
    assert "factory = Flat" in made and "24 passages" in made
    [query] = model.encode_queries(["an expensive composer"])
    assert first.split()[2] == str((theirs @ query).argmax()) == "17"
    assert cli.main(["index", str(corpus), str(folder), *options, "--force", "--factory", "SQ8"])
    assert "--faiss FILE is built" in capsys.readouterr().err
