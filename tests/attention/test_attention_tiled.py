"""The reference, and attention by tiles against it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import attention_reference
from rlkit.attention.tiled import Partial, merge, tiled_attention


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def packed(rows: int, steps: int, every: float = 0.15, seed: int = 1) -> Tensor:
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed)) < every


CASES = {
    "everything": (AttentionMask(), 33, 33),
    "causal": (AttentionMask(causal=True), 33, 33),
    "window": (AttentionMask(causal=True, window=5), 40, 40),
    "episodes": (AttentionMask.episodes(packed(2, 50)), 50, 50),
    "episodes both ways": (AttentionMask.episodes(packed(2, 30), causal=False), 30, 30),
    "memory and window": (AttentionMask.episodes(packed(2, 20), window=12, memory=11), 20, 31),
    "padding": (AttentionMask(key_length=torch.tensor([0, 9])), 7, 17),
}


def inputs(
    queries: int, keys: int, heads: int = 4, kv_heads: int = 2, dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    shapes = ((2, heads, queries, 8), (2, kv_heads, keys, 8), (2, kv_heads, keys, 6))
    return [draw(*shape, seed=seed, dtype=dtype).requires_grad_() for seed, shape in enumerate(shapes)]


@pytest.mark.parametrize("tile", [(16, 16), (7, 13), (64, 64)])
@pytest.mark.parametrize("case", CASES)
def test_tiles_give_the_references_outputs_and_gradients(case: str, tile: tuple[int, int]) -> None:
    mask, queries, keys = CASES[case]
    q, k, v = inputs(queries, keys)
    wanted, weights = attention_reference(q, k, v, mask)
    by_out = draw(*wanted.shape, seed=9)
    gradients = torch.autograd.grad(wanted, (q, k, v), by_out)
    out, log_sum = tiled_attention(q, k, v, *mask.intervals(queries, keys), 8**-0.5, rows=tile[0], columns=tile[1])
    torch.testing.assert_close(out, wanted, rtol=0, atol=1e-12)
    for found, right in zip(torch.autograd.grad(out, (q, k, v), by_out), gradients, strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-12)
    seen = weights.sum(-1) > 0
    logits = q @ k.repeat_interleave(2, 1).mT * 8**-0.5
    dense = mask.dense(queries, keys).expand_as(logits)
    right = logits.masked_fill(~dense, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(log_sum[seen], right[seen])
    assert bool((log_sum[~seen] == -torch.inf).all())


def test_the_reference_is_a_softmax() -> None:
    q, k, v = inputs(5, 6, heads=2)
    out, weights = attention_reference(q, k, v, AttentionMask())
    right = torch.softmax(q @ k.mT * 8**-0.5, -1)
    torch.testing.assert_close(weights, right)
    torch.testing.assert_close(out, right @ v)


def test_the_references_gradient_is_that_of_finite_differences() -> None:
    mask, queries, keys = AttentionMask.episodes(packed(2, 5, 0.4), memory=2), 5, 7
    sink = torch.tensor([0.3, -1.0], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda *given: attention_reference(*given[:3], mask, sink=given[3])[0], (*inputs(queries, keys, 2, 1), sink)
    )


def test_the_tiles_gradient_is_that_of_finite_differences() -> None:
    low, high = AttentionMask.episodes(packed(2, 5, 0.4), memory=2).intervals(5, 7)
    torch.autograd.gradcheck(
        lambda *given: tiled_attention(*given, low, high, 0.4, rows=2, columns=3), tuple(inputs(5, 7, 2, 1))
    )


def test_queries_that_see_nothing_give_zero_and_finite_gradients() -> None:
    mask = AttentionMask(key_length=torch.tensor([0, 3]))
    q, k, v = inputs(4, 5)
    for out in (tiled_attention(q, k, v, *mask.intervals(4, 5), 1.0)[0], attention_reference(q, k, v, mask)[0]):
        assert bool((out[0] == 0).all())
        assert bool((out[1] != 0).all())
        for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
            assert bool((gradient[0] == 0).all())
            assert bool(gradient.isfinite().all())


def test_a_sink_takes_weight_and_one_of_minus_infinity_takes_none() -> None:
    q, k, v = inputs(4, 5)
    without, weights = attention_reference(q, k, v, AttentionMask())
    nothing = attention_reference(q, k, v, AttentionMask(), sink=torch.full((4,), -torch.inf))
    torch.testing.assert_close(nothing[0], without)
    with_sink = attention_reference(q, k, v, AttentionMask(), sink=torch.zeros(4))[1]
    exps = (q @ k.repeat_interleave(2, 1).mT * 8**-0.5).exp()
    torch.testing.assert_close(with_sink, exps / (1 + exps.sum(-1, keepdim=True)))
    assert bool((with_sink < weights).all())


def test_merging_is_associative() -> None:
    logits, v = draw(3, 4, 9), draw(3, 9, 2, seed=1)
    logits[0, 0, :3] = -torch.inf
    logits[1] = -torch.inf
    a, b, c = (Partial.of(logits[..., part], v[:, part]) for part in (slice(0, 3), slice(3, 4), slice(4, 9)))
    whole = Partial.of(logits, v)
    for parts in (merge(merge(a, b), c), merge(a, merge(b, c)), merge(c, merge(b, a))):
        torch.testing.assert_close(parts.output, whole.output)
        torch.testing.assert_close(parts.log_sum, whole.log_sum)
    assert bool((whole.output[1] == 0).all())


class NothingAsLargeAs(TorchDispatchMode):
    """Fails on any tensor with that many elements."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
                assert tensor.numel() < self.size, f"{func} makes {tuple(tensor.shape)}"
        return result


def test_no_tensor_of_all_logits_is_ever_made() -> None:
    steps, heads = 256, 2
    q, k, v = inputs(steps, steps, heads, heads, dtype=torch.float32)
    low, high = AttentionMask(causal=True).intervals(steps, steps)
    with NothingAsLargeAs(2 * heads * steps * steps // 4) as mode:
        out, _ = tiled_attention(q, k, v, low, high, 1.0, rows=32, columns=32)
        out.sum().backward()
    assert mode.largest >= q.numel()
    with pytest.raises(AssertionError), NothingAsLargeAs(2 * heads * steps * steps // 4):
        attention_reference(q, k, v, AttentionMask(causal=True))


@pytest.mark.parametrize(("dtype", "worst"), [(torch.bfloat16, 1e-2), (torch.float16, 2e-3), (torch.float32, 1e-6)])
def test_low_precision_rounds_its_inputs_and_outputs_only(dtype: torch.dtype, worst: float) -> None:
    mask, queries, keys = CASES["episodes"]
    q, k, v = inputs(queries, keys, dtype=dtype)
    out, log_sum = tiled_attention(q, k, v, *mask.intervals(queries, keys), 8**-0.5)
    assert (out.dtype, log_sum.dtype) == (dtype, torch.float32)
    wanted = attention_reference(q, k, v, mask)[0].detach()
    assert float((out.detach().double() - wanted).norm() / wanted.norm()) < worst
