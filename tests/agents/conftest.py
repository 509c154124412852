"""Fixtures of the agent tests: a tiny model folder with its tokenizer, made once a session."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model

TINY_TEXTS = (
    "What is 3 plus 4 ? <think>3 plus 4 is 7</think>\n<answer>7</answer>",
    "Who wrote the book ? <search>author of the book</search>\nthe answer is Ada Lovelace .",
    " ".join(f"word{i}" for i in range(300)),
)
TINY_TAGS = ("<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread: with two, a busy machine makes tiny products ten times slower (OpenMP spins)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3 folder of about 270,000 weights, context 512; wide weights, so logits differ."""
    config = TinyModelConfig(
        hidden_size=128,
        num_layers=2,
        intermediate_size=128,
        num_heads=4,
        num_kv_heads=2,
        vocab_size=700,
        max_position_embeddings=512,
        initializer_range=0.15,
        extra_tokens=TINY_TAGS,
    )
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", TINY_TEXTS, config=config)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_model_dir: Path) -> Any:
    """The tokenizer of the tiny model."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model_dir)
