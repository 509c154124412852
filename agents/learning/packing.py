"""Samples in, micro-batches of tensors out: rows that are packed without padding, or padded."""

# N: sequences of a micro-batch, R: rows, T: tokens of a row, M: trained tokens

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import PackedLayout, Segment
from .sample import Sample

PACKINGS = ("packed", "padded")
BLOCK_TOKENS = 128
"""Packed rows on a GPU are multiples of this: the block of FlexAttention."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MicroBatch:
    """What one forward pass reads, and where its trained tokens are."""

    ids_RT: Tensor
    positions_RT: Tensor
    padding_RT: Tensor | None
    """1 on tokens, from lengths only (pad may equal end-of-turn); None when packed."""

    layout: PackedLayout | None
    """Which token of the packed row sees which; None when padded."""

    predictors_M: Tensor
    """Flat index into R * T of the hidden state that predicts each trained token."""

    targets_M: Tensor
    sequence_M: Tensor
    """The token's sequence, 0 to N - 1; the tokens of a sequence are contiguous and in order."""

    engine_logprobs_M: Tensor
    advantages_M: Tensor
    on_policy_M: Tensor
    """False where the loss conditions on another prompt than the sample did: no ratio exists."""

    sample_N: tuple[int, ...]
    """Which of the samples given each sequence is."""

    num_sequences: int
    num_padding: int
    """Positions that are computed and hold no token."""

    num_saved: int
    """Prompt tokens that are not computed again, since a sequence before holds them."""

    @property
    def num_tokens(self) -> int:
        """Trained tokens."""
        return int(self.targets_M.numel())

    @property
    def num_computed(self) -> int:
        """Positions that the model computes, padding included."""
        return int(self.ids_RT.numel())


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item:
    """A sample as packing sees it."""

    index: int
    ids: Tensor  # [T]
    """Up to the last token that predicts a trained one: what follows changes no loss."""
    targets: Tensor  # [M] positions of the trained tokens
    num_prompt: int
    """Tokens before the first trained one."""

    @property
    def length(self) -> int:
        return int(self.ids.numel())


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Samples that go into one row with one prompt."""

    items: tuple[_Item, ...]
    num_shared: int

    @property
    def length(self) -> int:
        return self.num_shared + sum(item.length - self.num_shared for item in self.items)


def micro_batches(
    samples: Sequence[Sample],
    *,
    max_tokens: int,
    packing: str = "packed",
    device: torch.device | str = "cpu",
    share_prompts: bool = True,
) -> list[MicroBatch]:
    """Cuts samples into micro-batches of at most `max_tokens` positions; same input, same batches.

    "packed" lays sequences one after the other in a single row, and the prompt of those that agree
    up to their first trained token only once. "padded" gives each a row of its own and fills up to
    the longest: for models whose attention cannot be replaced. Samples without a trained token are
    left out. What follows a sequence's last trained token is not computed.

    Args:
        samples: What to learn from; `MicroBatch.sample_N` refers to these places.
        max_tokens: Positions of a micro-batch, padding counted; a longer sequence stands alone.
        packing: "packed" or "padded".
        device: Where the tensors go.
        share_prompts: Whether packed sequences share their prompt.

    Raises:
        ValueError: If a sequence would train its first token, or `packing` is unknown.
    """
    if packing not in PACKINGS:
        raise ValueError(f"packing is {packing!r}; it is one of {', '.join(PACKINGS)}.")
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; give at least 1.")
    items = [_item(i, s) for i, s in enumerate(samples) if any(s.sequence.loss_mask)]
    place = torch.device(device)
    if packing == "padded":
        return [_padded(samples, row, place) for row in _padded_rows(items, max_tokens)]
    families = _families(items, max_tokens, share_prompts=share_prompts)
    return [_packed(samples, row, place) for row in _first_fit(families, max_tokens)]


def _item(index: int, sample: Sample) -> _Item:
    mask = torch.tensor(sample.sequence.loss_mask, dtype=torch.bool)
    if mask[0]:
        raise ValueError(
            f"Sample {index}: the first token of a sequence cannot be trained on, since nothing "
            "predicts it. Put a prompt of at least one token before it."
        )
    targets = mask.nonzero().squeeze(1)
    last = int(targets[-1])
    ids = torch.tensor(sample.sequence.ids[:last], dtype=torch.long)
    return _Item(index=index, ids=ids, targets=targets, num_prompt=int(targets[0]))


def _families(items: Iterable[_Item], max_tokens: int, *, share_prompts: bool) -> list[_Family]:
    """Samples by prompt, in order of appearance; families beyond the budget are cut."""
    by_prompt: dict[object, list[_Item]] = {}
    for item in items:
        key: object = item.index
        if share_prompts:
            key = item.ids[: item.num_prompt].numpy().tobytes()
        by_prompt.setdefault(key, []).append(item)
    families: list[_Family] = []
    for members in by_prompt.values():
        shared = members[0].num_prompt if len(members) > 1 else 0
        part: list[_Item] = []
        size = shared
        for item in members:
            if part and size + item.length - shared > max_tokens:
                families.append(_family(part))
                part, size = [], shared
            part.append(item)
            size += item.length - shared
        families.append(_family(part))
    return families


def _family(items: Sequence[_Item]) -> _Family:
    return _Family(items=tuple(items), num_shared=items[0].num_prompt if len(items) > 1 else 0)


def _first_fit(families: Sequence[_Family], max_tokens: int) -> list[list[_Family]]:
    """First fit, the longest first: at most 11/9 of the fewest rows (Johnson 1973)."""
    rows: list[list[_Family]] = []
    left: list[int] = []
    for family in sorted(families, key=lambda f: (-f.length, f.items[0].index)):
        for i, room in enumerate(left):
            if family.length <= room:
                rows[i].append(family)
                left[i] -= family.length
                break
        else:
            rows.append([family])
            left.append(max_tokens - family.length)
    return rows


def _packed(
    samples: Sequence[Sample], families: Sequence[_Family], device: torch.device
) -> MicroBatch:
    segments: list[Segment] = []
    ids: list[Tensor] = []
    positions: list[Tensor] = []
    predictors: list[Tensor] = []
    items: list[_Item] = []
    at = 0
    saved = 0
    for family in families:
        shared = family.num_shared
        parent = -1
        if shared:
            parent = len(segments)
            segments.append(Segment(start=at, end=at + shared))
            ids.append(family.items[0].ids[:shared])
            positions.append(torch.arange(shared))
            saved += shared * (len(family.items) - 1)
        root = at
        at += shared
        for item in family.items:
            own = item.length - shared
            if own:  # a single trained token right after the prompt needs no place of its own
                segments.append(Segment(start=at, end=at + own, parent=parent))
                ids.append(item.ids[shared:])
                positions.append(torch.arange(shared, item.length))
            before = item.targets - 1
            predictors.append(torch.where(before < shared, root + before, at - shared + before))
            items.append(item)
            at += own
    padding = -at % BLOCK_TOKENS if device.type == "cuda" else 0
    if padding:
        ids.append(torch.zeros(padding, dtype=torch.long))
        positions.append(torch.zeros(padding, dtype=torch.long))
    return _batch(
        samples,
        items,
        torch.cat(predictors),
        device,
        ids_RT=torch.cat(ids)[None],
        positions_RT=torch.cat(positions)[None],
        layout=PackedLayout(segments=tuple(segments), length=at + padding),
        num_padding=padding,
        num_saved=saved,
    )


def _padded_rows(items: Sequence[_Item], max_tokens: int) -> list[list[_Item]]:
    """Sequences of like length together, so that little is padding."""
    rows: list[list[_Item]] = []
    for item in sorted(items, key=lambda item: (item.length, item.index)):
        if rows and (len(rows[-1]) + 1) * item.length <= max_tokens:
            rows[-1].append(item)
        else:
            rows.append([item])
    return rows


def _padded(samples: Sequence[Sample], items: Sequence[_Item], device: torch.device) -> MicroBatch:
    longest = max(item.length for item in items)
    ids = torch.zeros(len(items), longest, dtype=torch.long)
    padding = torch.zeros(len(items), longest, dtype=torch.long)
    for row, item in enumerate(items):
        ids[row, : item.length] = item.ids
        padding[row, : item.length] = 1
    predictors = [row * longest + item.targets - 1 for row, item in enumerate(items)]
    return _batch(
        samples,
        items,
        torch.cat(predictors),
        device,
        ids_RT=ids,
        positions_RT=torch.arange(longest).repeat(len(items), 1),
        padding_RT=padding,
        num_padding=int(ids.numel() - padding.sum()),
    )


def _batch(
    samples: Sequence[Sample],
    items: Sequence[_Item],
    predictors_M: Tensor,
    device: torch.device,
    *,
    ids_RT: Tensor,
    positions_RT: Tensor,
    padding_RT: Tensor | None = None,
    layout: PackedLayout | None = None,
    num_padding: int,
    num_saved: int = 0,
) -> MicroBatch:
    chosen = [samples[item.index] for item in items]
    sequence_M = torch.repeat_interleave(torch.tensor([len(item.targets) for item in items]))
    targets, logprobs = [], []
    for sample, item in zip(chosen, items, strict=True):
        targets.append(torch.tensor(sample.sequence.ids, dtype=torch.long)[item.targets])
        logprobs.append(torch.tensor(sample.sequence.logprobs)[item.targets])
    advantage_N = torch.tensor([sample.advantage for sample in chosen], dtype=torch.float32)
    on_policy_N = torch.tensor([sample.sequence.is_on_policy for sample in chosen])
    return MicroBatch(
        ids_RT=ids_RT.to(device),
        positions_RT=positions_RT.to(device),
        padding_RT=None if padding_RT is None else padding_RT.to(device),
        layout=None if layout is None else layout.to(device),
        predictors_M=predictors_M.to(device),
        targets_M=torch.cat(targets).to(device),
        sequence_M=sequence_M.to(device),
        engine_logprobs_M=torch.cat(logprobs).to(device),
        advantages_M=advantage_N[sequence_M].to(device),
        on_policy_M=on_policy_N[sequence_M].to(device),
        sample_N=tuple(item.index for item in items),
        num_sequences=len(items),
        num_padding=num_padding,
        num_saved=num_saved,
    )
