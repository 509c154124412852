"""Keys and values of many sequences in, one batched attention out; finished prefixes are kept.

Shapes: S slots, N rows of this forward pass, L layers, H heads, D head width, T new tokens,
C capacity in tokens. Keys are stored transposed, [L, S, H, D, C]: with one query token each, the
two batched products then run 2.2x as fast on a CPU as `scaled_dot_product_attention`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, Cache

ATTENTION_NAME = "maskgym_slots"
FIRST_CAPACITY = 256
FIRST_SLOTS = 16


class SlotCache(Cache):  # type: ignore[misc]  # transformers is untyped here
    """A key-value cache with one slot a sequence; slots 0..N-1 are the running sequences.

    Rows differ in length: `plan` says where the next forward pass writes, and gives its mask.
    """

    def __init__(self, *, num_layers: int, max_slots: int, max_tokens: int) -> None:
        super().__init__(layers=[])
        self._num_layers = num_layers
        self._max_slots = max_slots
        self._max_tokens = max_tokens
        self._keys = torch.empty(0)  # [L, S, H, D, C]
        self._values = torch.empty(0)  # [L, S, H, C, D]
        self._first = 0
        self._num_rows = 0
        self._num_slots = 0
        self._length = 0
        self._is_fresh = True
        self._rows = self._columns = torch.empty(0)
        self._is_real: Tensor | None = None  # [N, T]

    def plan(self, first_slot: int, positions: Tensor, is_real: Tensor, starts: Tensor) -> Tensor:
        """Sets where the next forward pass writes; gives its attention mask.

        Args:
            first_slot: Slot of the first row; the rows lie in consecutive slots.
            positions: [N, T], place of each new token in its sequence; any value where padded.
            is_real: [N, T], False where padded (on the right).
            starts: [N], tokens cached before; all zero, or none.

        Returns:
            [N, 1, T, length], added to the scores; without elements where the rows start at 0 and
            plain causal attention does.
        """
        device = positions.device
        self._first, (self._num_rows, num_new) = first_slot, positions.shape
        self._num_slots = first_slot + self._num_rows
        self._is_fresh = bool((starts == 0).all())
        if self._is_fresh:
            self._length = num_new
            return torch.empty((0, 0, 0, 0), device=device)
        assert bool((starts > 0).all()), "fresh and extended rows do not mix"
        self._length = int(positions[is_real].max()) + 1
        rows, _ = is_real.nonzero(as_tuple=True)
        self._rows, self._columns = rows + first_slot, positions[is_real]
        self._is_real = None if num_new == 1 else is_real
        is_visible = torch.arange(self._length, device=device) <= positions[:, :, None]
        return torch.zeros((), device=device).where(is_visible, float("-inf"))[:, None]

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Stores [N, H, T, D] of one layer; gives the keys and values to attend to.

        Fresh rows attend to what was given; others to views [N, H, D, length], [N, H, length, D].
        """
        self._reserve(key_states, value_states, self._num_slots, self._length)
        rows = slice(self._first, self._first + self._num_rows)
        keys, values = self._keys[layer_idx], self._values[layer_idx]
        if self._is_fresh:
            # What a padded row writes past its end is masked, and overwritten as it grows.
            keys[rows, :, :, : self._length] = key_states.transpose(-1, -2)
            values[rows, :, : self._length] = value_states
            return key_states, value_states
        new_keys, new_values = key_states.transpose(1, 2), value_states.transpose(1, 2)
        is_real = self._is_real
        keys[self._rows, :, :, self._columns] = (
            new_keys[:, 0] if is_real is None else new_keys[is_real]
        )
        values[self._rows, :, self._columns] = (
            new_values[:, 0] if is_real is None else new_values[is_real]
        )
        return keys[rows, :, :, : self._length], values[rows, :, : self._length]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Always 0: positions are given explicitly, they differ between rows."""
        return 0

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copies the first tokens of one slot to another."""
        self._reserve(self._keys[0].transpose(-1, -2), self._values[0], target + 1, num_tokens)
        self._keys[:, target, :, :, :num_tokens] = self._keys[:, source, :, :, :num_tokens]
        self._values[:, target, :, :num_tokens] = self._values[:, source, :, :num_tokens]

    def read(self, slot: int, num_tokens: int) -> tuple[Tensor, Tensor]:
        """Copies of keys [L, H, D, T] and values [L, H, T, D] of the first tokens of a slot."""
        return (
            self._keys[:, slot, :, :, :num_tokens].contiguous(),
            self._values[:, slot, :, :num_tokens].contiguous(),
        )

    def write(self, slot: int, keys: Tensor, values: Tensor, num_tokens: int) -> None:
        """Puts the first tokens of what `read` gave into a slot."""
        self._reserve(keys.transpose(-1, -2), values, slot + 1, num_tokens)
        self._keys[:, slot, :, :, :num_tokens] = keys[..., :num_tokens]
        self._values[:, slot, :, :num_tokens] = values[:, :, :num_tokens]

    def _reserve(self, keys: Tensor, values: Tensor, num_slots: int, num_tokens: int) -> None:
        """Grows to this many slots and tokens, by doubling; zeros, as garbage may be NaN."""
        is_empty = not self._keys.numel()
        old_slots, old_tokens = (0, 0) if is_empty else (self._keys.shape[1], self._keys.shape[-1])
        if num_slots <= old_slots and num_tokens <= old_tokens:
            return
        slots, tokens = max(old_slots, FIRST_SLOTS), max(old_tokens, FIRST_CAPACITY)
        while slots < num_slots:
            slots *= 2
        while tokens < num_tokens:
            tokens *= 2
        slots, tokens = min(slots, self._max_slots), min(tokens, self._max_tokens)
        assert num_slots <= slots and num_tokens <= tokens
        num_heads, layers = keys.shape[-3], self._num_layers
        grown_keys = keys.new_zeros((layers, slots, num_heads, keys.shape[-1], tokens))
        grown_values = values.new_zeros((layers, slots, num_heads, tokens, values.shape[-1]))
        if not is_empty:
            grown_keys[:, :old_slots, :, :, :old_tokens] = self._keys
            grown_values[:, :old_slots, :, :old_tokens] = self._values
        self._keys, self._values = grown_keys, grown_values


