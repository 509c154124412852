"""Prescribed lengths hold against every stop, on engines with and without a model."""

from pathlib import Path
from typing import Any

from maskgym.agents.engines.engine import Engine, FinishReason, Request, SamplingParams
from maskgym.agents.engines.scripted_engine import ScriptedEngine, ScriptedEngineConfig
from maskgym.agents.engines.scripted_lengths import ScriptedLengths
from maskgym.agents.engines.transformers_engine import TransformersEngine


def test_stops_do_not_shorten_and_limits_do() -> None:
    inner = ScriptedEngine(
        lambda ids: list(range(10, 60)),
        config=ScriptedEngineConfig(eos_ids=(12,), max_model_len=30),
    )
    engine = ScriptedLengths(inner, lambda request: int(request.request_id))
    assert isinstance(engine, Engine)
    params = SamplingParams(max_tokens=20, stop=("x",), stop_token_ids=(13,))
    for name in ("7", "21", "1"):
        engine.submit(Request(request_id=name, prompt_ids=(1, 2), params=params))
    engine.submit(Request(request_id="15", prompt_ids=tuple(range(20)), params=params))
    done = {c.request_id: c for c in engine.poll()}
    assert {name: len(c.token_ids) for name, c in done.items()} == {
        "7": 7,
        "21": 20,
        "1": 1,
        "15": 10,
    }
    assert {c.finish_reason for c in done.values()} == {FinishReason.LENGTH}


def test_a_model_says_as_many_tokens_as_prescribed(tiny_model_dir: Path) -> None:
    engine: Any = ScriptedLengths(TransformersEngine(tiny_model_dir), lambda request: 9)
    params = SamplingParams(max_tokens=20, temperature=0.0, stop=("e", " "))
    engine.submit(Request(request_id="a", prompt_ids=(5, 6, 7), params=params))
    done = []
    while engine.num_unfinished:
        done += engine.poll()
    assert len(done[0].token_ids) == 9
    engine.close()
