"""Attention, the one operation that policies, encoders and detectors share."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import dropout as dropped
from torch.nn.functional import scaled_dot_product_attention

from rlkit.attention.backends import Choice, Hidden, Situation, asked_for, choose_backend
from rlkit.attention.gathered import ROWS, gathered_attention, stretch
from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import weights_of
from rlkit.attention.tiled import tiled_attention
from rlkit.errors import UsageError

EVERYTHING = AttentionMask()
_FEW_QUERIES = Choice("sdpa", "few queries on a processor")
"""What `choose_backend` says of every such case: acting consists of them, and asking takes as long as the answer."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: AttentionMask = EVERYTHING,
    *,
    scale: float | None = None,
    sink: Tensor | None = None,
    dropout: float = 0.0,
    backend: str = "auto",
    deterministic: bool | None = None,
) -> Tensor:
    """softmax(q kᵀ · scale) v over the keys that each query sees (Vaswani et al. 2017, equation 1).

    A query that sees no key gives zero, and gradients of zero. No dtype is changed on the way.

    Args:
        q: Queries [B, H, T, D].
        k: Keys [B, K, S, D]; head h of the queries uses head h // (H / K) of keys and values (Ainslie et al. 2023).
        v: Values [B, K, S, E].
        mask: Which keys each query sees.
        scale: Factor of the logits, by default 1 / sqrt(D).
        sink: A logit per head [H] that takes weight and gives nothing.
        dropout: Share of the weights that is dropped; give 0 in evaluation.
        backend: "auto", or the name of one of `backends.Backend`.
        deterministic: Whether gradients must repeat their bits; by default what torch is set to.

    Returns:
        Outputs [B, H, T, E].

    Raises:
        UsageError: shapes or dtypes do not fit, or the backend asked for cannot do it.

    >>> q, k, v = torch.zeros(1, 4, 3, 8), torch.zeros(1, 2, 3, 8), torch.ones(1, 2, 3, 8)
    >>> attention(q, k, v, AttentionMask(causal=True)).shape
    torch.Size([1, 4, 3, 8])
    """
    _require_fitting(q, k, v, mask, sink)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if deterministic is None:
        deterministic = torch.are_deterministic_algorithms_enabled()
    choice = _choice(q, k, mask, sink, dropout, backend)
    queries, keys = q.shape[2], k.shape[2]
    if choice.backend == "explicit":
        return _explicit(q, k, v, mask, scale, sink, dropout)[0]
    if choice.backend == "sdpa":
        with _repeatable(q) if deterministic else nullcontext():
            return _by_torch(q, k, v, mask, scale, dropout)
    low, high = mask.intervals(queries, keys, q.device)
    if choice.backend == "gathered":
        return gathered_attention(q, k, v, low, high, scale, stretch(low, high, keys))
    if choice.backend == "tiled":
        out, log_sum = tiled_attention(q, k, v, low, high, scale)
    else:
        from rlkit.attention.kernels import interval_attention

        out, log_sum = interval_attention(q, k, v, low, high, scale)
    return out if sink is None else _beside_sink(out, log_sum, sink)


