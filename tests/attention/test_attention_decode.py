"""The fused step against its parts in plain torch, and against attention to whole episodes.

Run as `test_attention_kernels.py` is.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlkit.attention.mask import AttentionMask
from rlkit.attention.reference import attention_reference
from rlkit.errors import UsageError

pytest.importorskip("triton", reason="needs the extra triton")

from rlkit.attention import kernels
from rlkit.attention.decode import decode_step

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


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def angles(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., D / 2] of rotary embeddings with base 10,000."""
    frequencies = 10_000 ** (-torch.arange(0, size, 2, device=DEVICE) / size)
    by = position[..., None] * frequencies
    return by.cos(), by.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., D] with its halves rotated, rounded to its dtype."""
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)


def plain(
    q: Tensor, k: Tensor, v: Tensor, cache_k: Tensor, cache_v: Tensor, position: Tensor, scale: float,
    cos: Tensor | None = None, sin: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same by parts, row by row, in float64."""
    if cos is not None and sin is not None:
        q, k = (rotated(x, cos[:, None], sin[:, None]) for x in (q, k))
    outputs = []
    for row, now in enumerate(position.tolist()):
        capacity = cache_k.shape[2]
        cache_k[row, :, now % capacity], cache_v[row, :, now % capacity] = k[row], v[row]
        there = slice(0, min(now + 1, capacity))
        given = q[row, None, :, None], cache_k[row, None, :, there], cache_v[row, None, :, there]
        outputs.append(attention_reference(*given, AttentionMask(), scale=scale)[0][0, :, 0])
    return torch.stack(outputs)


def error(x: Tensor, right: Tensor) -> float:
    return float((x.double() - right.double()).norm() / right.double().norm().clamp(min=1e-30))


def inputs(
    heads: int, kv_heads: int, size: int, value_size: int, capacity: int, dtype: torch.dtype = torch.float32,
    positions: tuple[int, ...] = (0, 3, 70, 141),
) -> dict[str, Any]:  # fmt: skip
    rows = len(positions)
    position = torch.tensor(positions, dtype=torch.int32, device=DEVICE)
    cos, sin = angles(position, size)
    return {
        "q": draw(rows, heads, size, dtype=dtype), "k": draw(rows, kv_heads, size, seed=1, dtype=dtype),
        "v": draw(rows, kv_heads, value_size, seed=2, dtype=dtype),
        "cache_k": draw(rows, kv_heads, capacity, size, seed=3, dtype=dtype),
        "cache_v": draw(rows, kv_heads, capacity, value_size, seed=4, dtype=dtype),
        "position": position, "scale": size**-0.5, "cos": cos, "sin": sin,
    }  # fmt: skip


def copied(given: dict[str, Any]) -> dict[str, Any]:
    return {name: x.clone() if isinstance(x, Tensor) else x for name, x in given.items()}


@pytest.mark.parametrize("dtype", WORST, ids=str)
@pytest.mark.parametrize(
    "shape", [(2, 2, 32, 32, 70), (4, 1, 16, 48, 5), (8, 2, 64, 64, 64), (20, 1, 16, 16, 3), (1, 1, 128, 128, 100)]
)
def test_a_step_is_what_its_parts_do(shape: tuple[int, int, int, int, int], dtype: torch.dtype) -> None:
    given = inputs(*shape, dtype=dtype)
    by_parts = copied(given)
    right = plain(**by_parts)
    out = decode_step(**given)
    assert out.dtype == dtype
    assert error(out, right) < WORST[dtype]
    assert torch.equal(given["cache_v"], by_parts["cache_v"])
    # the newest key may differ by rounding, all others are as they were
    assert error(given["cache_k"], by_parts["cache_k"]) < WORST[dtype]
    rows, slots = (given["cache_k"] != by_parts["cache_k"]).any(-1).any(1).nonzero(as_tuple=True)
    assert torch.equal(slots, given["position"][rows] % shape[4])


def test_without_angles_nothing_is_rotated() -> None:
    given = inputs(4, 2, 32, 32, 20) | {"cos": None, "sin": None}
    by_parts = copied(given)
    right = plain(**by_parts)
    assert error(decode_step(**given), right) < 1e-6
    assert torch.equal(given["cache_k"], by_parts["cache_k"])


