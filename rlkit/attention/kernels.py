"""Attention under interval masks on a GPU: Triton kernels for the outputs and the gradients.

FlashAttention-2 (Dao 2023, https://arxiv.org/abs/2307.08691, algorithms 1 and 2) where query i sees keys low[i] to
high[i] - 1. A tile of queries begins at its least `low` and ends at its greatest `high`; a tile of keys finds the
queries that see any of it by counting, as neither bound decreases. Nothing else says which tiles there are: shapes are
static, nothing is read back, no logits are kept. The gradient has one kernel for queries and one for keys and values;
each writes what it alone sums, in a fixed order, so that results repeat to the bit and do not depend on the batch.

Needs the extra `triton`. Without a GPU the kernels run in Triton's interpreter, slowly: set TRITON_INTERPRET=1 before
this module is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from rlkit.errors import UsageError

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = 128
"""Head sizes are multiples of 16 up to this one: an accumulator of more does not fit into the registers."""
LN2 = tl.constexpr(math.log(2))
CHUNK = tl.constexpr(1024)
"""Bounds that are counted at once."""


class Tile(NamedTuple):
    """How a kernel is cut up.

    Attributes:
        rows: Queries in a tile.
        columns: Keys in a tile.
        warps: Groups of 32 threads that work on it.
        stages: Tiles on their way from memory, the one in use included.
    """

    rows: int
    columns: int
    warps: int
    stages: int


LENGTHS = (16, 64)
"""Up to these numbers of queries the tables' first and second column hold, beyond them the third."""
FORWARD = {
    32: (Tile(16, 32, 1, 2), Tile(32, 32, 2, 2), Tile(64, 32, 4, 3)),
    64: (Tile(16, 32, 1, 2), Tile(32, 32, 2, 2), Tile(64, 64, 4, 3)),
    128: (Tile(16, 32, 2, 2), Tile(32, 32, 4, 2), Tile(64, 64, 4, 2)),
}
BACKWARD = {
    32: (Tile(16, 32, 1, 2), Tile(32, 32, 2, 2), Tile(64, 32, 4, 2)),
    64: (Tile(16, 32, 2, 2), Tile(32, 32, 4, 2), Tile(64, 64, 4, 2)),
    128: (Tile(16, 32, 4, 1), Tile(32, 32, 4, 1), Tile(64, 64, 8, 1)),
}
"""Head size up to -> tiles by number of queries. Written down rather than searched for when first called: the same
shapes give the same bits in every process, and no first call waits."""
PLAIN = {32: Tile(32, 32, 4, 1), 64: Tile(32, 32, 8, 1), 128: Tile(16, 32, 8, 1)}
"""Largest tiles in float32, which has no matrix unit: its products are sums in registers."""


def tile_of(table: dict[int, tuple[Tile, Tile, Tile]], size: int, queries: int, dtype: torch.dtype) -> Tile:
    """The tile of `FORWARD` or `BACKWARD` for heads of this size and so many queries.

    >>> tile_of(FORWARD, 48, 512, torch.bfloat16)
    Tile(rows=64, columns=64, warps=4, stages=3)
    """
    limit = next(limit for limit in table if size <= limit)
    tile = table[limit][sum(queries > length for length in LENGTHS)]
    if dtype == torch.float32:
        plain = PLAIN[limit]
        return plain._replace(rows=min(tile.rows, plain.rows), columns=min(tile.columns, plain.columns))
    return tile


