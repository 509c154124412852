"""Attention inside a packed row: each sequence sees its prompt and itself, nothing of its neighbours.

The function is registered with `transformers.AttentionInterface`; the layout of the row reaches it
as a keyword of the model's forward. On a CPU the pieces are computed one by one, without any mask;
on a GPU they are one FlexAttention call.
"""

# T: tokens of the row, D: head width, H: query heads = K: key-value heads times G: group

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

PACKED = "maskgym_packed"
"""Name of the attention in a model's configuration."""

_BLOCK = 128
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Consecutive tokens of a row that see each other causally."""

    start: int
    end: int
    parent: int = -1
    """Index of the segment whose tokens are all seen as well, such as a shared prompt; -1 for none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedLayout:
    """The segments of one packed row, in order and without gaps; what follows them is padding."""

    segments: tuple[Segment, ...]
    length: int
    """Tokens of the row, padding included."""

    device: torch.device = _CPU

    def __post_init__(self) -> None:
        at = 0
        for i, segment in enumerate(self.segments):
            assert segment.start == at and segment.end > at, f"segment {i} leaves a gap"
            assert segment.parent < i, f"segment {i} comes before its parent"
            assert segment.parent < 0 or self.segments[segment.parent].parent < 0
            at = segment.end
        assert at <= self.length

    def to(self, device: torch.device) -> "PackedLayout":
        """The same layout for tensors on another device."""
        return PackedLayout(segments=self.segments, length=self.length, device=device)

    @cached_property
    def families(self) -> tuple[tuple[Segment, int, int], ...]:
        """Parents, each with the first and one past the last token of adjacent children."""
        found: list[tuple[Segment, int, int]] = []
        before = -1
        for segment in self.segments:
            if segment.parent >= 0:
                if segment.parent == before:
                    parent, start, _ = found.pop()
                    found.append((parent, start, segment.end))
                else:
                    found.append((self.segments[segment.parent], segment.start, segment.end))
            before = segment.parent
        return tuple(found)

    @cached_property
    def segment_T(self) -> Tensor:
        """[T], the segment of each token; the number of segments on padding."""
        ids = torch.full((self.length,), len(self.segments), dtype=torch.int32)
        for i, segment in enumerate(self.segments):
            ids[segment.start : segment.end] = i
        return ids.to(self.device)

    @cached_property
    def parent_T(self) -> Tensor:
        """[T], the parent of each token's segment, or -1."""
        parents = torch.tensor([*(s.parent for s in self.segments), -1], dtype=torch.int32)
        return parents.to(self.device)[self.segment_T.long()]

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the token at `query` sees the one at `key`; both broadcast."""
        same = self.segment_T[query] == self.segment_T[key]
        return (query >= key) & (same | (self.parent_T[query] == self.segment_T[key]))

    def dense_mask(self) -> Tensor:
        """[T, T], True where the row's token sees the column's: the slow, obvious version."""
        index = torch.arange(self.length, device=self.device)
        return self.sees(index[:, None], index[None, :])

    @cached_property
    def block_mask(self) -> Any:
        """The `BlockMask` of FlexAttention, built from segment bounds in blocks of 128 tokens."""
        from torch.nn.attention.flex_attention import BlockMask

        num_blocks = -(-self.length // _BLOCK)
        touched = torch.zeros(num_blocks, num_blocks, dtype=torch.bool)
        full = torch.zeros_like(touched)
        ends = [*self.segments]
        if not ends or ends[-1].end < self.length:
            ends.append(Segment(start=ends[-1].end if ends else 0, end=self.length))
        for segment in ends:
            outer, inner = _blocks(segment.start, segment.end)
            touched[outer, outer] = True
            full[inner, inner] = True
        for parent, start, end in self.families:
            for flags, rows, columns in zip(
                (touched, full),
                _blocks(start, end),
                _blocks(parent.start, parent.end),
                strict=True,
            ):
                flags[rows, columns] = True
        touched &= torch.ones_like(touched).tril()
        full &= torch.ones_like(full).tril(-1)
        partial_num, partial_index = _block_lists(touched & ~full, self.device)
        full_num, full_index = _block_lists(full, self.device)
        segment_T, parent_T = self.segment_T, self.parent_T

        def mask_mod(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            same = segment_T[query] == segment_T[key]
            return (query >= key) & (same | (parent_T[query] == segment_T[key]))

        return BlockMask.from_kv_blocks(
            partial_num,
            partial_index,
            full_num,
            full_index,
            BLOCK_SIZE=_BLOCK,
            mask_mod=mask_mod,
            seq_lengths=(self.length, self.length),
        )


def _blocks(start: int, end: int) -> tuple[slice, slice]:
    """The blocks that tokens `start` to `end` touch, and those that they fill."""
    inner = -(-start // _BLOCK)
    return slice(start // _BLOCK, -(-end // _BLOCK)), slice(inner, max(inner, end // _BLOCK))


def _block_lists(blocks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of [B, B] flags: how many are set in each row, and the columns with the set ones first."""
    order = torch.argsort(blocks.to(torch.int8), dim=1, descending=True, stable=True)
    return (
        blocks.sum(1, dtype=torch.int32)[None, None].to(device),
        order.to(torch.int32)[None, None].to(device),
    )


