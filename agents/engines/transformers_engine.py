"""Requests in, completions out, with any causal Transformers model and continuous batching."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .completion_end import CompletionEnd
from .engine import (
    Completion,
    EngineConfig,
    EngineOutOfMemoryError,
    FinishReason,
    Request,
    check_model_dir,
    check_request,
    is_out_of_memory,
)
from .slot_cache import PrefixStore, SlotCache, attending_through_slots, prefill_chunks
from .token_sampling import sample_tokens
from .weights import drained, load_parameters

SEED_MASK = 2**64 - 1


@dataclass(frozen=True, kw_only=True)
class TransformersEngineConfig(EngineConfig):
    """How the portable engine runs."""

    device: str = "auto"
    """Where the model is loaded; "auto" is the first CUDA device, else the CPU."""
    max_prefill_tokens: int = 2048
    """Most prompt tokens, padding included, in one forward pass."""
    prefix_cache_bytes: int = 512 << 20
    """Memory for keys and values of finished requests; 0 computes every prompt anew."""
    seed: int = 0
    """Seed of the samples of requests that bring none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_prefill_tokens < 1 or self.prefix_cache_bytes < 0:
            raise ValueError(
                f"max_prefill_tokens is {self.max_prefill_tokens} (at least 1), "
                f"prefix_cache_bytes is {self.prefix_cache_bytes} (at least 0)."
            )


@dataclass(kw_only=True, slots=True)
class _Row:
    """A request in flight."""

    request: Request
    seed: int
    end: CompletionEnd
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def num_cached(self) -> int:
        """Tokens whose keys and values are stored: all but the last sampled one."""
        return len(self.request.prompt_ids) + len(self.token_ids) - 1


