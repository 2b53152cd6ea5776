"""One step of attention with a cache on a GPU: rotate, append and attend in a single launch per layer.

Acting takes one token per row and layer. Done by parts that is some ten launches, each shorter than its own overhead;
here one program per row and head of keys does all of it. The cache is a ring of C slots: a row at step `position` of
its episode writes slot position % C and sees the min(position + 1, C) newest keys, which are always the first slots, in
any order, as a softmax does not ask for one. An episode begins by setting its row's position to 0; nothing is cleared.

Needs the extra `triton`, as `rlkit.attention.kernels` does.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlkit.attention.kernels import DTYPES, INTERPRETED, LARGEST, dot
from rlkit.errors import UsageError

SLOTS = 64
"""Slots of the cache in a tile, if they are not larger than this:"""
TILE_BYTES = 8192
"""So that three tiles of keys and of values on their way leave room for ten programs on a processor of an H100."""
ROWS = 16
"""A matrix unit multiplies no fewer rows; heads of queries that share keys fill them."""


def decode_step(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, position: Tensor, scale: float, *,
    cos: Tensor | None = None, sin: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Outputs [B, H, E] of one token per row that sees itself and the cached ones; appends it to the caches in place.

    Each row's bits depend on that row alone, not on B. There is no gradient.

    Args:
        q: Queries [B, H, D], D and E multiples of 16 up to 128.
        k: Keys [B, K, D], K a divisor of H: head h uses head h // (H / K) of keys and values.
        v: Values [B, K, E].
        cache_k: Rotated keys [B, K, C, D], of k's dtype. A capacity C of n is a sliding window of n.
        cache_v: Values [B, K, C, E].
        position: Steps that each row's episode has behind it, int32 [B].
        scale: Factor of the logits.
        cos: Cosines of the angles by which pairs (x[i], x[i + D / 2]) of q and k are rotated at these positions,
            float32 [B, D / 2] (Su et al. 2021, https://arxiv.org/abs/2104.09864, in the order of GPT-NeoX); None for
            no rotation.
        sin: Their sines.

    Raises:
        UsageError: a shape or dtype that the kernel does not take.
    """
    for problem in problems(q, k, v, cache_k, cache_v, position, cos, sin):
        raise UsageError(problem)
    out: Tensor = _decode_step(q, k, v, cache_k, cache_v, position, scale, cos, sin)
    return out