def test_steps_through_episodes_are_attention_to_all_of_them() -> None:
    steps, rows, window = 24, 2, 7
    first = torch.zeros(rows, steps, dtype=torch.bool, device=DEVICE)
    first[0, [0, 10]], first[1, [0, 3, 22]] = True, True
    q, k, v = (draw(rows, heads, steps, 16, seed=heads) for heads in (4, 2, 2))
    position = torch.zeros(rows, steps, dtype=torch.int32, device=DEVICE)
    for step in range(1, steps):
        position[:, step] = (position[:, step - 1] + 1) * ~first[:, step]
    cos, sin = angles(position, 16)
    rotated_q, rotated_k = (rotated(x, cos[:, None], sin[:, None]) for x in (q, k))
    right, _ = attention_reference(rotated_q, rotated_k, v, AttentionMask.episodes(first, window=window))
    # what an earlier episode has left in the cache must not matter
    cache_k, cache_v = (torch.full((rows, 2, window, 16), 1e4, device=DEVICE) for _ in range(2))
    for step in range(steps):
        at = {"cos": cos[:, step], "sin": sin[:, step]}
        token = (x[:, :, step] for x in (q, k, v))
        out = decode_step(*token, cache_k, cache_v, position[:, step], 0.25, **at)
        assert error(out, right[:, :, step]) < 1e-6


@pytest.mark.parametrize("dtype", WORST, ids=str)
def test_a_row_is_the_same_to_the_bit_alone_and_in_a_batch(dtype: torch.dtype) -> None:
    given = inputs(4, 2, 32, 32, 70, dtype=dtype)
    alone = [
        {name: x[row : row + 1].clone() if isinstance(x, Tensor) else x for name, x in given.items()}
        for row in range(4)
    ]
    together = decode_step(**given)
    for row, part in enumerate(alone):
        assert torch.equal(decode_step(**part)[0], together[row])
        assert torch.equal(part["cache_k"][0], given["cache_k"][row])


def test_strides_are_respected() -> None:
    given = inputs(4, 4, 32, 32, 20)
    solid = copied(given)
    joint = torch.stack([given[name] for name in ("q", "k", "v")], 2)
    caches = torch.stack([given[name].transpose(1, 2) for name in ("cache_k", "cache_v")], 2)
    strided = given | {"q": joint[:, :, 0], "k": joint[:, :, 1], "v": joint[:, :, 2]}
    strided |= {"cache_k": caches[:, :, 0].transpose(1, 2), "cache_v": caches[:, :, 1].transpose(1, 2)}
    strided |= {"position": torch.stack((given["position"],) * 2, 1)[:, 0], "cos": given["cos"].T.contiguous().T}
    assert torch.equal(decode_step(**strided), decode_step(**solid))
    assert torch.equal(strided["cache_k"], solid["cache_k"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"position": torch.zeros(4, dtype=torch.int64)}, "position is torch.int64, it must be int32"),
        ({"sin": None}, "cos and sin must be float32, both or neither"),
        ({"cos": torch.zeros(4, 32), "sin": torch.zeros(4, 32)}, r"shape of cos is \(4, 32\)"),
        ({"cache_v": torch.zeros(4, 2, 19, 32)}, r"shape of cache_v is \(4, 2, 19, 32\).*must be \(4, 2, 20, 32\)"),
        ({"k": torch.zeros(4, 2, 32, dtype=torch.float64)}, "dtypes of q, k, v and the caches"),
        ({"q": torch.zeros(4, 3, 32)}, "q has 3 heads, it must be a multiple of the 2 of k"),
    ],
)
def test_what_the_kernel_does_not_take_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        decode_step(**(inputs(4, 2, 32, 32, 20) | change))


def test_the_operator_keeps_its_contract_with_torch() -> None:
    given = inputs(4, 2, 32, 16, 20)
    torch.library.opcheck(torch.ops.rlkit.decode_step.default, tuple(given.values()))


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own parts
def test_the_operator_compiles_into_one_graph() -> None:
    given = inputs(4, 2, 32, 32, 20)
    other = copied(given)
    backend = "aot_eager" if kernels.INTERPRETED else "inductor"
    compiled = torch.compile(lambda **x: decode_step(**x) * 2, fullgraph=True, backend=backend)
    assert error(compiled(**given), 2 * decode_step(**other)) < 1e-6
    assert torch.equal(given["cache_k"], other["cache_k"])
