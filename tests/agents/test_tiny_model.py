"""The tiny model's tokenizer gives back real text as it was, and copies share their tokens."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tokenizers.decoders import DecodeStream

from maskgym.agents.tiny_model import TinyModelConfig, make_tiny_model, train_tokenizer

TAGS = ("<search>", "</search>", "<answer>", "</answer>")
REAL_TEXTS = (
    "L'été dernier, Zoë a visité São Paulo — « magnifique » !\n東京タワーは333メートルです。\n",
    "def f(x):\n    return [\n        x**2  # squared\n    ]\n\n\nprint(f(3))\n",
    "Привет, мир! Ελληνικά και ελληνικά.\tTab\r\nWindows line\u00a0no-break\u2009thin",
    "a < b && c > d ; 3.14 x 10^-5 = ? <search>capital of France</search> then <answer>42</answer>",
    " one space before\n two\n  three   four \n",
    "🙂🙃 emoji 👩‍👩‍👧 joined, e\u0301 combining, नमस्ते दुनिया",
    "\n\n",
    " ",
)


def decoded(tokenizer: Any, text: str) -> str:
    return str(tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False))


@pytest.mark.parametrize("kind", ["bpe", "word"])
@pytest.mark.parametrize("split_digits", [False, True])
def test_any_text_comes_back_as_it_was(kind: str, split_digits: bool) -> None:
    config = TinyModelConfig(
        tokenizer_kind=kind, vocab_size=500, extra_tokens=TAGS, split_digits=split_digits
    )
    tokenizer = train_tokenizer(REAL_TEXTS[:3], config=config)
    for text in REAL_TEXTS:
        assert decoded(tokenizer, text) == text


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_real_problems_come_back_as_they_were(kind: str, shared_data: Path) -> None:
    paths = sorted(shared_data.rglob("*.jsonl"))[:5]
    assert paths
    texts = [line for path in paths for line in path.read_text().splitlines()[:40]]
    config = TinyModelConfig(tokenizer_kind=kind, vocab_size=2000)
    tokenizer = train_tokenizer(texts[::2], config=config)
    changed = [t for t in texts if decoded(tokenizer, t) != t]
    assert changed == []


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_text_decoded_token_by_token_is_the_same(kind: str) -> None:
    config = TinyModelConfig(tokenizer_kind=kind, vocab_size=500, extra_tokens=TAGS)
    tokenizer = train_tokenizer(REAL_TEXTS[:2], config=config)
    for text in REAL_TEXTS:
        stream = DecodeStream(skip_special_tokens=False)
        parts = [stream.step(tokenizer, token) or "" for token in tokenizer.encode(text).ids]
        assert "".join(parts) == text


def test_a_word_is_one_token_the_same_wherever_it_stands_in_a_line() -> None:
    text = "Ada met Grace\nGrace met Ada <search>Grace</search>"
    config = TinyModelConfig(vocab_size=400, extra_tokens=TAGS)
    tokenizer = train_tokenizer([text], config=config)
    ada, met, grace, newline, *rest = tokenizer.encode(text).ids
    assert rest[:3] == [grace, met, ada]
    assert rest[-2] == grace
    assert tokenizer.encode("Ada").ids == [ada]
    assert newline == tokenizer.token_to_id("Ċ")


def test_unknown_words_are_spelt_in_bytes_and_digits_may_be_split() -> None:
    config = TinyModelConfig(vocab_size=300, split_digits=True)
    tokenizer = train_tokenizer(["sum of 12 and 21"], config=config)
    assert len(tokenizer.encode("xyz").ids) == 4
    assert tokenizer.encode("12").tokens == ["Ġ1", "2"]


def test_the_folder_loads_and_a_tied_head_is_not_saved(
    tiny_model_dir: Path, tiny_tokenizer: Any
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    with safe_open(tiny_model_dir / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert "lm_head.weight" not in names
    assert names == {name for name, _ in model.named_parameters()}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.eos_token_id == tiny_tokenizer.eos_token_id
    assert tiny_tokenizer.convert_ids_to_tokens([0, 1, 2]) == [
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
    ]
    assert tiny_tokenizer.encode("<search>") == [tiny_tokenizer.convert_tokens_to_ids("<search>")]
    assert tiny_tokenizer.decode(tiny_tokenizer.encode("<search>"), skip_special_tokens=True)
    chat = tiny_tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, tokenize=False
    )
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert json.loads((tiny_model_dir / "config.json").read_text())["tie_word_embeddings"]


def test_same_input_same_files_and_the_random_state_is_left_alone(tmp_path: Path) -> None:
    config = TinyModelConfig(
        hidden_size=16, num_layers=1, num_heads=2, num_kv_heads=1, intermediate_size=16
    )
    before = torch.get_rng_state()
    first = make_tiny_model(tmp_path / "a", ["one two"], config=config)
    second = make_tiny_model(tmp_path / "b", ["one two"], config=config)
    assert torch.equal(before, torch.get_rng_state())
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_an_untied_head_is_saved(tmp_path: Path) -> None:
    config = TinyModelConfig(
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=16,
        tie_embeddings=False,
    )
    folder = make_tiny_model(tmp_path, ["one two"], config=config)
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert "lm_head.weight" in set(weights.keys())


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="must divide"):
        TinyModelConfig(num_heads=3)
    with pytest.raises(ValueError, match="one of bpe, word"):
        TinyModelConfig(tokenizer_kind="chars")
    with pytest.raises(ValueError, match=r"alone are 260"):
        TinyModelConfig(vocab_size=100, extra_tokens=("<x>",))
    with pytest.raises(ValueError, match="at least one"):
        train_tokenizer([], config=TinyModelConfig())
