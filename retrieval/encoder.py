"""In: queries or passages as text. Out: their embeddings, one row each, in the order given."""

# N: texts, D: dimensions

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .model_folder import model_hash, read_model_json, resolve_model
from .passages import Passage
from .transformer_runner import Dtype, TransformerRunner, check_model_settings

Pooling: TypeAlias = Literal["mean", "cls", "last"]

_POOLINGS = ("mean", "cls", "last")
_POOLING_MODES = {
    "mean": "mean",
    "mean_tokens": "mean",
    "cls": "cls",
    "cls_token": "cls",
    "lasttoken": "last",
}
_PROMPTS = {"query": "query_prefix", "document": "passage_prefix", "passage": "passage_prefix"}
"""Names of sentence-transformers for what comes before a text."""
_BGE_ENGLISH = "Represent this sentence for searching relevant passages: "
_BGE_CHINESE = "为这个句子生成表示以用于检索相关文章："  # noqa: RUF001 - as the model was trained


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """How a model makes an embedding of a text. `for_model` knows the settings of common models."""

    model: str
    """A folder, or a name on the hub."""
    pooling: Pooling
    """Which of the last layer's states become the embedding: the mean, the first, or the last."""
    query_prefix: str = ""
    """Comes before each query. E5 and BGE lose much without theirs."""
    passage_prefix: str = ""
    """Comes before each passage."""
    normalise: bool = True
    """Whether embeddings have length 1; the score is then the cosine, otherwise the product."""
    max_tokens: int = 512
    """What is read of a text, special tokens included."""
    dtype: Dtype = "float32"
    """Of the weights; embeddings are always float32."""
    batch_tokens: int = 4096
    """Tokens in one batch, at most. Changes the speed only; a GPU likes more."""

    def __post_init__(self) -> None:
        if self.pooling not in _POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; it is one of {', '.join(_POOLINGS)}.")
        check_model_settings(self.max_tokens, self.batch_tokens, self.dtype)

    @classmethod
    def for_model(cls, model: str | Path, **changes: Any) -> "EncoderConfig":
        """The settings that a model was trained with, for E5, BGE and sentence-transformers models.

        A folder that sentence-transformers wrote says itself how it pools; prefixes go by the
        name, which is the last two parts of the path (``intfloat/e5-base-v2``).

        Args:
            model: A folder, or a name on the hub.
            **changes: Fields of `EncoderConfig` that are to be otherwise.

        Raises:
            ValueError: If the settings are not known; the message says which to give.
            TypeError: If there is no such field.
        """
        known = _settings_by_name(str(model))
        folder = Path(model).expanduser()
        if not known and "pooling" not in changes and not folder.is_dir():
            folder = resolve_model(model)  # the hub's copy says it
        known = {**known, **_settings_in_folder(folder), **changes}
        if "pooling" not in known:
            raise ValueError(
                f"It is not known how {model} makes its embeddings. See its model card, and give "
                "the pooling ('mean', 'cls' or 'last') and the prefixes, if it has any."
            )
        return cls(model=str(model), **known)


