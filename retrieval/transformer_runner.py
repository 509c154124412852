"""In: texts, or pairs of texts. Out: what a transformer makes of each, in the order given."""

# N: texts, B: texts of one batch, T: tokens of each, D: numbers for each text

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
ModelClass: TypeAlias = Literal["AutoModel", "AutoModelForSequenceClassification"]
Reduce: TypeAlias = "Callable[[Any], torch.Tensor]"

_MAX_CHARACTERS = 100_000
"""Of longer texts only the beginning is tokenised: no model here reads so far."""
_TOKENISED_TOGETHER = 1024


class TransformerRunner:
    """Runs a model over texts in batches of one length each, so that nothing is ever padded.

    A text's result then does not depend on its neighbours' lengths, and sorting is all that is
    needed to be fast. The model is loaded at the first use. Callers in several threads take turns.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model_class: ModelClass,
        max_tokens: int,
        batch_tokens: int,
        dtype: Dtype,
        device: str,
        num_threads: int,
    ) -> None:
        """Prepares to run a model.

        Args:
            folder: As `resolve_model` gives it.
            model_class: Which head the model has.
            max_tokens: Tokens of a text that are read, special tokens included.
            batch_tokens: Tokens in one batch, at most; a single text may have more.
            dtype: Of the weights.
            device: As torch names it: ``cpu``, ``cuda``, ``cuda:1``.
            num_threads: Torch's threads while it runs on a CPU; two that spin on a busy core are
                ten times slower than one.
        """
        self._folder = folder
        self._model_class = model_class
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._dtype = dtype
        self._device = device
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._model: Any = None
        self._tokenizer: Any = None

    def run(
        self, texts: Sequence[str], reduce: Reduce, *, seconds: Sequence[str] | None = None
    ) -> NDArray[np.float32]:
        """[N, D], float32.

        Args:
            texts: One input each; at least one.
            reduce: Makes [B, D] of the model's output for a batch.
            seconds: The second text of each pair, for a model that reads pairs.
        """
        import torch

        rows: list[NDArray[np.float32] | None] = [None] * len(texts)
        with self._lock, torch.inference_mode(), self._threads():
            model = self._load()
            inputs = self._tokenise(texts, seconds)
            for numbers in length_batches([len(ids[0]) for ids in inputs], self._batch_tokens):
                batch = {
                    name: torch.tensor([inputs[n][place] for n in numbers], device=self._device)
                    for place, name in enumerate(self._input_names(inputs[numbers[0]]))
                }
                batch["attention_mask"] = torch.ones_like(batch["input_ids"])
                found = reduce(model(**batch)).float().cpu().numpy()
                for number, row in zip(numbers, found, strict=True):
                    rows[number] = row
        return np.stack([row for row in rows if row is not None])

    def _load(self) -> Any:
        if self._model is None:
            import torch
            import transformers

            tokenizer = transformers.AutoTokenizer.from_pretrained(self._folder)
            model = getattr(transformers, self._model_class).from_pretrained(
                self._folder, dtype=getattr(torch, self._dtype)
            )
            most = getattr(model.config, "max_position_embeddings", None)
            if most is not None and self._max_tokens > most:
                raise ValueError(
                    f"max_tokens is {self._max_tokens}, but {self._folder} reads at most {most} "
                    "tokens. Set max_tokens to that, or lower."
                )
            self._model, self._tokenizer = model.to(self._device).eval(), tokenizer
        return self._model

    def _tokenise(
        self, texts: Sequence[str], seconds: Sequence[str] | None
    ) -> list[tuple[list[int], ...]]:
        """The ids of each text, and what the model wants besides, one number per token."""
        inputs: list[tuple[list[int], ...]] = []
        for start in range(0, len(texts), _TOKENISED_TOGETHER):
            part = slice(start, start + _TOKENISED_TOGETHER)
            pair = None if seconds is None else list(map(_readable, seconds[part]))
            encoded = self._tokenizer(
                list(map(_readable, texts[part])),
                pair,
                truncation=True,
                max_length=self._max_tokens,
                return_attention_mask=False,
            )
            columns = [encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded]
            inputs.extend(zip(*columns, strict=True))
        if not all(ids[0] for ids in inputs):
            raise ValueError(
                f"The tokeniser of {self._folder} makes no token of an empty text. Leave empty "
                "passages out, or add a prefix."
            )
        return inputs

    def _input_names(self, ids: tuple[list[int], ...]) -> tuple[str, ...]:
        return ("input_ids", "token_type_ids")[: len(ids)]

    @contextmanager
    def _threads(self) -> Iterator[None]:
        """The number of threads is the process's: whoever trains beside us gets it back."""
        import torch

        before = torch.get_num_threads()
        if before == self._num_threads or self._device != "cpu":
            yield
            return
        torch.set_num_threads(self._num_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def length_batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of texts by batch: one length each, the longest first, within a budget of tokens.

    Args:
        lengths: [N], the tokens of each text.
        batch_tokens: The most tokens of a batch; a text that has more is a batch of its own.
    """
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, length in enumerate(lengths):
        by_length[length].append(number)
    for length in sorted(by_length, reverse=True):  # what does not fit into memory fails at once
        size = max(1, batch_tokens // max(1, length))
        numbers = by_length[length]
        for start in range(0, len(numbers), size):
            yield numbers[start : start + size]


def check_model_settings(max_tokens: int, batch_tokens: int, dtype: str) -> None:
    """Refuses settings that no model can run with.

    Raises:
        ValueError: If a number is below 1, or the type is none of the three.
    """
    for name, value in (("max_tokens", max_tokens), ("batch_tokens", batch_tokens)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it is a whole number from 1 up.")
    if dtype not in ("float32", "bfloat16", "float16"):
        raise ValueError(f"dtype is {dtype!r}; it is 'float32', 'bfloat16' or 'float16'.")


def _readable(text: str) -> str:
    """What a tokeniser takes: lone surrogates, valid in JSON, become question marks."""
    text = text[:_MAX_CHARACTERS]
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
