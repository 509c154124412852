import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from maskgym.retrieval.model_folder import model_hash, read_model_json, resolve_model


def test_a_folder_is_found_and_a_misspelt_one_gets_the_nearest_name(tiny_bert: Path) -> None:
    assert resolve_model(tiny_bert) == tiny_bert
    with pytest.raises(ValueError, match=r"no model folder .*did you mean .*tiny-bert\?"):
        resolve_model(tiny_bert.with_name("tiny-bart"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no config\.json"):
        resolve_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="has no weights"):
        model_hash(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        read_model_json(tmp_path, "config.json")


def test_a_name_that_the_hub_does_not_give_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"could not be had from the hub.*path of a downloaded"):
        resolve_model("nobody/has-this-model")


def test_the_hash_follows_the_content_and_not_the_place(
    tiny_bert: Path, make_tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bert, copy)
    (copy / "README.md").write_text("the same model")
    assert model_hash(copy) == model_hash(tiny_bert)
    other = make_tiny_bert("other", seed=1)
    sizes = [(path / "model.safetensors").stat().st_size for path in (tiny_bert, other)]
    assert sizes[0] == sizes[1]
    assert model_hash(other) != model_hash(tiny_bert)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-5}))
    assert model_hash(copy) != model_hash(tiny_bert)
