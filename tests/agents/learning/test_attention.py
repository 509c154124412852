from typing import Any

import pytest
import torch
from torch import Tensor

from maskgym.agents.learning.attention import (
    PackedLayout,
    Segment,
    flex_segment_attention,
    packed_attention,
    segment_attention,
    use_packed_attention,
)

LAYOUT = PackedLayout(
    segments=(
        Segment(start=0, end=7),
        Segment(start=7, end=12, parent=0),
        Segment(start=12, end=13, parent=0),
        Segment(start=13, end=20),
        Segment(start=20, end=22),
        Segment(start=22, end=31, parent=4),
        Segment(start=31, end=35, parent=4),
    ),
    length=38,
)


def long_layout(num_families: int = 4) -> PackedLayout:
    """Families of a prompt and three children, with lengths from 1 to 400 tokens."""
    draw = torch.Generator().manual_seed(0)
    segments: list[Segment] = []
    at = 0
    for _ in range(num_families):
        parent = len(segments)
        for child in range(4):
            size = int(torch.randint(1, 400, (1,), generator=draw))
            segments.append(Segment(start=at, end=at + size, parent=parent if child else -1))
            at += size
    return PackedLayout(segments=tuple(segments), length=at + -at % 128)


def inputs(
    layout: PackedLayout, *, heads: int, kv_heads: int, dtype: torch.dtype, width: int = 8
) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)

    def one(num_heads: int) -> Tensor:
        values = torch.randn(1, num_heads, layout.length, width, generator=draw)
        return values.to(dtype).requires_grad_()

    return one(heads), one(kv_heads), one(kv_heads)


