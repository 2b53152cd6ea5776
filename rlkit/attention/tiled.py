"""Attention without its matrix of logits: tiles of keys and an online softmax, in plain torch.

FlashAttention's idea (Dao et al. 2022, https://arxiv.org/abs/2205.14135, algorithms 1 and 4) with the online softmax of
Milakov and Gimelshein (2018, https://arxiv.org/abs/1805.02867): queries meet keys tile by tile, and a running maximum
m, sum l and weighted values acc are all that is kept. The backward pass computes each tile's weights anew from the
logarithm of the sum. Tiles that no query of theirs sees are skipped. Runs anywhere torch does, with any dtype; the
kernels do the same faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Partial:
    """Attention of queries to a part of their keys, to be merged with the rest.

    Attributes:
        m: Greatest logit, [..., T]; -inf where there was no key.
        l: Sum of exp(logit - m), [..., T].
        acc: Values weighted by exp(logit - m), [..., T, E].
    """

    m: Tensor
    l: Tensor  # noqa: E741  # the name it has in the papers
    acc: Tensor

    @classmethod
    def of(cls, logits: Tensor, v: Tensor) -> Partial:
        """From logits [..., T, S], -inf where hidden, and values [..., S, E]."""
        m = logits.amax(-1)
        p = (logits - finite(m)[..., None]).exp()
        return cls(m, p.sum(-1), p @ v)

    @property
    def output(self) -> Tensor:
        """What attention to all these keys gives, [..., T, E]; zero where there was none."""
        return self.acc / torch.where(self.l == 0, 1, self.l)[..., None]

    @property
    def log_sum(self) -> Tensor:
        """Logarithm of the sum of exp(logit), [..., T]; -inf where there was no key."""
        return self.m + self.l.log()


def merge(a: Partial, b: Partial) -> Partial:
    """Attention to the keys of both parts; associative and commutative up to rounding.

    >>> logits, v = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1.0], [2.0], [3.0]])
    >>> parts = merge(Partial.of(logits[:, :1], v[:1]), Partial.of(logits[:, 1:], v[1:]))
    >>> torch.allclose(parts.output, Partial.of(logits, v).output)
    True
    """
    m = torch.maximum(a.m, b.m)
    of_a, of_b = (a.m - finite(m)).exp(), (b.m - finite(m)).exp()
    return Partial(m, a.l * of_a + b.l * of_b, a.acc * of_a[..., None] + b.acc * of_b[..., None])


def finite(m: Tensor) -> Tensor:
    """The greatest logits with 0 for those of no key, so that -inf minus it stays -inf."""
    return torch.where(m == -torch.inf, 0, m)


def tiled_attention(
    q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, *, rows: int = 64, columns: int = 64
) -> tuple[Tensor, Tensor]:
    """Outputs [B, H, T, E], and the logarithm of the sum of exp(logit), [B, H, T]; both differentiable.

    Args:
        q: Queries [B, H, T, D].
        k: Keys [B, K, S, D], K a divisor of H.
        v: Values [B, K, S, E].
        low: First key of each query, [B or 1, T], not decreasing along T.
        high: Key after the last, likewise.
        scale: Factor of the logits.
        rows: Queries in a tile.
        columns: Keys in a tile.
    """
    out, log_sum = _Tiled.apply(q, k, v, low, high, scale, rows, columns)  # type: ignore[no-untyped-call]
    return out, log_sum


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, low: Tensor, high: Tensor, scale: float, rows: int, columns: int
    ) -> tuple[Tensor, Tensor]:
        outputs, log_sums = [], []
        for queries in _slices(0, q.shape[2], rows):
            own = _grouped(q, k, queries)
            total = _nothing(own, v)
            for keys, logits in _tiles(own, k, low[:, queries], high[:, queries], scale, columns):
                total = merge(total, Partial.of(logits, _wide(v, keys)))
            outputs.append(total.output.flatten(1, 2).to(q.dtype))
            log_sums.append(total.log_sum.flatten(1, 2))
        out, log_sum = torch.cat(outputs, 2), torch.cat(log_sums, 2)
        ctx.save_for_backward(q, k, v, low, high, out, log_sum)
        ctx.options = scale, rows, columns
        return out, log_sum

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_out: Tensor, by_log_sum: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, low, high, out, log_sum = ctx.saved_tensors
        scale, rows, columns = ctx.options
        by_q, by_k, by_v = (torch.zeros_like(x, dtype=log_sum.dtype) for x in (q, k, v))
        for queries in _slices(0, q.shape[2], rows):
            own, by_own = _grouped(q, k, queries), _grouped(by_out, k, queries)
            # by all logits of a row alike: minus the sum over keys of P dP, and what comes by the sum's logarithm
            common = _grouped(by_log_sum[..., None], k, queries)
            common = common - (_grouped(out, k, queries) * by_own).sum(-1, keepdim=True)
            shift = finite(_grouped(log_sum[..., None], k, queries))
            by_own_q = torch.zeros_like(own)
            for keys, logits in _tiles(own, k, low[:, queries], high[:, queries], scale, columns):
                p = (logits - shift).exp()
                by_logits = p * (by_own @ _wide(v, keys).mT + common) * scale
                by_own_q += by_logits @ _wide(k, keys)
                by_k[..., keys, :] += (by_logits.mT @ own).sum(2)
                by_v[..., keys, :] += (p.mT @ by_own).sum(2)
            by_q[..., queries, :] = by_own_q.flatten(1, 2)
        return by_q.to(q.dtype), by_k.to(k.dtype), by_v.to(v.dtype), None, None, None, None, None


def _slices(begin: int, end: int, length: int) -> Iterator[slice]:
    for at in range(begin, end, length):
        yield slice(at, min(at + length, end))


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    """Logits, sums and gradients are never kept in less than float32."""
    return torch.promote_types(dtype, torch.float32)


def _grouped(x: Tensor, k: Tensor, queries: slice) -> Tensor:
    """Some rows of a tensor [B, H, T, D], as [B, K, H / K, rows, D]."""
    rows = x[:, :, queries]
    return rows.reshape(len(x), k.shape[1], -1, *rows.shape[2:]).to(_accumulator(x.dtype))


def _wide(kv: Tensor, keys: slice) -> Tensor:
    """Some keys or values, [B, K, 1, columns, D]."""
    return kv[:, :, None, keys].to(_accumulator(kv.dtype))


def _nothing(own: Tensor, v: Tensor) -> Partial:
    m = own.new_full(own.shape[:-1], -torch.inf)
    return Partial(m, torch.zeros_like(m), own.new_zeros(*m.shape, v.shape[-1]))


def _tiles(
    own: Tensor, k: Tensor, low: Tensor, high: Tensor, scale: float, columns: int
) -> Iterator[tuple[slice, Tensor]]:
    """The tiles of keys that a tile of queries sees, with logits [B, K, H / K, rows, columns], -inf where hidden."""
    sees = low < high
    if not bool(sees.any()):
        return
    begin, end = int(low[sees].min()), int(high[sees].max())
    for keys in _slices(begin // columns * columns, end, columns):
        index = torch.arange(keys.start, keys.stop, device=k.device)
        seen = (index >= low[..., None]) & (index < high[..., None])
        logits = own @ _wide(k, keys).mT * scale
        yield keys, logits.masked_fill(~seen[:, None, None], -torch.inf)