class _SegmentAttention(torch.autograd.Function):
    """Softmax attention over the segments of a row, by a flash kernel for each piece.

    A child's attention has two pieces: itself (causal) and its parent (everything). Each piece
    yields an output and the log of its softmax's denominator, and two pieces combine exactly:
    ``lse = logaddexp(lse_1, lse_2)``, ``out = out_1 exp(lse_1 - lse) + out_2 exp(lse_2 - lse)``.
    The backward pass of a piece with the combined output and denominator gives its share of the
    gradient. All children of a parent are one call. Source: Liu et al. 2023, arXiv:2310.01889.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, scale: float
    ) -> Tensor:
        """[1, H, T, D] and twice [1, K, T, D] in, [1, T, H, D] out."""
        q, k, v = _grouped(query, key, value)
        kv_heads, group, length, width = q.shape
        flat = query.new_zeros(length, kv_heads, group, width)
        out = flat.permute(1, 2, 0, 3)
        dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
        lse = torch.zeros(length, kv_heads, group, dtype=dtype).permute(1, 2, 0)
        for segment in layout.segments:
            s = slice(segment.start, segment.end)
            out[:, :, s], lse[:, :, s] = _flash(q[:, :, s], k[:, :, s], v[:, :, s], True, scale)
        for parent, start, end in layout.families:
            c, p = slice(start, end), slice(parent.start, parent.end)
            seen, seen_lse = _flash(q[:, :, c], k[:, :, p], v[:, :, p], False, scale)
            share = torch.sigmoid(seen_lse - lse[:, :, c])[..., None]
            own = out[:, :, c]
            out[:, :, c] = own + (seen - own) * share.to(own.dtype)
            lse[:, :, c] = torch.logaddexp(seen_lse, lse[:, :, c])
        ctx.save_for_backward(query, key, value, flat, lse)
        ctx.layout, ctx.scale = layout, scale
        return flat.view(1, length, kv_heads * group, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, flat, lse = ctx.saved_tensors
        q, k, v = _grouped(query, key, value)
        grad = grads[0].view(flat.shape).permute(1, 2, 0, 3)
        out = flat.permute(1, 2, 0, 3)
        dq, dk, dv = (torch.zeros(x.shape, dtype=x.dtype) for x in (query, key, value))
        dq_grouped = dq.view(q.shape)

        def piece(queries: slice, keys: slice, is_causal: bool) -> tuple[Tensor, Tensor, Tensor]:
            d_query, d_key, d_value = (
                torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    grad[:, :, queries],
                    q[:, :, queries],
                    k[:, :, keys],
                    v[:, :, keys],
                    out[:, :, queries],
                    lse[:, :, queries],
                    0.0,
                    is_causal,
                    scale=ctx.scale,
                )
            )
            if q.shape[1] == 1:
                return d_query, d_key.squeeze(1), d_value.squeeze(1)
            return d_query, d_key.sum(1), d_value.sum(1)

        for segment in ctx.layout.segments:
            own = slice(segment.start, segment.end)
            dq_grouped[:, :, own], dk[0, :, own], dv[0, :, own] = piece(own, own, True)
        for parent, start, end in ctx.layout.families:
            c, p = slice(start, end), slice(parent.start, parent.end)
            d_query, d_key, d_value = piece(c, p, False)
            dq_grouped[:, :, c] += d_query
            dk[0, :, p] += d_key
            dv[0, :, p] += d_value
        return dq, dk, dv, None, None


def _grouped(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[K, G, T, D] views: key-value heads stand as the batch, so that they are never copied."""
    kv_heads = key.shape[1]
    group = query.shape[1] // kv_heads
    q = query.view(kv_heads, group, *query.shape[2:])
    k, v = (x[0][:, None].expand(-1, group, -1, -1) for x in (key, value))
    return q, k, v


