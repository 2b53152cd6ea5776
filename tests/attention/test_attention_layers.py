"""Layers and caches: a step at a time with a cache gives what a whole unroll gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rlkit.attention.cache import KVCache
from rlkit.attention.layers import AttentionPool, Block, CrossAttention, GRUGate, SelfAttention
from rlkit.attention.mask import AttentionMask
from rlkit.attention.rope import Turn, axial_angles, episode_positions, rotary_angles, rotated
from rlkit.errors import UsageError

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"kv_heads": 1},
    "qk-norm": {"qk_norm": True},
    "sink": {"sink": True},
    "gru gate": {"gate": "gru"},
}


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def block(seed: int = 0, **options: Any) -> Block:
    torch.manual_seed(seed)
    made = Block(16, 4, **options)
    if made.attention.sink is not None:
        nn.init.normal_(made.attention.sink)
    return made


def unrolled(blocks: list[Block], x: Tensor, first: Tensor, window: int) -> Tensor:
    angles = rotary_angles(episode_positions(first), blocks[0].attention.head_size)
    mask = AttentionMask.episodes(first, window=window)
    for each in blocks:
        x = each(x, mask, angles)
    return x


def stepped(blocks: list[Block], x: Tensor, first: Tensor, capacity: int) -> Tensor:
    inner = blocks[0].attention
    cache = KVCache.empty(len(blocks), len(x), inner.kv_heads, capacity, inner.head_size)
    steps = []
    for now in range(x.shape[1]):
        cache = cache.reset(first[:, now])
        y, angles = x[:, now : now + 1], rotary_angles(cache.position[:, None], inner.head_size)
        for layer, each in enumerate(blocks):
            y = each.step(y, cache, layer, angles)
        cache = cache.advanced()
        steps.append(y)
    return torch.cat(steps, 1)


@pytest.mark.parametrize("options", OPTIONS)
@given(seed=st.integers(0, 10_000), capacity=st.integers(1, 12), every=st.floats(0.0, 0.4), layers=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_steps_with_resets_and_a_full_ring_equal_the_unroll(
    options: str, seed: int, capacity: int, every: float, layers: int
) -> None:
    blocks = [block(layer, **OPTIONS[options]) for layer in range(layers)]
    x = draw(3, 30, 16, seed=seed)
    first = torch.rand(3, 30, generator=torch.Generator().manual_seed(seed)) < every
    with torch.no_grad():
        torch.testing.assert_close(
            stepped(blocks, x, first, capacity), unrolled(blocks, x, first, capacity), rtol=0, atol=1e-5
        )


def test_a_step_taken_again_gives_the_same() -> None:
    made, x = block(), draw(2, 9, 16)
    cache = KVCache.empty(1, 2, 4, 4, 4)
    with torch.no_grad():
        for now in range(9):
            angles = rotary_angles(cache.position[:, None], 4)
            once, again = (made.step(x[:, now : now + 1], cache, 0, angles) for _ in range(2))
            assert torch.equal(once, again)
            cache = cache.advanced()


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2, "qk_norm": True}])
def test_a_place_and_a_turn_worked_out_once_change_no_bit(options: dict[str, Any]) -> None:
    made, x = block(**options), draw(2, 9, 16)
    heads = made.attention.kv_heads
    caches = [KVCache.empty(1, 2, heads, 4, 4) for _ in range(2)]
    with torch.no_grad():
        for now in range(9):
            ended = torch.tensor([now == 6, False])
            caches = [cache.reset(ended) for cache in caches]
            angles = rotary_angles(caches[0].position[:, None], 4)
            each = made.step(x[:, now : now + 1], caches[0], 0, angles)
            once = made.step(x[:, now : now + 1], caches[1].placed(), 0, Turn.of(angles))
            assert torch.equal(each, once)
            caches = [cache.advanced() for cache in caches]


def test_rows_that_did_not_end_keep_their_memory() -> None:
    cache = KVCache.empty(1, 2, 1, 4, 2).advanced().advanced()
    assert cache.reset(torch.tensor([True, False])).position.tolist() == [0, 2]
    assert cache.capacity == 4


def test_rotation_depends_on_the_distance_only() -> None:
    q, k = draw(2, 1, 8).double(), draw(2, 1, 8, seed=1).double()
    products = []
    for shift in (0, 1000):
        angles = rotary_angles(torch.tensor([3 + shift, 7 + shift]), 8).double()
        products.append((rotated(q, angles[:1]) * rotated(k, angles[1:])).sum(-1))
    torch.testing.assert_close(products[0], products[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(rotated(q, angles[:1]).norm(), q.norm())


def test_places_in_a_picture_turn_half_by_row_and_half_by_column() -> None:
    angles = axial_angles(torch.tensor([0, 2]), torch.tensor([3, 0]), 8)
    assert bool((angles[0, :2] == 0).all())
    assert bool((angles[1, 2:] == 0).all())
    torch.testing.assert_close(angles[1, :2], rotary_angles(torch.tensor(2), 4, 100.0))


def test_positions_begin_with_each_episode() -> None:
    first = torch.tensor([[True, False, True], [False, False, True]])
    assert episode_positions(first, torch.tensor([9, 4])).tolist() == [[0, 1, 0], [4, 5, 0]]


def test_the_gates_start_lets_the_stream_pass() -> None:
    torch.manual_seed(0)
    gate, x, y = GRUGate(16), draw(5, 16), draw(5, 16, seed=1)
    passed = (gate(x, y) - x).norm() / x.norm()
    assert float(passed.detach()) < 0.4


def test_modulation_of_zeros_silences_a_block() -> None:
    made, x = block(modulated=True), draw(2, 5, 16)
    assert torch.equal(made(x, modulation=torch.zeros(2, 1, 96)), x)
    ones = torch.ones(2, 1, 96)
    assert made(x, modulation=ones).shape == x.shape
    assert not torch.allclose(made(x, modulation=ones), x)


def test_a_pool_does_not_see_padding_nor_order() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(16, 4, 2, generator=torch.Generator().manual_seed(0))
    x = draw(3, 6, 16)
    mask = AttentionMask(key_length=torch.tensor([6, 4, 0]))
    vectors = pool(x, mask)
    assert vectors.shape == (3, 32)
    assert not torch.allclose(vectors[:, :16], vectors[:, 16:])
    louder = x.clone()
    louder[1, 4:] = 1e4
    assert torch.equal(pool(louder, mask)[1], vectors[1])
    order = torch.tensor([3, 1, 0, 2, 4, 5])
    torch.testing.assert_close(pool(x[:, order], mask), vectors)


def test_attention_across_asks_the_context() -> None:
    torch.manual_seed(0)
    layer = CrossAttention(16, 8, 4)
    assert layer(draw(2, 3, 16), draw(2, 7, 8)).shape == (2, 3, 16)


def test_weights_add_up_to_one() -> None:
    torch.manual_seed(0)
    weights = SelfAttention(16, 4).weights(draw(2, 6, 16), AttentionMask(causal=True))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 6))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SelfAttention(16, 3), "3 heads do not divide the width 16: choose a divisor"),
        (lambda: SelfAttention(16, 4, kv_heads=3), "3 heads of keys do not divide 4 heads of queries"),
        (lambda: Block(16, 4, gate="lstm"), "is 'lstm', allowed: residual, gru"),  # type: ignore[arg-type]
        (lambda: rotary_angles(torch.zeros(1), 3), "a head of size 3 cannot be rotated"),
    ],
)
def test_sizes_that_do_not_fit_are_named(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
