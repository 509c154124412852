import json
import pickle
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskgym.retrieval import Passage
from maskgym.retrieval.encoder import EncoderConfig, SentenceEncoder

TEXTS = ["the cat sat", "a dog ran far away .", "red", "the cat sat on the mat", "", "red pear"]


@pytest.fixture(scope="module")
def minilm(minilm_folder: Path) -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig.for_model(minilm_folder))


def encoder_of(folder: Path, **changes: Any) -> SentenceEncoder:
    return SentenceEncoder(EncoderConfig.for_model(folder, **{"max_tokens": 64, **changes}))


def one_by_one(folder: Path, texts: list[str], pooling: str) -> np.ndarray:
    """The model as its card shows it: one text after the other, and no normalisation."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = []
    with torch.inference_mode():
        for text in texts:
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            rows.append({"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling])
    return np.stack([row.numpy() for row in rows])


def test_minilm_gives_the_similarities_that_sentence_transformers_documents(
    minilm: SentenceEncoder,
) -> None:
    """Its quick start, and its example of semantic search, both with all-MiniLM-L6-v2."""
    weather = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    found = minilm.encode_queries(weather)
    expected = [[1, 0.6660, 0.1046], [0.6660, 1, 0.1411], [0.1046, 0.1411, 1]]
    np.testing.assert_allclose(found @ found.T, expected, atol=6e-5)

    corpus = [
        "A man is eating food.",
        "A man is eating a piece of bread.",
        "A man is riding a horse.",
    ]
    passages = [Passage(id=str(number), text=text) for number, text in enumerate(corpus)]
    query = minilm.encode_queries(["A man is eating pasta."])
    scores = query @ minilm.encode_passages(passages).T
    np.testing.assert_allclose(scores[0], [0.7035, 0.5272, 0.1889], atol=6e-5)


def test_minilm_reads_256_tokens(minilm: SentenceEncoder) -> None:
    assert minilm.config.max_tokens == 256
    words = "cat " * 254  # and two special tokens
    short, long = minilm.encode_queries([words, words + "stadium"])
    np.testing.assert_array_equal(short, long)
    assert not np.array_equal(short, minilm.encode_queries(["cat " * 253 + "stadium"])[0])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_texts_of_mixed_lengths_get_what_each_gets_alone(tiny_bert: Path, pooling: str) -> None:
    expected = one_by_one(tiny_bert, TEXTS, pooling)
    raw = encoder_of(tiny_bert, pooling=pooling, normalise=False, batch_tokens=8)
    np.testing.assert_allclose(raw.encode_queries(TEXTS), expected, atol=1e-5)
    unit = encoder_of(tiny_bert, pooling=pooling)
    lengths = np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(unit.encode_queries(TEXTS), expected / lengths, atol=1e-5)


def test_queries_and_passages_get_their_prefixes_and_passages_their_titles(tiny_bert: Path) -> None:
    prefixed = encoder_of(
        tiny_bert, pooling="mean", query_prefix="query : ", passage_prefix="passage : "
    )
    bare = encoder_of(tiny_bert, pooling="mean")
    np.testing.assert_array_equal(
        prefixed.encode_queries(["the cat"]), bare.encode_queries(["query : the cat"])
    )
    passages = [Passage(id="1", title="red", text="pear"), Passage(id="2", text="cat")]
    np.testing.assert_array_equal(
        prefixed.encode_passages(passages),
        bare.encode_queries(["passage : red\npear", "passage : cat"]),
    )


def test_text_that_is_gigantic_or_no_unicode_is_encoded(tiny_bert: Path) -> None:
    encoder = encoder_of(tiny_bert, pooling="mean")
    found = encoder.encode_queries(["cat " * 1_000_000, "cat \ud800 dog", "\x00", "🐈" * 500])
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], encoder.encode_queries(["cat " * 62])[0])


def test_equal_queries_are_encoded_once_and_the_last_are_kept(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64)
    encoder = SentenceEncoder(config, max_cached=2)
    encoded: list[list[str]] = []
    run = encoder._runner.run

    def spy(texts: Any, *rest: Any, **options: Any) -> Any:
        encoded.append(list(texts))
        return run(texts, *rest, **options)

    monkeypatch.setattr(encoder._runner, "run", spy)
    first = encoder.encode_queries(["red", "cat", "red"])
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(encoder.encode_queries(["red", "dog"])[0], first[0])
    encoder.encode_queries(["cat"])  # the longest unused, which gave way to the dog
    assert encoded == [["red", "cat"], ["dog"], ["cat"]]


def test_threads_get_what_one_thread_gets_and_torch_keeps_its_threads(tiny_bert: Path) -> None:
    import torch

    expected = encoder_of(tiny_bert, pooling="mean").encode_queries(TEXTS)
    encoder = SentenceEncoder(
        EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64), max_cached=0
    )
    before, wrong = torch.get_num_threads(), []

    def encode() -> None:
        for _ in range(10):
            if not np.array_equal(encoder.encode_queries(TEXTS), expected):
                wrong.append(1)

    threads = [threading.Thread(target=encode) for _ in range(4)]
    torch.set_num_threads(3)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert not wrong


def test_the_fingerprint_names_model_and_settings_but_not_place_and_speed(
    tiny_bert: Path, make_tiny_bert: Callable[..., Path], tmp_path: Path
) -> None:
    config = EncoderConfig(model=str(tiny_bert), pooling="mean", max_tokens=64)
    name = SentenceEncoder(config).fingerprint
    copy = tmp_path / "copy"
    shutil.copytree(tiny_bert, copy)
    same = (replace(config, model=str(copy)), replace(config, batch_tokens=100))
    others = (
        replace(config, model=str(make_tiny_bert("other", seed=1))),
        replace(config, pooling="cls"),
        replace(config, query_prefix="query : "),
        replace(config, normalise=False),
        replace(config, max_tokens=32),
        replace(config, dtype="bfloat16"),
    )
    assert {SentenceEncoder(other).fingerprint for other in same} == {name}
    assert len({SentenceEncoder(other).fingerprint for other in others} | {name}) == 7


def test_a_pickled_encoder_gives_the_same(tiny_bert: Path) -> None:
    encoder = encoder_of(tiny_bert, pooling="last")
    copy = pickle.loads(pickle.dumps(encoder))
    assert copy.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(copy.encode_queries(TEXTS), encoder.encode_queries(TEXTS))


@pytest.mark.parametrize(
    ("name", "pooling", "query", "passage"),
    [
        ("intfloat/e5-base-v2", "mean", "query: ", "passage: "),
        ("models/multilingual-e5-large", "mean", "query: ", "passage: "),
        ("BAAI/bge-base-en-v1.5", "cls", "Represent this sentence for searching", ""),
        ("BAAI/bge-small-zh", "cls", "为这个句子", ""),
        ("BAAI/bge-m3", "cls", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "mean", "", ""),
        ("/data/e5-base-v2/snapshot", "mean", "query: ", "passage: "),
    ],
)
def test_common_models_are_known_by_name(name: str, pooling: str, query: str, passage: str) -> None:
    config = EncoderConfig.for_model(name)
    assert (config.model, config.pooling, config.normalise) == (name, pooling, True)
    assert config.query_prefix.startswith(query) and bool(config.query_prefix) == bool(query)
    assert config.passage_prefix == passage


def test_what_sentence_transformers_wrote_beside_a_model_counts(
    minilm_folder: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    assert EncoderConfig.for_model(minilm_folder).pooling == "mean"
    folder = tmp_path / "mine"
    shutil.copytree(tiny_bert, folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modules = [{"path": path, "type": f"sentence_transformers.models.{k}"} for path, k in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 40}')
    prompts = {"prompts": {"query": "query : ", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    (folder / "1_Pooling").mkdir()
    pooling = folder / "1_Pooling" / "config.json"
    for content, expected in (
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"embedding_dimension": 32, "pooling_mode": "mean"}, "mean"),
    ):
        pooling.write_text(json.dumps(content))
        config = EncoderConfig.for_model(folder)
        assert (config.pooling, config.normalise) == (expected, False)
        assert (config.max_tokens, config.query_prefix) == (40, "query : ")
    assert EncoderConfig.for_model(folder, pooling="last", max_tokens=9).max_tokens == 9
    pooling.write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ValueError, match=r"max_tokens\)\. Known are the mean"):
        EncoderConfig.for_model(folder)


def test_a_model_of_unknown_settings_asks_for_them(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="give the pooling"):
        EncoderConfig.for_model(tiny_bert)
    with pytest.raises(TypeError, match="poling"):
        EncoderConfig.for_model(tiny_bert, pooling="mean", poling="cls")


@pytest.mark.parametrize(
    "changes",
    [{"pooling": "max"}, {"max_tokens": 0}, {"batch_tokens": 1.5}, {"dtype": "int8"}],
)
def test_bad_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        EncoderConfig(**{"model": "m", "pooling": "mean", **changes})


def test_more_tokens_than_the_model_has_places_are_refused(tiny_bert: Path) -> None:
    encoder = encoder_of(tiny_bert, pooling="mean", max_tokens=65)
    with pytest.raises(ValueError, match="reads at most 64 tokens"):
        encoder.encode_queries(["cat"])