def attention_weights(
    q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask = EVERYTHING, *, scale: float | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `attention`, with the weights [B, H, T, S] that it makes: for pictures, it takes their memory."""
    _require_fitting(q, k, v, mask, sink)
    return _explicit(q, k, v, mask, q.shape[-1] ** -0.5 if scale is None else scale, sink, 0.0)


def _choice(q: Tensor, k: Tensor, mask: AttentionMask, sink: Tensor | None, dropout: float, backend: str) -> Choice:
    queries, keys = q.shape[2], k.shape[2]
    if backend == "auto" and q.is_cpu and queries <= 2 * ROWS and sink is None and not dropout:
        return _FEW_QUERIES
    hidden = _hidden(mask, queries, keys)
    share = None
    # how much is hidden is read off the mask's numbers, which a compiled graph does not know; two tiles save little
    if hidden == "intervals" and q.is_cpu and queries > 2 * ROWS and not torch.compiler.is_compiling():
        tiles = math.ceil(queries / ROWS)
        share = tiles * ROWS * stretch(*mask.intervals(queries, keys), keys) / (queries * keys)
    situation = Situation(
        q.device.type, q.dtype, q.shape[-1], queries, keys, hidden, share, sink is not None, dropout > 0,
        has_triton=_has_triton(q),
    )  # fmt: skip
    return choose_backend(situation) if backend == "auto" else asked_for(backend, situation)


def _hidden(mask: AttentionMask, queries: int, keys: int) -> Hidden:
    if mask.hides_nothing:
        return "nothing"
    is_square = queries == keys and mask.offset == 0
    return "later" if mask.causal and mask.window is None and mask.rows is None and is_square else "intervals"


def _has_triton(q: Tensor) -> bool:
    """Whether the kernels can run where this tensor is: on CUDA, or anywhere in Triton's interpreter."""
    return (q.is_cuda or "TRITON_INTERPRET" in os.environ) and find_spec("triton") is not None


def _repeatable(q: Tensor) -> AbstractContextManager[None]:
    """On CUDA only FlashAttention and the plain form have gradients that repeat their bits."""
    if not q.is_cuda:
        return nullcontext()
    kernels: AbstractContextManager[None] = sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
    return kernels


def _by_torch(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, scale: float, dropout: float) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    hidden = _hidden(mask, q.shape[2], k.shape[2])
    if hidden != "intervals":
        return scaled_dot_product_attention(
            q, k, v, is_causal=hidden == "later", dropout_p=dropout, scale=scale, enable_gqa=grouped
        )
    added = mask.additive(q.shape[2], k.shape[2], q)
    return scaled_dot_product_attention(q, k, v, added, dropout_p=dropout, scale=scale, enable_gqa=grouped)


def _explicit(
    q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, scale: float, sink: Tensor | None, dropout: float
) -> tuple[Tensor, Tensor]:
    """Outputs and weights by the definition, in the dtype of the queries, sums in float32 at least."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    logits = (q @ k.mT * scale).to(torch.promote_types(q.dtype, torch.float32))
    logits = logits.masked_fill(~mask.dense(q.shape[2], k.shape[2], q.device), -torch.inf)
    weights = weights_of(logits, sink).to(q.dtype)
    return (dropped(weights, dropout) if dropout else weights) @ v, weights


def _beside_sink(out: Tensor, log_sum: Tensor, sink: Tensor) -> Tensor:
    """The outputs that are left where a sink takes exp(sink) of the sum."""
    kept = torch.sigmoid(log_sum - sink[:, None].to(log_sum.dtype))
    return out * kept[..., None].to(out.dtype)


def _require_fitting(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, sink: Tensor | None) -> None:
    if not q.dim() == k.dim() == v.dim() == 4:
        raise UsageError(f"attention takes tensors [batch, heads, steps, size], these are {_shapes(q, k, v)}")
    if q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3] or len(q) != len(k):
        raise UsageError(
            f"attention needs batches, keys' sizes and values' numbers that agree, these are {_shapes(q, k, v)}"
        )
    if q.shape[1] % k.shape[1]:
        raise UsageError(
            f"attention has {q.shape[1]} heads of queries and {k.shape[1]} of keys: the first must be a multiple of "
            "the second"
        )
    if not q.dtype == k.dtype == v.dtype:
        raise UsageError(f"attention needs one dtype, queries are {q.dtype}, keys {k.dtype}, values {v.dtype}")
    if mask.rows not in (None, 1, len(q)):
        raise UsageError(f"the attention mask is for {mask.rows} rows, the batch has {len(q)}")
    for name, bound in (("start", mask.start), ("stop", mask.stop)):
        if bound is not None and bound.shape[1] != q.shape[2]:
            raise UsageError(f"{name} of the attention mask is for {bound.shape[1]} queries, there are {q.shape[2]}")
    if sink is not None and sink.shape != (q.shape[1],):
        raise UsageError(f"an attention sink has a logit per head [{q.shape[1]}], this one is {list(sink.shape)}")


def _shapes(q: Tensor, k: Tensor, v: Tensor) -> str:
    return f"queries {list(q.shape)}, keys {list(k.shape)}, values {list(v.shape)}"