def dense(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, scale: float) -> Tensor:
    """Every score of the row, most of them struck out."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    scores = (q @ k.transpose(2, 3)) * scale
    scores = scores.masked_fill(~layout.dense_mask(), -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


def real(layout: PackedLayout) -> int:
    return layout.segments[-1].end


def test_who_sees_whom_in_a_row_worked_by_hand() -> None:
    layout = PackedLayout(
        segments=(
            Segment(start=0, end=2),
            Segment(start=2, end=4, parent=0),
            Segment(start=4, end=5),
        ),
        length=6,
    )
    assert layout.dense_mask().int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_pieces_and_dense_mask_agree_and_so_do_their_gradients(heads: int, kv_heads: int) -> None:
    tensors = inputs(LAYOUT, heads=heads, kv_heads=kv_heads, dtype=torch.float64)
    end = real(LAYOUT)
    weight = torch.randn(1, end, heads, 8, dtype=torch.float64)
    results = []
    for attend in (segment_attention, None):
        for tensor in tensors:
            tensor.grad = None
        q, k, v = tensors
        out = attend(q, k, v, LAYOUT, scale=0.3) if attend else dense(q, k, v, LAYOUT, 0.3)
        (out[:, :end] * weight).sum().backward()  # type: ignore[no-untyped-call]
        results.append([out[:, :end].detach(), *(x.grad for x in tensors)])
    for ours, slow in zip(*results, strict=True):
        assert ours is not None and slow is not None
        assert torch.allclose(ours, slow, atol=1e-12)


def test_long_rows_agree_in_float32() -> None:
    layout = long_layout()
    tensors = inputs(layout, heads=2, kv_heads=1, dtype=torch.float32)
    end = real(layout)
    ours = segment_attention(*tensors, layout, scale=0.35)
    assert torch.allclose(ours[:, :end], dense(*tensors, layout, 0.35)[:, :end], atol=1e-5)


def test_large_scores_do_not_overflow_where_two_pieces_are_joined() -> None:
    tensors = inputs(LAYOUT, heads=2, kv_heads=2, dtype=torch.float32)
    ours = segment_attention(*tensors, LAYOUT, scale=300.0)
    end = real(LAYOUT)
    assert torch.isfinite(ours).all()
    assert torch.allclose(ours[:, :end], dense(*tensors, LAYOUT, 300.0)[:, :end], atol=1e-4)


def test_bfloat16_is_close_to_float32() -> None:
    tensors = inputs(LAYOUT, heads=4, kv_heads=2, dtype=torch.bfloat16)
    ours = segment_attention(*tensors, LAYOUT, scale=0.35)
    assert ours.dtype == torch.bfloat16
    q, k, v = tensors
    exact = dense(q.float(), k.float(), v.float(), LAYOUT, 0.35)
    end = real(LAYOUT)
    assert torch.allclose(ours.float()[:, :end], exact[:, :end], atol=0.03)


def test_flex_attention_and_pieces_agree() -> None:
    layout = long_layout(2)
    tensors = inputs(layout, heads=4, kv_heads=2, dtype=torch.float32)
    for tensor in tensors:
        tensor.requires_grad_(False)  # on a CPU it has no backward pass
    flex = flex_segment_attention(*tensors, layout, scale=0.35, is_compiled=False)
    ours = segment_attention(*tensors, layout, scale=0.35)
    end = real(layout)
    assert torch.isfinite(flex).all()
    assert torch.allclose(flex[:, :end], ours[:, :end], atol=1e-5)


@pytest.mark.parametrize("layout", [LAYOUT, long_layout(1), long_layout(6)])
def test_blocks_of_flex_attention_cover_what_is_seen_and_call_full_only_what_is(
    layout: PackedLayout,
) -> None:
    mask = layout.block_mask
    size = -(-layout.length // 128)
    wide = torch.zeros(size * 128, size * 128, dtype=torch.bool)
    wide[: layout.length, : layout.length] = layout.dense_mask()
    blocks = wide.view(size, 128, size, 128).transpose(1, 2).flatten(2)
    for row in range(size):
        num_full, num_partial = mask.full_kv_num_blocks[0, 0, row], mask.kv_num_blocks[0, 0, row]
        full = set(mask.full_kv_indices[0, 0, row, :num_full].tolist())
        partial = set(mask.kv_indices[0, 0, row, :num_partial].tolist())
        assert not full & partial
        assert all(blocks[row, column].all() for column in full)
        assert {c for c in range(size) if blocks[row, c].any()} <= full | partial
    # Where a block of queries or keys straddles two segments, the mask may run in vain; not elsewhere.
    inner = [
        i for i in range(size) if len(set(layout.segment_T[i * 128 : i * 128 + 128].tolist())) == 1
    ]
    for row in inner:
        full = set(mask.full_kv_indices[0, 0, row, : mask.full_kv_num_blocks[0, 0, row]].tolist())
        assert {column for column in inner if blocks[row, column].all()} == full & set(inner)


@pytest.mark.slow
def test_compiled_flex_attention_agrees() -> None:
    layout = long_layout(2)
    tensors = inputs(layout, heads=4, kv_heads=2, dtype=torch.float32, width=16)
    for tensor in tensors:
        tensor.requires_grad_(False)
    flex = flex_segment_attention(*tensors, layout, scale=0.25)
    ours = segment_attention(*tensors, layout, scale=0.25)
    end = real(layout)
    assert torch.allclose(flex[:, :end], ours[:, :end], atol=1e-5)


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_attention_of_another_kind_is_refused(name: str) -> None:
    tensors = inputs(LAYOUT, heads=2, kv_heads=2, dtype=torch.float32)
    options: dict[str, Any] = {"scaling": 1.0, "packed_layout": LAYOUT, name: 4}
    with pytest.raises(ValueError, match=rf'{name}.*packing = "padded"'):
        packed_attention(torch.nn.Module(), *tensors, None, **options)


def test_dropout_is_refused() -> None:
    tensors = inputs(LAYOUT, heads=2, kv_heads=2, dtype=torch.float32)
    with pytest.raises(ValueError, match="dropout"):
        packed_attention(
            torch.nn.Module(), *tensors, None, scaling=1.0, dropout=0.1, packed_layout=LAYOUT
        )


def test_a_model_with_sliding_layers_is_refused() -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_sliding_window=True,
        sliding_window=8,
        max_window_layers=1,
    )
    with pytest.raises(ValueError, match=r"Qwen2ForCausalLM.*sliding_attention"):
        use_packed_attention(Qwen2ForCausalLM(config))
