"""The scripted engine stops, waits, counts and refuses as a real one does."""

from typing import Any

import pytest
import torch

from maskgym.agents.engines.engine import FinishReason, Request, SamplingParams
from maskgym.agents.engines.scripted_engine import ScriptedEngine, ScriptedEngineConfig


def request(name: str = "a", prompt: tuple[int, ...] = (1, 2), **params: Any) -> Request:
    sampling = SamplingParams(**{"max_tokens": 100, **params})
    return Request(request_id=name, prompt_ids=prompt, params=sampling)


def test_a_callable_sees_the_prompt_and_says_the_tokens() -> None:
    engine = ScriptedEngine(lambda ids: [ids[-1] + 1, ids[-1] + 2])
    engine.submit(request(prompt=(5, 6)))
    (completion,) = engine.poll()
    assert completion.token_ids == (7, 8)
    assert completion.logprobs == (0.0, 0.0)
    assert (completion.finish_reason, completion.stop_reason) == (FinishReason.STOP, None)
    assert engine.num_unfinished == 0
    assert engine.poll() == []


def test_latency_is_counted_in_polls() -> None:
    config = ScriptedEngineConfig(num_polls=(3, 1))
    engine = ScriptedEngine(lambda ids: [1], config=config)
    engine.submit(request("slow"))
    engine.submit(request("fast"))
    polls = [[c.request_id for c in engine.poll()] for _ in range(3)]
    assert polls == [["fast"], [], ["slow"]]


def test_limits_and_stops_cut_the_script() -> None:
    engine = ScriptedEngine(
        lambda ids: list(range(10, 30)), config=ScriptedEngineConfig(eos_ids=(15,), max_model_len=6)
    )
    engine.submit(request("length", max_tokens=2))
    engine.submit(request("stop", stop_token_ids=(12,)))
    engine.submit(request("context", prompt=(1, 2, 3)))
    done = {c.request_id: c for c in engine.poll()}
    assert done["length"].token_ids == (10, 11)
    assert done["length"].finish_reason is FinishReason.LENGTH
    assert (done["stop"].token_ids, done["stop"].stop_reason) == ((10, 11, 12), 12)
    assert done["context"].token_ids == (10, 11, 12)
    assert done["context"].finish_reason is FinishReason.LENGTH
    with pytest.raises(ValueError, match="prompt of 6 tokens"):
        engine.submit(request("long", prompt=(1,) * 6))


def test_end_of_sequence_is_kept_unless_ignored() -> None:
    engine = ScriptedEngine(lambda ids: [3, 9, 4], config=ScriptedEngineConfig(eos_ids=(9,)))
    engine.submit(request("a"))
    engine.submit(request("b", ignore_eos=True))
    a, b = engine.poll()
    assert a.token_ids == (3, 9)
    assert b.token_ids == (3, 9, 4)


def test_texts_come_in_order_and_stop_texts_keep_their_whole_token(tiny_tokenizer: Any) -> None:
    engine = ScriptedEngine(
        ["<search>author of the book</search> the answer", "word7 word8"], tokenizer=tiny_tokenizer
    )
    engine.submit(request("a", stop=("</sear",)))
    engine.submit(request("b"))
    a, b = engine.poll()
    assert tiny_tokenizer.decode(a.token_ids) == "<search>author of the book</search>"
    assert a.stop_reason == "</sear"
    assert tiny_tokenizer.decode(b.token_ids) == "word7 word8"
    with pytest.raises(LookupError, match=r"no text left for request 'c' .number 3"):
        engine.submit(request("c"))


def test_weights_are_versioned_and_not_changed_in_flight() -> None:
    engine = ScriptedEngine(lambda ids: [1])
    engine.submit(request())
    with pytest.raises(RuntimeError, match="1 requests are in flight"):
        engine.update_weights([], version=1)
    assert engine.poll()[0].weight_version == 0
    engine.update_weights([("w", torch.zeros(1))], version=4)
    engine.submit(request())
    assert engine.poll()[0].weight_version == engine.weight_version == 4
    assert engine.updates == [(4, ("w",))]


def test_an_aborted_request_comes_back_at_the_next_poll() -> None:
    engine = ScriptedEngine(lambda ids: [1], config=ScriptedEngineConfig(num_polls=9))
    engine.submit(request("a"))
    engine.submit(request("b"))
    engine.abort(["a", "unknown"])
    (completion,) = engine.poll()
    assert (completion.request_id, completion.finish_reason) == ("a", FinishReason.ABORT)
    assert completion.token_ids == ()
    assert engine.num_unfinished == 1


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="needs `tokenizer=`"):
        ScriptedEngine(["text"])
    engine = ScriptedEngine(lambda ids: [])
    with pytest.raises(LookupError, match="gives no token"):
        engine.submit(request())
    with pytest.raises(ValueError, match="has stop texts, and the engine no tokenizer"):
        engine.submit(request(stop=("x",)))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.poll()
