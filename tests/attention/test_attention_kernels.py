"""The Triton kernels against the reference: on a GPU as compiled, elsewhere in Triton's interpreter.

Not part of the default run: `TRITON_INTERPRET=1 pytest -m triton tests/attention`, or without the variable on a GPU.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rlkit.attention.attention import attention
from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import attention_reference
from rlkit.errors import UsageError

pytest.importorskip("triton", reason="needs the extra triton")

from rlkit.attention import kernels
from rlkit.attention.kernels import interval_attention

DEVICE = "cuda" if torch.cuda.is_available() and not kernels.INTERPRETED else "cpu"
pytestmark = [
    pytest.mark.triton,
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),  # triton 3.6's interpreter
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),  # triton 3.9, when it compiles
    pytest.mark.skipif(
        not (kernels.INTERPRETED or torch.cuda.is_available()), reason="needs a GPU, or TRITON_INTERPRET=1"
    ),
]
WORST = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
TILES = [(16, 16, 4, 1), (16, 32, 4, 1), (32, 16, 4, 1)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def packed(rows: int, steps: int, every: float = 0.1, seed: int = 1) -> Tensor:
    return torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed)).to(DEVICE) < every


def lengths(*numbers: int) -> Tensor:
    return torch.tensor(numbers, device=DEVICE)


CASES = {
    "everything": (AttentionMask(), 33, 33),
    "causal": (AttentionMask(causal=True), 20, 20),
    "window": (AttentionMask(causal=True, window=5), 40, 40),
    "episodes": (AttentionMask.episodes(packed(2, 50)), 50, 50),
    "episodes both ways": (AttentionMask.episodes(packed(2, 37), causal=False), 37, 37),
    "memory and window": (AttentionMask.episodes(packed(2, 20), window=12, memory=11), 20, 31),
    "padding": (AttentionMask(key_length=lengths(0, 9)), 7, 17),
    "one query of many keys": (AttentionMask(key_length=lengths(50, 33)), 1, 50),
}


def inputs(
    queries: int, keys: int, heads: int = 4, kv_heads: int = 2, size: int = 16, value_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:  # fmt: skip
    shapes = ((2, heads, queries, size), (2, kv_heads, keys, size), (2, kv_heads, keys, value_size))
    return [draw(*shape, seed=seed, dtype=dtype).requires_grad_() for seed, shape in enumerate(shapes)]


def run(given: list[Tensor], mask: AttentionMask, tile: Any = None) -> tuple[Tensor, Tensor]:
    q, k, v = given
    low, high = mask.intervals(q.shape[2], k.shape[2], DEVICE)
    return interval_attention(q, k, v, low, high, q.shape[-1] ** -0.5, tile=tile)


def found(given: list[Tensor], mask: AttentionMask, by_out: Tensor, tile: Any = None) -> list[Tensor]:
    """Outputs and the gradients of q, k and v."""
    out, _ = run(given, mask, tile)
    return [out.detach(), *torch.autograd.grad(out, given, by_out)]


def wanted(given: list[Tensor], mask: AttentionMask, by_out: Tensor) -> list[Tensor]:
    exact = [x.detach().double().requires_grad_() for x in given]
    out, _ = attention_reference(*exact, mask)
    return [out.detach(), *torch.autograd.grad(out, exact, by_out.double())]


def error(x: Tensor, right: Tensor) -> float:
    return float((x.double() - right.double()).norm() / right.double().norm().clamp(min=1e-30))


@pytest.mark.parametrize("dtype", WORST, ids=str)
@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_the_references(case: str, dtype: torch.dtype) -> None:
    mask, queries, keys = CASES[case]
    given = inputs(queries, keys, dtype=dtype)
    by_out = draw(2, 4, queries, 32, seed=9, dtype=dtype)
    results = found(given, mask, by_out)
    assert [x.dtype for x in results] == [dtype] * 4
    for x, right in zip(results, wanted(given, mask, by_out), strict=True):
        assert error(x, right) < WORST[dtype]


@pytest.mark.parametrize("dtype", WORST, ids=str)
@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_heads_of_any_size_that_is_a_multiple_of_16(size: int, dtype: torch.dtype) -> None:
    mask = AttentionMask.episodes(packed(2, 18))
    given = inputs(18, 18, 2, 1, size, size, dtype)
    by_out = draw(2, 2, 18, size, seed=9, dtype=dtype)
    for x, right in zip(found(given, mask, by_out), wanted(given, mask, by_out), strict=True):
        assert error(x, right) < WORST[dtype]


@pytest.mark.parametrize("case", ["episodes", "padding"])
def test_the_sums_logarithm_and_its_gradient(case: str) -> None:
    mask, queries, keys = CASES[case]
    given = inputs(queries, keys)
    log_sum = run(given, mask)[1]
    exact = [x.detach().double().requires_grad_() for x in given]
    logits = exact[0] @ exact[1].repeat_interleave(2, 1).mT * 16**-0.5
    seen = mask.dense(queries, keys, DEVICE)
    right = logits.masked_fill(~seen, -torch.inf).logsumexp(-1)
    there = right > -torch.inf
    assert log_sum.dtype == torch.float32
    assert bool((log_sum[~there] == -torch.inf).all())
    assert error(log_sum[there].detach(), right[there].detach()) < 1e-6
    by = draw(*log_sum.shape, seed=9)[there]
    gradients = torch.autograd.grad(log_sum[there], given[:2], by)
    for x, y in zip(gradients, torch.autograd.grad(right[there], exact[:2], by.double()), strict=True):
        assert error(x, y) < 1e-6


def test_a_sink_can_be_applied_outside() -> None:
    mask, queries, keys = CASES["padding"]
    given, sink = inputs(queries, keys), draw(4, seed=3).requires_grad_()
    out, log_sum = run(given, mask)
    out = out * torch.sigmoid(log_sum - sink[:, None])[..., None]
    exact = [x.detach().double().requires_grad_() for x in (*given, sink)]
    right, _ = attention_reference(*exact[:3], mask, sink=exact[3])
    assert error(out.detach(), right.detach()) < 1e-6
    by_out = draw(*out.shape, seed=9)
    gradients = torch.autograd.grad(out, (*given, sink), by_out)
    for x, y in zip(gradients, torch.autograd.grad(right, exact, by_out.double()), strict=True):
        assert bool(x.isfinite().all())
        assert error(x, y) < 5e-6  # torch's own sums, of the sink's gradient among others, are in float32


def test_packed_episodes_are_episodes_alone() -> None:
    first = torch.zeros(1, 40, dtype=torch.bool, device=DEVICE)
    first[0, [0, 7, 30]] = True
    mask = AttentionMask.episodes(first)
    given = [x[:1].detach().requires_grad_() for x in inputs(40, 40)]
    by_out = draw(1, 4, 40, 32, seed=9)
    together = found(given, mask, by_out)
    for begin, end in ((0, 7), (7, 30), (30, 40)):
        part = [x[:, :, begin:end].detach().requires_grad_() for x in given]
        alone = found(part, AttentionMask(causal=True), by_out[:, :, begin:end])
        for x, y in zip(together, alone, strict=True):
            assert error(x[:, :, begin:end], y) < 1e-6


@pytest.mark.parametrize("dtype", WORST, ids=str)
def test_nothing_of_another_episode_is_seen(dtype: torch.dtype) -> None:
    first = torch.zeros(2, 40, dtype=torch.bool, device=DEVICE)
    first[:, 21] = True
    mask = AttentionMask.episodes(first)
    given = inputs(40, 40, dtype=dtype)
    other = [x.detach().clone() for x in given]
    for x in other[1:]:
        x[:, :, 21:] = 1e4
    by_out = draw(2, 4, 40, 32, seed=9, dtype=dtype)
    by_out[:, :, 21:] = 0
    plain, changed = (found([x.requires_grad_() for x in xs], mask, by_out) for xs in (given, other))
    for x, y in zip(plain, changed, strict=True):
        assert torch.equal(x[:, :, :21], y[:, :, :21])
    for x in changed[1:]:
        assert bool((x[:, :, 21:] == 0).all())


@pytest.mark.parametrize("case", ["window", "episodes", "memory and window"])
def test_the_tiles_do_not_matter(case: str) -> None:
    mask, queries, keys = CASES[case]
    given, by_out = inputs(queries, keys), draw(2, 4, queries, 32, seed=9)
    plain = found(given, mask, by_out)
    for tile in TILES:
        for x, y in zip(found(given, mask, by_out, tile), plain, strict=True):
            assert error(x, y) < 1e-6


def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch_and_again() -> None:
    mask, queries, keys = CASES["episodes"]
    given, by_out = inputs(queries, keys), draw(2, 4, queries, 32, seed=9)
    together, again = found(given, mask, by_out), found(given, mask, by_out)
    assert mask.start is not None
    for row in range(2):
        one = slice(row, row + 1)
        alone = [x[one].detach().requires_grad_() for x in given]
        for x, y, z in zip(
            together, found(alone, replace(mask, start=mask.start[one]), by_out[one]), again, strict=True
        ):
            assert torch.equal(x[one], y)
            assert torch.equal(x, z)


def test_queries_that_see_nothing_give_zero_and_no_gradient() -> None:
    mask = AttentionMask(key_length=lengths(0, 3))
    given = inputs(4, 5)
    out, log_sum = run(given, mask)
    assert bool((out[0] == 0).all())
    assert bool((out[1] != 0).all())
    assert bool((log_sum[0] == -torch.inf).all())
    gradients = torch.autograd.grad((out, log_sum), given, (torch.ones_like(out), torch.full_like(log_sum, torch.nan)))
    assert all(bool((x[0] == 0).all()) for x in gradients)
    gradients = torch.autograd.grad(run(given, mask)[0].sum(), given)
    assert bool((gradients[1][1, :, 3:] == 0).all())
    assert bool((gradients[2][1, :, 3:] == 0).all())


@pytest.mark.parametrize("shape", [(2, 0, 5), (2, 5, 0), (0, 5, 5)])
def test_nothing_at_all(shape: tuple[int, int, int]) -> None:
    rows, queries, keys = shape
    given = [x[:rows].detach().requires_grad_() for x in inputs(queries, keys)]
    results = found(given, AttentionMask(), torch.ones(rows, 4, queries, 32, device=DEVICE))
    assert all(bool((x == 0).all()) for x in results)


def test_grouped_queries_are_repeated_keys() -> None:
    mask, queries, keys = CASES["window"]
    q, k, v = inputs(queries, keys)
    wide = [q, *(x.repeat_interleave(2, 1) for x in (k, v))]
    by_out = draw(2, 4, queries, 32, seed=9)
    grouped = found([q, k, v], mask, by_out)
    repeated = torch.autograd.grad(run(wide, mask)[0], (q, k, v), by_out)
    for x, y in zip(grouped[1:], repeated, strict=True):
        assert error(x, y) < 1e-6


def test_strides_are_respected() -> None:
    mask, queries, _keys = CASES["episodes"]
    joint = draw(2, queries, 3, 4, 32)
    q, k, v = (joint[:, :, part].transpose(1, 2).requires_grad_() for part in range(3))
    odd = torch.empty(2, 4, queries, 64, device=DEVICE)[..., ::2]
    odd = odd.copy_(v).detach().requires_grad_()
    by_out = draw(2, 4, 1, 1, seed=9).expand(2, 4, queries, 32)
    strided = found([q, k, odd], mask, by_out)
    solid = found([x.detach().contiguous().requires_grad_() for x in (q, k, v)], mask, by_out.contiguous())
    assert all(torch.equal(x, y) for x, y in zip(strided, solid, strict=True))
    assert strided[0].transpose(1, 2).is_contiguous()


def test_one_row_of_bounds_serves_all() -> None:
    given = inputs(20, 20)
    low, high = AttentionMask(causal=True, window=4).intervals(20, 20, DEVICE)
    out, _ = interval_attention(*given, low, high, 1.0)
    every_other = torch.stack((low, low), -1).expand(2, -1, -1)[..., 0]
    wide, _ = interval_attention(*given, every_other, high.expand(2, -1).contiguous(), 1.0)
    assert torch.equal(out, wide)


def test_bounds_beyond_the_keys_are_cut_off() -> None:
    given, by_out = inputs(20, 20), draw(2, 4, 20, 32, seed=9)
    low, high = (bound.expand(2, -1).contiguous() for bound in AttentionMask(window=9).intervals(20, 20, DEVICE))
    results = []
    for bounds in ((low, high), (torch.where(low == 0, -7, low), torch.where(high == 20, 1000, high))):
        out, _ = interval_attention(*given, *bounds, 1.0)
        results.append([out, *torch.autograd.grad(out, given, by_out)])
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": torch.float64}, "dtypes of q, k, v are torch.float64"),
        ({"size": 24}, "heads have size 24, the kernels take multiples of 16 up to 128"),
        ({"value_size": 144}, "heads have size 144"),
        ({"heads": 3}, "shapes of q, k, v are"),
    ],
)
def test_what_the_kernels_do_not_take_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"{message}.*tiled_attention takes any"):
        run(inputs(4, 5, **change), AttentionMask())


def test_bounds_are_32_bit_integers_of_each_query() -> None:
    given = inputs(4, 5)
    low, high = AttentionMask().intervals(4, 5, DEVICE)
    with pytest.raises(UsageError, match=r"bounds are torch.int64 \(1, 4\), they must be int32 \[B or 1, T\]"):
        interval_attention(*given, low.long(), high, 1.0)
    with pytest.raises(UsageError, match=r"bounds are torch.int32 \(1, 3\)"):
        interval_attention(*given, low, high[:, :3], 1.0)


def test_the_operators_keep_their_contract_with_torch() -> None:
    mask, queries, keys = AttentionMask.episodes(packed(2, 20), memory=3), 20, 23
    q, k, v = inputs(queries, keys)
    low, high = mask.intervals(queries, keys, DEVICE)
    torch.library.opcheck(torch.ops.rlkit.interval_attention.default, (q, k, v, low, high, 0.25))
    joint = draw(2, queries, 3, 2, 16).unbind(2)
    strided = tuple(x.transpose(1, 2).requires_grad_() for x in joint)
    low, high = AttentionMask(causal=True).intervals(queries, queries, DEVICE)
    torch.library.opcheck(torch.ops.rlkit.interval_attention.default, (*strided, low, high, 0.25))


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
def test_the_operator_compiles_into_one_graph() -> None:
    mask, queries, keys = CASES["episodes"]
    given, by_out = inputs(queries, keys), draw(2, 4, queries, 32, seed=9)
    low, high = mask.intervals(queries, keys, DEVICE)

    def layer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, log_sum = interval_attention(q * 1.0, k, v, low, high, 0.25)
        return out * torch.sigmoid(log_sum)[..., None]

    backend = "aot_eager" if kernels.INTERPRETED else "inductor"
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    for x, y in zip(
        torch.autograd.grad(compiled(*given), given, by_out),
        torch.autograd.grad(layer(*given), given, by_out),
        strict=True,
    ):
        assert error(x, y) < 1e-6


@pytest.mark.parametrize("sink", [None, [0.3, -1.0, 2.0, 0.0]])
def test_the_operation_takes_the_kernels_by_name(sink: list[float] | None) -> None:
    mask, queries, keys = CASES["episodes"]
    q, k, v = inputs(queries, keys)
    logits = None if sink is None else torch.tensor(sink, device=DEVICE)
    out = attention(q, k, v, mask, sink=logits, backend="triton").detach()
    wanted = attention_reference(q, k, v, mask, sink=logits)[0].detach()
    assert error(out, wanted) < WORST[torch.float32]
