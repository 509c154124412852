import json
import subprocess
import sys
from pathlib import Path

import pytest

from maskgym.retrieval import BM25Index, Passage, load_index
from maskgym.retrieval.loading import BACKENDS, backend_of, naming_the_extra


def named(folder: Path, backend: str) -> Path:
    """An index whose metadata names this backend."""
    BM25Index.build([Passage(id="1", text="word")]).save(folder)
    metadata = folder / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "backend": backend}))
    return folder


def test_the_metadata_names_the_backend(tmp_path: Path) -> None:
    BM25Index.build([Passage(id="1", text="word")]).save(tmp_path / "index")
    assert isinstance(load_index(str(tmp_path / "index")), BM25Index)


def test_an_unknown_backend_is_named(tmp_path: Path) -> None:
    folder = named(tmp_path / "index", "bm26")
    with pytest.raises(LookupError, match=r"backend 'bm26'.*Build it with 'bm25'"):
        load_index(folder)
    with pytest.raises(ValueError, match="is a 'bm26' index"):
        BM25Index.load(folder)


def test_what_lucene_itself_wrote_and_a_prebuilt_name_are_lucenes(tmp_path: Path) -> None:
    (tmp_path / "segments_1").touch()
    assert backend_of(tmp_path) == "lucene" == backend_of("pyserini:some-index")
    with pytest.raises(FileNotFoundError, match="No index folder"):
        backend_of(tmp_path / "none")


def test_every_backend_is_known_and_refuses_an_index_that_is_not_its_own(tmp_path: Path) -> None:
    assert BACKENDS == ("bm25", "lucene", "dense")
    for backend in ("lucene", "dense"):
        with pytest.raises((ValueError, OSError, ImportError)) as caught:
            load_index(named(tmp_path / backend, backend))
        assert not isinstance(caught.value, LookupError)


def test_a_missing_module_of_a_backend_names_its_extra() -> None:
    with (
        pytest.raises(ImportError, match=r"pip install 'maskgym\[dense\]'"),
        naming_the_extra("dense"),
    ):
        raise ModuleNotFoundError("No module named 'faiss'", name="faiss")
    for backend, missing in (("bm25", "faiss"), ("dense", "maskgym.no_such_module")):
        with pytest.raises(ModuleNotFoundError), naming_the_extra(backend):
            raise ModuleNotFoundError("...", name=missing)


def test_opening_a_bm25_index_imports_no_other_backend(tmp_path: Path) -> None:
    BM25Index.build([Passage(id="1", text="word")]).save(tmp_path / "index")
    program = (
        "import sys; from maskgym.retrieval import load_index; load_index(sys.argv[1]);"
        "print([m for m in ('faiss', 'torch', 'jnius', 'numba', 'transformers') if m in sys.modules])"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path / "index")]
    found = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