def slot_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention of [N, H_q, T, D] queries over what `SlotCache.update` gave; [N, T, H_q, D].

    Raises:
        NotImplementedError: If the model needs more than plain causal attention.
    """
    window = options.get("sliding_window")
    num_keys = value.shape[2]
    extras = [name for name in ("softcap", "s_aux", "position_bias") if options.get(name)]
    if extras or (window is not None and num_keys > window):
        raise NotImplementedError(
            f"The Transformers engine has plain causal attention only; this model needs "
            f"{', '.join(extras) or f'a window of {window} tokens'}. Use the vLLM engine."
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    num_groups = query.shape[1] // value.shape[1]
    if not attention_mask.numel():
        out = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=num_groups > 1
        )
        return out.transpose(1, 2), None
    num_rows, _, num_new, width = query.shape
    grouped = query.reshape(num_rows, value.shape[1], num_groups * num_new, width)
    scores = torch.matmul(grouped, key).float().mul_(scale)
    scores.view(num_rows, -1, num_groups, num_new, num_keys).add_(attention_mask[:, :, None])
    out = torch.matmul(scores.softmax(dim=-1).to(value.dtype), value)
    return out.view(num_rows, query.shape[1], num_new, -1).transpose(1, 2), None


AttentionInterface.register(ATTENTION_NAME, slot_attention)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Prefix:
    ids: tuple[int, ...]
    keys: Tensor  # [L, H, D, T]
    values: Tensor  # [L, H, T, D]
    hashes: tuple[int, ...]


class PrefixStore:
    """Keys and values of finished sequences, found again by a prompt that goes on from one.

    The next turn of a conversation starts with the prompt and the completion of the last one; the
    other prompts of a group start with the whole prompt of the first. Both ends are remembered.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._prefixes: OrderedDict[int, _Prefix] = OrderedDict()  # oldest first
        self._by_hash: dict[int, int] = {}
        self._next = 0

    def put(self, ids: Sequence[int], num_prompt: int, keys: Tensor, values: Tensor) -> None:
        """Remembers a sequence; the least recently used ones go when the store is full."""
        size = keys.nbytes + values.nbytes
        if size > self._max_bytes:
            return
        hashes = _prefix_hashes(ids)
        ends = (hashes[-1],) if num_prompt < 2 else (hashes[num_prompt - 2], hashes[-1])
        self._prefixes[self._next] = _Prefix(ids=tuple(ids), keys=keys, values=values, hashes=ends)
        self._by_hash.update(dict.fromkeys(ends, self._next))
        self._next += 1
        self._num_bytes += size
        while self._num_bytes > self._max_bytes:
            name, old = self._prefixes.popitem(last=False)
            self._num_bytes -= old.keys.nbytes + old.values.nbytes
            for end in old.hashes:
                if self._by_hash.get(end) == name:
                    del self._by_hash[end]

    def find(self, ids: Sequence[int]) -> tuple[int, Tensor, Tensor] | None:
        """The longest remembered part that leaves a token to compute: its length, keys, values."""
        if not self._prefixes:
            return None
        hashes = _prefix_hashes(ids)
        for length in range(len(ids) - 1, 0, -1):
            name = self._by_hash.get(hashes[length - 1])
            if name is None:
                continue
            prefix = self._prefixes[name]
            if prefix.ids[:length] == tuple(ids[:length]):
                self._prefixes.move_to_end(name)
                return length, prefix.keys, prefix.values
        return None

    def clear(self) -> None:
        """Forgets everything, as is due when weights change."""
        self._prefixes.clear()
        self._by_hash.clear()
        self._num_bytes = 0


def _prefix_hashes(ids: Sequence[int]) -> list[int]:
    """Hash of each prefix: [i] belongs to ids[: i + 1]."""
    return list(accumulate(ids, lambda before, token: hash((before, token)), initial=0))[1:]


def prefill_chunks(
    order: Sequence[tuple[int, ...]], starts: dict[tuple[int, ...], int], max_tokens: int
) -> Iterator[list[tuple[int, ...]]]:
    """Prompts that share a forward pass: all fresh or all extended, at most `max_tokens` padded.

    Args:
        order: The prompts, sorted so that those alike are neighbours.
        starts: Tokens of each prompt that are cached; 0 where it is fresh.
        max_tokens: Limit of one pass, padding included; a longer prompt has one of its own.
    """
    chunk: list[tuple[int, ...]] = []
    for ids in order:
        num_padded = (len(ids) - starts[ids]) * (len(chunk) + 1)
        is_other_kind = bool(chunk) and (starts[ids] == 0) != (starts[chunk[0]] == 0)
        if chunk and (num_padded > max_tokens or is_other_kind):
            yield chunk
            chunk = []
        chunk.append(ids)
    if chunk:
        yield chunk


@contextmanager
def attending_through_slots(model: Any) -> Iterator[None]:
    """Inside, the model is in evaluation mode and attends through a `SlotCache`; then as before."""
    config = model.config
    was_training, attention = model.training, config._attn_implementation
    if was_training:
        model.eval()
    config._attn_implementation = ATTENTION_NAME
    try:
        yield
    finally:
        config._attn_implementation = attention
        if was_training:
            model.train()