class TransformersEngine:
    """An `Engine` that runs wherever PyTorch does.

    Each `poll` adds one token to every running request; waiting requests join as soon as there is
    a free slot, and finished ones leave at once. Prompts that are alike are computed once, and a
    prompt that goes on from a finished request is computed from there.

    Given a module instead of a folder, the engine samples from that very module: the trainer's
    own, say. `update_weights` then only takes the new version and drops caches.

    Example::

        engine = TransformersEngine("model")
        engine.submit(Request(request_id="a", prompt_ids=(1, 2), params=params))
        while not (done := engine.poll()):
            pass
    """

    def __init__(
        self,
        model: str | Path | nn.Module,
        *,
        tokenizer: Any = None,
        config: TransformersEngineConfig | None = None,
    ) -> None:
        """Loads the model, or takes the one given.

        Args:
            model: Folder in the Hugging Face layout, or a live causal language model.
            tokenizer: For stop texts; read from the folder where None is given.
            config: Limits and sizes.

        Raises:
            FileNotFoundError: If there is no model in the folder.
            ValueError: If the model cannot be run here, or the context is longer than its own.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._config = config = config or TransformersEngineConfig()
        self._is_shared = isinstance(model, nn.Module)
        if isinstance(model, nn.Module):
            self._model: Any = model
        else:
            folder = check_model_dir(model)
            device = config.device
            if device == "auto":
                device = "cuda" if torch.cuda.is_available() else "cpu"
            self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=config.dtype)
            self._model.to(device).eval().requires_grad_(False)
            if tokenizer is None:
                tokenizer = AutoTokenizer.from_pretrained(folder)
        self._tokenizer = tokenizer
        text_config = self._model.config.get_text_config()
        if not getattr(self._model, "_supports_attention_backend", False):
            raise ValueError(
                f"{type(self._model).__name__} brings its own attention; the Transformers engine "
                "needs a model that takes Transformers' attention interface. Use the vLLM engine."
            )
        longest = int(text_config.max_position_embeddings)
        self._max_model_len = config.max_model_len or longest
        if self._max_model_len > longest:
            raise ValueError(
                f"max_model_len is {self._max_model_len}, and this model goes to {longest} tokens."
            )
        eos = self._model.generation_config.eos_token_id
        self._eos_ids = {eos} if isinstance(eos, int) else set(eos or ())
        if tokenizer is not None and tokenizer.eos_token_id is not None:
            self._eos_ids.add(tokenizer.eos_token_id)
        self._cache: SlotCache | None = self._new_cache()
        self._prefixes = PrefixStore(config.prefix_cache_bytes)
        self._waiting: deque[_Row] = deque()
        self._running: list[_Row] = []  # row i has slot i
        self._aborted: list[Completion] = []
        self._in_flight: set[str] = set()
        self._weight_version = 0
        self._rng = np.random.default_rng(config.seed)

    @property
    def weight_version(self) -> int:
        """Version given with the last `update_weights`; 0 at the start."""
        return self._weight_version

    @property
    def num_unfinished(self) -> int:
        """Requests whose completion `poll` has not returned yet."""
        return len(self._in_flight)

    @property
    def max_model_len(self) -> int:
        """Most tokens of prompt and completion together."""
        return self._max_model_len

    def submit(self, request: Request) -> None:
        """Queues a request; see `Engine.submit`.

        Raises:
            ValueError: Also if a stop text is asked for and the engine has no tokenizer.
        """
        self._open_cache()
        max_tokens = check_request(
            request,
            max_model_len=self._max_model_len,
            in_flight=self._in_flight,
            vocab_size=self._model.get_input_embeddings().num_embeddings,
        )
        seed = request.params.seed
        row = _Row(
            request=request,
            seed=int(self._rng.integers(2**63)) if seed is None else seed & SEED_MASK,
            end=CompletionEnd(
                request, max_tokens=max_tokens, eos_ids=self._eos_ids, tokenizer=self._tokenizer
            ),
        )
        self._waiting.append(row)
        self._in_flight.add(request.request_id)

    def poll(self) -> list[Completion]:
        """Adds one token to every running request; gives what finished.

        Raises:
            EngineOutOfMemoryError: See `Engine.poll`.
        """
        self._open_cache()
        finished, self._aborted = self._aborted, []
        if self._running or self._waiting:
            try:
                finished += self._step()
            except Exception as error:
                if is_out_of_memory(error):
                    raise self._drop_in_flight(error) from error
                raise
        self._in_flight.difference_update(completion.request_id for completion in finished)
        return finished

    def _drop_in_flight(self, error: Exception) -> EngineOutOfMemoryError:
        """Makes the engine idle and its caches empty; the error to raise."""
        ids = tuple(self._in_flight)
        self._in_flight.clear()
        self._running.clear()
        self._waiting.clear()
        self._prefixes.clear()
        self._cache = self._new_cache()
        return EngineOutOfMemoryError(
            f"The Transformers engine ran out of memory with {len(ids)} requests in flight ({error}). "
            "Lower max_num_seqs, max_prefill_tokens or prefix_cache_bytes.",
            ids,
        )

    def _step(self) -> list[Completion]:
        finished: list[Completion] = []
        with torch.no_grad(), attending_through_slots(self._model):
            logits = [self._decode()] if self._running else []
            logits += self._admit()
            rows = self._running
            tokens, logprobs = sample_tokens(
                torch.cat(logits),
                [row.request.params for row in rows],
                [row.seed for row in rows],
                [len(row.token_ids) for row in rows],
            )
            ended: list[int] = []
            for slot, (row, token, logprob) in enumerate(zip(rows, tokens, logprobs, strict=True)):
                row.token_ids.append(token)
                row.logprobs.append(logprob)
                if (end := row.end.add(token)) is not None:
                    finished.append(self._completion(row, *end))
                    ended.append(slot)
            for slot in reversed(ended):
                self._release(slot, is_kept=True)
        return finished

    def abort(self, request_ids: Iterable[str]) -> None:
        """Ends these requests; the next `poll` returns what they have."""
        unwanted = set(request_ids)
        for slot in range(len(self._running) - 1, -1, -1):
            if (row := self._running[slot]).request.request_id in unwanted:
                self._aborted.append(self._completion(row, FinishReason.ABORT, None))
                self._release(slot, is_kept=False)
        waiting, self._waiting = self._waiting, deque()
        for row in waiting:
            if row.request.request_id in unwanted:
                self._aborted.append(self._completion(row, FinishReason.ABORT, None))
            else:
                self._waiting.append(row)

    def update_weights(
        self, named_parameters: Iterable[tuple[str, Tensor]], *, version: int
    ) -> None:
        """Replaces the weights and drops caches; of a shared module, only drops caches.

        After a ValueError some weights are new and some old: update again with a full set.

        Raises:
            RuntimeError: If requests are in flight.
            ValueError: If a name is unknown, one is missing, a shape differs, or the two names of
                a tied weight bring different values.
        """
        self._open_cache()
        if self.num_unfinished:
            raise RuntimeError(
                f"{self.num_unfinished} requests are in flight; poll until num_unfinished is 0, "
                "then update the weights."
            )
        self._prefixes.clear()
        with drained(named_parameters) as source:
            if not self._is_shared:
                load_parameters(self._model, source)
        self._weight_version = version

    def close(self) -> None:
        """Frees caches, and the model unless it is shared."""
        self._cache = self._model = None
        self._prefixes.clear()
        self._waiting.clear()
        self._running.clear()
        self._aborted.clear()
        self._in_flight.clear()

    def _new_cache(self) -> SlotCache:
        return SlotCache(
            num_layers=self._model.config.get_text_config().num_hidden_layers,
            max_slots=self._config.max_num_seqs,
            max_tokens=self._max_model_len,
        )

    def _open_cache(self) -> SlotCache:
        if self._cache is None:
            raise RuntimeError("The engine is closed; open another.")
        return self._cache

    def _decode(self) -> Tensor:
        """Logits [N, V] of the running rows, whose last tokens are fed in."""
        device = self._model.device
        ids = torch.tensor([[row.token_ids[-1]] for row in self._running], device=device)
        lengths = torch.tensor([row.num_cached for row in self._running], device=device)
        return self._forward(0, ids, torch.ones_like(ids, dtype=torch.bool), lengths)

    def _admit(self) -> list[Tensor]:
        """Moves waiting rows to free slots; gives the logits at the ends of their prompts."""
        cache = self._open_cache()
        num_free = self._config.max_num_seqs - len(self._running)
        alike: dict[tuple[int, ...], list[_Row]] = {}
        for _ in range(min(num_free, len(self._waiting))):
            row = self._waiting.popleft()
            alike.setdefault(row.request.prompt_ids, []).append(row)
        known = {ids: self._prefixes.find(ids) for ids in alike}
        starts = {ids: found[0] if found else 0 for ids, found in known.items()}
        # Fresh and extended prompts go apart, each sorted by what there is to compute.
        order = sorted(alike, key=lambda ids: (starts[ids] == 0, len(ids) - starts[ids]))
        logits: list[Tensor] = []
        for chunk in prefill_chunks(order, starts, self._config.max_prefill_tokens):
            first = len(self._running)
            for slot, ids in enumerate(chunk, first):
                if found := known[ids]:
                    cache.write(slot, found[1], found[2], found[0])
            chunk_logits = self._prefill(first, chunk, [starts[ids] for ids in chunk])
            self._running += [alike[ids][0] for ids in chunk]
            twins = [i for i, ids in enumerate(chunk) for _ in alike[ids][1:]]
            for i in twins:
                cache.copy(first + i, len(self._running), len(chunk[i]))
                self._running.append(alike[chunk[i]].pop())
            logits += [chunk_logits, chunk_logits[twins]] if twins else [chunk_logits]
        return logits

    def _prefill(
        self, first: int, prompts: Sequence[tuple[int, ...]], starts: Sequence[int]
    ) -> Tensor:
        """Logits [N, V] at the ends of the prompts, of which `starts` tokens are cached."""
        device = self._model.device
        new = [ids[start:] for ids, start in zip(prompts, starts, strict=True)]
        width = max(map(len, new))
        ids = torch.tensor([[*part, *[0] * (width - len(part))] for part in new], device=device)
        counts = torch.tensor([len(part) for part in new], device=device)
        is_real = torch.arange(width, device=device) < counts[:, None]
        return self._forward(first, ids, is_real, torch.tensor(starts, device=device))

    def _forward(self, first: int, ids: Tensor, is_real: Tensor, starts: Tensor) -> Tensor:
        """Logits [N, V], float32, of the last real token of each row; keys and values are kept."""
        counts = is_real.sum(dim=1)
        steps = torch.arange(ids.shape[1], device=ids.device)
        # Padded tokens repeat the last position: one past the context would have no embedding.
        positions = starts[:, None] + torch.minimum(steps, counts[:, None] - 1)
        cache = self._open_cache()
        mask = cache.plan(first, positions, is_real, starts)
        rows = torch.arange(len(ids), device=ids.device)

        def keep_last(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (args[0][rows, counts - 1][:, None], *args[1:])

        hook = self._model.get_output_embeddings().register_forward_pre_hook(keep_last)
        try:
            output = self._model(
                input_ids=ids,
                position_ids=positions,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            )
        finally:
            hook.remove()
        logits: Tensor = output.logits[:, 0].float()
        return logits

    def _completion(
        self, row: _Row, finish_reason: FinishReason, stop_reason: str | int | None
    ) -> Completion:
        return Completion(
            request_id=row.request.request_id,
            token_ids=tuple(row.token_ids),
            logprobs=tuple(row.logprobs),
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            weight_version=self._weight_version,
        )

    def _release(self, slot: int, *, is_kept: bool) -> None:
        """Frees a slot: the last running row moves into it, so that running slots stay dense."""
        cache, row = self._open_cache(), self._running[slot]
        if is_kept and self._config.prefix_cache_bytes:
            ids = (*row.request.prompt_ids, *row.token_ids[:-1])
            self._prefixes.put(ids, len(row.request.prompt_ids), *cache.read(slot, len(ids)))
        last = self._running.pop()
        if last is not row:
            cache.copy(len(self._running), slot, last.num_cached)
            self._running[slot] = last
