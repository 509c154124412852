import json
from pathlib import Path

import pytest

from maskgym.retrieval import BM25Index, Passage, load_index


def test_the_metadata_names_the_backend(tmp_path: Path) -> None:
    BM25Index.build([Passage(id="1", text="word")]).save(tmp_path / "index")
    assert isinstance(load_index(str(tmp_path / "index")), BM25Index)


def test_an_unknown_backend_is_named(tmp_path: Path) -> None:
    BM25Index.build([Passage(id="1", text="word")]).save(tmp_path / "index")
    metadata = tmp_path / "index" / "metadata.json"
    metadata.write_text(json.dumps({**json.loads(metadata.read_text()), "backend": "bm26"}))
    with pytest.raises(LookupError, match=r"backend 'bm26'.*Build it with 'bm25'"):
        load_index(tmp_path / "index")
    with pytest.raises(ValueError, match="is a 'bm26' index"):
        BM25Index.load(tmp_path / "index")