class SentenceEncoder:
    """Embeddings by a transformer. Safe under threads: they take turns.

    Nothing of the model is loaded before the first text. The last queries' embeddings are kept.
    Pickling it sends the settings.
    """

    def __init__(
        self,
        config: EncoderConfig,
        *,
        device: str = "cpu",
        num_threads: int = 1,
        max_cached: int = 4096,
    ) -> None:
        """Finds the model, and reads its files once for the fingerprint.

        Args:
            config: The model and its settings.
            device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``.
            num_threads: Threads of torch on a CPU. More than one is for a process that has idle
                cores to itself.
            max_cached: Queries whose embeddings are kept; the longest unused goes first.

        Raises:
            ValueError: If there is no such model.
        """
        if num_threads < 1 or max_cached < 0:
            raise ValueError(
                f"num_threads is {num_threads}, from 1 up; max_cached is {max_cached}, from 0 up."
            )
        folder = resolve_model(config.model)
        is_folder = Path(config.model).expanduser().is_dir()
        self.config = replace(config, model=str(folder)) if is_folder else config
        self.fingerprint = _fingerprint(config, folder)
        self._options = {"device": device, "num_threads": num_threads, "max_cached": max_cached}
        self._max_cached = max_cached
        self._runner = TransformerRunner(
            folder,
            model_class="AutoModel",
            max_tokens=config.max_tokens,
            batch_tokens=config.batch_tokens,
            dtype=config.dtype,
            device=device,
            num_threads=num_threads,
        )
        self._lock = threading.Lock()
        self._cached: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def encode_queries(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """[N, D], float32. Equal queries are encoded once.

        The last bits may depend on what is encoded together, as in any matrix product.
        """
        found: dict[str, NDArray[np.float32]] = {}
        with self._lock:
            for query in queries:
                if query in self._cached:
                    self._cached.move_to_end(query)
                    found[query] = self._cached[query]
        missing = [query for query in dict.fromkeys(queries) if query not in found]
        if missing:
            prefix = self.config.query_prefix
            found.update(zip(missing, self._encode([prefix + q for q in missing]), strict=True))
            with self._lock:
                for query in missing:
                    self._cached[query] = found[query]
                while len(self._cached) > self._max_cached:
                    self._cached.popitem(last=False)
        return np.stack([found[query] for query in queries])

    def encode_passages(self, passages: Sequence[Passage]) -> NDArray[np.float32]:
        """[N, D], float32. A passage is its title, if it has one, and its text on the next line."""
        prefix = self.config.passage_prefix
        return self._encode([prefix + embedded_text(passage) for passage in passages])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._runner.run(texts, self._embeddings)

    def _embeddings(self, output: Any) -> Any:
        """[B, D] of the model's output. No batch is padded: every state is a token's."""
        import torch

        states = output.last_hidden_state.float()  # [B, T, D]
        if self.config.pooling == "mean":
            embeddings = states.mean(dim=1)
        else:
            embeddings = states[:, 0 if self.config.pooling == "cls" else -1]
        if self.config.normalise:
            embeddings = torch.nn.functional.normalize(embeddings, dim=-1)
        return embeddings

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_options, (self.config, self._options)


def embedded_text(passage: Passage) -> str:
    """What a model reads of a passage."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def _from_options(config: EncoderConfig, options: dict[str, Any]) -> SentenceEncoder:
    return SentenceEncoder(config, **options)


def _fingerprint(config: EncoderConfig, folder: Path) -> str:
    """Names all that an embedding depends on, and not where the model lies."""
    settings = asdict(config)
    del settings["batch_tokens"]
    settings["model"] = model_hash(folder)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]


def _settings_by_name(model: str) -> dict[str, Any]:
    for name in reversed(Path(model).parts[-2:]):
        name = name.lower()
        if "instruct" in name or "mistral" in name:
            return {}  # the prefix is an instruction that depends on the task
        if name.startswith(("e5-", "multilingual-e5-")):
            return {"pooling": "mean", "query_prefix": "query: ", "passage_prefix": "passage: "}
        if name.startswith("bge-m3"):
            return {"pooling": "cls"}
        if name.startswith("bge-") and "-zh" in name:
            return {"pooling": "cls", "query_prefix": _BGE_CHINESE}
        if name.startswith("bge-"):
            return {"pooling": "cls", "query_prefix": _BGE_ENGLISH}
        if "all-minilm" in name.replace("_", "-"):
            return {"pooling": "mean", "max_tokens": 256}
    return {}


def _settings_in_folder(folder: Path) -> dict[str, Any]:
    """What sentence-transformers wrote beside the model."""
    settings: dict[str, Any] = {}
    modules = read_model_json(folder, "modules.json")
    if not isinstance(modules, list):
        return settings
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if "Pooling" in kinds:
        content = read_model_json(folder / modules[kinds.index("Pooling")]["path"], "config.json")
        chosen = _pooling_modes(content or {})
        if len(chosen) != 1 or chosen[0] not in _POOLING_MODES or "Dense" in kinds:
            raise ValueError(
                f"{folder} makes its embeddings by {', '.join(kinds)} ({', '.join(chosen)}). Known "
                "are the mean, the first and the last token, normalised or not. Choose another."
            )
        settings["pooling"] = _POOLING_MODES[chosen[0]]
        settings["normalise"] = "Normalize" in kinds
    lengths = read_model_json(folder, "sentence_bert_config.json") or {}
    if isinstance(lengths.get("max_seq_length"), int):
        settings["max_tokens"] = lengths["max_seq_length"]
    prompts = (read_model_json(folder, "config_sentence_transformers.json") or {}).get("prompts")
    for name, field in _PROMPTS.items():
        if prompts and prompts.get(name):
            settings[field] = prompts[name]
    return settings


def _pooling_modes(content: dict[str, Any]) -> list[str]:
    """Those that a pooling configuration switches on; its layout has changed over the years."""
    if isinstance(content.get("pooling_mode"), str):
        return [content["pooling_mode"]]
    modes = {
        name.removeprefix("pooling_mode_"): value
        for name, value in content.items()
        if name.startswith("pooling_mode_")
    }
    return [name for name, is_on in modes.items() if is_on]