def problems(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, position: Tensor, cos: Tensor | None,
    sin: Tensor | None,
) -> list[str]:  # fmt: skip
    """What of these arguments the kernel does not take, one sentence each; nothing of it depends on values."""
    rows, heads, size = q.shape
    kv_heads, value_size = v.shape[1:]
    capacity = cache_k.shape[2]
    found = []
    dtypes = {x.dtype for x in (q, k, v, cache_k, cache_v)}
    if len(dtypes) > 1 or q.dtype not in DTYPES:
        found.append(f"dtypes of q, k, v and the caches are {dtypes}, they must be one of {DTYPES}, the same")
    wanted = {
        "k": (k, (rows, kv_heads, size)), "v": (v, (rows, kv_heads, value_size)),
        "cache_k": (cache_k, (rows, kv_heads, capacity, size)),
        "cache_v": (cache_v, (rows, kv_heads, capacity, value_size)), "position": (position, (rows,)),
        "cos": (cos, (rows, size // 2)), "sin": (sin, (rows, size // 2)),
    }  # fmt: skip
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            found.append(f"shape of {name} is {tuple(tensor.shape)}, beside q {tuple(q.shape)} it must be {shape}")
    if heads % kv_heads:
        found.append(f"q has {heads} heads, it must be a multiple of the {kv_heads} of k")
    for length in (size, value_size):
        if length % 16 or not 0 < length <= LARGEST:
            found.append(f"heads have size {length}, the kernel takes multiples of 16 up to {LARGEST}")
    if (cos is None) != (sin is None) or (cos is not None and cos.dtype != torch.float32):
        found.append("cos and sin must be float32, both or neither")
    if position.dtype != torch.int32 or capacity < 1:
        found.append(f"position is {position.dtype}, it must be int32; the capacity is {capacity}, at least 1")
    return found


@triton.jit
def _rotated(own, x, stride, d, mask, cosine, sine, D: tl.constexpr):
    """Vectors `own`, whose first elements x points to, with their halves rotated."""
    partner = tl.load(x + (d + D // 2) % D * stride, mask=mask, other=0.0)
    return (own.to(tl.float32) * cosine + partner.to(tl.float32) * sine).to(own.dtype)


@triton.jit
def _step(
    q, k, v, cache_k, cache_v, position, cos, sin, out, q_strides, k_strides, v_strides, cache_k_strides,
    cache_v_strides, position_stride, cos_strides, sin_strides, out_strides, scale, C, K: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, E: tl.constexpr, WIDE_GROUP: tl.constexpr, WIDE_D: tl.constexpr,
    WIDE_E: tl.constexpr, SLOTS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One row and head of keys, with all heads of queries that share it."""
    row, head = (tl.program_id(0) // K).to(tl.int64), tl.program_id(0) % K
    member, d, e = tl.arange(0, WIDE_GROUP), tl.arange(0, WIDE_D)[None, :], tl.arange(0, WIDE_E)[None, :]
    q += row * q_strides[0] + (head * GROUP + member[:, None]) * q_strides[1]
    k += row * k_strides[0] + head * k_strides[1]
    there = (member[:, None] < GROUP) & (d < D)
    queries = tl.load(q + d * q_strides[2], mask=there, other=0.0)
    key = tl.load(k + d * k_strides[2], mask=d < D, other=0.0)
    if cos is not None:
        half = d % (D // 2)
        cosine = tl.load(cos + row * cos_strides[0] + half * cos_strides[1], mask=d < D, other=0.0)
        sine = tl.load(sin + row * sin_strides[0] + half * sin_strides[1], mask=d < D, other=0.0)
        sine = tl.where(d < D // 2, -sine, sine)
        queries = _rotated(queries, q, q_strides[2], d, there, cosine, sine, D)
        key = _rotated(key, k, k_strides[2], d, d < D, cosine, sine, D)
    value = tl.load(v + row * v_strides[0] + head * v_strides[1] + e * v_strides[2], mask=e < E,
                    other=0.0)  # fmt: skip
    now = tl.load(position + row * position_stride)
    slot = now % C
    cache_k += row * cache_k_strides[0] + head * cache_k_strides[1]
    cache_v += row * cache_v_strides[0] + head * cache_v_strides[1]
    tl.store(cache_k + slot * cache_k_strides[2] + d * cache_k_strides[3], key, mask=d < D)
    tl.store(cache_v + slot * cache_v_strides[2] + e * cache_v_strides[3], value, mask=e < E)
    # the token's own key and value are at hand; its slot is not read, so the writing above need not have finished
    greatest = tl.sum(queries.to(tl.float32) * key.to(tl.float32), 1) * scale
    total = tl.full([WIDE_GROUP], 1.0, tl.float32)
    acc = tl.zeros([WIDE_GROUP, WIDE_E], tl.float32) + value.to(tl.float32)
    filled = tl.minimum(now, C)
    for begin in range(0, filled, SLOTS):
        slots = begin + tl.arange(0, SLOTS)
        seen = (slots < filled) & (slots != slot)
        keys = tl.load(cache_k + slots[:, None] * cache_k_strides[2] + d * cache_k_strides[3],
                       mask=seen[:, None] & (d < D), other=0.0)  # fmt: skip
        values = tl.load(cache_v + slots[:, None] * cache_v_strides[2] + e * cache_v_strides[3],
                         mask=seen[:, None] & (e < E), other=0.0)  # fmt: skip
        logits = dot(queries, tl.trans(keys), tl.zeros([WIDE_GROUP, SLOTS], tl.float32), UPCAST) * scale
        logits = tl.where(seen[None, :], logits, -float("inf"))
        new = tl.maximum(greatest, tl.max(logits, 1))
        weights = tl.exp2(logits - new[:, None])
        faded = tl.exp2(greatest - new)
        total = total * faded + tl.sum(weights, 1)
        acc = dot(weights.to(values.dtype), values, acc * faded[:, None], UPCAST)
        greatest = new
    where = row * out_strides[0] + (head * GROUP + member[:, None]) * out_strides[1] + e * out_strides[2]
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + where, result, mask=(member[:, None] < GROUP) & (e < E))


@torch.library.custom_op("rlkit::decode_step", mutates_args=("cache_k", "cache_v"))
def _decode_step(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, position: Tensor, scale: float,
    cos: Tensor | None = None, sin: Tensor | None = None,
) -> Tensor:  # fmt: skip
    rows, heads, size = q.shape
    kv_heads, value_size = v.shape[1:]
    out = q.new_empty(rows, heads, value_size)
    widest = triton.next_power_of_2(max(size, value_size)) * q.element_size()
    with torch.cuda.device_of(q):
        if out.numel():
            _step[(rows * kv_heads,)](
                q, k, v, cache_k, cache_v, position, cos, sin, out, q.stride(), k.stride(), v.stride(),
                cache_k.stride(), cache_v.stride(), position.stride(0), None if cos is None else cos.stride(),
                None if sin is None else sin.stride(), out.stride(), scale * math.log2(math.e), cache_k.shape[2],
                K=kv_heads, GROUP=heads // kv_heads, D=size, E=value_size,
                WIDE_GROUP=max(ROWS, triton.next_power_of_2(heads // kv_heads)), WIDE_D=triton.next_power_of_2(size),
                WIDE_E=triton.next_power_of_2(value_size), SLOTS=min(SLOTS, TILE_BYTES // widest),
                UPCAST=INTERPRETED and q.dtype == torch.bfloat16, num_warps=4, num_stages=3,
            )  # fmt: skip
    return out


@_decode_step.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, position: Tensor, scale: float,
    cos: Tensor | None = None, sin: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return q.new_empty(*q.shape[:2], v.shape[2])