def _flash(
    query: Tensor, key: Tensor, value: Tensor, is_causal: bool, scale: float
) -> tuple[Tensor, Tensor]:
    out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, scale=scale
    )
    return out, lse


@cache
def _compiled_flex() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: PackedLayout, *, scale: float
) -> Tensor:
    """Attention over the segments of a row, [1, T, H, D], exact and on the CPU without a mask.

    Args:
        query: [1, H, T, D], on the CPU.
        key: [1, K, T, D], where K divides H.
        value: [1, K, T, D].
        layout: Who sees whom.
        scale: Factor of the scores before the softmax.
    """
    out: Tensor = _SegmentAttention.apply(query, key, value, layout, scale)  # type: ignore[no-untyped-call]
    return out


def flex_segment_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: PackedLayout,
    *,
    scale: float,
    is_compiled: bool = True,
) -> Tensor:
    """The same by FlexAttention; `is_compiled=False` computes densely, for tests."""
    from torch.nn.attention.flex_attention import flex_attention

    function: Any = _compiled_flex() if is_compiled else flex_attention
    out: Tensor = function(
        query,
        key,
        value,
        block_mask=layout.block_mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out.transpose(1, 2)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    packed_layout: PackedLayout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What the model calls: over the layout where one is given, else its usual attention."""
    if packed_layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        usual: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return usual
    for name in ("sliding_window", "softcap", "s_aux", "position_bias"):
        if options.get(name) is not None:
            raise ValueError(
                f"This model's attention uses {name}, which packed rows do not compute. "
                'Set packing = "padded".'
            )
    if dropout:
        raise ValueError("Attention dropout is not computed in packed rows. Set it to 0.")
    attend = segment_attention if query.device.type == "cpu" else flex_segment_attention
    return attend(query, key, value, packed_layout, scale=scaling), None


def use_packed_attention(model: Any) -> None:
    """Makes a Transformers model attend by `packed_attention`; without a layout it computes as before.

    Raises:
        ValueError: If the model's attention cannot be replaced, or has sliding windows.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if model.config._attn_implementation == PACKED:
        return
    name = type(model).__name__
    kinds = set(getattr(model.config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"}:
        raise ValueError(
            f"{name} has layers of {', '.join(sorted(kinds))}; packed rows compute full attention "
            'only. Set packing = "padded".'
        )
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, sdpa_mask)
    model.set_attn_implementation(PACKED)
    if model.config._attn_implementation != PACKED:
        raise ValueError(
            f'The attention of {name} cannot be replaced by the packed one. Set packing = "padded".'
        )