def interval_attention(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, *, tile: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Outputs [B, H, T, E] of q's dtype, and the logarithm of the sum of exp(logit), float32 [B, H, T].

    Both are differentiable. A query that sees nothing has output 0, log_sum -inf, and gives no gradient. Tensors may
    have any strides; the outputs lie in memory as [B, T, H, E], ready to be projected.

    Args:
        q: Queries [B, H, T, D], D and E multiples of 16 up to 128.
        k: Keys [B, K, S, D], K a divisor of H: head h uses head h // (H / K) of keys and values.
        v: Values [B, K, S, E].
        low: First key of each query, int32 [B or 1, T], not decreasing along T.
        high: Key after the last, likewise.
        scale: Factor of the logits.
        tile: Rows, columns, warps and stages instead of the tables'; for tests and measurements.

    Raises:
        UsageError: a shape or dtype that the kernels do not take.
    """
    for problem in problems(q, k, v, low, high):
        raise UsageError(f"{problem}; tiled_attention takes any shape and dtype")
    out, log_sum = _interval_attention(q, k, v, low, high, scale, None if tile is None else list(tile))
    return out, log_sum


def problems(q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor) -> list[str]:
    """What of these arguments the kernels do not take, one sentence each; nothing of it depends on values."""
    found = []
    if q.dtype not in DTYPES or not q.dtype == k.dtype == v.dtype:
        found.append(f"dtypes of q, k, v are {q.dtype}, {k.dtype}, {v.dtype}, they must be one of {DTYPES}, the same")
    found += [
        f"heads have size {size}, the kernels take multiples of 16 up to {LARGEST}"
        for size in (q.shape[-1], v.shape[-1])
        if size % 16 or not 0 < size <= LARGEST
    ]
    if q.shape[1] % k.shape[1] or k.shape[:3] != v.shape[:3] or q.shape[::3] != k.shape[::3]:
        shapes = [tuple(x.shape) for x in (q, k, v)]
        found.append(f"shapes of q, k, v are {shapes}, they must be [B, H, T, D], [B, K, S, D], [B, K, S, E]")
    allowed = {(1, q.shape[2]), (q.shape[0], q.shape[2])}
    for bound in (low, high):
        if bound.dtype != torch.int32 or tuple(bound.shape) not in allowed:
            found.append(f"bounds are {bound.dtype} {tuple(bound.shape)}, they must be int32 [B or 1, T]")
    return found


@triton.jit
def dot(a, b, acc, UPCAST: tl.constexpr):
    """The product a b added to acc; in float32 without rounding to tf32."""
    if UPCAST:  # the interpreter multiplies the bit patterns of bfloat16 (triton issue 11584)
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")


@triton.jit
def _pointers(tensor, strides, row, head, steps, columns):
    """Of one row and head of a tensor [B, H, T, D]: pointers [steps, columns]."""
    tensor += row.to(tl.int64) * strides[0] + head.to(tl.int64) * strides[1]
    return tensor + steps[:, None] * strides[2] + columns[None, :] * strides[3]


@triton.jit
def _bounds(low, high, low_strides, high_strides, row, steps, T, S):
    """First key and key after the last of these queries; of those after the last query S and 0."""
    first = tl.load(low + row * low_strides[0] + steps * low_strides[1], mask=steps < T, other=S)
    after = tl.load(high + row * high_strides[0] + steps * high_strides[1], mask=steps < T, other=0)
    return tl.maximum(first, 0), tl.minimum(after, S)  # nothing is read from outside the tensors


@triton.jit
def _logits(q, k, keys, first, after, scale, UPCAST: tl.constexpr):
    """Base-2 logits [ROWS, COLUMNS] of a tile, -inf where hidden; `scale` includes the logarithm of e."""
    logits = dot(q, tl.trans(k), tl.zeros([q.shape[0], k.shape[0]], tl.float32), UPCAST) * scale
    seen = (keys[None, :] >= first[:, None]) & (keys[None, :] < after[:, None])
    return tl.where(seen, logits, -float("inf"))


@triton.jit
def _forward(
    q, k, v, low, high, out, log_sum, q_strides, k_strides, v_strides, low_strides, high_strides, out_strides,
    scale, H, T, S, GROUP: tl.constexpr, D: tl.constexpr, E: tl.constexpr, WIDE_D: tl.constexpr,
    WIDE_E: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One tile of queries of one head."""
    tiles = tl.cdiv(T, ROWS)
    place = tl.program_id(0) // tiles
    row, head = place // H, place % H
    steps = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    d, e = tl.arange(0, WIDE_D), tl.arange(0, WIDE_E)
    there = steps[:, None] < T
    queries = tl.load(_pointers(q, q_strides, row, head, steps, d), mask=there & (d[None, :] < D), other=0.0)
    first, after = _bounds(low, high, low_strides, high_strides, row, steps, T, S)
    greatest = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, WIDE_E], tl.float32)
    for begin in range(tl.min(first, 0), tl.max(after, 0), COLUMNS):
        keys = begin + tl.arange(0, COLUMNS)
        inside = keys[:, None] < S
        key = tl.load(_pointers(k, k_strides, row, head // GROUP, keys, d), mask=inside & (d[None, :] < D), other=0.0)
        logits = _logits(queries, key, keys, first, after, scale, UPCAST)
        value = tl.load(_pointers(v, v_strides, row, head // GROUP, keys, e), mask=inside & (e[None, :] < E), other=0.0)
        new = tl.maximum(greatest, tl.max(logits, 1))
        shift = tl.where(new == -float("inf"), 0.0, new)  # of a query that has seen nothing yet
        weights = tl.exp2(logits - shift[:, None])
        faded = tl.exp2(greatest - shift)
        total = total * faded + tl.sum(weights, 1)
        acc = dot(weights.to(value.dtype), value, acc * faded[:, None], UPCAST)
        greatest = new
    nothing = total == 0.0
    total = tl.where(nothing, 1.0, total)
    result = (acc / total[:, None]).to(out.dtype.element_ty)
    tl.store(_pointers(out, out_strides, row, head, steps, e), result, mask=there & (e[None, :] < E))
    logarithm = tl.where(nothing, -float("inf"), (greatest + tl.log2(total)) * LN2)
    tl.store(log_sum + place.to(tl.int64) * T + steps, logarithm, mask=steps < T)


@triton.jit
def _by_queries(
    q, k, v, low, high, out, log_sum, by_out, by_log_sum, common, by_q, q_strides, k_strides, v_strides, low_strides,
    high_strides, out_strides, by_out_strides, by_log_sum_strides, by_q_strides, scale, factor, H, T, S,
    GROUP: tl.constexpr, D: tl.constexpr, E: tl.constexpr, WIDE_D: tl.constexpr, WIDE_E: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Gradient of one tile of queries of one head; leaves `common`, what all logits of a query get, to `_by_keys`."""
    tiles = tl.cdiv(T, ROWS)
    place = tl.program_id(0) // tiles
    row, head = place // H, place % H
    steps = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    d, e = tl.arange(0, WIDE_D), tl.arange(0, WIDE_E)
    there = steps[:, None] < T
    queries = tl.load(_pointers(q, q_strides, row, head, steps, d), mask=there & (d[None, :] < D), other=0.0)
    values_there = there & (e[None, :] < E)
    by_own = tl.load(_pointers(by_out, by_out_strides, row, head, steps, e), mask=values_there, other=0.0)
    own = tl.load(_pointers(out, out_strides, row, head, steps, e), mask=values_there, other=0.0)
    first, after = _bounds(low, high, low_strides, high_strides, row, steps, T, S)
    shift = tl.load(log_sum + place.to(tl.int64) * T + steps, mask=steps < T, other=-float("inf"))
    same = -tl.sum(own.to(tl.float32) * by_own.to(tl.float32), 1)  # minus the sum over keys of P dP
    if by_log_sum is not None:
        at = row.to(tl.int64) * by_log_sum_strides[0] + head.to(tl.int64) * by_log_sum_strides[1]
        same += tl.load(by_log_sum + at + steps * by_log_sum_strides[2], mask=steps < T, other=0.0)
    # a query that sees nothing: its gradient by log_sum need not be finite
    same = tl.where(shift == -float("inf"), 0.0, same)
    tl.store(common + place.to(tl.int64) * T + steps, same, mask=steps < T)
    shift = tl.where(shift == -float("inf"), 0.0, shift) / LN2
    acc = tl.zeros([ROWS, WIDE_D], tl.float32)
    for begin in range(tl.min(first, 0), tl.max(after, 0), COLUMNS):
        keys = begin + tl.arange(0, COLUMNS)
        inside = keys[:, None] < S
        key = tl.load(_pointers(k, k_strides, row, head // GROUP, keys, d), mask=inside & (d[None, :] < D), other=0.0)
        value = tl.load(_pointers(v, v_strides, row, head // GROUP, keys, e), mask=inside & (e[None, :] < E), other=0.0)
        weights = tl.exp2(_logits(queries, key, keys, first, after, scale, UPCAST) - shift[:, None])
        by_weights = dot(by_own, tl.trans(value), tl.zeros([ROWS, COLUMNS], tl.float32), UPCAST)
        by_logits = weights * (by_weights + same[:, None])
        acc = dot(by_logits.to(key.dtype), key, acc, UPCAST)
    result = (acc * factor).to(by_q.dtype.element_ty)
    tl.store(_pointers(by_q, by_q_strides, row, head, steps, d), result, mask=there & (d[None, :] < D))


@triton.jit
def _counted(bound, strides, row, T, limit):
    """Number of a row's bounds below `limit`: the index of the first that is not."""
    count = tl.zeros([CHUNK], tl.int32)
    for begin in range(0, T, CHUNK):
        steps = begin + tl.arange(0, CHUNK)
        found = tl.load(bound + row * strides[0] + steps * strides[1], mask=steps < T, other=limit)
        count += (found < limit).to(tl.int32)
    return tl.sum(count, 0)


@triton.jit
def _by_keys(
    q, k, v, low, high, log_sum, by_out, common, by_k, by_v, q_strides, k_strides, v_strides, low_strides,
    high_strides, by_out_strides, by_k_strides, by_v_strides, scale, factor, H, T, S,
    GROUP: tl.constexpr, D: tl.constexpr, E: tl.constexpr, WIDE_D: tl.constexpr, WIDE_E: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Gradients of one tile of keys and values of one head, over the heads of queries that share it."""
    tiles = tl.cdiv(S, COLUMNS)
    place = tl.program_id(0) // tiles
    row, head = place // (H // GROUP), place % (H // GROUP)
    from_key = tl.program_id(0) % tiles * COLUMNS
    keys = from_key + tl.arange(0, COLUMNS)
    d, e = tl.arange(0, WIDE_D), tl.arange(0, WIDE_E)
    keys_inside, values_inside = (keys[:, None] < S) & (d[None, :] < D), (keys[:, None] < S) & (e[None, :] < E)
    key = tl.load(_pointers(k, k_strides, row, head, keys, d), mask=keys_inside, other=0.0)
    value = tl.load(_pointers(v, v_strides, row, head, keys, e), mask=values_inside, other=0.0)
    # the first query whose keys reach into the tile, and the first whose keys begin after it
    from_step = _counted(high, high_strides, row, T, from_key + 1)
    to_step = _counted(low, low_strides, row, T, from_key + COLUMNS)
    acc_k = tl.zeros([COLUMNS, WIDE_D], tl.float32)
    acc_v = tl.zeros([COLUMNS, WIDE_E], tl.float32)
    count = tl.cdiv(tl.maximum(to_step - from_step, 0), ROWS)
    for turn in range(GROUP * count):
        query_head = head * GROUP + turn // count
        steps = from_step + turn % count * ROWS + tl.arange(0, ROWS)
        there = steps[:, None] < T
        queries = tl.load(_pointers(q, q_strides, row, query_head, steps, d), mask=there & (d[None, :] < D), other=0.0)
        by_own = tl.load(
            _pointers(by_out, by_out_strides, row, query_head, steps, e), mask=there & (e[None, :] < E), other=0.0
        )
        first, after = _bounds(low, high, low_strides, high_strides, row, steps, T, S)
        at = (row * H + query_head).to(tl.int64) * T + steps
        shift = tl.load(log_sum + at, mask=steps < T, other=-float("inf"))
        shift = tl.where(shift == -float("inf"), 0.0, shift) / LN2
        same = tl.load(common + at, mask=steps < T, other=0.0)
        weights = tl.exp2(_logits(queries, key, keys, first, after, scale, UPCAST) - shift[:, None])
        acc_v = dot(tl.trans(weights.to(by_own.dtype)), by_own, acc_v, UPCAST)
        by_weights = dot(by_own, tl.trans(value), tl.zeros([ROWS, COLUMNS], tl.float32), UPCAST)
        by_logits = weights * (by_weights + same[:, None])
        acc_k = dot(tl.trans(by_logits.to(queries.dtype)), queries, acc_k, UPCAST)
    result = (acc_k * factor).to(by_k.dtype.element_ty)
    tl.store(_pointers(by_k, by_k_strides, row, head, keys, d), result, mask=keys_inside)
    result = acc_v.to(by_v.dtype.element_ty)
    tl.store(_pointers(by_v, by_v_strides, row, head, keys, e), result, mask=values_inside)


INTERPRETED = not isinstance(_forward, triton.JITFunction)
"""Whether Triton's interpreter runs the kernels, on tensors of the CPU."""


def _options(q: Tensor, k: Tensor, v: Tensor, tile: Tile) -> dict[str, Any]:
    """Arguments that all three kernels share, by name."""
    return {
        "H": q.shape[1], "T": q.shape[2], "S": k.shape[2], "GROUP": q.shape[1] // k.shape[1],
        "D": q.shape[3], "E": v.shape[3],
        "WIDE_D": triton.next_power_of_2(q.shape[3]), "WIDE_E": triton.next_power_of_2(v.shape[3]),
        "ROWS": tile.rows, "COLUMNS": tile.columns, "UPCAST": INTERPRETED and q.dtype == torch.bfloat16,
        "num_warps": tile.warps, "num_stages": tile.stages,
    }  # fmt: skip


def _outputs(q: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Room for outputs, in memory as [B, T, H, E], and for log_sum."""
    rows, heads, steps = q.shape[:3]
    return q.new_empty(rows, steps, heads, v.shape[3]).transpose(1, 2), q.new_empty(
        rows, heads, steps, dtype=torch.float32
    )


@torch.library.custom_op("rlkit::interval_attention", mutates_args=())
def _interval_attention(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, tile: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    out, log_sum = _outputs(q, v)
    rows, heads, steps, size = q.shape
    chosen = tile_of(FORWARD, max(size, v.shape[3]), steps, q.dtype) if tile is None else Tile(*tile)
    low, high = low.expand(rows, -1), high.expand(rows, -1)
    if log_sum.numel():
        with torch.cuda.device_of(q):
            _forward[(triton.cdiv(steps, chosen.rows) * rows * heads,)](
                q, k, v, low, high, out, log_sum, q.stride(), k.stride(), v.stride(), low.stride(), high.stride(),
                out.stride(), scale * math.log2(math.e), **_options(q, k, v, chosen),
            )  # fmt: skip
    return out, log_sum


@_interval_attention.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, tile: Sequence[int] | None = None
) -> tuple[Tensor, Tensor]:
    return _outputs(q, v)


@torch.library.custom_op("rlkit::interval_attention_backward", mutates_args=())
def _interval_attention_backward(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, out: Tensor, log_sum: Tensor, by_out: Tensor,
    by_log_sum: Tensor | None, scale: float, tile: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    by_q, by_k, by_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    rows, heads, steps, size = q.shape
    kv_heads, keys = k.shape[1:3]
    chosen = tile_of(BACKWARD, max(size, v.shape[3]), steps, q.dtype) if tile is None else Tile(*tile)
    low, high = low.expand(rows, -1), high.expand(rows, -1)
    common = torch.empty_like(log_sum)
    options = _options(q, k, v, chosen) | {"scale": scale * math.log2(math.e), "factor": scale}
    with torch.cuda.device_of(q):
        if by_q.numel():
            _by_queries[(triton.cdiv(steps, chosen.rows) * rows * heads,)](
                q, k, v, low, high, out, log_sum, by_out, by_log_sum, common, by_q, q.stride(), k.stride(),
                v.stride(), low.stride(), high.stride(), out.stride(), by_out.stride(),
                None if by_log_sum is None else by_log_sum.stride(), by_q.stride(), **options,
            )  # fmt: skip
        if by_k.numel():
            _by_keys[(triton.cdiv(keys, chosen.columns) * rows * kv_heads,)](
                q, k, v, low, high, log_sum, by_out, common, by_k, by_v, q.stride(), k.stride(), v.stride(),
                low.stride(), high.stride(), by_out.stride(), by_k.stride(), by_v.stride(), **options,
            )  # fmt: skip
    return by_q, by_k, by_v


@_interval_attention_backward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, out: Tensor, log_sum: Tensor, by_out: Tensor,
    by_log_sum: Tensor | None, scale: float, tile: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale, tile = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.options = scale, tile
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, by_out: Tensor | None, by_log_sum: Tensor | None) -> tuple[Tensor | None, ...]:
    *inputs, out, log_sum = ctx.saved_tensors
    by_out = torch.zeros_like(out) if by_out is None else by_out
    found = _interval_attention_backward(*inputs, out, log_sum, by_out, by_log_sum, *ctx.options)
    return *found, None, None, None, None


_interval_attention.register_autograd(_gradients, setup_context=_keep)
