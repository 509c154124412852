"""Requests to try engines with, and what to compare their completions by."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from maskgym.agents.engines.engine import Completion, Engine, Request, SamplingParams


def prompt(seed: int, length: int) -> tuple[int, ...]:
    """Random token ids, none of them special."""
    return tuple(np.random.default_rng(seed).integers(10, 500, length).tolist())


def request(name: str, ids: Iterable[int], **params: Any) -> Request:
    """Greedy, 24 tokens, past the end of a sequence; `params` change that."""
    sampling = SamplingParams(**{"max_tokens": 24, "temperature": 0, "ignore_eos": True, **params})
    return Request(request_id=name, prompt_ids=tuple(ids), params=sampling)


def run(engine: Engine, *requests: Request) -> dict[str, Completion]:
    """Submits all at once and polls until they are done."""
    for one in requests:
        engine.submit(one)
    done: dict[str, Completion] = {}
    while engine.num_unfinished:
        done.update({completion.request_id: completion for completion in engine.poll()})
    return done


def assert_alike(one: Completion, other: Completion) -> None:
    """The same tokens and end, and log-probabilities within 1e-4."""
    assert one.token_ids == other.token_ids
    assert (one.finish_reason, one.stop_reason) == (other.finish_reason, other.stop_reason)
    assert np.abs(np.subtract(one.logprobs, other.logprobs)).max() < 1e-4
