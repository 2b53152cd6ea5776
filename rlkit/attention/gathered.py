"""Attention on a processor for packed episodes and windows: each tile of queries meets only the keys it can see.

Torch's own operation computes all T x S logits under a mask. Where episodes are short beside the row, most of them are
hidden. Here the queries are cut into tiles, the stretch of keys that a tile sees is copied beside it, and all tiles
together are one batch of short attentions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

ROWS = 64
"""Queries in a tile."""
MULTIPLE = 16
"""Lengths of stretches are multiples of this many keys."""


def stretch(low: Tensor, high: Tensor, keys: int) -> int:
    """Number of keys that the tile which sees the longest stretch of them needs; at most `keys`."""
    begin, end = _bounds(low, high)
    longest = int((end - begin).max())
    return min(max(math.ceil(longest / MULTIPLE), 1) * MULTIPLE, keys)


def gathered_attention(q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, length: int) -> Tensor:
    """Outputs [B, H, T, E] for the arguments of `tiled_attention`, and `length` from `stretch`."""
    batch, heads, steps, _ = q.shape
    kv_heads, keys = k.shape[1:3]
    low, high = low.expand(batch, -1), high.expand(batch, -1)
    tiles = math.ceil(steps / ROWS)
    begin = _bounds(low, high)[0].clamp(max=keys - length)  # [B, tiles]
    row = torch.arange(batch, device=q.device)[:, None, None] * keys
    index = (begin[..., None] + torch.arange(length, device=q.device) + row).flatten()

    def beside(kv: Tensor) -> Tensor:
        rows = kv.transpose(1, 2).reshape(batch * keys, -1).index_select(0, index)
        return rows.view(batch * tiles, length, kv_heads, -1).transpose(1, 2)

    missing = tiles * ROWS - steps
    queries = pad(q, (0, 0, 0, missing)).view(batch, heads, tiles, ROWS, -1).transpose(1, 2).flatten(0, 1)
    first = pad(low, (0, missing)).view(batch, tiles, ROWS) - begin[..., None]
    after = pad(high, (0, missing)).view(batch, tiles, ROWS) - begin[..., None]
    place = torch.arange(length, device=q.device)
    seen = (place >= first[..., None]) & (place < after[..., None])  # [B, tiles, ROWS, length]
    out = scaled_dot_product_attention(
        queries, beside(k), beside(v), seen.flatten(0, 1)[:, None], scale=scale, enable_gqa=heads != kv_heads
    )
    return out.view(batch, tiles, heads, ROWS, -1).transpose(1, 2).reshape(batch, heads, tiles * ROWS, -1)[:, :, :steps]


def _bounds(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """First key and key after the last that each tile of queries sees, [B, tiles]."""
    missing = -low.shape[1] % ROWS
    sees = low < high
    begin = torch.where(sees, low, torch.iinfo(low.dtype).max)
    end = torch.where(sees, high, 0)
    begin = pad(begin, (0, missing), value=torch.iinfo(low.dtype).max).view(len(low), -1, ROWS).amin(2)
    end = pad(end, (0, missing)).view(len(low), -1, ROWS).amax(2)
    return torch.minimum(begin, end), end
