"""In: queries to any retriever. Out: its best hits in the order that a cross-encoder puts them.

A cross-encoder reads query and passage together: better and far slower than an index, so it sees
only what the retriever behind it found first.
"""

# B: pairs of one batch

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .encoder import embedded_text
from .model_folder import CONFIG_FILE, model_hash, read_model_json, resolve_model
from .passages import Hit
from .retriever import Retriever, check_search
from .transformer_runner import Dtype, TransformerRunner, check_model_settings


@dataclass(frozen=True, kw_only=True)
class RerankConfig:
    """How a cross-encoder reorders hits."""

    model: str
    """A folder, or a name on the hub; one output (a score), or two (no, yes)."""
    depth: int = 50
    """Hits of the retriever that are reordered; more, if more than that are asked for."""
    max_tokens: int = 512
    """What is read of query and passage together; of the longer one the end is left out first."""
    dtype: Dtype = "float32"
    """Of the weights."""
    batch_tokens: int = 4096
    """Tokens in one batch, at most. Changes the speed only; a GPU likes more."""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth is {self.depth}; at least 1 hit is to be reordered.")
        check_model_settings(self.max_tokens, self.batch_tokens, self.dtype)


class CrossEncoderReranker:
    """A retriever whose hits a cross-encoder reorders; the score of a hit is the model's logit.

    Safe under threads: they take turns at the model. Closing it closes the retriever behind it.
    """

    def __init__(
        self,
        inner: Retriever,
        config: RerankConfig,
        *,
        device: str = "cpu",
        num_threads: int = 1,
    ) -> None:
        """Finds the model, and reads its files once for the fingerprint.

        Args:
            inner: Finds what is reordered.
            config: The model and its settings.
            device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``.
            num_threads: Threads of torch on a CPU.

        Raises:
            ValueError: If there is no such model, or it gives more than two numbers.
        """
        folder = resolve_model(config.model)
        _check_outputs(folder)
        settings = asdict(config)
        del settings["batch_tokens"]
        settings["model"] = model_hash(folder)
        self.inner = inner
        self.config = config
        self._settings = json.dumps(settings, sort_keys=True)
        self._options = {"device": device, "num_threads": num_threads}
        self._runner = TransformerRunner(
            folder,
            model_class="AutoModelForSequenceClassification",
            max_tokens=config.max_tokens,
            batch_tokens=config.batch_tokens,
            dtype=config.dtype,
            device=device,
            num_threads=num_threads,
        )

    @property
    def fingerprint(self) -> str:
        """Names the retriever, the model and the settings."""
        named = f"{self.inner.fingerprint} {self._settings}"
        return f"rerank-{hashlib.sha256(named.encode()).hexdigest()[:32]}"

    def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """For each query the best hits by the cross-encoder; equal scores are ordered by id.

        Raises:
            ValueError: If ``top_k`` is below 1, or a query is no string.
        """
        check_search(queries, top_k)
        if not queries:
            return []
        found = self.inner.search(queries, max(self.config.depth, top_k))
        pairs = {
            (query, embedded_text(hit.passage)): 0.0
            for query, hits in zip(queries, found, strict=True)
            for hit in hits
        }
        if pairs:
            firsts, seconds = zip(*pairs, strict=True)
            logits = self._runner.run(firsts, _logits, seconds=seconds)
            scores = logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)
            pairs = dict(zip(pairs, scores.tolist(), strict=True))
        return [
            _ranked([(pairs[query, embedded_text(hit.passage)], hit) for hit in hits])[:top_k]
            for query, hits in zip(queries, found, strict=True)
        ]

    def close(self) -> None:
        """Closes the retriever behind it."""
        self.inner.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_options, (self.inner, self.config, self._options)


def _ranked(scored: Sequence[tuple[float, Hit]]) -> list[Hit]:
    ordered = sorted(scored, key=lambda item: (-item[0], item[1].passage.id))
    return [Hit(passage=hit.passage, score=score) for score, hit in ordered]


def _logits(output: Any) -> Any:
    """[B, 1] or [B, 2]."""
    return output.logits


def _check_outputs(folder: Path) -> None:
    content = read_model_json(folder, CONFIG_FILE) or {}
    labels = content.get("id2label")
    num_labels = len(labels) if labels is not None else content.get("num_labels", 2)
    architectures = content.get("architectures") or []
    if num_labels > 2 or not any("SequenceClassification" in name for name in architectures):
        raise ValueError(
            f"{folder} is no cross-encoder with one or two outputs (architectures {architectures}, "
            f"{num_labels} outputs). Use one like cross-encoder/ms-marco-MiniLM-L6-v2."
        )


def _from_options(
    inner: Retriever, config: RerankConfig, options: dict[str, Any]
) -> CrossEncoderReranker:
    return CrossEncoderReranker(inner, config, **options)
